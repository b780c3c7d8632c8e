import assert from 'node:assert/strict'
import { test } from 'node:test'
import {
  CreateBucketCommand,
  ListMultipartUploadsCommand,
  ListObjectsCommand,
  ListObjectsV2Command,
  ListObjectVersionsCommand,
  PutObjectCommand,
} from '@aws-sdk/client-s3'
import { startS3Region } from '../../kit/s3-region.ts'

const Bucket = 'long-listings'

test('a listing by a name that no key can have is an empty page, and the region goes on', {
  timeout: 180_000,
}, async (t) => {
  const region = await startS3Region()
  t.after(() => region.close())
  const s3 = region.client()
  await s3.send(new CreateBucketCommand({ Bucket }))
  const longest = 'k'.repeat(1024)
  await s3.send(new PutObjectCommand({ Bucket, Key: longest, Body: 'x' }))
  for (let round = 0; round < 300; round++) {
    // All lengths that did harm: longer than a row's key, than what was refused, and the last ones that a buffer had room for.
    const Prefix = 'k'.repeat([1979, 4200, 8180, 8186, 12_000][round % 5] ?? 0)
    const { Contents = [], KeyCount } = await s3.send(new ListObjectsV2Command({ Bucket, Prefix }))
    assert.deepEqual([Contents, KeyCount], [[], 0])
    await s3.send(new PutObjectCommand({ Bucket, Key: `a-${round % 5}`, Body: 'x' }))
  }
  const Marker = 'k'.repeat(5000)
  const VersionIdMarker = '0'.repeat(26)
  for (const name of [{ Prefix: Marker }, { Delimiter: Marker, Prefix: 'k' }]) {
    const isThere = name.Prefix === 'k' ? [longest] : []
    const listed = await s3.send(new ListObjectsCommand({ Bucket, ...name }))
    assert.deepEqual(
      (listed.Contents ?? []).map(({ Key }) => Key),
      isThere,
    )
    const { Versions = [] } = await s3.send(new ListObjectVersionsCommand({ Bucket, ...name }))
    assert.deepEqual(
      Versions.map(({ Key }) => Key),
      isThere,
    )
    assert.equal((await s3.send(new ListMultipartUploadsCommand({ Bucket, ...name }))).Uploads, undefined)
  }
  const behind = [
    await s3.send(new ListObjectsCommand({ Bucket, Marker })),
    await s3.send(new ListObjectsV2Command({ Bucket, StartAfter: Marker })),
  ]
  for (const page of behind) assert.equal(page.Contents, undefined)
  for (const marker of [{}, { VersionIdMarker }, { VersionIdMarker: 'null' }]) {
    const page = await s3.send(new ListObjectVersionsCommand({ Bucket, KeyMarker: Marker, ...marker }))
    assert.equal(page.Versions, undefined)
  }
  for (const marker of [{}, { UploadIdMarker: '0'.repeat(32) }]) {
    const page = await s3.send(new ListMultipartUploadsCommand({ Bucket, KeyMarker: Marker, ...marker }))
    assert.equal(page.Uploads, undefined)
  }
  // What is greater than the longest key, and what is less, is where it belongs behind a longer marker.
  const before = await s3.send(new ListObjectsV2Command({ Bucket, StartAfter: `j${Marker}` }))
  assert.deepEqual(
    before.Contents?.map(({ Key }) => Key),
    [longest],
  )
})
