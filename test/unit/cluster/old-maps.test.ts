import assert from 'node:assert/strict'
import { test } from 'node:test'
import { ClusterChunkStore } from '../../../core/cluster/chunks/cluster-store.ts'
import { type ChunkLayout, groupOf, layoutOf } from '../../../core/cluster/chunks/layout.ts'
import { type MovedGroups, movedGroups } from '../../../core/cluster/chunks/moved-groups.ts'
import { changeMap, withStripes } from '../../../core/cluster/placement/change-map.ts'
import type { ChunkStore } from '../../../core/contract/chunk-store.ts'
import type { ClusterMap } from '../../../core/contract/cluster-map.ts'
import { type Stripe, stripeBufferBytes } from '../../../core/contract/erasure.ts'
import { StorageError } from '../../../core/contract/errors.ts'
import { chunkId } from '../../../core/contract/ids.ts'
import { silentLogger } from '../../../core/contract/logger.ts'
import { getBytes, pattern, putBytes } from '../../kit/chunk-store-place.ts'
import { clusterMap, clusterNode } from '../../kit/cluster-maps.ts'
import { FakeClock } from '../../kit/fake-clock.ts'
import { createMemoryStore } from '../../kit/memory-store.ts'
import { type StorePeer, storePeer } from '../../kit/store-peer.ts'

const idOf = (number: number): Uint8Array =>
  chunkId(
    Uint8Array.from({ length: 10 }, (_, at) => number >> (8 * (9 - at))),
    0,
  )
const stripe: Stripe = { dataFragments: 2, parityFragments: 1, fragmentBytes: 4096, byteLength: 8192 }
const before = clusterMap(['a', 'b', 'c'], 2)
const without = (map: ClusterMap): ClusterMap =>
  changeMap(map, {
    nodes: [
      ...map.nodes.map((node) => (node.name === 'c' ? { ...node, weight: 0 } : node)),
      clusterNode('d'),
    ],
  })
const after = without(before)
const stripedBefore = withStripes(before, [3]) ?? assert.fail()
const stripedAfter = without(stripedBefore)
/** From b and c to b and d; what is on a, too, is not asked of others. */
const movedIds = Array.from({ length: 4000 }, (_, number) => idOf(number)).filter((id) => {
  const [was, is] = [layoutOf('a', before), layoutOf('a', after)].map((layout) => layout.writers(groupOf(id)))
  return [...(was ?? [])].sort().join() === 'b,c' && [...(is ?? [])].sort().join() === 'b,d'
})

/** Node `a` acts on `before`; `b` and `c` know `after`, and `d` begins with it. `follow`: what a newer map is found to be. */
function behind(
  follow: (set: (map: ClusterMap) => void) => Promise<void>,
  [was, is]: readonly [ClusterMap, ClusterMap] = [before, after],
) {
  const clock = new FakeClock()
  const stores = new Map(['a', 'b', 'c', 'd'].map((name) => [name, createMemoryStore(clock)]))
  const storeOf = (name: string): ChunkStore => stores.get(name) ?? assert.fail(name)
  let layout: ChunkLayout = layoutOf('a', was)
  const known = movedGroups(movedGroups(undefined, layoutOf('b', was)), layoutOf('b', is))
  const peers = new Map<string, StorePeer>(
    ['b', 'c', 'd'].map((name) => [name, storePeer(name, storeOf(name), storeOf('a'))]),
  )
  for (const peer of peers.values()) peer.moved = known.moved
  const followed: number[] = []
  const store = new ClusterChunkStore({
    self: 'a',
    local: storeOf('a'),
    peers: (name) => peers.get(name),
    layout: () => layout,
    async refreshMap() {
      followed.push(layout.map.epoch)
      await follow((map) => {
        layout = layoutOf('a', map)
      })
    },
    acks: 'all',
    order: (views) => views.map((_, index) => index),
    clock,
    log: silentLogger,
    damaged: () => undefined,
  })
  return { store, storeOf, followed, peerOf: (name: string) => peers.get(name) ?? assert.fail(name) }
}

test('a write by an older map than the last move of its chunk is at its new holders when it is acknowledged', async () => {
  const { store, storeOf, followed } = behind(async (set) => set(after))
  const [id = idOf(0)] = movedIds
  await putBytes(store, id, pattern(1, 5000))
  assert.deepEqual(followed, [before.epoch])
  assert.equal(await storeOf('d').has(id), true, 'the new holder has it')
  assert.equal(await storeOf('b').has(id), true)
  assert.equal(await storeOf('c').has(id), false, 'who gave the group away took nothing')
  assert.equal(store.counts().failedPuts, 0)
})

