import assert from 'node:assert/strict'
import { test } from 'node:test'
import { ClusterChunkStore, type ClusterStoreParts } from '../../../core/cluster/chunks/cluster-store.ts'
import { type ChunkLayout, groupOf, layoutOf } from '../../../core/cluster/chunks/layout.ts'
import type { DamagedCopy } from '../../../core/cluster/chunks/peers.ts'
import { changeMap } from '../../../core/cluster/placement/change-map.ts'
import type { ClusterMap } from '../../../core/contract/cluster-map.ts'
import { StorageError } from '../../../core/contract/errors.ts'
import { type ChunkId, chunkId } from '../../../core/contract/ids.ts'
import { silentLogger } from '../../../core/contract/logger.ts'
import type { ReplicaAcks } from '../../../core/contract/transport.ts'
import { getBytes, pattern, putBytes, rejectsWith } from '../../kit/chunk-store-place.ts'
import { clusterMap, clusterNode } from '../../kit/cluster-maps.ts'
import { FakeClock } from '../../kit/fake-clock.ts'
import { createMemoryStore, type MemoryStore } from '../../kit/memory-store.ts'
import { type StorePeer, storePeer } from '../../kit/store-peer.ts'

const idOf = (number: number): Uint8Array =>
  chunkId(
    Uint8Array.from({ length: 10 }, (_, at) => number >> (8 * (9 - at))),
    0,
  )

interface Region {
  readonly store: ClusterChunkStore
  readonly stores: ReadonlyMap<string, MemoryStore>
  readonly peers: ReadonlyMap<string, StorePeer>
  readonly clock: FakeClock
  readonly damage: DamagedCopy[]
  storeOf(name: string): MemoryStore
  peerOf(name: string): StorePeer
  setMap(map: ClusterMap): void
}

/** As node `a` sees it. */
function regionOf(
  map: ClusterMap,
  options: Partial<Pick<ClusterStoreParts, 'acks' | 'order' | 'refreshMap' | 'stragglers' | 'self'>> & {
    extra?: readonly string[]
  } = {},
): Region {
  const self = options.self ?? 'a'
  const clock = new FakeClock()
  const names = [...map.nodes.map(({ name }) => name), ...(options.extra ?? [])]
  const stores = new Map(names.map((name) => [name, createMemoryStore(clock)]))
  const storeOf = (name: string): MemoryStore => stores.get(name) ?? assert.fail(name)
  const peers = new Map(
    names
      .filter((name) => name !== self)
      .map((name) => [name, storePeer(name, storeOf(name), storeOf(self))]),
  )
  const damage: DamagedCopy[] = []
  let layout: ChunkLayout = layoutOf(self, map)
  const store = new ClusterChunkStore({
    self,
    local: storeOf(self),
    peers: (name) => peers.get(name),
    layout: () => layout,
    refreshMap: options.refreshMap ?? (() => assert.fail('nobody has another map')),
    acks: options.acks ?? 'quorum',
    order: options.order ?? ((views) => views.map((_, index) => index)),
    clock,
    log: silentLogger,
    damaged: (copy) => damage.push(copy),
    ...(options.stragglers === undefined ? {} : { stragglers: options.stragglers }),
  })
  return {
    store,
    stores,
    peers,
    clock,
    damage,
    storeOf,
    peerOf: (name) => peers.get(name) ?? assert.fail(name),
    setMap(next) {
      layout = layoutOf(self, next)
    },
  }
}

const three = clusterMap(['a', 'b', 'c'])
const turns = async (count = 10): Promise<void> => {
  for (let turn = 0; turn < count; turn++) await new Promise((resolve) => setImmediate(resolve))
}
const told = (damage: readonly DamagedCopy[]): readonly string[] =>
  damage.map(({ node, problem }) => `${node} ${problem}`)

