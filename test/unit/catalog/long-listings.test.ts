import assert from 'node:assert/strict'
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { type TestContext, test } from 'node:test'
import fc from 'fast-check'
import { type EmbeddedCatalog, openCatalog } from '../../../core/catalog/catalog.ts'
import { createDirectCatalog } from '../../../core/catalog/direct-catalog.ts'
import { bucketKey, encodeText, maxRowKeyBytes, table } from '../../../core/catalog/keys.ts'
import { LmdbTables } from '../../../core/catalog/lmdb-tables.ts'
import { MemoryTables } from '../../../core/catalog/memory-tables.ts'
import type { CatalogReads } from '../../../core/catalog/reader.ts'
import { rowKey, type TableReader } from '../../../core/catalog/tables.ts'
import type { ObjectListing } from '../../../core/contract/catalog.ts'
import type { VersionId } from '../../../core/contract/object-model.ts'
import { emptyObject, plainAttributes, putCommand, realEnvironment } from '../../kit/catalog-commands.ts'
import { seededEnvironment } from '../../kit/catalog-driver.ts'

/** Names in listings have any length that a request has room for; rows' keys have not. */

async function directoryFor(t: TestContext): Promise<string> {
  const directory = await mkdtemp(join(tmpdir(), 'pando-long-'))
  t.after(() => rm(directory, { recursive: true, force: true }))
  return directory
}

async function openIn(t: TestContext): Promise<{ catalog: EmbeddedCatalog; bucketId: number }> {
  const options = { environment: realEnvironment, regionId: 1, inlineBytes: 4096 }
  const catalog = await openCatalog({ directory: await directoryFor(t), ...options })
  t.after(() => catalog.close())
  const { id } = await catalog.submit({ type: 'create-bucket', name: 'photos', owner: 'root' })
  return { catalog, bucketId: id }
}

const versionId = (fill: number): VersionId => new Uint8Array(16).fill(fill)

/** Every listing that takes a name, with this one as prefix and as marker. */
function namesListed(catalog: CatalogReads, bucketId: number, long: string): string[] {
  const found: string[] = []
  const plain = { prefix: '', delimiter: '', after: '', keyMarker: '', limit: 10 }
  for (const query of [
    { ...plain, prefix: long },
    { ...plain, prefix: long, delimiter: '/' },
    { ...plain, delimiter: long },
    { ...plain, after: long, keyMarker: long },
    { ...plain, after: long, keyMarker: long, delimiter: long.slice(-2) },
    { ...plain, prefix: long, after: long, keyMarker: long },
  ]) {
    found.push(...catalog.listObjects(bucketId, query).objects.map(({ key }) => `object ${key}`))
    for (const marker of [{}, { versionMarker: versionId(7) }, { versionMarker: 'null' } as const]) {
      const { versions } = catalog.listVersions(bucketId, { ...query, ...marker })
      found.push(...versions.map(({ key }) => `version ${key}`))
    }
    for (const marker of [{}, { uploadIdMarker: '0'.repeat(32) }]) {
      const { uploads } = catalog.listUploads(bucketId, { ...query, ...marker })
      found.push(...uploads.map(({ key }) => `upload ${key}`))
    }
  }
  found.push(...catalog.replication.unshippedKeys(bucketId, long, long, 10))
  return found
}

test('listings by names that no key can have leave no reader of the rows behind', {
  timeout: 120_000,
}, async (t) => {
  const { catalog, bucketId } = await openIn(t)
  // Long ones of two kinds: only what the marker alone says is too long, and with NULs, which rows' keys have twice.
  const names = ['x'.repeat(4200), `a${'\0'.repeat(1023)}`, 'x'.repeat(1975), 'x'.repeat(16_000)]
  for (let round = 0; round < 400; round++) {
    namesListed(catalog, bucketId, names[round % names.length] ?? '')
    await catalog.submit(putCommand(bucketId, `key-${round % 10}`, emptyObject()))
  }
  const page = catalog.listObjects(bucketId, { prefix: 'key-', delimiter: '', after: '', limit: 1000 })
  assert.equal(page.objects.length, 10)
})

test('a listing by a long name is not the end of those that follow', { timeout: 120_000 }, async (t) => {
  const { catalog, bucketId } = await openIn(t)
  await catalog.submit(putCommand(bucketId, 'a', emptyObject()))
  const random = fc.sample(fc.integer({ min: 1960, max: 8200 }), { numRuns: 600, seed: 5 })
  const near = fc.sample(fc.integer({ min: 1975, max: 4075 }), { numRuns: 1400, seed: 6 })
  for (const length of [...random, ...near, 8181, 8186, 8187, 8192]) {
    const prefix = 'x'.repeat(length)
    const query = { prefix, delimiter: '', after: '', keyMarker: '', limit: 10 }
    assert.deepEqual(catalog.listObjects(bucketId, query).objects, [])
    assert.deepEqual(catalog.listVersions(bucketId, query).versions, [])
    assert.deepEqual(catalog.listUploads(bucketId, query).uploads, [])
  }
  const { objects } = catalog.listObjects(bucketId, { prefix: '', delimiter: '', after: '', limit: 10 })
  assert.deepEqual(
    objects.map(({ key }) => key),
    ['a'],
  )
})

