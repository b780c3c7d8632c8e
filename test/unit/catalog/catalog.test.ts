import assert from 'node:assert/strict'
import { mkdtemp, rm, stat } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { type TestContext, test } from 'node:test'
import { type CatalogOptions, type EmbeddedCatalog, openCatalog } from '../../../core/catalog/catalog.ts'
import { encodeEntry } from '../../../core/catalog/entry.ts'
import { createWriteRegistry } from '../../../core/catalog/write-registry.ts'
import { Writer } from '../../../core/catalog/writer.ts'
import type { Command } from '../../../core/contract/catalog.ts'
import { StorageError } from '../../../core/contract/errors.ts'
import { emptyObject, etagOf, inlineObject, putCommand, realEnvironment } from '../../kit/catalog-commands.ts'

const registry = createWriteRegistry(realEnvironment)

async function temporaryDirectory(t: TestContext): Promise<string> {
  const directory = await mkdtemp(join(tmpdir(), 'pando-catalog-'))
  t.after(() => rm(directory, { recursive: true, force: true }))
  return directory
}

async function openIn(
  t: TestContext,
  directory: string,
  options: Partial<CatalogOptions> = {},
): Promise<EmbeddedCatalog> {
  const catalog = await openCatalog({
    directory,
    environment: realEnvironment,
    regionId: 1,
    inlineBytes: 4096,
    ...options,
  })
  t.after(() => catalog.close())
  return catalog
}

const hasCode = (code: string) => (error: unknown) => error instanceof StorageError && error.code === code

test('what was acknowledged is there after a restart, with equal chain and state', {
  timeout: 120_000,
}, async (t) => {
  const directory = await temporaryDirectory(t)
  const first = await openIn(t, directory)
  const bucket = await first.submit({ type: 'create-bucket', name: 'photos', owner: 'root' })
  const body = new TextEncoder().encode('tide tables')
  const writeId = registry.begin()
  const put = await first.submit(putCommand(bucket.id, 'sea/tides', inlineObject(writeId, body, etagOf(5))))
  assert.equal(put.versionId, 'null')
  const before = first.object(bucket.id, 'sea/tides')
  const checkpoint = first.checkpoint()
  const hash = first.stateHash()
  await first.close()

  const second = await openIn(t, directory)
  assert.deepEqual(second.object(bucket.id, 'sea/tides'), before)
  assert.deepEqual(second.inlineBody(writeId), body)
  assert.deepEqual(second.bucket('photos'), bucket)
  assert.deepEqual(second.checkpoint(), checkpoint)
  assert.equal(second.stateHash(), hash)
})

test('a read is never older than the last acknowledged submit', { timeout: 120_000 }, async (t) => {
  const catalog = await openIn(t, await temporaryDirectory(t))
  const bucket = await catalog.submit({ type: 'create-bucket', name: 'photos', owner: 'root' })
  for (let round = 0; round < 30; round++) {
    const etag = etagOf(round)
    const submitted = catalog.submit(putCommand(bucket.id, 'key', emptyObject(etag)))
    // The worst moment: a read takes a snapshot, the commit happens while this thread is busy, and the answer is delivered
    // in the same turn of the event loop, before anything could have let the snapshot go.
    await stat('.')
    catalog.object(bucket.id, 'key')
    const until = performance.now() + 15
    while (performance.now() < until);
    await submitted
    assert.equal(catalog.object(bucket.id, 'key')?.etag, etag)
  }
})

test('one entry that fails does not undo the others of its batch', { timeout: 120_000 }, async (t) => {
  const catalog = await openIn(t, await temporaryDirectory(t))
  const bucket = await catalog.submit({ type: 'create-bucket', name: 'photos', owner: 'root' })
  const results = await Promise.allSettled(
    Array.from({ length: 200 }, (_, index) =>
      catalog.submit(putCommand(bucket.id, `key-${index % 20}`, emptyObject(), { ifNoneMatch: '*' })),
    ),
  )
  assert.equal(results.filter(({ status }) => status === 'fulfilled').length, 20)
  for (const result of results) {
    if (result.status === 'rejected') assert.ok(hasCode('PRECONDITION_FAILED')(result.reason))
  }
  assert.equal(catalog.stats().objects, 20)
})

test('more than may wait is refused as OVERLOADED, and nothing else is', { timeout: 120_000 }, async (t) => {
  const catalog = await openIn(t, await temporaryDirectory(t), { limits: { maxPendingEntries: 10 } })
  const bucket = await catalog.submit({ type: 'create-bucket', name: 'photos', owner: 'root' })
  const results = await Promise.allSettled(
    Array.from({ length: 25 }, (_, index) =>
      catalog.submit(putCommand(bucket.id, `k${index}`, emptyObject())),
    ),
  )
  assert.deepEqual(
    results.map(({ status }) => status),
    [...Array.from({ length: 10 }, () => 'fulfilled'), ...Array.from({ length: 15 }, () => 'rejected')],
  )
  for (const result of results.slice(10)) {
    assert.ok(result.status === 'rejected' && hasCode('OVERLOADED')(result.reason))
  }
  await catalog.submit(putCommand(bucket.id, 'later', emptyObject()))
})

