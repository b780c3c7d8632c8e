import assert from 'node:assert/strict'
import { type TestContext, test } from 'node:test'
import { setTimeout as delay } from 'node:timers/promises'
import { silentLogger } from '../../core/contract/logger.ts'
import type { TransportName } from '../../core/contract/policy.ts'
import type { StreamNetwork } from '../../core/protocol/rpc/byte-stream.ts'
import { createStreamAdapter } from '../../core/protocol/rpc/stream-adapter.ts'
import { TransportRegistry } from '../../core/protocol/transport-registry.ts'
import { crc32c } from '../../native/crc.ts'
import { loadLink } from '../kit/link-load.ts'
import { MemoryNetwork } from '../kit/memory-network.ts'
import { createMemoryStore } from '../kit/memory-store.ts'
import { nodeNetNetwork } from '../kit/node-net-network.ts'
import { seededRandom } from '../kit/random.ts'
import { eventually, identity, realEnvironment } from '../kit/transport-place.ts'
import { WireTap } from '../kit/wire-tap.ts'

/** The loaded link over shared memory's stand-in and real TCP, each with a tap on the wire. */
async function underLoad(context: TestContext) {
  const { clock } = realEnvironment
  const served = createMemoryStore(clock)
  const own = createMemoryStore(clock)
  // So that requests are under way when something happens.
  served.delayMs = 2
  const memory = new MemoryNetwork({ clock, random: seededRandom(1) })
  const registry = new TransportRegistry()
  const addresses = new Map<string, string>()
  const taps: WireTap[] = []
  const networks: readonly (readonly [TransportName, StreamNetwork, string])[] = [
    ['shm', memory, 'memory:0'],
    ['tcp', nodeNetNetwork, '127.0.0.1:0'],
  ]
  for (const [kind, network, address] of networks) {
    const adapter = createStreamAdapter({
      id: kind,
      kind,
      priority: kind === 'shm' ? 2 : 1,
      network,
      crc32c,
      environment: realEnvironment,
      log: silentLogger,
    })
    registry.register(adapter)
    const listener = await adapter.listen({ identity: identity(1), address, store: served })
    const tap = await WireTap.open(network, address, listener.address)
    taps.push(tap)
    addresses.set(kind, tap.address)
    context.after(() => tap.close())
    context.after(() => listener.close(100))
  }
  const load = await loadLink({ registry, addresses, own, limits: { tickMs: 20, switchFloorMs: 100 } })
  load.want('shm')
  return {
    ...load,
    taps,
    async stop() {
      const made = await load.stop()
      assert.equal(own.held, 0)
      assert.equal(served.held, 0)
      return { made, executed: [...served.puts.values()].reduce((sum, count) => sum + count, 0) }
    },
  }
}

test('a link switches in both directions under 32 requests: none fails, none is done twice', async (context) => {
  const load = await underLoad(context)
  const switches = 10
  const pauses: number[] = []
  for (let round = 0; round < switches; round++) {
    const target = round % 2 === 0 ? 'tcp' : 'shm'
    await delay(150)
    const sinceMs = performance.now()
    load.want(target)
    await eventually(() => load.link.active === target, `the link does not go to ${target}`)
    await delay(50)
    pauses.push(load.pauseSince(sinceMs))
  }
  const { made, executed } = await load.stop()
  assert.equal(executed, made, 'a request was done twice')
  assert.equal(load.link.report().switches.length, switches + 1)
  const shown = pauses.map((pause) => pause.toFixed(1)).join(', ')
  context.diagnostic(
    `${made} requests, ${switches} switches: 0 failed, 0 done twice; longest pauses ${shown} ms`,
  )
})

test('the transport in use breaks under 32 requests, both ways: none fails, each is answered once', async (context) => {
  const load = await underLoad(context)
  const pauses: number[] = []
  const breaks = 6
  for (let round = 0; round < breaks; round++) {
    const [from, to] = round % 2 === 0 ? (['shm', 'tcp'] as const) : (['tcp', 'shm'] as const)
    load.want(from)
    await eventually(() => load.link.active === from, `the link is not on ${from}`)
    await eventually(
      () => load.link.report().candidates.every(({ state }) => state === 'up'),
      'the broken transport does not come back',
      40_000,
    )
    load.want(from)
    await delay(100)
    const sinceMs = performance.now()
    load.taps[from === 'shm' ? 0 : 1]?.break()
    await eventually(() => load.link.active === to, `the link does not go to ${to}`)
    // Asked for only now: it must have been the break that made it switch.
    load.want(to)
    await delay(50)
    pauses.push(load.pauseSince(sinceMs))
  }
  const { made, executed } = await load.stop()
  const { resent, switches } = load.link.report()
  assert.ok(resent > 0, 'nothing was under way when it broke')
  assert.ok(switches.filter(({ isForced }) => isForced).length >= breaks)
  const shown = pauses.map((pause) => pause.toFixed(1)).join(', ')
  context.diagnostic(
    `${made} requests, ${breaks} breaks: 0 failed, ${resent} sent again (${executed - made} of them had been done), each answered once; longest pauses ${shown} ms`,
  )
})
