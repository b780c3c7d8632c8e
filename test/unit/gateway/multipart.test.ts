import assert from 'node:assert/strict'
import { createHash } from 'node:crypto'
import { after, before, describe, test } from 'node:test'
import {
  AbortMultipartUploadCommand,
  type ChecksumAlgorithm,
  type ChecksumType,
  CompleteMultipartUploadCommand,
  CreateBucketCommand,
  CreateMultipartUploadCommand,
  DeleteBucketCommand,
  GetObjectAttributesCommand,
  GetObjectCommand,
  GetObjectTaggingCommand,
  HeadObjectCommand,
  ListMultipartUploadsCommand,
  ListPartsCommand,
  PutBucketAclCommand,
  PutObjectCommand,
  type S3Client,
  UploadPartCommand,
  UploadPartCopyCommand,
} from '@aws-sdk/client-s3'
import { minPartBytes } from '../../../core/gateway/s3/multipart-rules.ts'
import { plainAttributes } from '../../kit/catalog-commands.ts'
import { type S3Region, startS3Region } from '../../kit/s3-region.ts'

const rejects = (promise: Promise<unknown>, name: string, status: number) =>
  assert.rejects(promise, (error: { name: string; $metadata?: { httpStatusCode?: number } }) => {
    assert.equal(error.name, name)
    assert.equal(error.$metadata?.httpStatusCode, status)
    return true
  })

