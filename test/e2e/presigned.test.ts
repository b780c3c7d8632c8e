import assert from 'node:assert/strict'
import { createHash } from 'node:crypto'
import { after, before, suite, test } from 'node:test'
import {
  CompleteMultipartUploadCommand,
  CreateBucketCommand,
  CreateMultipartUploadCommand,
  DeleteObjectCommand,
  GetObjectCommand,
  PutObjectCommand,
  S3Client,
  UploadPartCommand,
} from '@aws-sdk/client-s3'
import { getSignedUrl } from '@aws-sdk/s3-request-presigner'
import { seededBytes } from '../kit/seeded-bytes.ts'
import { openTarget, type Target } from './target.ts'

const mebibyte = 1024 * 1024

/** What a browser does with a URL that a server signed for it: no key, no SDK. */
async function send(
  url: string,
  init: RequestInit = {},
): Promise<{ status: number; code: string; body: Buffer; headers: Headers }> {
  const response = await fetch(url, init)
  const body = Buffer.from(await response.arrayBuffer())
  const code = response.ok ? '' : (/<Code>([^<]*)</.exec(body.toString())?.[1] ?? '')
  return { status: response.status, code, body, headers: response.headers }
}

suite('URLs signed by the AWS SDK for JavaScript v3', { timeout: 300_000 }, () => {
  let target: Target
  let client: S3Client
  const Bucket = 'presigned'

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

  test('an object is put, read, read in part and deleted by URLs alone', async () => {
    const Key = 'a folder/name with spaces + signs & ümlauts.bin'
    const body = seededBytes('presigned', 0, 300_000)
    const put = await getSignedUrl(client, new PutObjectCommand({ Bucket, Key }), { expiresIn: 60 })
    assert.equal((await send(put, { method: 'PUT', body })).status, 200)
    const get = await getSignedUrl(client, new GetObjectCommand({ Bucket, Key }), { expiresIn: 60 })
    const whole = await send(get)
    assert.equal(whole.status, 200)
    assert.ok(whole.body.equals(body))
    const part = await send(get, { headers: { range: 'bytes=1000-1999' } })
    assert.equal(part.status, 206)
    assert.ok(part.body.equals(body.subarray(1000, 2000)))
    const remove = await getSignedUrl(client, new DeleteObjectCommand({ Bucket, Key }), { expiresIn: 60 })
    assert.equal((await send(remove, { method: 'DELETE' })).status, 204)
    assert.equal((await send(get)).code, 'NoSuchKey')
  })

  test('what the signer wants in the answer is in the answer', async () => {
    const Key = 'report.csv'
    await client.send(new PutObjectCommand({ Bucket, Key, Body: 'a,b\n' }))
    const ResponseContentDisposition = 'attachment; filename="summary of the year.csv"'
    const command = new GetObjectCommand({
      Bucket,
      Key,
      ResponseContentType: 'text/csv; charset=utf-8',
      ResponseContentDisposition,
    })
    const answer = await send(await getSignedUrl(client, command, { expiresIn: 60 }))
    assert.equal(answer.headers.get('content-type'), 'text/csv; charset=utf-8')
    assert.equal(answer.headers.get('content-disposition'), ResponseContentDisposition)
  })

  test('the parts of an upload come by URLs, its ends from the signer', async () => {
    const Key = 'parts.bin'
    const { UploadId } = await client.send(new CreateMultipartUploadCommand({ Bucket, Key }))
    const parts = [seededBytes('part 1', 0, 5 * mebibyte), seededBytes('part 2', 0, 70_000)]
    const Parts = []
    for (const [index, body] of parts.entries()) {
      const PartNumber = index + 1
      const command = new UploadPartCommand({ Bucket, Key, UploadId, PartNumber })
      const answer = await send(await getSignedUrl(client, command, { expiresIn: 60 }), {
        method: 'PUT',
        body,
      })
      assert.equal(answer.status, 200, answer.body.toString())
      Parts.push({ PartNumber, ETag: answer.headers.get('etag') ?? '' })
    }
    await client.send(
      new CompleteMultipartUploadCommand({ Bucket, Key, UploadId, MultipartUpload: { Parts } }),
    )
    const get = await getSignedUrl(client, new GetObjectCommand({ Bucket, Key }), { expiresIn: 60 })
    assert.ok((await send(get)).body.equals(Buffer.concat(parts)))
  })

  test('a URL is good for its key, its method, its headers and its time, and for nothing else', async () => {
    const Key = 'mine.txt'
    await client.send(new PutObjectCommand({ Bucket, Key, Body: 'mine' }))
    await client.send(new PutObjectCommand({ Bucket, Key: 'yours.txt', Body: 'yours' }))
    const get = await getSignedUrl(client, new GetObjectCommand({ Bucket, Key }), { expiresIn: 60 })
    assert.equal((await send(get.replace('mine.txt', 'yours.txt'))).code, 'SignatureDoesNotMatch')
    assert.equal((await send(get, { method: 'DELETE' })).code, 'SignatureDoesNotMatch')
    assert.equal((await send(`${get}&versionId=null`)).code, 'SignatureDoesNotMatch')
    assert.equal(
      (await send(get.replace('X-Amz-Expires=60', 'X-Amz-Expires=6000'))).code,
      'SignatureDoesNotMatch',
    )
    const typed = await getSignedUrl(
      client,
      new PutObjectCommand({ Bucket, Key, ContentType: 'text/plain' }),
      {
        expiresIn: 60,
        signableHeaders: new Set(['content-type', 'host']),
      },
    )
    const put = (type: string) =>
      send(typed, { method: 'PUT', body: 'text', headers: { 'content-type': type } })
    assert.equal((await put('text/html')).code, 'SignatureDoesNotMatch')
    assert.equal((await put('text/plain')).status, 200)
    const old = await getSignedUrl(client, new GetObjectCommand({ Bucket, Key }), {
      expiresIn: 60,
      signingDate: new Date(Date.now() - 120_000),
    })
    const expired = await send(old)
    assert.equal(expired.status, 403)
    assert.equal(expired.code, 'AccessDenied')
  })

  test('a URL that names a checksum takes the body of that checksum and no other', async () => {
    const body = 'exactly this'
    const ChecksumSHA256 = createHash('sha256').update(body).digest('base64')
    const command = new PutObjectCommand({ Bucket, Key: 'exact.txt', ChecksumSHA256 })
    const url = await getSignedUrl(client, command, { expiresIn: 60 })
    assert.match(url, /x-amz-checksum-sha256=/)
    assert.equal((await send(url, { method: 'PUT', body: 'another one' })).code, 'BadDigest')
    // Nor does a header of the bearer's own help: nobody signed it.
    const headers = { 'x-amz-checksum-sha256': createHash('sha256').update('another one').digest('base64') }
    assert.equal((await send(url, { method: 'PUT', body: 'another one', headers })).code, 'AccessDenied')
    assert.equal((await send(url, { method: 'PUT', body })).status, 200)
  })
})
