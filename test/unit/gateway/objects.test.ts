import assert from 'node:assert/strict'
import { createHash } from 'node:crypto'
import { after, before, describe, test } from 'node:test'
import {
  CopyObjectCommand,
  CreateBucketCommand,
  DeleteObjectCommand,
  DeleteObjectsCommand,
  GetObjectCommand,
  GetObjectTaggingCommand,
  HeadObjectCommand,
  ListObjectsV2Command,
  ListObjectVersionsCommand,
  PutBucketVersioningCommand,
  PutObjectCommand,
  type S3Client,
} from '@aws-sdk/client-s3'
import { type S3Region, startS3Region } from '../../kit/s3-region.ts'

const md5 = (bytes: Uint8Array): string => createHash('md5').update(bytes).digest('hex')

/** Bytes that differ at every place of every chunk. */
function pattern(length: number, seed = 1): Buffer {
  const bytes = Buffer.allocUnsafe(length)
  let state = seed >>> 0 || 1
  for (let index = 0; index < length; index++) {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0
    bytes[index] = state >>> 24
  }
  return bytes
}

const rejects = (promise: Promise<unknown>, name: string, status?: number) =>
  assert.rejects(promise, (error: { name: string; $metadata?: { httpStatusCode?: number } }) => {
    assert.equal(error.name, name)
    if (status !== undefined) assert.equal(error.$metadata?.httpStatusCode, status)
    return true
  })

