import assert from 'node:assert/strict'
import { after, before, describe, test } from 'node:test'
import {
  CreateBucketCommand,
  DeleteBucketCorsCommand,
  GetBucketCorsCommand,
  GetBucketTaggingCommand,
  PutBucketCorsCommand,
  PutBucketTaggingCommand,
  type S3Client,
} from '@aws-sdk/client-s3'
import { type S3Region, startS3Region } from '../../kit/s3-region.ts'

describe('cross-origin requests', () => {
  let region: S3Region
  let s3: S3Client
  const Bucket = 'cors'

  before(async () => {
    region = await startS3Region()
    s3 = region.client()
    await s3.send(new CreateBucketCommand({ Bucket }))
  })
  after(() => region.close())

  const ask = async (method: string, headers: Record<string, string>, path = `/${Bucket}/key`) => {
    // `fetch` forbids Origin; node's own client does not.
    const { request } = await import('node:http')
    return new Promise<{ status: number; headers: Record<string, unknown> }>((resolve, reject) => {
      const client = request(`${region.endpoint}${path}`, { method, headers }, (answer) => {
        answer.resume()
        answer.on('end', () => resolve({ status: answer.statusCode ?? 0, headers: answer.headers }))
      })
      client.on('error', reject)
      client.end()
    })
  }
  const preflight = (origin: string, method: string, headers?: string) =>
    ask('OPTIONS', {
      origin,
      'access-control-request-method': method,
      ...(headers === undefined ? {} : { 'access-control-request-headers': headers }),
    })

  test('rules are kept as they were given, and gone when deleted', async () => {
    await assert.rejects(s3.send(new GetBucketCorsCommand({ Bucket })), { name: 'NoSuchCORSConfiguration' })
    assert.equal((await preflight('https://a.example', 'GET')).status, 403)
    const CORSRules = [
      {
        ID: 'one',
        AllowedMethods: ['GET', 'PUT'],
        AllowedOrigins: ['https://*.example'],
        AllowedHeaders: ['x-amz-*'],
        ExposeHeaders: ['ETag'],
        MaxAgeSeconds: 60,
      },
      { AllowedMethods: ['GET'], AllowedOrigins: ['*'] },
    ]
    await s3.send(new PutBucketCorsCommand({ Bucket, CORSConfiguration: { CORSRules } }))
    assert.deepEqual((await s3.send(new GetBucketCorsCommand({ Bucket }))).CORSRules, CORSRules)
  })

  test('a preflight says what the first fitting rule allows', async () => {
    const good = await preflight('https://a.example', 'PUT', 'X-Amz-Date, x-amz-acl')
    assert.equal(good.status, 200)
    assert.equal(good.headers['access-control-allow-origin'], 'https://a.example')
    assert.equal(good.headers['access-control-allow-methods'], 'GET, PUT')
    assert.equal(good.headers['access-control-allow-headers'], 'X-Amz-Date, x-amz-acl')
    assert.equal(good.headers['access-control-max-age'], '60')
    assert.equal((await preflight('https://a.example', 'PUT', 'x-other')).status, 403)
    assert.equal((await preflight('https://elsewhere', 'PUT')).status, 403)
    assert.equal((await preflight('https://elsewhere', 'GET')).headers['access-control-allow-origin'], '*')
    assert.equal((await ask('OPTIONS', {})).status, 400)
    assert.equal((await preflight('https://a.example', 'PATCH')).status, 400)
    const many = Array.from({ length: 65 }, (_, index) => `x-amz-${index}`).join(',')
    assert.equal((await preflight('https://a.example', 'PUT', many)).status, 403)
  })

  test('answers, also refusals, carry the headers', async () => {
    const answer = await ask('GET', { origin: 'https://a.example' })
    assert.equal(answer.status, 403)
    assert.equal(answer.headers['access-control-allow-origin'], 'https://a.example')
    assert.equal(answer.headers['access-control-expose-headers'], 'ETag')
    assert.equal((await ask('GET', {})).headers['access-control-allow-origin'], undefined)
    assert.equal(
      (await ask('DELETE', { origin: 'https://a.example' })).headers['access-control-allow-origin'],
      undefined,
    )
    // Also when nothing of the bucket was looked at, since the signature was refused.
    const expired =
      'X-Amz-Algorithm=AWS4-HMAC-SHA256&X-Amz-Credential=ALICEKEYEXAMPLE00000%2F20200101%2Fus-east-1%2Fs3%2Faws4_request' +
      `&X-Amz-Date=20200101T000000Z&X-Amz-Expires=60&X-Amz-SignedHeaders=host&X-Amz-Signature=${'0'.repeat(64)}`
    const refused = async (path: string, headers: Record<string, string>) => {
      const { status, headers: fields } = await ask('GET', headers, path)
      return [status, fields['access-control-allow-origin']]
    }
    const origin = { origin: 'https://a.example' }
    assert.deepEqual(await refused(`/${Bucket}/key?${expired}`, origin), [403, 'https://a.example'])
    const malformed = { ...origin, authorization: 'AWS nobody' }
    assert.deepEqual(await refused(`/${Bucket}/key`, malformed), [400, 'https://a.example'])
    assert.deepEqual(await refused(`/${Bucket}/key?${expired}`, {}), [403, undefined])
    for (const name of ['no-such-bucket', 'NO', 'a'.repeat(5000), '%00', '']) {
      assert.deepEqual(await refused(`/${name}/key?${expired}`, origin), [403, undefined], name)
    }
    await s3.send(new DeleteBucketCorsCommand({ Bucket }))
    assert.deepEqual(await refused(`/${Bucket}/key?${expired}`, origin), [403, undefined])
    assert.equal(
      (await ask('GET', { origin: 'https://a.example' })).headers['access-control-allow-origin'],
      undefined,
    )
  })

  test('rules that cannot be are refused', async () => {
    const put = (rule: object) =>
      s3.send(
        new PutBucketCorsCommand({
          Bucket,
          CORSConfiguration: {
            CORSRules: [{ AllowedMethods: ['GET'], AllowedOrigins: ['*'], ...rule }],
          },
        }),
      )
    await assert.rejects(put({ AllowedMethods: ['PATCH'] }), { name: 'InvalidRequest' })
    await assert.rejects(put({ AllowedOrigins: ['a*b*c'] }), { name: 'InvalidRequest' })
    await assert.rejects(put({ AllowedHeaders: ['*-*'] }), { name: 'InvalidRequest' })
    await assert.rejects(put({ ExposeHeaders: ['x-*'] }), { name: 'InvalidRequest' })
    await assert.rejects(put({ AllowedOrigins: ['a\r\nb'] }), { name: 'MalformedXML' })
    await assert.rejects(put({ AllowedMethods: [] }), { name: 'MalformedXML' })
    const CORSRules = Array.from({ length: 101 }, () => ({ AllowedMethods: ['GET'], AllowedOrigins: ['*'] }))
    await assert.rejects(s3.send(new PutBucketCorsCommand({ Bucket, CORSConfiguration: { CORSRules } })), {
      name: 'MalformedXML',
    })
  })

  test('tags of a bucket come back in their order', async () => {
    const TagSet = [
      { Key: 'z', Value: '1' },
      { Key: 'a', Value: '' },
    ]
    await s3.send(new PutBucketTaggingCommand({ Bucket, Tagging: { TagSet } }))
    assert.deepEqual((await s3.send(new GetBucketTaggingCommand({ Bucket }))).TagSet, TagSet)
  })
})
