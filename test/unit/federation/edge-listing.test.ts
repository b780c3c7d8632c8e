import assert from 'node:assert/strict'
import { test } from 'node:test'
import fc from 'fast-check'
import { createDirectCatalog } from '../../../core/catalog/direct-catalog.ts'
import { MemoryTables } from '../../../core/catalog/memory-tables.ts'
import { mergeListing } from '../../../federation/edge/merge-listing.ts'
import { emptyObject, etagOf, putCommand, realEnvironment } from '../../kit/catalog-commands.ts'

/** A bucket with these keys. */
function bucketOf(keys: Iterable<string>, etag: string) {
  const catalog = createDirectCatalog({
    tables: new MemoryTables(),
    environment: realEnvironment,
    regionId: 1,
  })
  const { id } = catalog.run({ type: 'create-bucket', name: 'b', owner: 'root' })
  for (const key of keys) catalog.run(putCommand(id, key, emptyObject(etag)))
  return { catalog, id }
}

const key = fc.stringMatching(/^[ab/é]{1,4}$/)
const keys = fc.uniqueArray(key, { maxLength: 12 })

test('pages of the hub with what the edge has put are what one bucket with all of it lists', () => {
  fc.assert(
    fc.property(
      fc.record({
        hub: keys,
        edge: keys,
        gone: keys,
        prefix: fc.constantFrom('', 'a', 'a/'),
        limit: fc.integer({ min: 1, max: 5 }),
      }),
      ({ hub, edge, gone, prefix, limit }) => {
        const put = new Set(edge)
        const erased = gone.filter((one) => !put.has(one))
        const theirs = bucketOf(hub, etagOf(1))
        const own = bucketOf(edge, etagOf(2))
        const all = bucketOf(new Set([...hub.filter((one) => !erased.includes(one)), ...edge]), etagOf(3))
        const changed = [...edge, ...erased].toSorted((left, right) =>
          Buffer.compare(Buffer.from(left), Buffer.from(right)),
        )
        const seen: string[] = []
        for (let after = ''; ; ) {
          const query = { prefix, delimiter: '', after, limit }
          const behind = changed
            .filter(
              (one) => one.startsWith(prefix) && Buffer.compare(Buffer.from(one), Buffer.from(after)) > 0,
            )
            .map((one) => {
              const record = own.catalog.object(own.id, one)
              return record === undefined ? { key: one } : { key: one, record }
            })
          const page = mergeListing(theirs.catalog.listObjects(theirs.id, query), behind, query)
          assert.ok(page.objects.length <= limit)
          for (const object of page.objects) {
            seen.push(object.key)
            assert.equal(object.etag, etagOf(put.has(object.key) ? 2 : 1))
          }
          if (!page.truncated) break
          assert.ok(page.next !== undefined && Buffer.compare(Buffer.from(page.next), Buffer.from(after)) > 0)
          after = page.next
        }
        const query = { prefix, delimiter: '', after: '', limit: 1000 }
        assert.deepEqual(
          seen,
          all.catalog.listObjects(all.id, query).objects.map((one) => one.key),
        )
      },
    ),
    { numRuns: 200 },
  )
})

test('with a delimiter what the edge has put below a prefix shows the prefix, once', () => {
  const theirs = bucketOf(['a/1', 'b', 'c/1'], etagOf(1))
  const own = bucketOf(['a/2', 'bb/1', 'd'], etagOf(2))
  const behind = ['a/2', 'bb/1', 'd'].map((one) => {
    const record = own.catalog.object(own.id, one)
    assert.ok(record !== undefined)
    return { key: one, record }
  })
  const found: string[] = []
  for (let after = ''; ; ) {
    const query = { prefix: '', delimiter: '/', after, limit: 2 }
    const page = mergeListing(
      theirs.catalog.listObjects(theirs.id, query),
      behind.filter((one) => one.key > after),
      query,
    )
    found.push([...page.objects.map((one) => one.key), ...page.commonPrefixes].toSorted().join(' '))
    if (!page.truncated) break
    after = page.next ?? ''
  }
  assert.deepEqual(found, ['a/ b', 'bb/ c/', 'd'])
})
