import assert from 'node:assert/strict'
import { createHash } from 'node:crypto'
import { Readable } from 'node:stream'
import { after, before, suite, test } from 'node:test'
import {
  CopyObjectCommand,
  CreateBucketCommand,
  DeleteBucketCommand,
  DeleteObjectCommand,
  DeleteObjectsCommand,
  GetObjectAttributesCommand,
  GetObjectCommand,
  HeadObjectCommand,
  ListObjectsV2Command,
  ListObjectVersionsCommand,
  NoSuchKey,
  PutBucketVersioningCommand,
  PutObjectCommand,
  paginateListObjectsV2,
  S3Client,
  S3ServiceException,
} from '@aws-sdk/client-s3'
import { Upload } from '@aws-sdk/lib-storage'
import { digestStream, seededBytes, seededDigest, seededStream } from '../kit/seeded-bytes.ts'
import { openTarget, type Target } from './target.ts'

const mebibyte = 1024 * 1024

suite('AWS SDK for JavaScript v3, with its default checksums and retries', { timeout: 600_000 }, () => {
  let target: Target
  let client: S3Client
  const Bucket = 'sdk-js-bucket'

  const bodyOf = async (body: unknown): Promise<Readable> => {
    assert.ok(body instanceof Readable)
    return body
  }
  /** The name of the S3 error that a call is refused with. */
  const refusal = async (call: Promise<unknown>): Promise<string> => {
    try {
      await call
    } catch (reason) {
      assert.ok(reason instanceof S3ServiceException, String(reason))
      return reason.name
    }
    return assert.fail('the call was not refused')
  }

  before(async () => {
    target = await openTarget()
    client = new S3Client({
      endpoint: target.endpoint,
      region: target.region,
      forcePathStyle: true,
      credentials: { accessKeyId: target.accessKey, secretAccessKey: target.secretKey },
    })
    await client.send(new CreateBucketCommand({ Bucket }))
  })
  after(async () => {
    client?.destroy()
    await target?.[Symbol.asyncDispose]()
  })

  for (const size of [0, 1, 4095, 4097, 65_536, 3 * mebibyte + 1, 9 * mebibyte]) {
    test(`a buffer of ${size} bytes comes back as it went, with its CRC32 checked`, async () => {
      const Key = `buffer/${size}`
      const Body = seededBytes(Key, 0, size)
      const put = await client.send(new PutObjectCommand({ Bucket, Key, Body }))
      assert.equal(put.ETag, `"${createHash('md5').update(Body).digest('hex')}"`)
      const got = await client.send(new GetObjectCommand({ Bucket, Key }))
      assert.equal(got.ContentLength, size)
      assert.equal(await digestStream(await bodyOf(got.Body)), await seededDigest(Key, size))
      const head = await client.send(new HeadObjectCommand({ Bucket, Key, ChecksumMode: 'ENABLED' }))
      assert.ok(head.ChecksumCRC32, 'the SDK’s default CRC32 is stored and returned')
      assert.equal(head.ChecksumCRC32, put.ChecksumCRC32)
    })
  }

  test('a stream is sent aws-chunked with a trailing checksum', async () => {
    const Key = 'stream'
    const size = 5 * mebibyte + 7
    const put = await client.send(
      new PutObjectCommand({ Bucket, Key, Body: seededStream(Key, size, 100_000), ContentLength: size }),
    )
    assert.ok(put.ChecksumCRC32)
    const got = await client.send(new GetObjectCommand({ Bucket, Key }))
    assert.equal(await digestStream(await bodyOf(got.Body)), await seededDigest(Key, size))
    assert.equal(got.ContentEncoding ?? '', '', 'aws-chunked is framing, not an encoding of the object')
  })

  for (const algorithm of ['CRC32', 'CRC32C', 'CRC64NVME', 'SHA1', 'SHA256'] as const) {
    test(`${algorithm} is verified, stored and returned`, async (t) => {
      const Key = `checksum/${algorithm}`
      const Body = seededBytes(Key, 0, 300_001)
      let put: Record<string, unknown>
      try {
        put = {
          ...(await client.send(new PutObjectCommand({ Bucket, Key, Body, ChecksumAlgorithm: algorithm }))),
        }
      } catch (reason) {
        if (String(reason).includes('@aws-sdk/crc64-nvme-crt')) return t.skip('the SDK has no CRC64NVME here')
        throw reason
      }
      const field = `Checksum${algorithm}`
      assert.ok(put[field])
      const head = await client.send(new HeadObjectCommand({ Bucket, Key, ChecksumMode: 'ENABLED' }))
      assert.equal({ ...head }[field as 'ChecksumCRC32'], put[field])
      const attributes = await client.send(
        new GetObjectAttributesCommand({ Bucket, Key, ObjectAttributes: ['Checksum', 'ObjectSize'] }),
      )
      assert.equal(attributes.Checksum?.[field as 'ChecksumCRC32'], put[field])
      assert.equal(attributes.ObjectSize, Body.length)
    })
  }

  test('a wrong checksum is refused and nothing is stored', async () => {
    const wrong = createHash('sha256').update('another body').digest('base64')
    const put = new PutObjectCommand({ Bucket, Key: 'wrong', Body: 'the body', ChecksumSHA256: wrong })
    assert.equal(await refusal(client.send(put)), 'BadDigest')
    assert.equal(await refusal(client.send(new GetObjectCommand({ Bucket, Key: 'wrong' }))), 'NoSuchKey')
  })

  test('Upload of lib-storage sends parts in parallel from a stream of unknown length', async () => {
    const Key = 'upload'
    const size = 33 * mebibyte + 11
    const upload = new Upload({
      client,
      params: { Bucket, Key, Body: seededStream(Key, size, 333_333), ContentType: 'application/x-test' },
      partSize: 5 * mebibyte,
      queueSize: 4,
    })
    const done = await upload.done()
    assert.match(done.ETag ?? '', /-7"$/)
    const got = await client.send(new GetObjectCommand({ Bucket, Key }))
    assert.equal(got.ContentType, 'application/x-test')
    assert.equal(await digestStream(await bodyOf(got.Body)), await seededDigest(Key, size))
  })

  test('ranges: first, middle, last bytes, across a part border, beyond the end', async () => {
    const Key = 'upload'
    const size = 33 * mebibyte + 11
    for (const [range, from, length] of [
      ['bytes=0-0', 0, 1],
      ['bytes=1000-1999', 1000, 1000],
      ['bytes=-7', size - 7, 7],
      [`bytes=${5 * mebibyte - 10}-${5 * mebibyte + 9}`, 5 * mebibyte - 10, 20],
      [`bytes=${4 * mebibyte - 1}-${9 * mebibyte}`, 4 * mebibyte - 1, 5 * mebibyte + 2],
      [`bytes=${size - 1}-${size + 1000}`, size - 1, 1],
    ] as const) {
      const got = await client.send(new GetObjectCommand({ Bucket, Key, Range: range }))
      assert.equal(got.ContentRange, `bytes ${from}-${from + length - 1}/${size}`)
      const body = await (got.Body as { transformToByteArray(): Promise<Uint8Array> }).transformToByteArray()
      assert.ok(seededBytes(Key, from, length).equals(body), range)
    }
    const beyond = new GetObjectCommand({ Bucket, Key, Range: `bytes=${size}-` })
    assert.equal(await refusal(client.send(beyond)), 'InvalidRange')
  })

  test('ListObjectsV2 pages through keys, also in the order of their UTF-8 bytes', async () => {
    const keys = Array.from({ length: 25 }, (_, index) => `list/${String(index).padStart(3, '0')}`)
    keys.push('list/ä', 'list/z', 'list/\u{1F600}', 'list/\uFFFD', 'list/a+b c&d')
    await Promise.all(keys.map((Key) => client.send(new PutObjectCommand({ Bucket, Key, Body: Key }))))
    const seen: string[] = []
    for await (const page of paginateListObjectsV2({ client, pageSize: 7 }, { Bucket, Prefix: 'list/' })) {
      for (const entry of page.Contents ?? []) seen.push(entry.Key ?? '')
    }
    const sorted = keys.toSorted((a, b) => Buffer.compare(Buffer.from(a), Buffer.from(b)))
    assert.deepEqual(seen, sorted)
    const levels = await client.send(new ListObjectsV2Command({ Bucket, Delimiter: '/' }))
    assert.ok(levels.CommonPrefixes?.some((prefix) => prefix.Prefix === 'list/'))
  })

  test('conditional writes: create once, replace only what was read', async () => {
    const Key = 'conditional'
    const create = (Body: string): Promise<{ ETag?: string | undefined }> =>
      client.send(new PutObjectCommand({ Bucket, Key, Body, IfNoneMatch: '*' }))
    const first = await create('one')
    assert.equal(await refusal(create('two')), 'PreconditionFailed')
    const replace = (Body: string, IfMatch: string): Promise<{ ETag?: string | undefined }> =>
      client.send(new PutObjectCommand({ Bucket, Key, Body, IfMatch }))
    const second = await replace('two', first.ETag ?? '')
    assert.equal(await refusal(replace('three', first.ETag ?? '')), 'PreconditionFailed')
    assert.notEqual(second.ETag, first.ETag)
  })

  test('of ten concurrent creations exactly one wins', async () => {
    const outcomes = await Promise.allSettled(
      Array.from({ length: 10 }, (_, index) =>
        client.send(
          new PutObjectCommand({ Bucket, Key: 'race', Body: `${index}`.repeat(5000), IfNoneMatch: '*' }),
        ),
      ),
    )
    const winners = outcomes.flatMap((outcome, index) => (outcome.status === 'fulfilled' ? [index] : []))
    assert.equal(winners.length, 1)
    const got = await client.send(new GetObjectCommand({ Bucket, Key: 'race' }))
    assert.equal(await got.Body?.transformToString(), `${winners[0]}`.repeat(5000))
  })

  test('copy keeps or replaces metadata', async () => {
    const source = { Bucket, Key: 'copy source+ü', Body: 'copied', Metadata: { a: 'b' } }
    await client.send(new PutObjectCommand(source))
    const CopySource = `${Bucket}/${encodeURIComponent(source.Key)}`
    await client.send(new CopyObjectCommand({ Bucket, Key: 'copy/1', CopySource }))
    await client.send(
      new CopyObjectCommand({
        Bucket,
        Key: 'copy/2',
        CopySource,
        MetadataDirective: 'REPLACE',
        Metadata: { c: 'd' },
      }),
    )
    const one = await client.send(new GetObjectCommand({ Bucket, Key: 'copy/1' }))
    assert.equal(await one.Body?.transformToString(), 'copied')
    assert.deepEqual(one.Metadata, { a: 'b' })
    const two = await client.send(new HeadObjectCommand({ Bucket, Key: 'copy/2' }))
    assert.deepEqual(two.Metadata, { c: 'd' })
  })

  test('errors carry their type, code, request id and status', async () => {
    const reason = await client
      .send(new GetObjectCommand({ Bucket, Key: 'never' }))
      .catch((thrown: unknown) => thrown)
    assert.ok(reason instanceof NoSuchKey)
    assert.equal(reason.$metadata.httpStatusCode, 404)
    assert.ok(reason.$metadata.requestId)
  })

  test('a reader that goes away in the middle leaves the service answering', async () => {
    for (let index = 0; index < 5; index++) {
      const got = await client.send(new GetObjectCommand({ Bucket, Key: 'upload' }))
      const body = await bodyOf(got.Body)
      await new Promise((resolve) => body.once('data', resolve))
      body.destroy()
    }
    const got = await client.send(new HeadObjectCommand({ Bucket, Key: 'upload' }))
    assert.equal(got.ContentLength, 33 * mebibyte + 11)
  })

  test('versions, markers and multi-delete empty the bucket, which then goes', async () => {
    await client.send(
      new PutBucketVersioningCommand({ Bucket, VersioningConfiguration: { Status: 'Enabled' } }),
    )
    await client.send(new PutObjectCommand({ Bucket, Key: 'buffer/1', Body: 'newer' }))
    const deleted = await client.send(new DeleteObjectCommand({ Bucket, Key: 'buffer/1' }))
    assert.equal(deleted.DeleteMarker, true)
    for (;;) {
      const page = await client.send(new ListObjectVersionsCommand({ Bucket, MaxKeys: 9 }))
      const entries = [...(page.Versions ?? []), ...(page.DeleteMarkers ?? [])]
      if (entries.length === 0) break
      const gone = await client.send(
        new DeleteObjectsCommand({
          Bucket,
          Delete: { Objects: entries.map((entry) => ({ Key: entry.Key, VersionId: entry.VersionId })) },
        }),
      )
      assert.deepEqual(gone.Errors ?? [], [])
      assert.equal(gone.Deleted?.length, entries.length)
    }
    await client.send(new DeleteBucketCommand({ Bucket }))
  })
})
