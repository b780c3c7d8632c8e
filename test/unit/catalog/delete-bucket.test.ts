import assert from 'node:assert/strict'
import { test } from 'node:test'
import { createDirectCatalog } from '../../../core/catalog/direct-catalog.ts'
import { MemoryTables } from '../../../core/catalog/memory-tables.ts'
import { verifyRows } from '../../../core/catalog/verify.ts'
import { makeWriteId } from '../../../core/contract/ids.ts'
import {
  emptyObject,
  etagOf,
  extentOf,
  plainAttributes,
  putCommand,
  realEnvironment,
} from '../../kit/catalog-commands.ts'

const { clock, randomness } = realEnvironment

function openBucket() {
  const tables = new MemoryTables()
  const catalog = createDirectCatalog({ tables, environment: realEnvironment, regionId: 1 })
  const { id: bucketId } = catalog.run({ type: 'create-bucket', name: 'photos', owner: 'root' })
  const upload = (key: string, parts: number): void => {
    const { uploadId } = catalog.run({
      type: 'create-upload',
      bucketId,
      key,
      owner: 'root',
      initiator: 'root',
      attributes: plainAttributes,
    })
    for (let number = 1; number <= parts; number++) {
      const extent = extentOf(makeWriteId(clock.now(), randomness.fill), 5000)
      catalog.run({
        type: 'put-part',
        bucketId,
        key,
        uploadId,
        number,
        byteLength: 5000,
        etag: etagOf(number),
        layout: { kind: 'chunks', extents: [extent] },
      })
    }
  }
  const drop = (): boolean => catalog.run({ type: 'delete-bucket', name: 'photos' }).deleted
  return { tables, catalog, bucketId, upload, drop }
}

test('a bucket goes at once with the few uploads that it holds, and their bodies are freed', () => {
  const { tables, catalog, upload, drop } = openBucket()
  for (let index = 0; index < 5; index++) upload(`key-${index}`, 3)
  assert.equal(drop(), true)
  assert.equal(catalog.bucket('photos'), undefined)
  assert.equal(catalog.stats().garbageWrites, 15)
  assert.deepEqual(verifyRows(tables), [])
})

test('no entry aborts more than a bounded number of uploads; the bucket goes with the last of them', () => {
  const { tables, catalog, upload, drop } = openBucket()
  for (let index = 0; index < 2500; index++) upload(`key-${index}`, 0)
  assert.equal(drop(), false)
  assert.equal(catalog.stats().uploads, 1500)
  assert.ok(catalog.bucket('photos'), 'the bucket stays until its last upload is gone')
  assert.deepEqual(verifyRows(tables), [])
  assert.equal(drop(), false)
  assert.equal(drop(), true)
  assert.equal(catalog.bucket('photos'), undefined)
  assert.equal(catalog.stats().uploads, 0)
  assert.deepEqual(verifyRows(tables), [])
})

test('parts count as well: an upload of many is the last one of its entry', () => {
  const { tables, catalog, upload, drop } = openBucket()
  for (let index = 0; index < 3; index++) upload(`key-${index}`, 1200)
  for (const left of [2, 1]) {
    assert.equal(drop(), false)
    assert.equal(catalog.stats().uploads, left)
  }
  assert.equal(drop(), true)
  assert.equal(catalog.stats().garbageWrites, 3600)
  assert.deepEqual(verifyRows(tables), [])
})

test('a bucket that holds an object keeps its uploads', () => {
  const { catalog, bucketId, upload, drop } = openBucket()
  upload('key', 1)
  catalog.run(putCommand(bucketId, 'object', emptyObject()))
  assert.throws(drop, { code: 'BUCKET_NOT_EMPTY' })
  assert.equal(catalog.stats().uploads, 1)
})