test('with one of three nodes down writes succeed, reads work, and the node is told what it missed', async () => {
  const { store, peerOf, storeOf, damage } = regionOf(three)
  peerOf('b').isDown = true
  await putBytes(store, idOf(1), pattern(1, 5000))
  await turns()
  assert.deepEqual(told(damage), ['b missing'])
  assert.deepEqual(damage[0]?.id, idOf(1))
  assert.ok((await getBytes(store, idOf(1))).equals(pattern(1, 5000)))
  assert.deepEqual(await Promise.all(['a', 'b', 'c'].map((name) => storeOf(name).has(idOf(1)))), [
    true,
    false,
    true,
  ])
  assert.equal(store.counts().partialPuts, 1)
})

test('with two of three nodes down a write is UNAVAILABLE and says who failed; what is here is still read', async () => {
  const { store, peerOf } = regionOf(three)
  await putBytes(store, idOf(1), pattern(1, 100))
  peerOf('b').isDown = true
  peerOf('c').isDown = true
  await assert.rejects(putBytes(store, idOf(2), pattern(2, 100)), (error) => {
    assert.ok(error instanceof StorageError)
    assert.equal(error.code, 'UNAVAILABLE')
    assert.match(error.message, /2 of 3 copies must be written.*b: unreachable; c: unreachable/)
    return true
  })
  assert.ok((await getBytes(store, idOf(1))).equals(pattern(1, 100)))
  // Not here, and nobody to ask: not the same as not there.
  await rejectsWith('UNAVAILABLE', getBytes(store, idOf(77)))
  await rejectsWith('UNAVAILABLE', store.has(idOf(77)))
})

test('one copy is enough with `one`, and every copy is needed with `all`', async () => {
  for (const [acks, works] of [
    ['one', true],
    ['quorum', false],
    ['all', false],
  ] as const) {
    const { store, peerOf } = regionOf(three, { acks })
    for (const name of ['b', 'c']) peerOf(name).isDown = true
    const put = putBytes(store, idOf(1), pattern(1, 10))
    if (works) await put
    else await rejectsWith('UNAVAILABLE', put)
  }
  const { store, peerOf } = regionOf(three, { acks: 'all' })
  peerOf('b').isDown = true
  await rejectsWith('UNAVAILABLE', putBytes(store, idOf(1), pattern(1, 10)))
})

test('a write that asks for more copies, or fewer, than the region does gets what it asks for', async () => {
  const { store, peerOf } = regionOf(three)
  const put = async (id: number, acks: ReplicaAcks): Promise<void> => {
    const buffer = await store.acquire(10)
    await store
      .put(idOf(id), buffer, 10, undefined, undefined, undefined, acks)
      .finally(() => buffer.release())
  }
  peerOf('b').isDown = true
  await rejectsWith('UNAVAILABLE', put(1, 'all'))
  await put(2, 'quorum')
  peerOf('c').isDown = true
  await rejectsWith('UNAVAILABLE', put(3, 'quorum'))
  await put(4, 'one')
})

test('full nodes are told as what they are', async () => {
  const { store, stores } = regionOf(three)
  for (const name of ['b', 'c']) {
    const full = stores.get(name) ?? assert.fail()
    full.put = async () => {
      throw new StorageError('INSUFFICIENT_STORAGE', 'the store is full')
    }
  }
  await rejectsWith('INSUFFICIENT_STORAGE', putBytes(store, idOf(1), pattern(1, 10)))
})

test('a slow node holds up no write, and its copy is made from the same bytes after the caller has let go', async () => {
  const { store, peerOf, storeOf, damage } = regionOf(three)
  peerOf('c').isStuck = true
  const buffer = await store.acquire(3000)
  buffer.bytes.set(pattern(1, 3000))
  await store.put(idOf(1), buffer, 3000)
  buffer.release()
  assert.equal(storeOf('a').held, 1, 'the bytes are kept for the third copy')
  assert.equal(peerOf('c').inUse.size, 1)
  peerOf('c').isStuck = false
  await turns()
  assert.ok((await getBytes(storeOf('c'), idOf(1))).equals(pattern(1, 3000)))
  assert.equal(storeOf('a').held, 0)
  assert.deepEqual(damage, [])
  assert.throws(() => buffer.release())
})

