import assert from 'node:assert/strict'
import { test } from 'node:test'
import fc from 'fast-check'
import { createDirectCatalog } from '../../../core/catalog/direct-catalog.ts'
import { MemoryTables } from '../../../core/catalog/memory-tables.ts'
import type { RowCursor, TableReader } from '../../../core/catalog/tables.ts'
import { emptyObject, plainAttributes, putCommand } from '../../kit/catalog-commands.ts'
import { seededEnvironment } from '../../kit/catalog-driver.ts'
import { naivePage } from '../../kit/catalog-model.ts'

function catalogWith(keys: readonly string[], tables = new MemoryTables()) {
  const catalog = createDirectCatalog({ tables, environment: seededEnvironment(1), regionId: 1 })
  const { id } = catalog.run({ type: 'create-bucket', name: 'photos', owner: 'root' })
  for (const key of keys) catalog.run(putCommand(id, key, emptyObject()))
  const list = (query: { prefix?: string; delimiter?: string; after?: string; limit?: number } = {}) => {
    const page = catalog.listObjects(id, { prefix: '', delimiter: '', after: '', limit: 1000, ...query })
    return { ...page, objects: page.objects.map(({ key }) => key) }
  }
  return { catalog, bucketId: id, list }
}

test('pages go on behind a common prefix as S3 pages them', () => {
  const { list } = catalogWith(['asdf', 'boo/bar', 'boo/baz/xyzzy', 'cquux/thud', 'cquux/bla'])
  const page = (after: string, limit: number, prefix = '') => {
    const { objects, commonPrefixes, truncated, next } = list({ delimiter: '/', after, limit, prefix })
    return [objects, commonPrefixes, truncated, next]
  }
  assert.deepEqual(page('', 1), [['asdf'], [], true, 'asdf'])
  assert.deepEqual(page('asdf', 1), [[], ['boo/'], true, 'boo/'])
  assert.deepEqual(page('boo/', 1), [[], ['cquux/'], false, undefined])
  assert.deepEqual(page('', 2), [['asdf'], ['boo/'], true, 'boo/'])
  assert.deepEqual(page('', 1, 'boo/'), [['boo/bar'], [], true, 'boo/bar'])
  assert.deepEqual(page('boo/bar', 1, 'boo/'), [[], ['boo/baz/'], false, undefined])
})

test('a marker inside of a common prefix still lists the prefix when greater keys share it', () => {
  const { list } = catalogWith(['a/1', 'a/3', 'b'])
  assert.deepEqual(list({ delimiter: '/', after: 'a/2' }).commonPrefixes, ['a/'])
  assert.deepEqual(list({ delimiter: '/', after: 'a/3' }).commonPrefixes, [])
  assert.deepEqual(list({ delimiter: '/', after: 'a/' }).commonPrefixes, [])
  assert.deepEqual(list({ delimiter: '/', after: 'a' }).commonPrefixes, ['a/'])
  // Without a delimiter `a/` is a marker like any other.
  assert.deepEqual(list({ after: 'a/' }).objects, ['a/1', 'a/3', 'b'])
})

test('a key that ends in the delimiter stands for itself below its own prefix', () => {
  const { list } = catalogWith(['folder/', 'folder/file'])
  const page = list({ prefix: 'folder/', delimiter: '/' })
  assert.deepEqual(page.objects, ['folder/', 'folder/file'])
  assert.deepEqual(page.commonPrefixes, [])
  assert.deepEqual(list({ delimiter: '/' }).commonPrefixes, ['folder/'])
})

test('keys are ordered as UTF-8 bytes, not as UTF-16 units', () => {
  const { list } = catalogWith(['\u{1f600}', '\uffee', 'z', 'é'])
  assert.deepEqual(list().objects, ['z', 'é', '\uffee', '\u{1f600}'])
})

test('a limit of nothing is an empty page that is not truncated', () => {
  const { list } = catalogWith(['a'])
  assert.deepEqual(list({ limit: 0 }), { objects: [], commonPrefixes: [], truncated: false })
})

test('listing one level reads the keys returned, not the keys passed over', () => {
  const tables = new MemoryTables()
  const { catalog, bucketId } = catalogWith(
    Array.from({ length: 3000 }, (_, index) => `${index % 3}/${index}`),
    tables,
  )
  let rows = 0
  const counting: TableReader = {
    get: (key) => tables.get(key),
    rows: (start, end) => countSteps(tables.rows(start, end), () => rows++),
  }
  const counted = createDirectCatalog({
    tables: { reader: counting, transact: () => assert.fail(), bytesOnDisk: () => 0, close: async () => {} },
    environment: seededEnvironment(1),
    regionId: 1,
  })
  const query = { prefix: '', delimiter: '/', after: '', limit: 1000 }
  assert.deepEqual(counted.listObjects(bucketId, query).commonPrefixes, ['0/', '1/', '2/'])
  assert.ok(rows <= 5, `${rows} rows were read`)
  assert.deepEqual(counted.listObjects(bucketId, query), catalog.listObjects(bucketId, query))
})

