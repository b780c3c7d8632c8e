import assert from 'node:assert/strict'
import { test } from 'node:test'
import { ClusterChunkStore } from '../../../core/cluster/chunks/cluster-store.ts'
import { fragmentHolder } from '../../../core/cluster/chunks/fragment-places.ts'
import { type ChunkLayout, layoutOf } from '../../../core/cluster/chunks/layout.ts'
import type { DamagedCopy } from '../../../core/cluster/chunks/peers.ts'
import { withStripes } from '../../../core/cluster/placement/change-map.ts'
import type { ChunkStore } from '../../../core/contract/chunk-store.ts'
import { type Stripe, stripeBufferBytes } from '../../../core/contract/erasure.ts'
import { type ChunkId, chunkId, groupOfChunk, placementGroupCount } from '../../../core/contract/ids.ts'
import { silentLogger } from '../../../core/contract/logger.ts'
import type { ReplicaAcks } from '../../../core/contract/transport.ts'
import { pattern, putBytes } from '../../kit/chunk-store-place.ts'
import { clusterMap } from '../../kit/cluster-maps.ts'
import { FakeClock } from '../../kit/fake-clock.ts'
import { createMemoryStore, type MemoryStore } from '../../kit/memory-store.ts'
import { storePeer } from '../../kit/store-peer.ts'

const limits = { bytes: 10_000, ms: 2000 }
const idOf = (number: number): ChunkId => chunkId(Uint8Array.from([0, 0, 0, 0, 0, 0, 0, 0, 0, number]), 0)
const turns = async (count = 10): Promise<void> => {
  for (let turn = 0; turn < count; turn++) await new Promise((resolve) => setImmediate(resolve))
}

/** A region as node `a` sees it, whose own disk answers no put while it hangs. */
function regionOf(names: readonly string[], acks: ReplicaAcks = 'quorum') {
  const clock = new FakeClock()
  const map = withStripes(clusterMap(names), [6]) ?? clusterMap(names)
  const layout: ChunkLayout = layoutOf('a', map)
  const stores = new Map(names.map((name) => [name, createMemoryStore(clock)]))
  const storeOf = (name: string): MemoryStore => stores.get(name) ?? assert.fail(name)
  const peers = new Map(
    names.slice(1).map((name) => [name, storePeer(name, storeOf(name), storeOf('a'))] as const),
  )
  const own = storeOf('a')
  const hanging = new Set<() => void>()
  let hangs = false
  let begun = 0
  const put: ChunkStore['put'] = async (...given) => {
    begun++
    if (hangs) await new Promise<void>((resolve) => hanging.add(resolve))
    return own.put(...given)
  }
  const local = new Proxy<ChunkStore>(own, {
    get: (_, name) => {
      if (name === 'put') return put
      const value: unknown = Reflect.get(own, name)
      return typeof value === 'function' ? value.bind(own) : value
    },
  })
  const damage: DamagedCopy[] = []
  const store = new ClusterChunkStore({
    ...{ self: 'a', local, acks, clock, log: silentLogger, stragglers: limits },
    peers: (name) => peers.get(name),
    layout: () => layout,
    refreshMap: () => assert.fail('nobody has another map'),
    order: (views) => views.map((_, index) => index),
    damaged: (copy) => damage.push(copy),
  })
  return {
    store,
    own,
    clock,
    damage,
    layout,
    peerOf: (name: string) => peers.get(name) ?? assert.fail(name),
    /** Puts that reached the disk. */
    begun: () => begun,
    hang: () => {
      hangs = true
    },
    goOn: () => {
      hangs = false
      for (const go of hanging) go()
      hanging.clear()
    },
  }
}

