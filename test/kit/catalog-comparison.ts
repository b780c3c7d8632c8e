import assert from 'node:assert/strict'
import type { CatalogReads } from '../../core/catalog/reader.ts'
import type { ObjectSummary, VersionId } from '../../core/contract/object-model.ts'
import { keyNames } from './catalog-driver.ts'
import { type CatalogModel, type ModelBucket, type ModelVersion, naivePage } from './catalog-model.ts'

const hex = (bytes: Uint8Array): string => Buffer.from(bytes).toString('hex')
const bytesOf = (text: string): Uint8Array => new Uint8Array(Buffer.from(text, 'hex'))
const isGreater = (left: string, right: string): boolean =>
  Buffer.compare(Buffer.from(left), Buffer.from(right)) > 0

/** Everything a reader can see, held against the model. */
export function compareWithModel(catalog: CatalogReads, model: CatalogModel): void {
  assert.deepEqual(
    catalog.buckets().map(({ name, id, versioning }) => ({ name, id, versioning })),
    [...model.buckets]
      .map(([id, { name, versioning }]) => ({ name, id, versioning }))
      .sort((left, right) => (left.name < right.name ? -1 : 1)),
  )
  for (const [bucketId, bucket] of model.buckets) {
    for (const key of keyNames) compareKey(catalog, bucketId, key, bucket.keys.get(key) ?? [])
    for (const limit of [1, 2, 3, 1000]) {
      for (const delimiter of ['', '/', 'b']) {
        for (const prefix of ['', 'a', 'a/'])
          comparePages(catalog, bucketId, bucket, { prefix, delimiter, limit })
      }
    }
    compareUploads(catalog, bucketId, bucket)
  }
  assert.deepEqual(
    new Set(catalog.garbage(1e6).map(({ writeId }) => hex(writeId))),
    model.garbage,
    'what may be freed',
  )
  const live = [...model.buckets.values()].flatMap((bucket) => [
    ...[...bucket.keys.values()].flat().flatMap((version) => (version.inline ? [] : version.writeIds)),
    ...[...bucket.uploads.values()].flatMap((upload) =>
      [...upload.parts.values()].flatMap((part) => part.writeIds),
    ),
  ])
  assert.deepEqual(
    catalog.writes(null, 1e6).map(({ writeId }) => hex(writeId)),
    live.sort(),
    'what must be kept',
  )
  assert.deepEqual(catalog.policyDeployment(), model.deployment)
  assert.deepEqual(
    catalog.policyPackages().map(({ digest }) => digest),
    model.packages.toSorted(),
  )
  for (const digest of model.packages) assert.equal(catalog.policyPackage(digest)?.wasm.length, 5)
}

function compareKey(
  catalog: CatalogReads,
  bucketId: number,
  key: string,
  versions: readonly ModelVersion[],
): void {
  const same = (record: ReturnType<CatalogReads['object']>, version: ModelVersion | undefined): void => {
    if (version === undefined) {
      assert.equal(record, undefined)
      return
    }
    assert.ok(record !== undefined, `${key} is missing`)
    assert.equal(record.key, key)
    assert.equal(record.deleteMarker, version.deleteMarker)
    assert.equal(record.isNull, version.isNull)
    assert.equal(record.etag, version.etag)
    assert.equal(record.byteLength, version.byteLength)
    if (!version.isNull) assert.equal(hex(record.versionId), version.id)
    if (record.layout.kind === 'inline') {
      assert.equal(catalog.inlineBody(record.layout.writeId)?.length, record.byteLength)
    }
  }
  same(catalog.object(bucketId, key), versions[0])
  same(
    catalog.object(bucketId, key, 'null'),
    versions.find((version) => version.isNull),
  )
  for (const version of versions) {
    if (!version.isNull) same(catalog.object(bucketId, key, bytesOf(version.id)), version)
  }
}