describe('objects through the AWS SDK, over the real catalog and the reference store', () => {
  let region: S3Region
  let s3: S3Client
  const Bucket = 'objects'
  before(async () => {
    region = await startS3Region({ config: { chunkBytes: 256 * 1024, windowBytes: 1024 * 1024 } })
    s3 = region.client()
    await s3.send(new CreateBucketCommand({ Bucket }))
  })
  after(() => region.close())

  const bodyOf = async (Key: string, extra: object = {}): Promise<Buffer> => {
    const answer = await s3.send(new GetObjectCommand({ Bucket, Key, ...extra }))
    return Buffer.from((await answer.Body?.transformToByteArray()) ?? [])
  }

  for (const size of [0, 1, 4096, 4097, 65_536, 65_537, 262_144, 262_145, 3_000_000]) {
    test(`a body of ${size} bytes comes back as it was`, async () => {
      const body = pattern(size, size + 1)
      const put = await s3.send(new PutObjectCommand({ Bucket, Key: `size-${size}`, Body: body }))
      assert.equal(put.ETag, `"${md5(body)}"`)
      assert.equal(put.ChecksumType, 'FULL_OBJECT')
      assert.ok(put.ChecksumCRC32)
      assert.ok((await bodyOf(`size-${size}`)).equals(body))
      const head = await s3.send(
        new HeadObjectCommand({ Bucket, Key: `size-${size}`, ChecksumMode: 'ENABLED' }),
      )
      assert.equal(head.ContentLength, size)
      assert.equal(head.ETag, put.ETag)
      assert.equal(head.ChecksumCRC32, put.ChecksumCRC32)
      assert.equal(head.AcceptRanges, 'bytes')
    })
  }

  test('ranges are the bytes of the slice, across chunks', async () => {
    const body = pattern(1_000_000, 7)
    await s3.send(new PutObjectCommand({ Bucket, Key: 'ranges', Body: body }))
    const cases: readonly [string, Buffer][] = [
      ['bytes=0-0', body.subarray(0, 1)],
      ['bytes=262143-262144', body.subarray(262_143, 262_145)],
      ['bytes=100000-900000', body.subarray(100_000, 900_001)],
      ['bytes=999999-', body.subarray(999_999)],
      ['bytes=-5', body.subarray(-5)],
    ]
    for (const [Range, expected] of cases) {
      const answer = await s3.send(new GetObjectCommand({ Bucket, Key: 'ranges', Range }))
      assert.equal(answer.$metadata.httpStatusCode, 206)
      assert.ok(Buffer.from((await answer.Body?.transformToByteArray()) ?? []).equals(expected), Range)
    }
    await rejects(bodyOf('ranges', { Range: 'bytes=1000000-' }), 'InvalidRange', 416)
  })

  test('metadata, headers and tags come back; overrides apply', async () => {
    await s3.send(
      new PutObjectCommand({
        Bucket,
        Key: 'meta',
        Body: 'x',
        ContentType: 'text/plain',
        CacheControl: 'max-age=1',
        ContentDisposition: 'attachment',
        ContentLanguage: 'de',
        Metadata: { colour: 'green', __proto__x: 'y' },
        Tagging: 'a=1&b=2',
      }),
    )
    const head = await s3.send(new HeadObjectCommand({ Bucket, Key: 'meta' }))
    assert.equal(head.ContentType, 'text/plain')
    assert.equal(head.CacheControl, 'max-age=1')
    assert.equal(head.ContentDisposition, 'attachment')
    assert.equal(head.ContentLanguage, 'de')
    assert.deepEqual(head.Metadata, { colour: 'green', __proto__x: 'y' })
    assert.equal(head.TagCount, 2)
    const got = await s3.send(
      new GetObjectCommand({
        Bucket,
        Key: 'meta',
        ResponseContentType: 'image/png',
        ResponseCacheControl: 'no-store',
      }),
    )
    assert.equal(got.ContentType, 'image/png')
    assert.equal(got.CacheControl, 'no-store')
    await rejects(
      s3.send(new PutObjectCommand({ Bucket, Key: 'big', Body: '', Metadata: { m: 'x'.repeat(2048) } })),
      'MetadataTooLarge',
      400,
    )
  })

  test('a tag named __proto__ is a tag', async () => {
    const Key = 'tagged'
    await s3.send(new PutObjectCommand({ Bucket, Key, Body: 'x', Tagging: '__proto__=1&b=2' }))
    const { TagSet } = await s3.send(new GetObjectTaggingCommand({ Bucket, Key }))
    assert.deepEqual(TagSet, [
      { Key: '__proto__', Value: '1' },
      { Key: 'b', Value: '2' },
    ])
  })

  test('what is not there is not found', async () => {
    await rejects(bodyOf('nothing'), 'NoSuchKey', 404)
    await rejects(s3.send(new GetObjectCommand({ Bucket: 'no-such-bucket', Key: 'k' })), 'NoSuchBucket', 404)
    await rejects(s3.send(new HeadObjectCommand({ Bucket, Key: 'nothing' })), 'NotFound', 404)
  })

  test('conditional reads and writes', async () => {
    const put = await s3.send(new PutObjectCommand({ Bucket, Key: 'cond', Body: 'one', IfNoneMatch: '*' }))
    await rejects(
      s3.send(new PutObjectCommand({ Bucket, Key: 'cond', Body: 'two', IfNoneMatch: '*' })),
      'PreconditionFailed',
      412,
    )
    await rejects(
      s3.send(new PutObjectCommand({ Bucket, Key: 'cond', Body: pattern(100_000), IfMatch: '"x"' })),
      'PreconditionFailed',
      412,
    )
    await rejects(bodyOf('cond', { IfMatch: '"x"' }), 'PreconditionFailed', 412)
    await rejects(bodyOf('cond', { IfNoneMatch: put.ETag }), 'Unknown', 304)
    await s3.send(new PutObjectCommand({ Bucket, Key: 'cond', Body: 'two', IfMatch: put.ETag }))
    assert.equal((await bodyOf('cond')).toString(), 'two')
  })

  test('exactly one of many conditional creations wins', async () => {
    const attempts = await Promise.allSettled(
      Array.from({ length: 20 }, (_, index) =>
        s3.send(new PutObjectCommand({ Bucket, Key: 'race', Body: `writer ${index}`, IfNoneMatch: '*' })),
      ),
    )
    assert.equal(attempts.filter(({ status }) => status === 'fulfilled').length, 1)
  })

  test('every checksum algorithm is verified and kept', async () => {
    const Body = pattern(300_000, 3)
    for (const ChecksumAlgorithm of ['CRC32', 'CRC32C', 'SHA1', 'SHA256'] as const) {
      const Key = `checksum-${ChecksumAlgorithm}`
      const put = await s3.send(new PutObjectCommand({ Bucket, Key, Body, ChecksumAlgorithm }))
      const head = await s3.send(new HeadObjectCommand({ Bucket, Key, ChecksumMode: 'ENABLED' }))
      const field = `Checksum${ChecksumAlgorithm}` as const
      assert.ok(put[field])
      assert.equal(head[field], put[field])
    }
    await rejects(
      s3.send(new PutObjectCommand({ Bucket, Key: 'bad', Body, ChecksumSHA256: `${'A'.repeat(43)}=` })),
      'BadDigest',
      400,
    )
    for (const ChecksumSHA256 of ['bad', 'YmFk', '!'.repeat(44)]) {
      await rejects(
        s3.send(new PutObjectCommand({ Bucket, Key: 'bad', Body, ChecksumSHA256 })),
        'BadDigest',
        400,
      )
    }
    await rejects(
      s3.send(new PutObjectCommand({ Bucket, Key: 'bad', Body, ContentMD5: 'rL0Y20xC+Fzt72VPzMSk2A==' })),
      'BadDigest',
      400,
    )
    await rejects(
      s3.send(new PutObjectCommand({ Bucket, Key: 'bad', Body, ContentMD5: 'AAAA' })),
      'InvalidDigest',
      400,
    )
    await rejects(bodyOf('bad'), 'NoSuchKey')
  })

  test('refused bodies leave nothing in the store', async () => {
    const countBefore = (await region.chunks.stats()).chunkCount
    for (const size of [10_000, 1_000_000]) {
      await rejects(
        s3.send(
          new PutObjectCommand({ Bucket, Key: 'bad', Body: pattern(size), ContentMD5: md5Base64('other') }),
        ),
        'BadDigest',
      )
      await rejects(
        s3.send(new PutObjectCommand({ Bucket, Key: 'cond', Body: pattern(size), IfMatch: '"x"' })),
        'PreconditionFailed',
      )
    }
    const stats = await region.chunks.stats()
    assert.equal(stats.chunkCount, countBefore)
    assert.equal(stats.poolUsedBytes, 0)
  })

  test('copies: metadata kept or replaced, never onto itself unchanged', async () => {
    const Body = pattern(600_000, 9)
    await s3.send(
      new PutObjectCommand({
        Bucket,
        Key: 'src/ü +?',
        Body,
        Metadata: { a: '1' },
        ContentType: 'text/x',
        Tagging: 't=1',
      }),
    )
    const CopySource = `${Bucket}/${encodeURIComponent('src/ü +?')}`
    const copied = await s3.send(new CopyObjectCommand({ Bucket, Key: 'dst', CopySource }))
    assert.equal(copied.CopyObjectResult?.ETag, `"${md5(Body)}"`)
    assert.ok((await bodyOf('dst')).equals(Body))
    const head = await s3.send(new HeadObjectCommand({ Bucket, Key: 'dst' }))
    assert.deepEqual([head.Metadata, head.ContentType, head.TagCount], [{ a: '1' }, 'text/x', 1])
    await s3.send(
      new CopyObjectCommand({
        Bucket,
        Key: 'dst',
        CopySource,
        MetadataDirective: 'REPLACE',
        Metadata: { b: '2' },
        TaggingDirective: 'REPLACE',
      }),
    )
    const replaced = await s3.send(new HeadObjectCommand({ Bucket, Key: 'dst' }))
    assert.deepEqual([replaced.Metadata, replaced.TagCount], [{ b: '2' }, undefined])
    await rejects(
      s3.send(new CopyObjectCommand({ Bucket, Key: 'dst', CopySource: `${Bucket}/dst` })),
      'InvalidRequest',
      400,
    )
    await rejects(
      s3.send(new CopyObjectCommand({ Bucket, Key: 'd2', CopySource, CopySourceIfMatch: '"x"' })),
      'PreconditionFailed',
      412,
    )
    await rejects(
      s3.send(new CopyObjectCommand({ Bucket, Key: 'd2', CopySource: `${Bucket}/none` })),
      'NoSuchKey',
    )
    await s3.send(new PutObjectCommand({ Bucket, Key: 'tiny', Body: 'tiny' }))
    await s3.send(new CopyObjectCommand({ Bucket, Key: 'tiny2', CopySource: `/${Bucket}/tiny` }))
    assert.equal((await bodyOf('tiny2')).toString(), 'tiny')
  })

  test('several deletes at once, each with its own answer', async () => {
    for (const Key of ['m/1', 'm/2']) await s3.send(new PutObjectCommand({ Bucket, Key, Body: 'x' }))
    const answer = await s3.send(
      new DeleteObjectsCommand({
        Bucket,
        Delete: { Objects: [{ Key: 'm/1' }, { Key: 'm/none' }, { Key: 'm/2', VersionId: 'nonsense' }] },
      }),
    )
    assert.deepEqual(
      answer.Deleted?.map(({ Key }) => Key),
      ['m/1', 'm/none'],
    )
    assert.deepEqual(
      answer.Errors?.map(({ Key, Code }) => [Key, Code]),
      [['m/2', 'NoSuchVersion']],
    )
    const quiet = await s3.send(
      new DeleteObjectsCommand({ Bucket, Delete: { Quiet: true, Objects: [{ Key: 'm/2' }] } }),
    )
    assert.equal(quiet.Deleted, undefined)
    await rejects(bodyOf('m/2'), 'NoSuchKey')
  })

  test('listings page through prefixes and delimiters', async () => {
    const keys = ['l/a', 'l/b/1', 'l/b/2', 'l/c', 'l/d e+f', 'l/ü']
    for (const Key of keys) await s3.send(new PutObjectCommand({ Bucket, Key, Body: 'x' }))
    const seen: string[] = []
    let ContinuationToken: string | undefined
    do {
      const page: { NextContinuationToken?: string | undefined } & Awaited<ReturnType<typeof list>> =
        await list()
      async function list() {
        return s3.send(
          new ListObjectsV2Command({
            Bucket,
            Prefix: 'l/',
            Delimiter: '/',
            MaxKeys: 2,
            ...(ContinuationToken === undefined ? {} : { ContinuationToken }),
          }),
        )
      }
      for (const { Key } of page.Contents ?? []) seen.push(Key ?? '')
      for (const { Prefix } of page.CommonPrefixes ?? []) seen.push(Prefix ?? '')
      ContinuationToken = page.NextContinuationToken
    } while (ContinuationToken !== undefined)
    assert.deepEqual(seen.sort(), ['l/a', 'l/b/', 'l/c', 'l/d e+f', 'l/ü'])
    const encoded = await s3.send(new ListObjectsV2Command({ Bucket, Prefix: 'l/d', EncodingType: 'url' }))
    assert.equal(encoded.Contents?.[0]?.Key, 'l/d%20e%2Bf')
    await rejects(
      s3.send(new ListObjectsV2Command({ Bucket, ContinuationToken: 'invented' })),
      'InvalidArgument',
      400,
    )
  })

  test('versions: old ones stay readable, deletes make markers', async () => {
    const versioned = 'versioned'
    await s3.send(new CreateBucketCommand({ Bucket: versioned }))
    await s3.send(
      new PutBucketVersioningCommand({ Bucket: versioned, VersioningConfiguration: { Status: 'Enabled' } }),
    )
    const one = await s3.send(
      new PutObjectCommand({ Bucket: versioned, Key: 'k', Body: pattern(100_000, 1) }),
    )
    const two = await s3.send(new PutObjectCommand({ Bucket: versioned, Key: 'k', Body: 'two' }))
    const marker = await s3.send(new DeleteObjectCommand({ Bucket: versioned, Key: 'k' }))
    assert.equal(marker.DeleteMarker, true)
    await rejects(s3.send(new GetObjectCommand({ Bucket: versioned, Key: 'k' })), 'NoSuchKey', 404)
    await rejects(
      s3.send(new GetObjectCommand({ Bucket: versioned, Key: 'k', VersionId: marker.VersionId })),
      'MethodNotAllowed',
      405,
    )
    const old = await s3.send(new GetObjectCommand({ Bucket: versioned, Key: 'k', VersionId: one.VersionId }))
    assert.ok(Buffer.from((await old.Body?.transformToByteArray()) ?? []).equals(pattern(100_000, 1)))
    const listed = await s3.send(new ListObjectVersionsCommand({ Bucket: versioned }))
    assert.deepEqual(
      listed.Versions?.map(({ VersionId, IsLatest }) => [VersionId, IsLatest]),
      [
        [two.VersionId, false],
        [one.VersionId, false],
      ],
    )
    assert.deepEqual(
      listed.DeleteMarkers?.map(({ VersionId, IsLatest }) => [VersionId, IsLatest]),
      [[marker.VersionId, true]],
    )
    await s3.send(new DeleteObjectCommand({ Bucket: versioned, Key: 'k', VersionId: marker.VersionId }))
    const back = await s3.send(new GetObjectCommand({ Bucket: versioned, Key: 'k' }))
    assert.equal(await back.Body?.transformToString(), 'two')
  })
})

const md5Base64 = (text: string): string => createHash('md5').update(text).digest('base64')