test('a disk of the gateway that hangs keeps a bounded part of the pool, and is written to again when it goes on', async () => {
  const { store, own, clock, damage, begun, hang, goOn } = regionOf(['a', 'b', 'c'])
  hang()
  for (let number = 1; number <= 100; number++) {
    await putBytes(store, idOf(number), pattern(number, 1000))
    await turns(2)
    assert.ok(own.held <= 11, `${own.held} buffers are held`)
  }
  // The first one above the bound was on its way already.
  assert.equal(begun(), 11)
  assert.deepEqual(
    damage.map(({ id, node, problem }) => ({ id, node, problem })),
    Array.from({ length: 89 }, (_, at) => ({ id: idOf(at + 12), node: 'a', problem: 'missing' })),
  )
  await clock.advance(60_000)
  assert.equal(own.held, 11, 'the disk may still read what it was given')
  goOn()
  await turns()
  assert.equal(own.held, 0)
  assert.equal(store.counts().stragglers, 0)
  for (let number = 1; number <= 11; number++) assert.ok(await own.has(idOf(number)))
  await putBytes(store, idOf(101), pattern(101, 1000))
  await turns()
  assert.ok(await own.has(idOf(101)))
  assert.equal(damage.length, 89)
  await clock.advance(1000)
  assert.equal(clock.pending, 0)
})

test('one put that the own disk does not end for longer than its time is enough', async () => {
  const { store, clock, begun, hang, goOn, peerOf, own } = regionOf(['a', 'b', 'c'])
  hang()
  await putBytes(store, idOf(1), pattern(1, 1000))
  await clock.advance(1500)
  await putBytes(store, idOf(2), pattern(2, 1000))
  assert.equal(begun(), 2, 'slow is not stuck')
  await clock.advance(1000)
  await putBytes(store, idOf(3), pattern(3, 1000))
  assert.equal(begun(), 2)
  // It counts as a copy that failed: the others decide.
  peerOf('b').isDown = true
  await assert.rejects(putBytes(store, idOf(4), pattern(4, 1000)), {
    code: 'UNAVAILABLE',
    message: /2 of 3 copies must be written.*a: its store/,
  })
  await turns()
  assert.equal(own.held, 2)
  goOn()
  await turns()
  await putBytes(store, idOf(5), pattern(5, 1000))
  assert.equal(begun(), 3)
})

test('fragments too are not put on a disk that hangs', async () => {
  const { store, own, begun, hang, layout, damage } = regionOf(['a', 'b', 'c', 'd', 'e', 'f'])
  const stripe: Stripe = { dataFragments: 4, parityFragments: 2, fragmentBytes: 4096, byteLength: 16_384 }
  hang()
  for (let number = 1; number <= 20; number++) {
    const id = idOf(number)
    assert.ok([0, 1, 2, 3, 4, 5].some((fragment) => fragmentHolder(layout, stripe, id, fragment) === 'a'))
    const buffer = await store.acquire(stripeBufferBytes(stripe))
    buffer.bytes.set(pattern(number, stripe.byteLength))
    await store.put(id, buffer, stripe.byteLength, undefined, stripe)
    buffer.release()
    await turns(2)
  }
  assert.equal(begun(), 1)
  assert.equal(own.held, 1)
  assert.equal(damage.length, 19)
  assert.ok(damage.every(({ node, problem }) => node === 'a' && problem === 'missing'))
})

test('a write that is to begin again by a newer map does not make the own disk a slow one', async () => {
  const { store, begun, hang, goOn, peerOf } = regionOf(['a', 'b', 'c'])
  const moved = new Uint32Array(placementGroupCount)
  moved[groupOfChunk(idOf(1))] = 1000
  peerOf('b').moved = moved
  assert.notEqual(groupOfChunk(idOf(1)), groupOfChunk(idOf(2)))
  hang()
  const stale = putBytes(store, idOf(1), pattern(1, 100)).catch((reason: unknown) => reason)
  await turns()
  await putBytes(store, idOf(2), pattern(2, 100))
  assert.equal(begun(), 2)
  goOn()
  assert.match(String(await stale), /nobody has another map/)
})