test('a node that stays slow costs a bounded piece of memory and time, then it is left to repair', async () => {
  const { store, peerOf, storeOf, clock, damage } = regionOf(three, {
    stragglers: { bytes: 10_000, ms: 2000 },
  })
  peerOf('c').isStuck = true
  for (let number = 1; number <= 40; number++) {
    await putBytes(store, idOf(number), pattern(number, 1000))
    await turns(2)
    assert.ok(store.counts().stragglerBytes <= 10_000, `${store.counts().stragglerBytes} bytes held`)
    assert.ok(storeOf('a').held <= 11)
  }
  assert.equal(damage.length, 30)
  await clock.advance(2500)
  await turns()
  assert.equal(store.counts().stragglers, 0)
  assert.equal(storeOf('a').held, 0)
  assert.deepEqual(new Set(told(damage)), new Set(['c missing']))
  assert.equal(damage.length, 40)
  assert.equal(clock.pending, 0, 'timers are left')
  for (let number = 1; number <= 40; number++) await getBytes(store, idOf(number))
})

test("a buffer of somebody else is in nobody's hands when the put resolves", async () => {
  const { store, peerOf, clock } = regionOf(three, { stragglers: { bytes: 10_000, ms: 2000 } })
  peerOf('c').isStuck = true
  const bytes = pattern(1, 100)
  let isDone = false
  const put = store.put(idOf(1), { bytes, release: () => undefined }, 100).then(() => {
    isDone = true
  })
  await turns()
  assert.equal(isDone, false)
  await clock.advance(3000)
  await put
  assert.equal(peerOf('c').inUse.size, 0)
})

test('a damaged or missing copy is read around, and its node is told', async () => {
  const { store, storeOf, damage } = regionOf(three)
  await putBytes(store, idOf(1), pattern(1, 2000))
  await turns()
  await storeOf('b').delete(idOf(1))
  storeOf('a').get = async () => {
    throw new StorageError('CORRUPT_CHUNK', 'a checksum does not fit')
  }
  assert.ok((await getBytes(store, idOf(1))).equals(pattern(1, 2000)))
  assert.deepEqual(told(damage), ['a corrupt', 'b missing'])
  assert.equal(store.counts().readsAround, 1)
  // What nobody has is not damage, and what is damaged everywhere is said to be so.
  await rejectsWith('CHUNK_NOT_FOUND', getBytes(regionOf(three).store, idOf(9)))
  storeOf('c').get = storeOf('a').get
  await rejectsWith('CORRUPT_CHUNK', getBytes(store, idOf(1)))
})

test('a link that is closed under a request ends neither a read nor a write that others can answer; the own store does', async () => {
  const { store, storeOf, peerOf } = regionOf(three)
  await putBytes(store, idOf(1), pattern(1, 2000))
  await turns()
  const { get } = storeOf('a')
  await storeOf('a').delete(idOf(1))
  const closed = async (): Promise<never> => {
    throw new StorageError('CLOSED', 'the link is closed')
  }
  Object.assign(peerOf('b').chunks, { get: closed, put: closed, has: closed, delete: closed })
  assert.ok((await getBytes(store, idOf(1))).equals(pattern(1, 2000)))
  await putBytes(store, idOf(2), pattern(2, 10))
  assert.equal(await store.has(idOf(1)), true)
  assert.equal(await store.delete(idOf(2)), true)
  // The node behind it may have what nobody else has.
  await rejectsWith('UNAVAILABLE', getBytes(store, idOf(3)))
  await rejectsWith('UNAVAILABLE', store.has(idOf(3)))
  peerOf('c').isDown = true
  await rejectsWith('UNAVAILABLE', putBytes(store, idOf(4), pattern(4, 10)))
  storeOf('a').get = closed
  peerOf('c').isDown = false
  await rejectsWith('CLOSED', getBytes(store, idOf(1)))
  storeOf('a').get = get
})

