import assert from 'node:assert/strict'
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { type TestContext, test } from 'node:test'
import { createCollector } from '../../../core/catalog/collector.ts'
import { createDirectCatalog } from '../../../core/catalog/direct-catalog.ts'
import { fullScan, type ScanFinding, scrubReport } from '../../../core/catalog/full-scan.ts'
import { MemoryTables } from '../../../core/catalog/memory-tables.ts'
import { verifyRows } from '../../../core/catalog/verify.ts'
import { createWriteRegistry } from '../../../core/catalog/write-registry.ts'
import { chunkId, type WriteId } from '../../../core/contract/ids.ts'
import { openReferenceStore } from '../../../native/reference/reference-store.ts'
import {
  chunkedObject,
  etagOf,
  extentOf,
  plainAttributes,
  putCommand,
  realEnvironment,
} from '../../kit/catalog-commands.ts'

const chunkBytes = 1024

/** A catalog beside a real store in a directory of its own. */
async function fixture(t: TestContext) {
  const directory = await mkdtemp(join(tmpdir(), 'pando-collector-'))
  const chunks = await openReferenceStore({ directory, poolBytes: 8 * 1024 * 1024 })
  t.after(async () => {
    await chunks.close()
    await rm(directory, { recursive: true, force: true })
  })
  const tables = new MemoryTables()
  const catalog = createDirectCatalog({ tables, environment: realEnvironment, regionId: 1 })
  const writes = createWriteRegistry(realEnvironment)
  const collector = createCollector({
    catalog,
    chunks,
    writes,
    clock: realEnvironment.clock,
    chunksPerSecond: 1e6,
  })
  const bucket = catalog.run({ type: 'create-bucket', name: 'photos', owner: 'root' })

  async function storeChunk(writeId: WriteId, index: number, byteLength: number): Promise<void> {
    const buffer = await chunks.acquire(byteLength)
    buffer.bytes.fill(index + 1)
    await chunks.put(chunkId(writeId, index), buffer, byteLength)
    buffer.release()
  }
  /** Stores a body of so many bytes and leaves it in flight. */
  async function storeBody(byteLength: number): Promise<WriteId> {
    const writeId = writes.begin()
    for (let at = 0; at < byteLength; at += chunkBytes) {
      await storeChunk(writeId, at / chunkBytes, Math.min(chunkBytes, byteLength - at))
    }
    return writeId
  }
  async function put(key: string, byteLength: number): Promise<WriteId> {
    const writeId = await storeBody(byteLength)
    catalog.run(putCommand(bucket.id, key, chunkedObject(extentOf(writeId, byteLength, chunkBytes))))
    writes.settle(writeId)
    return writeId
  }
  const scan = async (): Promise<ScanFinding[]> => {
    const findings: ScanFinding[] = []
    for await (const finding of fullScan({ catalog, chunks, writes })) findings.push(finding)
    return findings
  }
  const remove = (key: string) =>
    catalog.run({ type: 'delete-objects', bucketId: bucket.id, items: [{ key }], owner: 'root' })
  const chunkTotal = async (): Promise<number> => (await chunks.list(null, 1e6)).length
  return {
    bucket,
    catalog,
    chunks,
    collector,
    chunkTotal,
    put,
    remove,
    scan,
    storeBody,
    storeChunk,
    tables,
    writes,
  }
}

test('overwriting and deleting gives every chunk back, and a full scan agrees', async (t) => {
  const { chunkTotal, collector, put, remove, scan, tables } = await fixture(t)
  await put('a', 2500)
  await put('a', 1500)
  await put('b', 700)
  remove('b')
  assert.equal(await chunkTotal(), 3 + 2 + 1)
  assert.deepEqual(await scan(), [], 'garbage is no leak')
  assert.deepEqual(await collector.collect(), { writes: 2, chunks: 4, pinned: 0 })
  assert.equal(await chunkTotal(), 2)
  assert.deepEqual(await collector.collect(), { writes: 0, chunks: 0, pinned: 0 })
  assert.deepEqual(await scan(), [])
  assert.deepEqual(verifyRows(tables), [])
})

test('what a reader holds is not freed until it lets go', async (t) => {
  const { chunks, collector, put, writes } = await fixture(t)
  const writeId = await put('a', 2000)
  const release = writes.pin(writeId)
  await put('a', 10)
  assert.deepEqual(await collector.collect(), { writes: 0, chunks: 0, pinned: 1 })
  await collector.collectOrphans()
  assert.ok(await chunks.has(chunkId(writeId, 1)))
  release()
  assert.deepEqual(await collector.collect(), { writes: 1, chunks: 2, pinned: 0 })
  assert.ok(!(await chunks.has(chunkId(writeId, 0))))
})

test('an orphan is deleted; a body in flight, a live one and the parts of an upload are not', async (t) => {
  const { bucket, catalog, chunkTotal, collector, put, scan, storeBody, writes } = await fixture(t)
  await put('live', 3000)
  const orphan = await storeBody(2048)
  const inFlight = await storeBody(1024)
  const part = await storeBody(512)
  const { uploadId } = catalog.run({
    type: 'create-upload',
    bucketId: bucket.id,
    key: 'upload',
    owner: 'root',
    initiator: 'root',
    attributes: plainAttributes,
  })
  catalog.run({
    type: 'put-part',
    bucketId: bucket.id,
    key: 'upload',
    uploadId,
    number: 1,
    byteLength: 512,
    etag: etagOf(1),
    layout: { kind: 'chunks', extents: [extentOf(part, 512, chunkBytes)] },
  })
  writes.settle(part)
  // The process that began it has crashed, and this one knows nothing of it.
  writes.settle(orphan)
  const leaks = await scan()
  assert.deepEqual(
    leaks.map(({ problem }) => problem),
    ['leaked-chunk', 'leaked-chunk'],
  )
  assert.deepEqual(await collector.collectOrphans(), { scanned: 7, deleted: 2, bytes: 2048 })
  assert.deepEqual(await scan(), [])
  assert.equal(await chunkTotal(), 3 + 1 + 1)
  assert.ok(writes.isInFlight(inFlight))
})