function countSteps(cursor: RowCursor, count: () => void): RowCursor {
  return new Proxy(cursor, {
    get(target, name) {
      if (name === 'next') {
        return () => {
          count()
          return target.next()
        }
      }
      const value: unknown = Reflect.get(target, name, target)
      return typeof value === 'function' ? value.bind(target) : value
    },
  })
}

// Few letters, so that keys share prefixes and hold the delimiters; NUL, what follows it, and both ends of UTF-8.
const letter = fc.constantFrom('a', 'b', '/', '%', '\u0000', '\u0001', '\u{1f600}', '\uffee')
const key = fc.array(letter, { minLength: 1, maxLength: 6 }).map((letters) => letters.join(''))
const keys = fc.uniqueArray(key, { maxLength: 40 })
const query = fc.record({
  prefix: fc.oneof(fc.constant(''), key),
  delimiter: fc.oneof(fc.constant(''), fc.constant('/'), letter, key),
  limit: fc.integer({ min: 1, max: 7 }),
})
const isGreater = (left: string, right: string): boolean =>
  Buffer.compare(Buffer.from(left), Buffer.from(right)) > 0

test('every page of any listing is the one that a naive listing gives', () => {
  fc.assert(
    fc.property(keys, query, fc.oneof(fc.constant(''), key), (all, chosen, firstAfter) => {
      const { list } = catalogWith(all)
      const entries = all.map((name) => ({ key: name, items: [name] }))
      let after = firstAfter
      let pages = 0
      for (;;) {
        const expected = naivePage(
          entries,
          chosen,
          (name) => isGreater(name, after),
          (prefix) => prefix !== after,
        )
        const page = list({ ...chosen, after })
        assert.deepEqual(page.objects, expected.items)
        assert.deepEqual(page.commonPrefixes, expected.prefixes)
        assert.equal(page.truncated, expected.truncated)
        if (page.next === undefined) break
        assert.ok(pages++ < all.length, 'every page is further on')
        after = page.next
      }
    }),
    { numRuns: 400 },
  )
})

test('uploads page as objects do, with several of a key in the order of their creation', () => {
  fc.assert(
    fc.property(fc.array(key, { maxLength: 20 }), query, (names, chosen) => {
      const catalog = createDirectCatalog({
        tables: new MemoryTables(),
        environment: seededEnvironment(3),
        regionId: 1,
      })
      const { id } = catalog.run({ type: 'create-bucket', name: 'photos', owner: 'root' })
      const created = names.map((name) => ({
        name,
        uploadId: catalog.run({
          type: 'create-upload',
          bucketId: id,
          key: name,
          owner: 'root',
          initiator: 'root',
          attributes: plainAttributes,
        }).uploadId,
      }))
      const entries = [...new Set(names)].map((name) => ({
        key: name,
        items: created
          .filter((upload) => upload.name === name)
          .map(({ uploadId }, place) => ({ uploadId, place })),
      }))
      let keyMarker = ''
      let uploadIdMarker: string | undefined
      for (;;) {
        const place = created
          .filter(({ name }) => name === keyMarker)
          .findIndex(({ uploadId }) => uploadId === uploadIdMarker)
        const expected = naivePage(
          entries,
          chosen,
          (name, item) =>
            isGreater(name, keyMarker) ||
            (name === keyMarker && uploadIdMarker !== undefined && item.place > place),
          (prefix) => prefix !== keyMarker,
        )
        const page = catalog.listUploads(id, {
          ...chosen,
          keyMarker,
          ...(uploadIdMarker === undefined ? {} : { uploadIdMarker }),
        })
        assert.deepEqual(
          page.uploads.map(({ uploadId }) => uploadId),
          expected.items.map(({ uploadId }) => uploadId),
        )
        assert.deepEqual(page.commonPrefixes, expected.prefixes)
        assert.equal(page.truncated, expected.truncated)
        if (!page.truncated) break
        keyMarker = page.nextKeyMarker ?? ''
        uploadIdMarker = page.nextUploadIdMarker
      }
    }),
    { numRuns: 200 },
  )
})