test('a copy that its device refuses to read is told to its node like a damaged one', async () => {
  const { store, storeOf, damage } = regionOf(three)
  await putBytes(store, idOf(1), pattern(1, 2000))
  await turns()
  const [a, get] = [storeOf('a'), storeOf('a').get]
  a.get = async () => {
    throw new StorageError('IO_ERROR', 'the chunk could not be read: EIO')
  }
  assert.ok((await getBytes(store, idOf(1))).equals(pattern(1, 2000)))
  assert.deepEqual(told(damage), ['a corrupt'])
  // Of one that is away, or slow, nobody knows what it has.
  a.get = async () => {
    throw new StorageError('DEVICE_OFFLINE', 'the device is gone')
  }
  assert.ok((await getBytes(store, idOf(1))).equals(pattern(1, 2000)))
  assert.deepEqual(told(damage), ['a corrupt'])
  a.get = get
})

test('a slow copy is hedged, the late answer gives its memory back', async () => {
  const { store, storeOf, peerOf, clock } = regionOf(clusterMap(['a', 'b', 'c', 'd']), { self: 'a' })
  const map = clusterMap(['a', 'b', 'c', 'd'])
  const layout = layoutOf('a', map)
  let number = 1
  // Asked in the order of the list: `b` first, and nothing of it here.
  const isAsked = (writers: readonly string[]): boolean => !writers.includes('a') && writers[0] === 'b'
  while (!isAsked(layout.writers(groupOf(idOf(number))))) number++
  await putBytes(store, idOf(number), pattern(3, 700))
  await turns()
  peerOf('b').isStuck = true
  const reading = getBytes(store, idOf(number))
  await turns()
  assert.equal(store.counts().hedgedReads, 0)
  await clock.advance(20)
  assert.ok((await reading).equals(pattern(3, 700)))
  assert.equal(store.counts().hedgedReads, 1)
  peerOf('b').isStuck = false
  await turns()
  assert.equal(storeOf('a').held, 0)
  // The one timer of all reads runs out by itself.
  await clock.advance(250)
  assert.equal(clock.pending, 0)
})

test('reads of what is here look at no other node, and share the timer that would', async () => {
  const { store, peers, clock } = regionOf(three, { order: () => assert.fail('nobody else is to be asked') })
  await putBytes(store, idOf(1), pattern(3, 700))
  await turns()
  const asked = [...peers.values()].map(({ chunks }) => chunks.inFlight)
  const reading = Array.from({ length: 50 }, () => getBytes(store, idOf(1)))
  assert.equal(clock.pending, 1)
  for (const bytes of await Promise.all(reading)) assert.ok(bytes.equals(pattern(3, 700)))
  assert.deepEqual(asked, [0, 0])
  await clock.advance(100)
  assert.equal(clock.pending, 0)
  assert.equal(store.counts().hedgedReads, 0)
})

test('of two reads the one that is due sooner is hedged sooner', async () => {
  const { store, storeOf, peerOf, clock } = regionOf(three)
  await putBytes(store, idOf(1), pattern(3, 700))
  await turns()
  await storeOf('a').delete(idOf(1))
  await putBytes(store, idOf(2), pattern(4, 700))
  await turns()
  peerOf('b').isStuck = true
  Object.assign(peerOf('b'), { p50Ms: 40 })
  const first = getBytes(store, idOf(1))
  await turns()
  await clock.advance(150)
  Object.assign(peerOf('b'), { p50Ms: 2 })
  const second = getBytes(store, idOf(1))
  await turns()
  await clock.advance(10)
  assert.ok((await second).equals(pattern(3, 700)))
  assert.equal(store.counts().hedgedReads, 1)
  await clock.advance(40)
  assert.ok((await first).equals(pattern(3, 700)))
  assert.equal(store.counts().hedgedReads, 2)
})

