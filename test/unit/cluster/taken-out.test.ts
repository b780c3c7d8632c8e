import assert from 'node:assert/strict'
import { test } from 'node:test'
import { createCollector } from '../../../core/catalog/collector.ts'
import { createDirectCatalog } from '../../../core/catalog/direct-catalog.ts'
import { MemoryTables } from '../../../core/catalog/memory-tables.ts'
import { createWriteRegistry } from '../../../core/catalog/write-registry.ts'
import { RegionHolds } from '../../../core/cluster/chunks/region-holds.ts'
import type { ClusterMap } from '../../../core/contract/cluster-map.ts'
import { StorageError } from '../../../core/contract/errors.ts'
import { chunkId, type WriteId } from '../../../core/contract/ids.ts'
import { chunkedObject, etagOf, extentOf, plainAttributes, putCommand } from '../../kit/catalog-commands.ts'
import { clusterNode } from '../../kit/cluster-maps.ts'
import { FakeClock, fakeEnvironment } from '../../kit/fake-clock.ts'
import { MemoryRegion } from '../../kit/memory-region-peers.ts'
import { createMemoryStore } from '../../kit/memory-store.ts'
import { ruleOf, ship, testRegion } from '../../kit/replicated-buckets.ts'

const mapOf = (epoch: number, slots: Readonly<Record<string, number>>): ClusterMap => ({
  epoch,
  replicas: 2,
  nodes: Object.entries(slots).map(([name, slot]) => clusterNode(name, { slot, voter: name === 'a' })),
})

/** Nodes `a` and `b`, of which `b` has been at a body for a long time, and what `a` collects. */
async function twoWriters() {
  const clock = new FakeClock()
  const environment = fakeEnvironment(clock, 1)
  const catalog = createDirectCatalog({ tables: new MemoryTables(), environment, regionId: 1 })
  const { id: bucketId } = catalog.run({ type: 'create-bucket', name: 'b', owner: 'root' })
  catalog.run({ type: 'set-cluster-map', map: mapOf(1, { a: 0, b: 1 }) })
  const [a, b] = [0, 1].map((slot) =>
    createWriteRegistry(fakeEnvironment(clock, slot), { slot: () => slot }),
  ) as [ReturnType<typeof createWriteRegistry>, ReturnType<typeof createWriteRegistry>]
  const members = (): readonly string[] =>
    catalog
      .clusterMap()
      .nodes.map(({ name }) => name)
      .filter((name) => name !== 'a')
  const elsewhere = new RegionHolds({
    ...{ peers: new MemoryRegion({ clock }).join('a'), members, writes: a, clock },
    slotOf: (member) => catalog.clusterMap().nodes.find(({ name }) => name === member)?.slot,
    caughtUp: async () => undefined,
  })
  const chunks = createMemoryStore(clock)
  const collector = createCollector({ catalog, chunks, writes: a, clock, elsewhere })
  const store = async (writeId: WriteId): Promise<void> => {
    const buffer = await chunks.acquire(10)
    await chunks.put(chunkId(writeId, 0), buffer, 10)
    buffer.release()
  }
  const put = (writeId: WriteId, seed: number) =>
    catalog.run(putCommand(bucketId, 'key', chunkedObject(extentOf(writeId, 10), etagOf(seed))))
  const collect = async (): Promise<number> => {
    const collected = collector.collectOrphans()
    collected.catch(() => undefined)
    for (let step = 0; step < 20; step++) {
      await clock.advance(100)
      await new Promise((resolve) => setImmediate(resolve))
    }
    return (await collected).deleted
  }
  const flying = b.begin()
  await store(flying)
  return { clock, catalog, bucketId, a, b, store, put, collect, flying, chunks }
}

const isRefused = (error: unknown): boolean => error instanceof StorageError && error.code === 'UNAVAILABLE'