function comparePages(
  catalog: CatalogReads,
  bucketId: number,
  bucket: ModelBucket,
  query: { readonly prefix: string; readonly delimiter: string; readonly limit: number },
): void {
  const current = [...bucket.keys]
    .filter(([, versions]) => versions[0]?.deleteMarker === false)
    .map(([key]) => ({ key, items: [key] }))
  let after = ''
  for (;;) {
    const expected = naivePage(
      current,
      query,
      (key) => isGreater(key, after),
      (prefix) => prefix !== after,
    )
    const page = catalog.listObjects(bucketId, { ...query, after })
    assert.deepEqual(
      page.objects.map(({ key }) => key),
      expected.items,
    )
    assert.deepEqual(page.commonPrefixes, expected.prefixes)
    assert.equal(page.truncated, expected.truncated)
    assert.equal(page.next === undefined, !page.truncated)
    if (page.next === undefined) break
    after = page.next
  }
  compareVersionPages(catalog, bucketId, bucket, query)
}

function compareVersionPages(
  catalog: CatalogReads,
  bucketId: number,
  bucket: ModelBucket,
  query: { readonly prefix: string; readonly delimiter: string; readonly limit: number },
): void {
  const all = [...bucket.keys].map(([key, versions]) => ({
    key,
    items: versions.map((version, place) => ({ key, version, place })),
  }))
  let keyMarker = ''
  let versionMarker: VersionId | 'null' | undefined
  for (;;) {
    const behindPlace = (bucket.keys.get(keyMarker) ?? []).findIndex((version) =>
      versionMarker === 'null'
        ? version.isNull
        : versionMarker !== undefined && version.id === hex(versionMarker),
    )
    const expected = naivePage(
      all,
      query,
      (key, { place }) =>
        isGreater(key, keyMarker) ||
        (key === keyMarker && versionMarker !== undefined && place > behindPlace),
      (prefix) => prefix !== keyMarker,
    )
    const page = catalog.listVersions(bucketId, {
      ...query,
      keyMarker,
      ...(versionMarker === undefined ? {} : { versionMarker }),
    })
    const shown = (summary: ObjectSummary) => [
      summary.key,
      summary.isNull ? 'null' : hex(summary.versionId),
      summary.isLatest,
      summary.deleteMarker,
      summary.etag,
      summary.byteLength,
    ]
    assert.deepEqual(
      page.versions.map(shown),
      expected.items.map(({ key, version, place }) => [
        key,
        version.isNull ? 'null' : version.id,
        place === 0,
        version.deleteMarker,
        version.etag,
        version.byteLength,
      ]),
    )
    assert.deepEqual(page.commonPrefixes, expected.prefixes)
    assert.equal(page.truncated, expected.truncated)
    if (!page.truncated) break
    keyMarker = page.nextKeyMarker ?? ''
    versionMarker = page.nextVersionMarker
  }
}

function compareUploads(catalog: CatalogReads, bucketId: number, bucket: ModelBucket): void {
  for (const upload of bucket.uploads.values()) {
    assert.equal(catalog.upload(bucketId, upload.key, upload.uploadId)?.key, upload.key)
    const numbers = [...upload.parts.keys()].sort((left, right) => left - right)
    const first = catalog.parts(upload.uploadId, 0, 2)
    assert.deepEqual(
      first.parts.map((part) => [part.number, part.etag]),
      numbers.slice(0, 2).map((number) => [number, upload.parts.get(number)?.etag]),
    )
    assert.equal(first.truncated, numbers.length > 2)
    const rest = catalog.parts(upload.uploadId, first.parts.at(-1)?.number ?? 0, 1000)
    assert.deepEqual(
      rest.parts.map(({ number }) => number),
      numbers.slice(2),
    )
  }
  const sorted = [...bucket.uploads.values()]
    .sort((left, right) => (left.uploadId < right.uploadId ? -1 : 1))
    .sort((left, right) => Buffer.compare(Buffer.from(left.key), Buffer.from(right.key)))
  const listed: string[] = []
  let keyMarker = ''
  let uploadIdMarker: string | undefined
  for (;;) {
    const page = catalog.listUploads(bucketId, {
      prefix: '',
      delimiter: '',
      limit: 2,
      keyMarker,
      ...(uploadIdMarker === undefined ? {} : { uploadIdMarker }),
    })
    listed.push(...page.uploads.map(({ uploadId }) => uploadId))
    if (!page.truncated) break
    keyMarker = page.nextKeyMarker ?? ''
    uploadIdMarker = page.nextUploadIdMarker
  }
  assert.deepEqual(
    listed,
    sorted.map(({ uploadId }) => uploadId),
  )
}