test('a read can be cancelled while it waits', async () => {
  const { store, peerOf, storeOf } = regionOf(three)
  await putBytes(store, idOf(1), pattern(3, 700))
  await turns()
  await storeOf('a').delete(idOf(1))
  for (const name of ['b', 'c']) peerOf(name).isStuck = true
  const abort = new AbortController()
  const reading = store.get(idOf(1), 0, 100, abort.signal)
  await turns()
  abort.abort()
  await rejectsWith('CANCELLED', reading)
  await rejectsWith('CANCELLED', store.get(idOf(1), 0, 100, AbortSignal.abort()))
})

test('while chunks move they are written to the new nodes and read from the old ones too, and deleted at both', async () => {
  const before = clusterMap(['a', 'b', 'c'], 1)
  const after = changeMap(before, { nodes: [...before.nodes, clusterNode('d')] })
  const region = regionOf(before, { extra: ['d'] })
  const { store, storeOf, setMap, damage } = region
  const layoutAfter = layoutOf('a', after)
  const moved = Array.from({ length: 400 }, (_, number) => idOf(number)).filter(
    (id) => layoutAfter.writers(groupOf(id))[0] === 'd',
  )
  assert.ok(moved.length > 10)
  for (const [index, id] of moved.entries()) await putBytes(store, id, pattern(index, 300))
  setMap(after)
  for (const [index, id] of moved.entries())
    assert.ok((await getBytes(store, id)).equals(pattern(index, 300)))
  assert.deepEqual(damage, [], 'what is on its way is not damage')
  const [first = idOf(0), second = idOf(0)] = moved
  await store.delete(first)
  for (const name of ['a', 'b', 'c', 'd']) assert.equal(await storeOf(name).has(first), false)
  // A new one goes to the new node only.
  await putBytes(store, first, pattern(7, 100))
  assert.equal(await storeOf('d').has(first), true)
  assert.equal(await store.has(second), true)
  // The move is over, and a copy that nobody brought over is still found where it was.
  const { moving: _, ...over } = after
  setMap({ ...over, epoch: after.epoch + 1 })
  assert.ok((await getBytes(store, second)).equals(pattern(1, 300)))
  assert.deepEqual(told(damage), ['d missing'])
})

test('a node that was taken out by force is not waited for: a copy elsewhere is found', async () => {
  const before = clusterMap(['a', 'b', 'c', 'd'], 1)
  const after = changeMap(before, { nodes: before.nodes.filter(({ name }) => name !== 'b') }, { force: true })
  const { store, storeOf, setMap, peerOf } = regionOf(before)
  let number = 1
  const [was, is] = [layoutOf('a', before), layoutOf('a', after)]
  const holders = (id: ChunkId): string => [was, is].map((layout) => layout.writers(groupOf(id))[0]).join()
  while (holders(idOf(number)) !== 'b,a') number++
  // From an earlier move.
  await putBytes(storeOf('c'), idOf(number), pattern(5, 50))
  peerOf('b').isDown = true
  setMap(after)
  assert.ok((await getBytes(store, idOf(number))).equals(pattern(5, 50)))
})

test('a chunk that nobody has who should is not gone while a node that may have it cannot be asked', async () => {
  const map = clusterMap(['a', 'b', 'c'], 1)
  const { store, storeOf, peerOf } = regionOf(map)
  let number = 1
  while (layoutOf('a', map).writers(groupOf(idOf(number)))[0] !== 'b') number++
  await putBytes(storeOf('c'), idOf(number), pattern(5, 50))
  peerOf('c').isDown = true
  await rejectsWith('UNAVAILABLE', getBytes(store, idOf(number), 0, 50))
  peerOf('c').isDown = false
  assert.ok((await getBytes(store, idOf(number), 0, 50)).equals(pattern(5, 50)))
  await storeOf('c').delete(idOf(number))
  await rejectsWith('CHUNK_NOT_FOUND', getBytes(store, idOf(number), 0, 50))
})