test('a body whose node was taken out of the region meanwhile makes no object: its chunks may have been freed', async () => {
  const { clock, catalog, bucketId, a, store, put, collect, flying, chunks } = await twoWriters()
  const old = a.begin()
  await store(old)
  put(old, 1)
  catalog.run({ type: 'set-cluster-map', map: mapOf(2, { a: 0 }) })
  await collect()
  await clock.advance(3_700_000)
  assert.equal(await collect(), 1)
  assert.equal(await chunks.has(chunkId(flying, 0)), false)
  // It does not know yet, or was stopped for so long, and wants to end what it began.
  assert.throws(() => put(flying, 2), isRefused)
  const { uploadId } = catalog.run({
    ...{ type: 'create-upload', bucketId, key: 'key', owner: 'root', initiator: 'root' },
    attributes: plainAttributes,
  })
  assert.throws(
    () =>
      catalog.run({
        ...{ type: 'put-part', bucketId, key: 'key', uploadId, number: 1, byteLength: 10, etag: etagOf(2) },
        layout: { kind: 'chunks', extents: [extentOf(flying, 10)] },
      }),
    isRefused,
  )
  assert.equal(catalog.object(bucketId, 'key')?.etag, etagOf(1), 'what was there before is there')
  assert.equal(catalog.stats().garbageWrites, 0)
  assert.equal(await chunks.has(chunkId(old, 0)), true)
})

test('as long as it is of the region it may take all the time that it needs', async () => {
  const { clock, catalog, bucketId, collect, put, flying, chunks } = await twoWriters()
  catalog.run({ type: 'set-cluster-map', map: mapOf(2, { a: 0, b: 1, c: 2 }) })
  assert.equal(await collect(), 0)
  for (let look = 0; look < 2; look++) {
    await clock.advance(3_700_000)
    assert.equal(await collect(), 0)
  }
  assert.equal(await chunks.has(chunkId(flying, 0)), true)
  put(flying, 2)
  assert.equal(catalog.object(bucketId, 'key')?.etag, etagOf(2))
})

test('nor does a body that it had fetched from another region: the change waits, and its body is fetched again', () => {
  const [here, there] = [testRegion(1), testRegion(2)]
  const [id, copy] = [here, there].map(({ catalog }) => {
    const bucketId = catalog.run({ type: 'create-bucket', name: 'b', owner: 'root' }).id
    catalog.run({ type: 'set-replication', bucketId, rule: ruleOf() })
    return bucketId
  }) as [number, number]
  there.catalog.run({ type: 'set-cluster-map', map: mapOf(1, { a: 0, b: 1 }) })
  ship(here, there, 'b')
  const stored = extentOf(here.newWriteId(), 10)
  here.catalog.run(putCommand(id, 'key', chunkedObject(stored, etagOf(1))))
  const after = there.catalog.replication.cursor(copy, 1)?.received.lsn ?? 0
  const [row] = here.catalog.replication.entries(id, after, 1, 1 << 20)
  assert.ok(row)
  // As the registries of its nodes name them.
  const begun = (slot: number): WriteId =>
    createWriteRegistry(fakeEnvironment(new FakeClock(), slot), { slot: () => slot }).begin()
  const layoutOf = (slot: number) => ({ kind: 'chunks', extents: [extentOf(begun(slot), 10)] }) as const

  there.catalog.run({ type: 'set-cluster-map', map: mapOf(2, { a: 0 }) })
  there.catalog.run({
    ...{ type: 'apply-remote', bucketId: copy, source: 1, after },
    logId: here.catalog.replication.outbox(id)?.id ?? '',
    entries: [{ bytes: row.bytes, layout: layoutOf(1) }],
  })
  assert.equal(there.catalog.object(copy, 'key'), undefined)
  assert.equal(there.catalog.replication.cursor(copy, 1)?.watermark, after)
  const again = { type: 'retry-remote', bucketId: copy, source: 1, lsn: row.lsn } as const
  assert.deepEqual(there.catalog.run({ ...again, layout: layoutOf(1) }), { applied: false })
  assert.deepEqual(there.catalog.run({ ...again, layout: layoutOf(0) }), { applied: true })
  assert.equal(there.catalog.object(copy, 'key')?.etag, etagOf(1))
  assert.equal(there.catalog.replication.cursor(copy, 1)?.watermark, row.lsn)
})