test('a young orphan is left alone where other processes write to the store', async (t) => {
  const { catalog, chunks, storeBody, writes } = await fixture(t)
  writes.settle(await storeBody(100))
  let aheadMs = 0
  const collector = createCollector({
    catalog,
    chunks,
    writes,
    clock: { ...realEnvironment.clock, now: () => Date.now() + aheadMs },
    orphanAgeMs: 60_000,
  })
  assert.equal((await collector.collectOrphans()).deleted, 0)
  aheadMs = 61_000
  assert.equal((await collector.collectOrphans()).deleted, 1)
})

test('a full scan names bucket and key of what is missing, of the wrong length and too much', async (t) => {
  const { chunks, put, scan, storeChunk } = await fixture(t)
  const missing = await put('missing', 3000)
  await chunks.delete(chunkId(missing, 1))
  const short = await put('short', 3000)
  await chunks.delete(chunkId(short, 2))
  await storeChunk(short, 2, 17)
  const long = await put('long', 1000)
  await storeChunk(long, 1, 5)
  const found = (await scan()).map(({ problem, place }) => [
    problem,
    place.owner?.bucket,
    place.owner?.key,
    place.owner?.offset,
  ])
  assert.deepEqual(found.sort(), [
    ['leaked-chunk', 'photos', 'long', 1024],
    ['missing-chunk', 'photos', 'missing', 1024],
    ['wrong-length', 'photos', 'short', 2048],
  ])
})

test('a scrub finding is told with bucket, key and offset', async (t) => {
  const { catalog, put, remove } = await fixture(t)
  const writeId = await put('tides.txt', 3000)
  const finding = { id: chunkId(writeId, 2), problem: 'corrupt-payload', detail: 'checksum' } as const
  assert.deepEqual(scrubReport(catalog, finding).place?.owner, {
    bucket: 'photos',
    key: 'tides.txt',
    offset: 2048,
  })
  remove('tides.txt')
  const freed = scrubReport(catalog, finding).place
  assert.equal(freed?.owner, undefined)
  assert.equal(freed?.garbage, true)
  assert.equal(scrubReport(catalog, { problem: 'lost-write', detail: 'segment 3' }).place, undefined)
})

test('a store that fails leaves the garbage for the next time', async (t) => {
  const { catalog, chunkTotal, chunks, collector, put, writes } = await fixture(t)
  await put('a', 5000)
  await put('a', 1000)
  let failures = 1
  const hampered = createCollector({
    catalog,
    writes,
    clock: realEnvironment.clock,
    chunks: {
      list: (after, limit) => chunks.list(after, limit),
      delete: (id) => (failures-- > 0 ? Promise.reject(new Error('the disk hiccups')) : chunks.delete(id)),
    },
  })
  await assert.rejects(hampered.collect(), /hiccups/)
  assert.equal(catalog.stats().garbageWrites, 1)
  await collector.collect()
  assert.equal(catalog.stats().garbageWrites, 0)
  assert.equal(await chunkTotal(), 1)
})

test('collection keeps to its rate and stops when told', async (t) => {
  const { catalog, chunks, put, writes } = await fixture(t)
  await put('a', 64 * chunkBytes)
  await put('a', 1)
  const slept: number[] = []
  let nowMs = 0
  const stop = new AbortController()
  const collector = createCollector({
    catalog,
    chunks,
    writes,
    chunksPerSecond: 16,
    clock: {
      now: () => nowMs,
      monotonic: () => nowMs,
      async sleep(delayMs, signal) {
        slept.push(delayMs)
        nowMs += delayMs
        if (slept.length === 2) stop.abort()
        signal?.throwIfAborted()
      },
    },
  })
  await assert.rejects(collector.collect(stop.signal), { name: 'AbortError' })
  assert.deepEqual(slept, [1000, 1000], '16 chunks each second')
  assert.equal(catalog.stats().garbageWrites, 1)
})

test('bodies of one chunk are freed side by side, and a slow store does not hold up who stops it', async (t) => {
  const { catalog, chunks, put, writes } = await fixture(t)
  for (let at = 0; at <= 64; at++) await put('a', 10)
  const deleting = { now: 0, most: 0, done: 0 }
  const finish: (() => void)[] = []
  const stop = new AbortController()
  const collector = createCollector({
    catalog,
    writes,
    clock: realEnvironment.clock,
    chunks: {
      list: (after, limit) => chunks.list(after, limit),
      async delete(id) {
        deleting.most = Math.max(deleting.most, ++deleting.now)
        await new Promise<void>((resolve) => finish.push(resolve))
        deleting.now--
        deleting.done++
        return chunks.delete(id)
      },
    },
  })
  const over = assert.rejects(collector.collect(stop.signal), { name: 'AbortError' })
  for (let turn = 0; turn < 1000 && deleting.now < 16; turn++) {
    await new Promise((resolve) => setImmediate(resolve))
  }
  stop.abort()
  for (const resolve of finish.splice(0)) resolve()
  for (let turn = 0; turn < 1000; turn++) {
    await new Promise((resolve) => setImmediate(resolve))
    for (const resolve of finish.splice(0)) resolve()
  }
  await over
  assert.equal(deleting.most, 16)
  assert.equal(deleting.done, 16, 'nothing more was begun')
})