test('an inline body above the limit is refused', { timeout: 120_000 }, async (t) => {
  const catalog = await openIn(t, await temporaryDirectory(t), { inlineBytes: 10 })
  const bucket = await catalog.submit({ type: 'create-bucket', name: 'photos', owner: 'root' })
  await assert.rejects(
    catalog.submit(putCommand(bucket.id, 'big', inlineObject(registry.begin(), new Uint8Array(11)))),
    hasCode('INVALID_ARGUMENT'),
  )
})

test('close answers what was submitted before it and refuses what comes after', {
  timeout: 120_000,
}, async (t) => {
  const catalog = await openIn(t, await temporaryDirectory(t))
  const before = catalog.submit({ type: 'create-bucket', name: 'photos', owner: 'root' })
  const closed = catalog.close()
  await assert.rejects(catalog.submit({ type: 'delete-bucket', name: 'photos' }), hasCode('CLOSED'))
  await closed
  assert.equal((await before).name, 'photos')
})

test('entries that are none are refused at the log, and harm nothing', { timeout: 120_000 }, async (t) => {
  const catalog = await openIn(t, await temporaryDirectory(t))
  await assert.rejects(catalog.log.append(Uint8Array.of(0xc1, 2, 3)), hasCode('CATALOG_CORRUPT'))
  const entry = {
    session: new Uint8Array(8),
    sequence: 1,
    nowMs: 5,
    regionId: 1,
    random: new Uint8Array(12),
    command: { type: 'delete-bucket', name: 'photos' },
  } as const
  await assert.rejects(
    catalog.log.append(encodeEntry({ ...entry, random: new Uint8Array(2) })),
    hasCode('INVALID_ARGUMENT'),
  )
  const unknown = { type: 'drop-everything' } as unknown as Command
  await assert.rejects(
    catalog.log.append(encodeEntry({ ...entry, command: unknown })),
    hasCode('INVALID_ARGUMENT'),
  )
  const position = await catalog.log.append(encodeEntry(entry))
  assert.equal(position, 1)
})

test('when the writer dies, everything pending is rejected, and so is everything later', {
  timeout: 120_000,
}, async (t) => {
  const failures: StorageError[] = []
  const writer = await Writer.open(
    { directory: await temporaryDirectory(t), retainEntries: 0, minFreeBytes: 0 },
    { maxPendingEntries: 100, maxPendingBytes: 1e6 },
    realEnvironment.clock,
    { onCommit() {}, onFailure: (error) => failures.push(error) },
  )
  // No check stands before the writer itself: an entry that cannot be applied ends it.
  const results = await Promise.allSettled([
    writer.append(Uint8Array.of(0xc1)),
    writer.append(Uint8Array.of(1)),
    writer.append(Uint8Array.of(2)),
  ])
  for (const result of results)
    assert.ok(result.status === 'rejected' && hasCode('UNAVAILABLE')(result.reason))
  await assert.rejects(writer.append(Uint8Array.of(3)), hasCode('UNAVAILABLE'))
  await assert.rejects(writer.trim(1), hasCode('UNAVAILABLE'))
  assert.equal(failures.length, 1)
  await writer.close()
})

test('a device that is nearly full takes deletes and nothing new', { timeout: 120_000 }, async (t) => {
  const directory = await temporaryDirectory(t)
  const roomy = await openIn(t, directory)
  const bucket = await roomy.submit({ type: 'create-bucket', name: 'photos', owner: 'root' })
  await roomy.submit(putCommand(bucket.id, 'old', emptyObject()))
  await roomy.close()
  const catalog = await openIn(t, directory, { minFreeBytes: 2 ** 60 })
  const remove = {
    type: 'delete-objects',
    bucketId: bucket.id,
    items: [{ key: 'old' }],
    owner: 'root',
  } as const
  const results = await Promise.allSettled([
    catalog.submit(putCommand(bucket.id, 'a', emptyObject())),
    catalog.submit(putCommand(bucket.id, 'b', emptyObject())),
    catalog.submit(remove),
    catalog.submit(putCommand(bucket.id, 'c', emptyObject())),
  ])
  assert.deepEqual(
    results.map(({ status }) => status),
    ['rejected', 'rejected', 'fulfilled', 'rejected'],
  )
  for (const result of results) {
    if (result.status === 'rejected') assert.ok(hasCode('INSUFFICIENT_STORAGE')(result.reason))
  }
  assert.equal(catalog.stats().objects, 0)
})

test('whoever waits to read while the catalog is closed is refused', { timeout: 60_000 }, async (t) => {
  const catalog = await openIn(t, await temporaryDirectory(t))
  await catalog.barrier()
  const waiting = assert.rejects(catalog.barrier(), hasCode('CLOSED'))
  await Promise.all([waiting, catalog.close()])
  await assert.rejects(catalog.barrier(), hasCode('CLOSED'))
})
