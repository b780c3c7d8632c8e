import assert from 'node:assert/strict'
import { after, before, test } from 'node:test'
import { gzipSync } from 'node:zlib'
import { PandoClient } from '../../../sdk/index.ts'
import { openS3Client } from '../../kit/s3-client.ts'
import { accounts, type S3Region, startS3Region } from '../../kit/s3-region.ts'
import { ok, refusal, scriptNetwork, watch } from './scripted-network.ts'

const bucket = 'public'
let region: S3Region
/** Without credentials. */
let client: PandoClient
let owner: PandoClient

before(async () => {
  region = await startS3Region()
  const { accessKeyId = '', secretKey = '' } = accounts['alice'] ?? {}
  const endpoints = [region.endpoint]
  client = new PandoClient({ endpoints })
  owner = new PandoClient({ endpoints, credentials: { accessKeyId, secretAccessKey: secretKey } })
  await owner.createBucket(bucket)
  const policy = {
    Version: '2012-10-17',
    Statement: [
      {
        Effect: 'Allow',
        Principal: '*',
        Action: 's3:*',
        Resource: [`arn:aws:s3:::${bucket}`, `arn:aws:s3:::${bucket}/*`],
      },
    ],
  }
  const plain = openS3Client({ endpoint: region.endpoint, accessKey: accessKeyId, secretKey })
  const body = JSON.stringify(policy)
  const { status, body: told } = await plain.send({ method: 'PUT', bucket, query: { policy: '' }, body })
  assert.ok(status < 300, told.toString())
  plain.close()
})
after(() => region.close())

test('a client without credentials puts, reads, copies and deletes where a bucket lets everybody', async () => {
  await client.put(bucket, 'note', 'remember the milk')
  assert.equal(await (await client.get(bucket, 'note')).text(), 'remember the milk')
  assert.equal((await client.head(bucket, 'note')).size, 17)
  await client.copy({ bucket, key: 'note' }, { bucket, key: 'copied' })
  assert.equal(await (await owner.get(bucket, 'copied')).text(), 'remember the milk')
  await client.delete(bucket, 'note')
  await assert.rejects(owner.head(bucket, 'note'), { code: 'NotFound' })
  assert.deepEqual(await client.deleteMany(bucket, ['copied', 'never']), { deleted: 2, errors: [] })
  await assert.rejects(owner.head(bucket, 'copied'), { code: 'NotFound' })
})

test('a client without credentials reads ranges', async () => {
  await owner.put(bucket, 'digits', '0123456789')
  const middle = await client.get(bucket, 'digits', { range: { start: 2, end: 4 } })
  assert.deepEqual([await middle.text(), middle.size, middle.range], ['234', 10, { start: 2, end: 4 }])
  assert.equal(await (await client.get(bucket, 'digits', { range: { last: 3 } })).text(), '789')
  const large = Uint8Array.from({ length: 300_000 }, (_, index) => index % 251)
  await owner.put(bucket, 'large', large)
  const read = await client.get(bucket, 'large', { parallel: 2, partSize: 65_536 })
  assert.deepEqual(Buffer.from(await read.bytes()), Buffer.from(large))
})

test('a range of an encoded object is refused without credentials, and is of its encoded bytes with them', async () => {
  const encoded = gzipSync('remember the milk')
  await owner.put(bucket, 'encoded', encoded, { contentEncoding: 'gzip' })
  const range = { start: 0, end: 9 }
  const bytes = await (await owner.get(bucket, 'encoded', { range })).bytes()
  assert.deepEqual(Buffer.from(bytes), encoded.subarray(0, 10))
  await assert.rejects(client.get(bucket, 'encoded', { range }), {
    code: 'InvalidArgument',
    message: /content encoding gzip/,
  })
  assert.equal(await (await client.get(bucket, 'encoded')).text(), 'remember the milk')
})

test('a client without credentials uploads in parts', async () => {
  const body = Uint8Array.from({ length: 11 * 1024 * 1024 }, (_, index) => index % 253)
  const put = await client.put(bucket, 'film', body, { partSize: 5 * 1024 * 1024 })
  assert.equal(put.size, body.length)
  const read = await (await owner.get(bucket, 'film')).bytes()
  assert.equal(Buffer.compare(read, body), 0)
})

test('without credentials writes are sent again as to servers that know no keys, and carry none', async () => {
  const network = scriptNetwork()
  network.serve('a', () => (network.requests.length % 2 === 0 ? ok() : refusal(500, 'InternalError')))
  const stranger = new PandoClient({ endpoints: ['http://a'], environment: network.environment })
  const seen = watch(stranger.put('bucket', 'key', 'x'))
  await network.clock.advance(10_000)
  assert.ok(seen.value !== undefined)
  const keys = network.requests.map(({ headers }) => headers.get('x-pando-idempotency-key'))
  assert.deepEqual(keys, [null, null])
})

test('a key of the application’s own needs credentials: nothing is sent without', async () => {
  const network = scriptNetwork()
  network.serve('a', () => ok())
  const stranger = new PandoClient({ endpoints: ['http://a'], environment: network.environment })
  const idempotencyKey = 'order-1'
  const refused = { code: 'InvalidArgument', message: /idempotencyKey/ }
  await assert.rejects(stranger.put('bucket', 'key', 'x', { idempotencyKey }), refused)
  await assert.rejects(stranger.delete('bucket', 'key', { idempotencyKey }), refused)
  assert.equal(network.requests.length, 0)
})

test('a write that waits for another region is written once without credentials, and its caller is told', async () => {
  const network = scriptNetwork()
  network.serve('a', () => refusal(503, 'ReplicationPending', '<OriginRegion>1</OriginRegion>'))
  const stranger = new PandoClient({ endpoints: ['http://a'], environment: network.environment })
  const seen = watch(stranger.put('bucket', 'key', 'x', { replication: 'sync' }))
  await network.clock.advance(10_000)
  assert.equal((seen.error as { code?: string } | undefined)?.code, 'ReplicationPending')
  assert.equal(network.requests.length, 1)
})
