import assert from 'node:assert/strict'
import { test } from 'node:test'
import { setImmediate } from 'node:timers/promises'
import { MoveCoordinator } from '../../../core/cluster/chunks/move-coordinator.ts'
import { changeMap } from '../../../core/cluster/placement/change-map.ts'
import type { ClusterMap } from '../../../core/contract/cluster-map.ts'
import { silentLogger } from '../../../core/contract/logger.ts'
import type { RegionPeers } from '../../../core/contract/region-peers.ts'
import { withOwnEntry } from '../../../core/node/cluster/map-upkeep.ts'
import { clusterMap } from '../../kit/cluster-maps.ts'
import { FakeClock } from '../../kit/fake-clock.ts'

const names = ['a', 'b', 'c', 'd', 'x']

/** The coordinator of a region from which z is being drained. */
function drainedRegion() {
  const before = changeMap({ epoch: 0, replicas: 2, nodes: [] }, clusterMap([...names, 'z'], 2))
  const nodes = before.nodes.map((node) =>
    node.name === 'z' ? { ...node, state: 'draining' as const } : node,
  )
  let map: ClusterMap = changeMap(before, { nodes })
  const clock = new FakeClock()
  let hear: (from: string, message: Uint8Array) => void = () => undefined
  const peers: Pick<RegionPeers, 'send' | 'serve'> = {
    send: () => undefined,
    serve(_topic, handler) {
      hear = (from, message) => handler.message?.(from, message)
      return () => undefined
    },
  }
  const coordinator = new MoveCoordinator({
    ...{ self: 'a', peers, clock, log: silentLogger, map: () => map },
    coordinator: () => 'a',
    completeFor: () => map.moving?.fromEpoch,
    submit: async (next) => {
      map = next
    },
  })
  return {
    coordinator,
    complete: () => map.moving?.complete,
    say(name: string): void {
      const message = new Uint8Array(8)
      new DataView(message.buffer).setFloat64(0, before.epoch)
      hear(name, message)
    },
    returnEmpty(name: string): void {
      const known = map.nodes.find((node) => node.name === name)
      assert.ok(known)
      map = withOwnEntry(map, { ...known, incarnation: '1'.repeat(32) }) ?? map
    },
    async tick(): Promise<void> {
      await clock.advance(1000)
      await setImmediate()
    },
  }
}

test('what a node said before it lost its disk does not end a move', async () => {
  const { coordinator, complete, say, returnEmpty, tick } = drainedRegion()
  say('x')
  await tick()
  assert.deepEqual(complete(), ['a', 'x'])
  returnEmpty('x')
  assert.deepEqual(complete(), ['a'])
  for (const name of ['b', 'c', 'd']) say(name)
  await tick()
  await tick()
  assert.deepEqual(complete(), ['a', 'b', 'c', 'd'], 'x has nothing yet')
  say('x')
  await tick()
  assert.equal(complete(), undefined, 'it has said so again')
  await coordinator.stop()
})

test('what comes from a node that the map does not know counts for nobody', async () => {
  const { coordinator, complete, say, tick } = drainedRegion()
  say('y')
  await tick()
  assert.deepEqual(complete(), ['a'])
  await coordinator.stop()
})
