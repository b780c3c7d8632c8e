import assert from 'node:assert/strict'
import { createHash, randomBytes } from 'node:crypto'
import { after, before, test } from 'node:test'
import { StorageError } from '../../../core/contract/errors.ts'
import type { GatewayFailover } from '../../../core/gateway/s3/operation.ts'
import { openS3Client, type S3Client, type S3Reply } from '../../kit/s3-client.ts'
import { accounts, type S3Region, startS3Region } from '../../kit/s3-region.ts'

const bucket = 'ledger'
let region: S3Region
let client: S3Client
let stranger: S3Client

before(async () => {
  region = await startS3Region()
  const open = (account: string): S3Client => {
    const { accessKeyId = '', secretKey = '' } = accounts[account] ?? {}
    return openS3Client({ endpoint: region.endpoint, accessKey: accessKeyId, secretKey })
  }
  client = open('alice')
  stranger = open('bob')
  assert.equal((await client.send({ method: 'PUT', bucket })).status, 200)
  const body = '<VersioningConfiguration><Status>Enabled</Status></VersioningConfiguration>'
  const query = { versioning: '' }
  assert.equal((await client.send({ method: 'PUT', bucket, query, body })).status, 200)
})
after(async () => {
  client.close()
  stranger.close()
  await region.close()
})

const keyed = (key: string, more: Record<string, string> = {}): Record<string, string> => ({
  ...more,
  'x-pando-idempotency-key': key,
})
const told = ({ status, headers, body }: S3Reply): unknown[] => [
  status,
  headers.etag,
  headers['x-amz-version-id'],
  headers['x-amz-delete-marker'],
  body.toString(),
]
const versions = async (prefix: string): Promise<number> => {
  const { body } = await client.send({ method: 'GET', bucket, query: { versions: '', prefix } })
  return body.toString().split('<VersionId>').length - 1
}

test('a PUT that is sent again is answered with the first answer, and its body is freed', async () => {
  for (const size of [10, 100_000]) {
    const key = `put-${size}`
    const body = randomBytes(size)
    const headers = keyed(key, {
      'x-amz-meta-a': '1',
      'if-none-match': '*',
      'x-amz-checksum-algorithm': 'CRC32',
    })
    const request = { method: 'PUT', bucket, key, body, headers }
    const first = await client.send(request)
    assert.equal(first.status, 200, first.body.toString())
    assert.ok(first.headers['x-amz-version-id'] !== undefined)
    const held = await region.chunks.stats()
    assert.deepEqual(told(await client.send(request)), told(first))
    assert.equal(
      (await region.chunks.stats()).chunkCount,
      held.chunkCount,
      'nothing is kept of the second body',
    )
    assert.equal(await versions(key), 1)
    // At the same time: one of them does it, all are told the same.
    const many = { ...request, headers: keyed(`${key}-many`), key: `${key}-many` }
    const replies = await Promise.all(Array.from({ length: 8 }, () => client.send(many)))
    for (const reply of replies) assert.deepEqual(told(reply), told(replies[0] as S3Reply))
    assert.equal(await versions(`${key}-many`), 1)
  }
})

test('a key is for one request: another body, key, header or method is refused, and nothing is written', async () => {
  const request = { method: 'PUT', bucket, key: 'one', body: 'body', headers: keyed('one') }
  assert.equal((await client.send(request)).status, 200)
  for (const other of [
    { ...request, body: 'other' },
    { ...request, key: 'one-other' },
    { ...request, headers: keyed('one', { 'x-amz-meta-a': '1' }) },
    { ...request, headers: keyed('one', { 'if-match': '"x"' }) },
    { method: 'DELETE', bucket, key: 'one', headers: keyed('one') },
  ]) {
    const { status, code } = await client.send(other)
    assert.deepEqual([status, code], [422, 'IdempotencyKeyReused'], JSON.stringify(other))
  }
  assert.equal(await versions('one'), 1)
  // Of the attempt, and not of the request.
  const again = await client.send({ ...request, headers: keyed('one', { 'x-amz-user-agent': 'another' }) })
  assert.equal(again.status, 200)
})