test('behind a marker that is longer than any key comes what is greater, in rows as in memory', async (t) => {
  const lmdb = new LmdbTables({ directory: await directoryFor(t) })
  t.after(() => lmdb.close())
  const catalogs = [lmdb, new MemoryTables()].map((tables) =>
    createDirectCatalog({ tables, environment: seededEnvironment(1), regionId: 1 }),
  )
  const longest = 'm'.repeat(1024)
  const keys = ['a', 'm', longest.slice(1), longest, `${longest.slice(1)}n`, 'n', `n${'\0'.repeat(900)}`]
  for (const catalog of catalogs) {
    const { id } = catalog.run({ type: 'create-bucket', name: 'photos', owner: 'root' })
    for (const key of keys) {
      catalog.run(putCommand(id, key, emptyObject()))
      const who = { owner: 'root', initiator: 'root', attributes: plainAttributes }
      catalog.run({ type: 'create-upload', bucketId: id, key, ...who })
    }
  }
  const [rows, memory] = catalogs
  if (rows === undefined || memory === undefined) assert.fail()
  for (const length of [1023, 1024, 1025, 1972, 1973, 1974, 1980, 4100, 9000]) {
    for (const name of ['m'.repeat(length), `n${'\0'.repeat(length)}`, `m${'z'.repeat(length)}`]) {
      assert.deepEqual(namesListed(rows, 1, name), namesListed(memory, 1, name), `${length}`)
    }
    const behind: ObjectListing = rows.listObjects(1, {
      prefix: '',
      delimiter: '',
      after: 'm'.repeat(length),
      limit: 10,
    })
    const expected = keys.filter((key) => key > 'm'.repeat(length)).sort()
    assert.deepEqual(
      behind.objects.map(({ key }) => key),
      expected,
    )
  }
})

const spans = (reader: TableReader, start: Uint8Array, end: Uint8Array): string[] => {
  const found: string[] = []
  const cursor = reader.rows(start, end)
  while (cursor.next()) found.push(Buffer.from(rowKey(cursor)).toString('hex'))
  cursor.close()
  return found
}

test('a range of rows is the one that its bounds say, however long they are, also of a pinned moment', async (t) => {
  const tables = new LmdbTables({ directory: await directoryFor(t) })
  t.after(() => tables.close())
  const memory = new MemoryTables()
  // What a row key and a bound share, up to and beyond the greatest length; 0xff carries, 00 is the least that can follow.
  const fill = fc.constantFrom(0x00, 0x61, 0xfe, 0xff)
  const bytes = (lengths: fc.Arbitrary<number>): fc.Arbitrary<Uint8Array> =>
    fc.tuple(fill, lengths, fc.array(fill, { maxLength: 3 })).map(([shared, length, tail]) => {
      const key = Uint8Array.of(5, ...new Uint8Array(length).fill(shared))
      key.set(tail, key.length - tail.length)
      return key
    })
  const near = fc.integer({ min: maxRowKeyBytes - 6, max: maxRowKeyBytes - 1 })
  const rows = fc.sample(bytes(near), { numRuns: 300, seed: 1 })
  for (const each of [tables, memory]) {
    each.transact((writer) => {
      for (const key of rows) writer.put(key, Uint8Array.of(1))
    })
  }
  const pinned = tables.pin()
  const bound = bytes(
    fc.oneof(
      near,
      fc.integer({ min: maxRowKeyBytes, max: maxRowKeyBytes + 5 }),
      fc.integer({ min: 3, max: 9000 }),
    ),
  )
  fc.assert(
    fc.property(bound, bound, (start, end) => {
      const expected = spans(memory, start, end)
      for (const reader of [tables, pinned]) assert.deepEqual(spans(reader, start, end), expected)
      const sought = tables.rows(Uint8Array.of(5), end)
      sought.seek(start)
      assert.equal(sought.next(), expected.length > 0)
      sought.close()
    }),
    { numRuns: 2000 },
  )
  pinned.release()
  assert.deepEqual(
    spans(tables, bucketKey(table.current, 1, encodeText('x'.repeat(4200))), Uint8Array.of(6)),
    spans(memory, Uint8Array.of(5, 0, 0, 0, 2), Uint8Array.of(6)),
  )
})

test('a listing that meets a damaged row leaves no reader of the rows behind', async (t) => {
  const tables = new LmdbTables({ directory: await directoryFor(t) })
  t.after(() => tables.close())
  const catalog = createDirectCatalog({ tables, environment: seededEnvironment(1), regionId: 1 })
  const { id } = catalog.run({ type: 'create-bucket', name: 'photos', owner: 'root' })
  catalog.run(putCommand(id, 'a', emptyObject()))
  tables.transact((writer) => {
    for (const tag of [table.current, table.version, table.upload])
      writer.put(bucketKey(tag, id, encodeText('damaged')), Uint8Array.of(0xff))
  })
  const query = { prefix: '', delimiter: '', after: '', keyMarker: '', limit: 10 }
  for (let round = 0; round < 150; round++) {
    assert.throws(() => catalog.listObjects(id, query))
    assert.throws(() => catalog.listVersions(id, query))
    assert.throws(() => catalog.listUploads(id, query))
    catalog.run(putCommand(id, 'a', emptyObject()))
    tables.refresh()
  }
  assert.equal(catalog.listObjects(id, { ...query, limit: 1 }).objects.length, 1)
})