describe('multipart uploads through the AWS SDK', () => {
  let region: S3Region
  let s3: S3Client
  const Bucket = 'uploads'
  // A part that may stand before another one, and a small last one.
  const first = Buffer.alloc(minPartBytes, 'first part of many ')
  const last = Buffer.from('the end')
  const whole = Buffer.concat([first, last])

  before(async () => {
    region = await startS3Region()
    // Checksums only where a test asks for them.
    s3 = region.client('alice', { requestChecksumCalculation: 'WHEN_REQUIRED' })
    await s3.send(new CreateBucketCommand({ Bucket }))
  })
  after(() => region.close())

  test('a bucket is deleted with all its uploads, however many', async () => {
    const many = 'abandoned'
    await s3.send(new CreateBucketCommand({ Bucket: many }))
    const { id: bucketId } = region.catalog.bucket(many) ?? assert.fail()
    const creations = Array.from({ length: 1200 }, (_, index) =>
      region.catalog.submit({
        type: 'create-upload',
        bucketId,
        key: `key-${index}`,
        owner: 'alice',
        initiator: 'alice',
        attributes: plainAttributes,
      }),
    )
    await Promise.all(creations)
    await s3.send(new DeleteBucketCommand({ Bucket: many }))
    await rejects(s3.send(new ListMultipartUploadsCommand({ Bucket: many })), 'NoSuchBucket', 404)
  })

  async function start(Key: string, more: object = {}): Promise<string> {
    const { UploadId } = await s3.send(new CreateMultipartUploadCommand({ Bucket, Key, ...more }))
    assert.ok(UploadId)
    return UploadId
  }

  const put = (Key: string, UploadId: string, PartNumber: number, Body: Uint8Array, more: object = {}) =>
    s3.send(new UploadPartCommand({ Bucket, Key, UploadId, PartNumber, Body, ...more }))

  const complete = (Key: string, UploadId: string, Parts: object[], more: object = {}) =>
    s3.send(
      new CompleteMultipartUploadCommand({ Bucket, Key, UploadId, MultipartUpload: { Parts }, ...more }),
    )

  const read = async (Key: string) => {
    const { Body } = await s3.send(new GetObjectCommand({ Bucket, Key }))
    return Buffer.from((await Body?.transformToByteArray()) ?? [])
  }

  test('parts become the object, in the order of their numbers', async () => {
    const Key = 'in order'
    const UploadId = await start(Key, { Metadata: { a: 'b' }, ContentType: 'text/x', Tagging: 'k=v' })
    const two = await put(Key, UploadId, 20, last)
    const one = await put(Key, UploadId, 7, first)
    await rejects(s3.send(new GetObjectCommand({ Bucket, Key })), 'NoSuchKey', 404)
    const done = await complete(Key, UploadId, [
      { PartNumber: 7, ETag: one.ETag },
      { PartNumber: 20, ETag: two.ETag },
    ])
    const md5s = [first, last].map((part) => createHash('md5').update(part).digest())
    const etag = `"${createHash('md5').update(Buffer.concat(md5s)).digest('hex')}-2"`
    assert.equal(done.ETag, etag)
    assert.ok((await read(Key)).equals(whole))
    const head = await s3.send(new HeadObjectCommand({ Bucket, Key, PartNumber: 20 }))
    assert.equal(head.ContentLength, last.length)
    assert.equal(head.PartsCount, 2)
    assert.equal(head.ContentType, 'text/x')
    assert.deepEqual(head.Metadata, { a: 'b' })
    const tags = await s3.send(new GetObjectTaggingCommand({ Bucket, Key }))
    assert.deepEqual(tags.TagSet, [{ Key: 'k', Value: 'v' }])
    // The answer may get lost: the same completion again is the same success.
    const again = await complete(Key, UploadId, [
      { PartNumber: 7, ETag: one.ETag },
      { PartNumber: 20, ETag: two.ETag },
    ])
    assert.equal(again.ETag, etag)
    await rejects(put(Key, UploadId, 1, last), 'NoSuchUpload', 404)
  })

  const kinds: [ChecksumAlgorithm, ChecksumType, string][] = [
    ['CRC32', 'FULL_OBJECT', 'ChecksumCRC32'],
    ['CRC32', 'COMPOSITE', 'ChecksumCRC32'],
    ['CRC32C', 'FULL_OBJECT', 'ChecksumCRC32C'],
    ['CRC32C', 'COMPOSITE', 'ChecksumCRC32C'],
    ['CRC64NVME', 'FULL_OBJECT', 'ChecksumCRC64NVME'],
    ['SHA1', 'COMPOSITE', 'ChecksumSHA1'],
    ['SHA256', 'COMPOSITE', 'ChecksumSHA256'],
  ]
  for (const [algorithm, type, field] of kinds) {
    test(`${algorithm} ${type} is computed from the parts, checked, kept and shown`, async () => {
      const Key = `${algorithm}-${type}`
      const digest = algorithm.toLowerCase() as 'crc32'
      const sum = async (bytes: Buffer) => {
        const body = region.chunks.digest([digest])
        const buffer = await region.chunks.acquire(1024 * 1024)
        for (let at = 0; at < bytes.length; at += buffer.bytes.length) {
          const piece = bytes.subarray(at, at + buffer.bytes.length)
          buffer.bytes.set(piece)
          await body.update(buffer, 0, piece.length)
        }
        const value = Buffer.from((await body.finish()).get(digest) ?? [])
        buffer.release()
        return value
      }
      const UploadId = await start(Key, { ChecksumAlgorithm: algorithm, ChecksumType: type })
      const sums = [await sum(first), await sum(last)]
      const base64 = sums.map((value) => value.toString('base64'))
      const composite = `${(await sum(Buffer.concat(sums))).toString('base64')}-2`
      const expected = type === 'COMPOSITE' ? composite : (await sum(whole)).toString('base64')
      const one = await put(Key, UploadId, 1, first, { [field]: base64[0] })
      // This part comes without a sum: the gateway computes it.
      const two = await put(Key, UploadId, 2, last)
      assert.equal((one as unknown as Record<string, unknown>)[field], base64[0])
      assert.equal((two as unknown as Record<string, unknown>)[field], base64[1])
      const parts = [
        { PartNumber: 1, ETag: one.ETag, [field]: base64[0] },
        { PartNumber: 2, ETag: two.ETag },
      ]
      const wrong = { ...parts[0], [field]: base64[1] }
      await rejects(complete(Key, UploadId, [wrong, ...parts.slice(1)]), 'InvalidPart', 400)
      await rejects(complete(Key, UploadId, parts, { [field]: base64[0] }), 'BadDigest', 400)
      const done = await complete(Key, UploadId, parts, { [field]: expected, ChecksumType: type })
      assert.equal((done as unknown as Record<string, unknown>)[field], expected)
      assert.equal(done.ChecksumType, type)
      const head = await s3.send(new HeadObjectCommand({ Bucket, Key, ChecksumMode: 'ENABLED' }))
      assert.equal((head as unknown as Record<string, unknown>)[field], expected)
      const attributes = await s3.send(
        new GetObjectAttributesCommand({
          Bucket,
          Key,
          ObjectAttributes: ['ETag', 'Checksum', 'ObjectParts', 'ObjectSize', 'StorageClass'],
        }),
      )
      assert.equal((attributes.Checksum as Record<string, unknown>)[field], expected)
      assert.equal(attributes.ObjectParts?.TotalPartsCount, 2)
      assert.deepEqual(
        attributes.ObjectParts?.Parts?.map((part) => [
          part.PartNumber,
          part.Size,
          (part as Record<string, unknown>)[field],
        ]),
        [
          [1, first.length, base64[0]],
          [2, last.length, base64[1]],
        ],
      )
    })
  }

  test('a part whose sum is wrong, or of another algorithm, is refused', async () => {
    const Key = 'bad sums'
    const UploadId = await start(Key, { ChecksumAlgorithm: 'SHA256' })
    const good = createHash('sha256').update(last).digest('base64')
    await rejects(put(Key, UploadId, 1, Buffer.from('other'), { ChecksumSHA256: good }), 'BadDigest', 400)
    await rejects(put(Key, UploadId, 1, last, { ChecksumCRC32: 'AAAAAA==' }), 'InvalidRequest', 400)
    const { Parts } = await s3.send(new ListPartsCommand({ Bucket, Key, UploadId }))
    assert.deepEqual(Parts ?? [], [])
  })

  test('numbers, order, sizes and tags of parts are checked', async () => {
    const Key = 'rules'
    const UploadId = await start(Key)
    await rejects(put(Key, UploadId, 0, last), 'InvalidArgument', 400)
    await rejects(put(Key, UploadId, 10_001, last), 'InvalidArgument', 400)
    const one = await put(Key, UploadId, 1, last)
    const two = await put(Key, UploadId, 2, last)
    const part = (PartNumber: number, ETag: string | undefined) => ({ PartNumber, ETag })
    await rejects(complete(Key, UploadId, []), 'MalformedXML', 400)
    await rejects(complete(Key, UploadId, [part(2, two.ETag), part(1, one.ETag)]), 'InvalidPartOrder', 400)
    await rejects(complete(Key, UploadId, [part(3, one.ETag)]), 'InvalidPart', 400)
    await rejects(
      complete(Key, UploadId, [part(1, '"00000000000000000000000000000000"')]),
      'InvalidPart',
      400,
    )
    // Not what any part has: an odd number of digits, no digits, more of them, none.
    for (const etag of ['abc', '"abc"', 'abcd', 'xyz', `${one.ETag?.slice(1, -1)}a`, '']) {
      await rejects(complete(Key, UploadId, [part(1, etag)]), 'InvalidPart', 400)
      await rejects(complete(Key, 'no-such-upload', [part(1, etag)]), 'NoSuchUpload', 404)
    }
    await rejects(complete(Key, UploadId, [part(1, one.ETag), part(2, two.ETag)]), 'EntityTooSmall', 400)
    await rejects(complete(Key, UploadId, [part(1, one.ETag)], { MpuObjectSize: 8 }), 'InvalidRequest', 400)
    await rejects(complete(Key, 'no-such-upload', [part(1, one.ETag)]), 'NoSuchUpload', 404)
    await complete(Key, UploadId, [part(1, one.ETag)], { MpuObjectSize: 7 })
    assert.ok((await read(Key)).equals(last))
    // A repetition is answered from what it made, but not one that names other parts.
    await complete(Key, UploadId, [part(1, one.ETag)])
    for (const etag of ['abc', `${one.ETag?.slice(1, -1)}a`]) {
      await rejects(complete(Key, UploadId, [part(1, etag)]), 'NoSuchUpload', 404)
    }
  })

  test('a part that is sent again replaces itself; parts left out are dropped', async () => {
    const Key = 'again'
    const UploadId = await start(Key)
    await put(Key, UploadId, 1, Buffer.from('old'))
    await put(Key, UploadId, 9, Buffer.from('left out'))
    const { ETag } = await put(Key, UploadId, 1, last)
    await complete(Key, UploadId, [{ PartNumber: 1, ETag }])
    assert.ok((await read(Key)).equals(last))
  })

  test('completion is conditional', async () => {
    const Key = 'conditional'
    await s3.send(new PutObjectCommand({ Bucket, Key, Body: 'there' }))
    const UploadId = await start(Key)
    const { ETag } = await put(Key, UploadId, 1, last)
    const parts = [{ PartNumber: 1, ETag }]
    await rejects(complete(Key, UploadId, parts, { IfNoneMatch: '*' }), 'PreconditionFailed', 412)
    await rejects(complete(Key, UploadId, parts, { IfMatch: '"other"' }), 'PreconditionFailed', 412)
    const md5 = createHash('md5').update('there').digest('hex')
    await complete(Key, UploadId, parts, { IfMatch: `"${md5}"` })
    assert.ok((await read(Key)).equals(last))
  })

  test('parts are copied from objects, whole or in ranges, also from inside the catalog', async () => {
    const Key = 'copied'
    await s3.send(new PutObjectCommand({ Bucket, Key: 'source', Body: whole }))
    await s3.send(new PutObjectCommand({ Bucket, Key: 'small source', Body: '0123456789' }))
    const UploadId = await start(Key, { ChecksumAlgorithm: 'CRC64NVME' })
    const copy = (PartNumber: number, CopySource: string, CopySourceRange?: string, more: object = {}) =>
      s3.send(
        new UploadPartCopyCommand({
          Bucket,
          Key,
          UploadId,
          PartNumber,
          CopySource,
          CopySourceRange,
          ...more,
        }),
      )
    const one = await copy(1, `${Bucket}/source`)
    const two = await copy(2, `${Bucket}/small%20source`, 'bytes=2-4')
    await rejects(copy(3, `${Bucket}/source`, 'bytes=0-99999999'), 'InvalidRange', 416)
    await rejects(copy(3, `${Bucket}/source`, 'bytes=5-'), 'InvalidArgument', 400)
    await rejects(copy(3, `${Bucket}/missing`), 'NoSuchKey', 404)
    await rejects(
      copy(3, `${Bucket}/source`, undefined, { CopySourceIfMatch: '"x"' }),
      'PreconditionFailed',
      412,
    )
    await complete(Key, UploadId, [
      { PartNumber: 1, ETag: one.CopyPartResult?.ETag },
      { PartNumber: 2, ETag: two.CopyPartResult?.ETag },
    ])
    assert.ok((await read(Key)).equals(Buffer.concat([whole, Buffer.from('234')])))
  })

  test('an upload that is aborted is gone, with its parts', async () => {
    const Key = 'aborted'
    const UploadId = await start(Key)
    const { ETag } = await put(Key, UploadId, 1, last)
    await s3.send(new AbortMultipartUploadCommand({ Bucket, Key, UploadId }))
    await rejects(put(Key, UploadId, 2, last), 'NoSuchUpload', 404)
    await rejects(complete(Key, UploadId, [{ PartNumber: 1, ETag }]), 'NoSuchUpload', 404)
    await rejects(s3.send(new ListPartsCommand({ Bucket, Key, UploadId })), 'NoSuchUpload', 404)
    await rejects(s3.send(new AbortMultipartUploadCommand({ Bucket, Key, UploadId })), 'NoSuchUpload', 404)
  })

  test('parts and uploads are listed page by page', async () => {
    const listed = 'listed'
    await s3.send(new CreateBucketCommand({ Bucket: listed }))
    const ids: string[] = []
    for (const Key of ['dir/a', 'dir/b', 'x', 'x']) {
      const { UploadId } = await s3.send(new CreateMultipartUploadCommand({ Bucket: listed, Key }))
      ids.push(UploadId ?? '')
    }
    const seen: string[] = []
    let KeyMarker: string | undefined
    let UploadIdMarker: string | undefined
    for (let page = 0; page < 10; page += 1) {
      const answer = await s3.send(
        new ListMultipartUploadsCommand({ Bucket: listed, MaxUploads: 1, KeyMarker, UploadIdMarker }),
      )
      for (const upload of answer.Uploads ?? []) {
        seen.push(upload.UploadId ?? '')
        assert.equal(upload.Owner?.ID, 'alice')
        assert.equal(upload.Initiator?.ID, 'alice')
      }
      if (answer.IsTruncated !== true) break
      KeyMarker = answer.NextKeyMarker
      UploadIdMarker = answer.NextUploadIdMarker
    }
    assert.deepEqual(seen, ids)
    const level = await s3.send(new ListMultipartUploadsCommand({ Bucket: listed, Delimiter: '/' }))
    assert.deepEqual(
      level.CommonPrefixes?.map((prefix) => prefix.Prefix),
      ['dir/'],
    )
    assert.equal(level.Uploads?.length, 2)

    const UploadId = ids[2] ?? ''
    for (const PartNumber of [1, 3, 5]) {
      await s3.send(new UploadPartCommand({ Bucket: listed, Key: 'x', UploadId, PartNumber, Body: last }))
    }
    const one = await s3.send(new ListPartsCommand({ Bucket: listed, Key: 'x', UploadId, MaxParts: 2 }))
    assert.deepEqual(
      one.Parts?.map((part) => part.PartNumber),
      [1, 3],
    )
    assert.equal(one.IsTruncated, true)
    const two = await s3.send(
      new ListPartsCommand({
        Bucket: listed,
        Key: 'x',
        UploadId,
        PartNumberMarker: one.NextPartNumberMarker,
      }),
    )
    assert.deepEqual(
      two.Parts?.map((part) => [part.PartNumber, part.Size]),
      [[5, last.length]],
    )
    assert.equal(two.IsTruncated, false)
  })

  test('whoever started an upload may list and abort it; others may not', async () => {
    const Key = 'of bob'
    const shared = 'shared'
    await s3.send(new CreateBucketCommand({ Bucket: shared }))
    await s3.send(new PutBucketAclCommand({ Bucket: shared, ACL: 'public-read-write' }))
    const bob = region.client('bob')
    const { UploadId } = await bob.send(new CreateMultipartUploadCommand({ Bucket: shared, Key }))
    const target = { Bucket: shared, Key, UploadId }
    await bob.send(new ListPartsCommand(target))
    const mine = await s3.send(new CreateMultipartUploadCommand({ Bucket: shared, Key }))
    await rejects(
      bob.send(new AbortMultipartUploadCommand({ ...target, UploadId: mine.UploadId })),
      'AccessDenied',
      403,
    )
    await bob.send(new AbortMultipartUploadCommand(target))
    await s3.send(new AbortMultipartUploadCommand({ ...target, UploadId: mine.UploadId }))
  })
})