test('keys that are none are refused before the body is taken; strangers have none', async () => {
  const put = { method: 'PUT', bucket, key: 'bad', body: 'x' }
  for (const key of ['a b', 'a%CC', 'x'.repeat(256), '"x"', 'a,b']) {
    const { status, code } = await client.send({ ...put, headers: keyed(key) })
    assert.deepEqual([status, code], [400, 'InvalidArgument'], key)
  }
  assert.equal((await client.send({ ...put, headers: keyed('x'.repeat(255)) })).status, 200)
  const policy = {
    Version: '2012-10-17',
    Statement: [
      { Effect: 'Allow', Principal: '*', Action: 's3:PutObject', Resource: `arn:aws:s3:::${bucket}/open/*` },
    ],
  }
  const set = { method: 'PUT', bucket, query: { policy: '' }, body: JSON.stringify(policy) }
  assert.ok((await client.send(set)).status < 300)
  const open = { method: 'PUT', bucket, key: 'open/a', body: 'x', headers: keyed('shared') }
  assert.equal((await client.send({ ...open, anonymous: true })).code, 'InvalidRequest')
  // Another account may use the same words: they are its own.
  const [mine, theirs] = [await client.send(open), await stranger.send({ ...open, body: 'y' })]
  assert.deepEqual([mine.status, theirs.status], [200, 200])
  assert.equal(await versions('open/a'), 2)
})

test('deletes leave one marker, and do not take what was written since', async () => {
  await client.send({ method: 'PUT', bucket, key: 'gone', body: 'x' })
  const request = { method: 'DELETE', bucket, key: 'gone', headers: keyed('gone') }
  const first = await client.send(request)
  assert.equal(first.headers['x-amz-delete-marker'], 'true')
  await client.send({ method: 'PUT', bucket, key: 'gone', body: 'y' })
  assert.deepEqual(told(await client.send(request)), told(first))
  assert.equal((await client.send({ method: 'GET', bucket, key: 'gone' })).body.toString(), 'y')
  const body = '<Delete><Object><Key>gone</Key></Object><Object><Key>never</Key></Object></Delete>'
  const many = {
    ...{ method: 'POST', bucket, query: { delete: '' }, body },
    headers: keyed('many', { 'content-md5': md5Of(body) }),
  }
  const deleted = await client.send(many)
  assert.equal(deleted.status, 200, deleted.body.toString())
  const count = await versions('')
  assert.deepEqual(told(await client.send(many)), told(deleted))
  assert.equal(await versions(''), count)
})

test('a copy that was made is answered though its source is another by now, or gone', async () => {
  await client.send({ method: 'PUT', bucket, key: 'source', body: 'as it was' })
  const headers = keyed('copy', { 'x-amz-copy-source': `/${bucket}/source` })
  const request = { method: 'PUT', bucket, key: 'target', headers }
  const first = await client.send(request)
  assert.equal(first.status, 200, first.body.toString())
  await client.send({ method: 'PUT', bucket, key: 'source', body: 'as it is' })
  assert.deepEqual(told(await client.send(request)), told(first))
  await client.send({ method: 'DELETE', bucket, key: 'source' })
  assert.deepEqual(told(await client.send(request)), told(first))
  assert.equal(await versions('target'), 1)
})

test('a copy that was made is told again only when what was written may be acknowledged', async () => {
  await client.send({ method: 'PUT', bucket, key: 'source-of-a-group', body: 'as it was' })
  const headers = keyed('copy-in-a-group', { 'x-amz-copy-source': `/${bucket}/source-of-a-group` })
  const request = { method: 'PUT', bucket, key: 'copy-in-a-group', headers }
  const first = await client.send(request)
  assert.equal(first.status, 200, first.body.toString())
  const gateway = region.gateway as { failover?: GatewayFailover }
  gateway.failover = {
    ...{ primaryOf: () => undefined, groups: () => [] },
    async confirm() {
      throw new StorageError('UNAVAILABLE', 'no other region has it yet')
    },
  }
  try {
    assert.equal((await client.send(request)).status, 503)
  } finally {
    delete gateway.failover
  }
  assert.deepEqual(told(await client.send(request)), told(first))
})

test('an upload is completed once, whatever was written over it', async () => {
  const at = { bucket, key: 'parts' }
  const begun = await client.send({ method: 'POST', ...at, query: { uploads: '' } })
  const uploadId = /<UploadId>([^<]+)</.exec(begun.body.toString())?.[1] ?? ''
  const part = await client.send({ method: 'PUT', ...at, query: { uploadId, partNumber: '1' }, body: 'x' })
  const body = `<CompleteMultipartUpload><Part><PartNumber>1</PartNumber><ETag>${part.headers.etag}</ETag></Part></CompleteMultipartUpload>`
  const complete = { method: 'POST', ...at, query: { uploadId }, body, headers: keyed('parts') }
  const first = await client.send(complete)
  assert.equal(first.status, 200, first.body.toString())
  await client.send({ method: 'PUT', ...at, body: 'on top' })
  assert.deepEqual(told(await client.send(complete)), told(first))
  // Without a key nobody knows any more.
  assert.equal((await client.send({ ...complete, headers: {} })).status, 404)
})

const md5Of = (text: string): string => createHash('md5').update(text).digest('base64')
