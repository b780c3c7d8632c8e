import assert from 'node:assert/strict'
import { test } from 'node:test'
import fc from 'fast-check'
import { createDirectCatalog } from '../../../core/catalog/direct-catalog.ts'
import { MemoryTables } from '../../../core/catalog/memory-tables.ts'
import type { ListVersionsQuery } from '../../../core/contract/catalog.ts'
import type { ObjectSummary, VersionId } from '../../../core/contract/object-model.ts'
import { emptyObject, putCommand, removal } from '../../kit/catalog-commands.ts'
import { seededEnvironment } from '../../kit/catalog-driver.ts'

/** Pages of versions between which the bucket changes. */

type Marker = Pick<ListVersionsQuery, 'keyMarker' | 'versionMarker'>

const nameOf = ({ isNull, versionId }: ObjectSummary): VersionId | 'null' => (isNull ? 'null' : versionId)
const idOf = ({ key, versionId }: ObjectSummary): string => `${key} ${Buffer.from(versionId).toString('hex')}`
const shown = (version: ObjectSummary): string => `${idOf(version)}${version.isLatest ? ' latest' : ''}`
const isNullOf = (name: string) => (version: ObjectSummary) => version.key === name && version.isNull

function versionedBucket() {
  const catalog = createDirectCatalog({
    tables: new MemoryTables(),
    environment: seededEnvironment(1),
    regionId: 1,
  })
  const { id: bucketId } = catalog.run({ type: 'create-bucket', name: 'photos', owner: 'root' })
  const setVersioning = (state: 'enabled' | 'suspended') =>
    catalog.run({ type: 'set-versioning', bucketId, state })
  setVersioning('enabled')
  return {
    setVersioning,
    put: (key: string) => catalog.run(putCommand(bucketId, key, emptyObject())),
    /** Without a version: a marker. */
    remove: (key: string, version?: VersionId | 'null') =>
      catalog.run(removal(bucketId, version === undefined ? { key } : { key, version })),
    page: (limit: number, marker: Marker = { keyMarker: '' }, delimiter = '') =>
      catalog.listVersions(bucketId, { prefix: '', delimiter, limit, ...marker }),
    all: () =>
      catalog.listVersions(bucketId, { prefix: '', delimiter: '', limit: 1000, keyMarker: '' }).versions,
  }
}

type Page = ReturnType<ReturnType<typeof versionedBucket>['page']>
const behind = ({ nextKeyMarker = '', nextVersionMarker }: Page): Marker => ({
  keyMarker: nextKeyMarker,
  ...(nextVersionMarker === undefined ? {} : { versionMarker: nextVersionMarker }),
})

test('the version that becomes current when a page was deleted is on the next one', () => {
  const bucket = versionedBucket()
  for (let count = 0; count < 5; count++) bucket.put('a')
  const [, , third] = bucket.all()
  const page = bucket.page(2)
  for (const version of page.versions) bucket.remove('a', version.versionId)
  const rest = bucket.page(10, behind(page))
  assert.equal(rest.versions.length, 3)
  assert.deepEqual(rest.versions[0]?.versionId, third?.versionId)
  assert.deepEqual(
    rest.versions.map(({ isLatest }) => isLatest),
    [true, false, false],
  )
})

test('a delete marker that becomes the newest version is the latest one of the next page', () => {
  const bucket = versionedBucket()
  bucket.put('a')
  bucket.remove('a')
  bucket.put('a')
  const page = bucket.page(1)
  bucket.remove('a', page.versions[0]?.versionId)
  const rest = bucket.page(10, behind(page)).versions
  assert.deepEqual(
    rest.map(({ isLatest, deleteMarker }) => [isLatest, deleteMarker]),
    [
      [true, true],
      [false, false],
    ],
  )
})