test('a delete by an older map reaches the new holders, too, and says whether there was one', async () => {
  const { store, storeOf } = behind(async (set) => set(after))
  const [id = idOf(0)] = movedIds
  for (const name of ['b', 'd']) await putBytes(storeOf(name), id, pattern(1, 5000))
  assert.equal(await store.delete(id), true)
  for (const name of ['b', 'd']) assert.equal(await storeOf(name).has(id), false, name)
})

test('what was deleted before a node refused the map is told after it was begun again', async () => {
  const { store, storeOf, peerOf } = behind(async (set) => set(after))
  const [id = idOf(0)] = movedIds
  await putBytes(storeOf('b'), id, pattern(1, 5000))
  // One that has not followed yet, and one that has.
  peerOf('b').moved = undefined
  assert.equal(await store.delete(id), true)
})

test('fragments, too', async () => {
  const { store, storeOf, followed } = behind(async (set) => set(stripedAfter), [stripedBefore, stripedAfter])
  const id = Array.from({ length: 4000 }, (_, number) => idOf(number)).find((one) =>
    layoutOf('a', stripedAfter).stripe(3)?.holders(groupOf(one)).includes('d'),
  )
  assert.ok(id)
  const buffer = await store.acquire(stripeBufferBytes(stripe))
  buffer.bytes.set(pattern(3, stripe.byteLength))
  await store.put(id, buffer, stripe.byteLength, undefined, stripe)
  buffer.release()
  assert.deepEqual(followed, [stripedBefore.epoch])
  assert.ok((await storeOf('d').stats()).chunkCount > 0)
  assert.equal((await storeOf('c').stats()).chunkCount, 0)
  assert.equal(await store.delete(id, undefined, stripe), true)
})

test('reads are answered by whatever map, and groups that stayed are written without a look at another', async () => {
  const { store, storeOf, followed } = behind(() => assert.fail('there was no need'))
  const [id = idOf(0)] = movedIds
  await putBytes(storeOf('c'), id, pattern(1, 5000))
  assert.ok((await getBytes(store, id)).equals(pattern(1, 5000)))
  const stayed = Array.from({ length: 400 }, (_, number) => idOf(number)).filter((one) => {
    const [was, is] = [before, after].map((map) => layoutOf('a', map).writers(groupOf(one)))
    return [...(was ?? [])].sort().join() === [...(is ?? [])].sort().join()
  })
  assert.ok(stayed.length > 10)
  for (const one of stayed) await putBytes(store, one, pattern(2, 100))
  assert.deepEqual(followed, [])
})

test('a node that cannot follow says so, after a bounded number of tries, and writes nowhere that it should not', async () => {
  const [id = idOf(0)] = movedIds
  const stuck = behind(async () => undefined)
  await assert.rejects(putBytes(stuck.store, id, pattern(1, 100)), (error) => {
    assert.ok(error instanceof StorageError)
    assert.equal(error.code, 'UNAVAILABLE')
    assert.match(error.message, /has not followed/)
    return true
  })
  assert.equal(stuck.followed.length, 1)
  const away = behind(() => Promise.reject(new StorageError('UNAVAILABLE', 'no majority')))
  await assert.rejects(putBytes(away.store, id, pattern(1, 100)), {
    code: 'UNAVAILABLE',
    message: /no majority/,
  })
  await assert.rejects(away.store.delete(id), { code: 'UNAVAILABLE' })
  for (const { storeOf } of [stuck, away]) assert.equal(await storeOf('c').has(id), false)
})

test('a node knows of each group since when it is where it is: from its start on, and over skipped maps', () => {
  const start = (map: ClusterMap): MovedGroups => movedGroups(undefined, layoutOf('b', map))
  const next = (known: MovedGroups, map: ClusterMap): MovedGroups => movedGroups(known, layoutOf('b', map))
  const first = start(before)
  assert.ok(first.moved.every((epoch) => epoch === before.epoch))
  const moved = next(first, after)
  const [id = idOf(0)] = movedIds
  assert.equal(moved.moved[groupOf(id)], after.epoch)
  assert.ok(moved.moved.includes(before.epoch), 'not all groups have moved')
  assert.equal(first.moved[groupOf(id)], before.epoch, 'what was told is not changed')
  // The end of the move and new addresses move nothing.
  const { moving: _, ...rest } = after
  const later = next(moved, { ...rest, epoch: after.epoch + 5 })
  assert.deepEqual(later.moved, moved.moved)
  const skipped = next(first, { ...after, epoch: after.epoch + 7 })
  assert.equal(skipped.moved[groupOf(id)], after.epoch + 7)
  const huge = start({ ...before, epoch: 2 ** 40 })
  assert.equal(huge.moved[0], 2 ** 32 - 1)
  assert.ok(start({ epoch: 0, replicas: 1, nodes: [] }).moved.every((epoch) => epoch === 0))
})
