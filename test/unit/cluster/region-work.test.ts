import assert from 'node:assert/strict'
import { test } from 'node:test'
import { createCollector } from '../../../core/catalog/collector.ts'
import { createDirectCatalog } from '../../../core/catalog/direct-catalog.ts'
import { MemoryTables } from '../../../core/catalog/memory-tables.ts'
import { createWriteRegistry } from '../../../core/catalog/write-registry.ts'
import { ByteBucket } from '../../../core/cluster/chunks/byte-bucket.ts'
import { decodeDamage, encodeDamage } from '../../../core/cluster/chunks/damage-messages.ts'
import { MapFence } from '../../../core/cluster/chunks/map-fence.ts'
import { RegionHolds } from '../../../core/cluster/chunks/region-holds.ts'
import { RepairQueue } from '../../../core/cluster/chunks/repair-queue.ts'
import { Yielding } from '../../../core/cluster/chunks/yielding.ts'
import { chunkId } from '../../../core/contract/ids.ts'
import { chunkedObject, extentOf, putCommand } from '../../kit/catalog-commands.ts'
import { rejectsWith } from '../../kit/chunk-store-place.ts'
import { FakeClock, fakeEnvironment } from '../../kit/fake-clock.ts'
import { MemoryRegion } from '../../kit/memory-region-peers.ts'
import { createMemoryStore } from '../../kit/memory-store.ts'

function pair() {
  const clock = new FakeClock()
  const region = new MemoryRegion({ clock })
  const [a, b] = [region.join('a'), region.join('b')]
  const writes = {
    a: createWriteRegistry(fakeEnvironment(clock, 1), { slot: () => 1 }),
    b: createWriteRegistry(fakeEnvironment(clock, 2), { slot: () => 2 }),
  }
  const caughtUp: string[] = []
  const others = new Set(['b'])
  const holds = {
    a: new RegionHolds({
      peers: a,
      members: () => [...others],
      slotOf: () => 2,
      writes: writes.a,
      clock,
      caughtUp: async () => undefined,
    }),
    b: new RegionHolds({
      peers: b,
      members: () => ['a'],
      slotOf: () => 1,
      writes: writes.b,
      clock,
      caughtUp: async () => {
        caughtUp.push('b')
      },
    }),
  }
  return { clock, region, a, b, writes, holds, caughtUp, others }
}

/** Time goes on until it is done. */
async function during<T>(clock: FakeClock, work: Promise<T>): Promise<T> {
  let isDone = false
  const done = work.finally(() => {
    isDone = true
  })
  done.catch(() => undefined)
  for (let step = 0; step < 200 && !isDone; step++) {
    await clock.advance(100)
    await new Promise((resolve) => setImmediate(resolve))
  }
  return done
}

test('what another node writes or reads is held, and it looks only after its catalog has caught up', async () => {
  const { clock, writes, holds, caughtUp } = pair()
  const [flying, read, over] = [writes.b.begin(), writes.b.begin(), writes.b.begin()]
  for (const id of [read, over]) writes.b.settle(id)
  const unpin = writes.b.pin(read)
  assert.deepEqual(await during(clock, holds.a.held([flying, read, over])), [true, true, false])
  assert.deepEqual(caughtUp, ['b'])
  unpin()
  writes.b.settle(flying)
  assert.deepEqual(await during(clock, holds.a.held([flying, read, over])), [false, false, false])
})

test('a node that does not answer holds everything up, for an hour', async () => {
  const { clock, region, writes, holds } = pair()
  const id = writes.a.begin()
  region.cut('a', 'b')
  for (let minutes = 0; minutes < 60; minutes += 20) {
    await rejectsWith('UNAVAILABLE', during(clock, holds.a.held([id])))
    await clock.advance(20 * 60_000)
  }
  assert.deepEqual(await during(clock, holds.a.held([id])), [false])
  // It came back meanwhile: its silence begins anew.
  region.heal()
  await during(clock, holds.a.held([id]))
  region.cut('a', 'b')
  await rejectsWith('UNAVAILABLE', during(clock, holds.a.held([id])))
})

test('a node that missed one question, and another one days later, has not been silent meanwhile', async () => {
  const { clock, region, writes, holds, a, b } = pair()
  const fence = new MapFence({ peers: a, members: () => ['b'], writes: writes.a, clock })
  const other = new MapFence({ peers: b, members: () => ['a'], writes: writes.b, clock })
  for (const one of [fence, other]) one.adopt(1)
  const id = writes.b.begin()
  writes.b.settle(id)
  writes.b.pin(id)
  for (const _ of [1, 2]) {
    region.cut('a', 'b')
    await rejectsWith('UNAVAILABLE', during(clock, holds.a.held([id])))
    assert.equal(await during(clock, fence.passedEverywhere(1)), false)
    region.heal()
    await clock.advance(2 * 24 * 3_600_000)
  }
  assert.deepEqual(await during(clock, holds.a.held([id])), [true])
})