test('behind a null version that is gone come all versions of its key', () => {
  const bucket = versionedBucket()
  bucket.put('a')
  bucket.setVersioning('suspended')
  bucket.put('a')
  bucket.setVersioning('enabled')
  for (const key of ['a', 'b']) bucket.put(key)
  const [newest, , oldest, other] = bucket.all()
  const page = bucket.page(2)
  assert.equal(page.nextVersionMarker, 'null')
  const next = () => bucket.page(10, behind(page)).versions.map(({ versionId }) => versionId)
  assert.deepEqual(next(), [oldest?.versionId, other?.versionId])
  bucket.remove('a', 'null')
  // Where it was nobody can tell any more: what was shown comes again rather than that something is missing.
  assert.deepEqual(next(), [newest?.versionId, oldest?.versionId, other?.versionId])
})

test('a common prefix that a page ended in is passed over, whatever version is named with it', () => {
  const bucket = versionedBucket()
  for (const key of ['a/', 'a/', 'a/1', 'b']) bucket.put(key)
  const versionMarker = bucket.all()[0]?.versionId ?? assert.fail()
  const { commonPrefixes, versions } = bucket.page(10, { keyMarker: 'a/', versionMarker }, '/')
  assert.deepEqual([commonPrefixes, versions.map(({ key }) => key)], [[], ['b']])
})

const change = fc.record({
  kind: fc.constantFrom('put', 'put null', 'marker'),
  key: fc.constantFrom('a', 'a/', 'a\0', 'b'),
})
const round = fc.record({
  /** Which of the versions that are there go before the next page. */
  gone: fc.array(fc.nat(30), { maxLength: 6 }),
  isPageGone: fc.boolean(),
  made: fc.array(change, { maxLength: 2 }),
})

test('a page has every version behind its marker, whatever changed between pages', () => {
  fc.assert(
    fc.property(
      fc.array(change, { maxLength: 25, size: 'max' }),
      fc.integer({ min: 1, max: 4 }),
      fc.array(round, { maxLength: 20, size: 'max' }),
      (changes, limit, rounds) => {
        const bucket = versionedBucket()
        const make = ({ kind, key }: { readonly kind: string; readonly key: string }): void => {
          if (kind === 'put null') bucket.setVersioning('suspended')
          if (kind === 'marker') bucket.remove(key)
          else bucket.put(key)
          if (kind === 'put null') bucket.setVersioning('enabled')
        }
        for (const one of changes) make(one)
        const missing = new Set(bucket.all().map(idOf))
        let marker: Marker = { keyMarker: '' }
        let position: VersionId | undefined
        for (let at = 0; ; at++) {
          const all = bucket.all()
          const named = marker.versionMarker === 'null' ? all.find(isNullOf(marker.keyMarker)) : undefined
          const place = marker.versionMarker === 'null' ? named?.versionId : position
          const expected = all.filter(
            ({ key, versionId }) =>
              Buffer.compare(Buffer.from(key), Buffer.from(marker.keyMarker)) > 0 ||
              (key === marker.keyMarker && (place === undefined || Buffer.compare(versionId, place) < 0)),
          )
          const page = bucket.page(limit, marker)
          assert.deepEqual(page.versions.map(shown), expected.slice(0, limit).map(shown))
          assert.equal(page.truncated, expected.length > limit)
          for (const version of page.versions) missing.delete(idOf(version))
          if (!page.truncated) break
          assert.ok(at < 200, 'it comes to an end')
          marker = behind(page)
          position = page.versions.at(-1)?.versionId
          const { gone = [], isPageGone = false, made = [] } = rounds[at] ?? {}
          const doomed = gone.flatMap((index) => all[index] ?? [])
          for (const version of isPageGone ? [...page.versions, ...doomed] : doomed)
            bucket.remove(version.key, nameOf(version))
          for (const one of made) make(one)
        }
        for (const left of bucket.all()) assert.ok(!missing.has(idOf(left)), left.key)
      },
    ),
    { numRuns: 500 },
  )
})