test('a map that changes under a read makes it look again', async () => {
  const before = clusterMap(['a', 'b'], 1)
  const after: ClusterMap = { epoch: 2, replicas: 1, nodes: [clusterNode('z')] }
  const { store, storeOf, setMap, peerOf } = regionOf(before, { extra: ['z'] })
  let number = 1
  const layout = layoutOf('a', before)
  while (layout.writers(groupOf(idOf(number)))[0] !== 'b') number++
  await putBytes(storeOf('z'), idOf(number), pattern(5, 50))
  peerOf('b').isStuck = true
  const reading = getBytes(store, idOf(number))
  await turns()
  setMap(after)
  peerOf('b').isStuck = false
  assert.ok((await reading).equals(pattern(5, 50)))
})

test('a delete succeeds without the nodes that are down, and not without all of them', async () => {
  const { store, peerOf, storeOf } = regionOf(three)
  await putBytes(store, idOf(1), pattern(1, 10))
  await turns()
  peerOf('b').isDown = true
  assert.equal(await store.delete(idOf(1)), true)
  assert.deepEqual(await Promise.all(['a', 'b', 'c'].map((name) => storeOf(name).has(idOf(1)))), [
    false,
    true,
    false,
  ])
  const far = regionOf(clusterMap(['a', 'b', 'c', 'd'], 1))
  let number = 1
  const layout = layoutOf('a', clusterMap(['a', 'b', 'c', 'd'], 1))
  while (layout.writers(groupOf(idOf(number)))[0] !== 'b') number++
  far.peerOf('b').isDown = true
  await rejectsWith('UNAVAILABLE', far.store.delete(idOf(number)))
})

test('a delete waits for the copies of the put before it', async () => {
  const { store, peerOf, storeOf } = regionOf(three)
  peerOf('c').isStuck = true
  await putBytes(store, idOf(1), pattern(1, 10))
  const deleting = store.delete(idOf(1))
  await turns()
  peerOf('c').isStuck = false
  assert.equal(await deleting, true)
  for (const name of ['a', 'b', 'c']) assert.equal(await storeOf(name).has(idOf(1)), false)
})

test('a region that was never more than one node works alone; one where nobody may hold anything says so', async () => {
  const alone = regionOf({ epoch: 0, replicas: 1, nodes: [] }, { extra: ['a'] })
  await putBytes(alone.store, idOf(1), pattern(1, 10))
  assert.ok((await getBytes(alone.store, idOf(1))).equals(pattern(1, 10)))
  const nobody = regionOf({
    ...three,
    nodes: three.nodes.map((node) => ({ ...node, state: 'joining' as const })),
  })
  await rejectsWith('UNAVAILABLE', putBytes(nobody.store, idOf(1), pattern(1, 10)))
})

test('in a large region, too, a read finds the copy that an earlier map left where nobody looks first', async () => {
  const names = ['a', ...Array.from({ length: 139 }, (_, at) => `b${String(at).padStart(3, '0')}`)]
  const map = clusterMap(names, 2)
  const strangers = names.filter(
    (name) =>
      !layoutOf('a', map)
        .readers(groupOf(idOf(1)))
        .includes(name),
  )
  const { store, storeOf } = regionOf(map)
  const bytes = pattern(1, 100)
  await rejectsWith('CHUNK_NOT_FOUND', getBytes(store, idOf(1), 0, 100))
  await putBytes(storeOf(strangers.at(-1) ?? ''), idOf(1), bytes)
  assert.deepEqual(await getBytes(store, idOf(1), 0, 100), bytes)
})