test('what a silent gateway has begun stays: its upload may take longer than it is waited for', async () => {
  const { clock, region, writes, holds, others } = pair()
  const environment = fakeEnvironment(clock, 3)
  const catalog = createDirectCatalog({ tables: new MemoryTables(), environment, regionId: 1 })
  const chunks = createMemoryStore(clock)
  const collector = createCollector({ catalog, chunks, writes: writes.a, clock, elsewhere: holds.a })
  const store = async (writeId: Uint8Array): Promise<void> => {
    const buffer = await chunks.acquire(10)
    await chunks.put(chunkId(writeId, 0), buffer, 10)
    buffer.release()
  }
  const flying = writes.b.begin()
  await store(flying)
  region.cut('a', 'b')
  const look = async () => (await during(clock, collector.collectOrphans())).deleted
  assert.equal(await look(), 0)
  await clock.advance(3_700_000)
  assert.equal(await look(), 0)
  await clock.advance(3_700_000)
  const own = writes.a.begin()
  await store(own)
  writes.a.settle(own)
  assert.equal(await look(), 0)
  await clock.advance(3_700_000)
  assert.equal(await look(), 1, 'of what this node had begun it knows')
  assert.ok((await chunks.list(null, 10)).length === 1, 'the chunk of the upload is there')
  // It is not of the region any more.
  others.clear()
  assert.equal(await look(), 0, 'nobody has it under way: since now')
  await clock.advance(3_700_000)
  assert.equal(await look(), 1)
})

test('who stops asking does not wait for a node that is silent, nor count that as its silence', async () => {
  const { clock, region, writes, holds } = pair()
  const id = writes.a.begin()
  region.silence('a', 'b')
  const stop = new AbortController()
  const asked = holds.a.held([id], stop.signal)
  stop.abort(new Error('the node stops'))
  await assert.rejects(asked, /the node stops/)
  await clock.advance(3_600_000)
  await rejectsWith('UNAVAILABLE', during(clock, holds.a.held([id])))
})

test('garbage that another node reads is kept, and an orphan goes when it was one for an hour', async () => {
  const { clock, writes, holds } = pair()
  const environment = fakeEnvironment(clock, 3)
  const catalog = createDirectCatalog({ tables: new MemoryTables(), environment, regionId: 1 })
  const chunks = createMemoryStore(clock)
  const collector = createCollector({ catalog, chunks, writes: writes.a, clock, elsewhere: holds.a })
  const bucket = catalog.run({ type: 'create-bucket', name: 'photos', owner: 'root' })
  const store = async (writeId: Uint8Array): Promise<void> => {
    const buffer = await chunks.acquire(10)
    await chunks.put(chunkId(writeId, 0), buffer, 10)
    buffer.release()
  }
  const old = writes.b.begin()
  await store(old)
  catalog.run(putCommand(bucket.id, 'key', chunkedObject(extentOf(old, 10))))
  writes.b.settle(old)
  const unpin = writes.b.pin(old)
  catalog.run({ type: 'delete-objects', bucketId: bucket.id, items: [{ key: 'key' }], owner: 'root' })
  assert.deepEqual(await during(clock, collector.collect()), { writes: 0, chunks: 0, pinned: 1 })
  unpin()
  assert.deepEqual(await during(clock, collector.collect()), { writes: 1, chunks: 1, pinned: 0 })

  const flying = writes.b.begin()
  await store(flying)
  for (let look = 0; look < 2; look++) {
    assert.equal((await during(clock, collector.collectOrphans())).deleted, 0)
    await clock.advance(3_700_000)
  }
  assert.equal(await chunks.has(chunkId(flying, 0)), true, 'its write is still under way elsewhere')
  // Its gateway does not know what became of it: its entry may still come, however long it was under way.
  writes.b.settle(flying)
  for (let look = 0; look < 2; look++) {
    assert.equal((await during(clock, collector.collectOrphans())).deleted, 0)
    await clock.advance(1_900_000)
  }
  assert.equal((await during(clock, collector.collectOrphans())).deleted, 1)
  const left = writes.b.begin()
  await store(left)
  writes.b.settle(left)
  assert.equal((await during(clock, collector.collectOrphans())).deleted, 0, 'its entry may still come')
})

test('a fence is passed when no write of an earlier map is left, at any node', async () => {
  const { clock, a, b, writes } = pair()
  const fences = {
    a: new MapFence({ peers: a, members: () => ['b'], writes: writes.a, clock }),
    b: new MapFence({ peers: b, members: () => ['a'], writes: writes.b, clock }),
  }
  const passed = (epoch: number): Promise<boolean> => during(clock, fences.a.passedEverywhere(epoch))
  for (const fence of Object.values(fences)) fence.adopt(1)
  assert.equal(await passed(1), true)
  const before = writes.b.begin()
  fences.a.adopt(2)
  assert.equal(await passed(2), false, 'the other one does not know the map')
  fences.b.adopt(2)
  const after = writes.b.begin()
  assert.equal(await passed(2), false, 'a write of the map before is left')
  assert.equal(await passed(1), true)
  writes.b.settle(before)
  assert.equal(await passed(2), true, 'one of this map does not count')
  writes.b.settle(after)
})

test('the chunk with the fewest copies is fetched first, each once, and no more are kept than fit', () => {
  const queue = new RepairQueue(3)
  const chunk = (at: number, sources: readonly string[]) => ({
    id: chunkId(new Uint8Array(10), at),
    byteLength: 10,
    isCorrupt: false,
    sources,
  })
  assert.equal(queue.add(chunk(1, ['a', 'b'])), true)
  assert.equal(queue.add(chunk(2, ['a'])), true)
  assert.equal(queue.add(chunk(2, ['a'])), true)
  assert.equal(queue.add(chunk(3, ['a', 'b', 'c'])), true)
  assert.equal(queue.add(chunk(4, [])), false)
  assert.equal(queue.bytes, 30)
  assert.deepEqual(
    [queue.take(), queue.take(), queue.take(), queue.take()].map((one) => one?.sources.length),
    [1, 2, 3, undefined],
  )
})

test('repair keeps its rate, and gives way when others need the machine', async () => {
  const clock = new FakeClock()
  let pressure = 0
  const bucket = new ByteBucket(clock, 1000, () => pressure)
  const timeFor = async (bytes: number): Promise<number> => {
    const beganMs = clock.monotonic()
    let endedMs = -1
    const taking = bucket.take(bytes, new AbortController().signal).then(() => {
      endedMs = clock.monotonic()
    })
    await clock.advance(200_000)
    await taking
    return endedMs - beganMs
  }
  // Whatever time nothing was taken: no burst.
  assert.equal(await timeFor(100), 0)
  assert.equal(await timeFor(10_100), 10_000)
  pressure = 1
  assert.ok((await timeFor(2000)) >= 18_000)
})

test('repair yields while its own fetches take longer than they did, and not to a way that has become slow for good', () => {
  const yielding = new Yielding()
  const note = (count: number, byteLength: number, ms: number): void => {
    for (let index = 0; index < count; index++) yielding.note(byteLength, ms)
  }
  note(50, 1 << 20, 10)
  assert.equal(yielding.pressure, 0)
  note(50, 4096, 1)
  assert.equal(yielding.pressure, 0)
  note(30, 1 << 20, 40)
  assert.ok(yielding.pressure > 0.4 && yielding.pressure < 0.6, `${yielding.pressure}`)
  note(30, 1 << 20, 100)
  assert.equal(yielding.pressure, 1)
  note(30, 1 << 20, 11)
  assert.equal(yielding.pressure, 0)
  note(2000, 1 << 20, 40)
  assert.equal(yielding.pressure, 0)
})

test('reports of damage survive the way, and what is none is refused', () => {
  const damage = [
    { id: Uint8Array.from({ length: 16 }, (_, at) => at), isCorrupt: true },
    { id: new Uint8Array(16), isCorrupt: false },
  ]
  assert.deepEqual(
    decodeDamage(encodeDamage(damage)),
    damage.map((one) => ({ ...one })),
  )
  assert.throws(() => decodeDamage(new Uint8Array(18)), /PROTOCOL_ERROR/)
})

test('the oldest write in flight is the one that was begun first', () => {
  const registry = createWriteRegistry(fakeEnvironment(new FakeClock(), 1))
  assert.equal(registry.oldestInFlight(), undefined)
  const [first, second] = [registry.begin(), registry.begin()]
  assert.deepEqual(registry.oldestInFlight(), first)
  registry.settle(first)
  assert.deepEqual(registry.oldestInFlight(), second)
  assert.ok(Buffer.compare(first, second) < 0)
})
