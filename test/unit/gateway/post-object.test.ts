import assert from 'node:assert/strict'
import { createHmac } from 'node:crypto'
import { after, before, describe, test } from 'node:test'
import {
  CreateBucketCommand,
  GetObjectCommand,
  GetObjectTaggingCommand,
  HeadObjectCommand,
  PutBucketPolicyCommand,
  type S3Client,
} from '@aws-sdk/client-s3'
import { deriveSigningKey, hmacSha256 } from '../../../core/gateway/s3/authenticate/signing-key.ts'
import { formatSigningTime } from '../../../core/gateway/s3/authenticate/timestamp.ts'
import { accounts, type S3Region, startS3Region } from '../../kit/s3-region.ts'

type Fields = Record<string, string>

describe('browser uploads', () => {
  let region: S3Region
  let s3: S3Client
  const Bucket = 'forms'

  before(async () => {
    region = await startS3Region()
    s3 = region.client()
    await s3.send(new CreateBucketCommand({ Bucket }))
  })
  after(() => region.close())

  /** A form as a browser sends it: the file last. */
  function post(fields: Fields, file: string | Uint8Array = 'the file', fileName = 'f.txt', bucket = Bucket) {
    const form = new FormData()
    for (const [name, value] of Object.entries(fields)) form.append(name, value)
    form.append('file', new Blob([file as string]), fileName)
    return fetch(`${region.endpoint}/${bucket}`, { method: 'POST', body: form, redirect: 'manual' })
  }

  const code = async (answer: Response) => /<Code>(.*)<\/Code>/.exec(await answer.text())?.[1]

  const key = accounts['alice'] ?? { accessKeyId: '', secretKey: '' }

  /** Fields with a policy over them, signed. `conditions` are added to those that the fields themselves need. */
  function signed(
    fields: Fields,
    conditions: unknown[] = [],
    options: { expiresMs?: number; secret?: string } = {},
  ): Fields {
    const time = formatSigningTime(Date.now())
    const date = time.slice(0, 8)
    const all: Fields = {
      ...fields,
      'x-amz-algorithm': 'AWS4-HMAC-SHA256',
      'x-amz-credential': `${key.accessKeyId}/${date}/us-east-1/s3/aws4_request`,
      'x-amz-date': time,
    }
    const document = {
      expiration: new Date(Date.now() + (options.expiresMs ?? 60_000)).toISOString(),
      conditions: [
        { bucket: Bucket },
        ...Object.entries(all).map(([name, value]) => ['eq', `$${name}`, value]),
        ...conditions,
      ],
    }
    const policy = Buffer.from(JSON.stringify(document)).toString('base64')
    const signingKey = deriveSigningKey(options.secret ?? key.secretKey, date, 'us-east-1')
    return { ...all, policy, 'x-amz-signature': hmacSha256(signingKey, policy).toString('hex') }
  }

  test('a signed form stores the file with everything that its fields say', async () => {
    const tagging = '<Tagging><TagSet><Tag><Key>a</Key><Value>b</Value></Tag></TagSet></Tagging>'
    const fields = {
      key: 'photo.txt',
      'Content-Type': 'text/x-form',
      'x-amz-meta-said': 'grüße',
      'Cache-Control': 'no-store',
      tagging,
    }
    const answer = await post(signed(fields), 'bytes of the file')
    assert.equal(answer.status, 204)
    assert.ok(answer.headers.get('etag'))
    assert.equal(answer.headers.get('location'), `${region.endpoint}/${Bucket}/photo.txt`)
    const object = await s3.send(new GetObjectCommand({ Bucket, Key: 'photo.txt' }))
    assert.equal(await object.Body?.transformToString(), 'bytes of the file')
    assert.equal(object.ContentType, 'text/x-form')
    assert.equal(object.CacheControl, 'no-store')
    assert.equal(Buffer.from(object.Metadata?.['said'] ?? '', 'latin1').toString(), 'grüße')
    const tags = await s3.send(new GetObjectTaggingCommand({ Bucket, Key: 'photo.txt' }))
    assert.deepEqual(tags.TagSet, [{ Key: 'a', Value: 'b' }])
  })

  test('a large file comes through whole', async () => {
    const bytes = Buffer.alloc(9 * 1024 * 1024, '\r\n--not the boundary')
    assert.equal((await post(signed({ key: 'large' }), bytes)).status, 204)
    const object = await s3.send(new GetObjectCommand({ Bucket, Key: 'large' }))
    assert.ok(Buffer.from((await object.Body?.transformToByteArray()) ?? []).equals(bytes))
  })

  test('the older signature is accepted, too', async () => {
    const document = {
      expiration: '2099-01-01T00:00:00Z',
      conditions: [{ bucket: Bucket }, ['starts-with', '$key', 'v2/']],
    }
    const policy = Buffer.from(JSON.stringify(document)).toString('base64')
    const signature = createHmac('sha1', key.secretKey).update(policy).digest('base64')
    const fields = { key: 'v2/x', AWSAccessKeyId: key.accessKeyId, policy, signature }
    assert.equal((await post(fields)).status, 204)
    const forged = createHmac('sha1', 'guess').update(policy).digest('base64')
    const answer = await post({ ...fields, signature: forged })
    assert.equal(answer.status, 403)
    assert.equal(await code(answer), 'SignatureDoesNotMatch')
  })

  test('nothing of a refused form is stored', async () => {
    const refused: [string, Fields, number, string][] = [
      ['wrong secret', signed({ key: 'no' }, [], { secret: 'guess' }), 403, 'SignatureDoesNotMatch'],
      ['expired', signed({ key: 'no' }, [], { expiresMs: -1000 }), 403, 'AccessDenied'],
      ['another key than signed', { ...signed({ key: 'yes' }), key: 'no' }, 403, 'AccessDenied'],
      ['a field that was not signed', { ...signed({ key: 'no' }), 'x-amz-meta-a': 'b' }, 403, 'AccessDenied'],
      [
        'a condition on a missing field',
        signed({ key: 'no' }, [['eq', '$acl', 'private']]),
        403,
        'AccessDenied',
      ],
      ['too large', signed({ key: 'no' }, [['content-length-range', 0, 3]]), 400, 'EntityTooLarge'],
      ['too small', signed({ key: 'no' }, [['content-length-range', 100, 200]]), 400, 'EntityTooSmall'],
      ['wrong checksum', { ...signed({ key: 'no' }), 'x-amz-checksum-crc32': 'AAAAAA==' }, 400, 'BadDigest'],
      ['encryption', signed({ key: 'no', 'x-amz-server-side-encryption': 'AES256' }), 501, 'NotImplemented'],
      ['no policy', { key: 'no' }, 403, 'AccessDenied'],
      ['a signature without a policy', { key: 'no', 'x-amz-signature': '00' }, 400, 'InvalidArgument'],
      ['no key', signed({}), 400, 'InvalidArgument'],
      ['a key that is too long', signed({ key: 'n'.repeat(1025) }), 400, 'KeyTooLongError'],
      ['not base64 JSON', { ...signed({ key: 'no' }), policy: 'xx' }, 403, 'SignatureDoesNotMatch'],
      [
        'unknown access key',
        { key: 'no', AWSAccessKeyId: 'NOBODY', policy: 'e30=', signature: 'x' },
        403,
        'InvalidAccessKeyId',
      ],
    ]
    for (const [why, fields, status, expected] of refused) {
      const answer = await post(fields)
      assert.equal(answer.status, status, why)
      assert.equal(await code(answer), expected, why)
      await assert.rejects(s3.send(new HeadObjectCommand({ Bucket, Key: 'no' })), why)
    }
    const elsewhere = 'elsewhere'
    await s3.send(new CreateBucketCommand({ Bucket: elsewhere }))
    assert.equal((await post(signed({ key: 'no' }), 'x', 'f', elsewhere)).status, 403)
  })

  test('strangers may upload where the bucket lets them, and only as its policy says', async () => {
    const open = 'open-forms'
    await s3.send(new CreateBucketCommand({ Bucket: open }))
    assert.equal((await post({ key: 'a' }, 'x', 'f', open)).status, 403)
    const Policy = JSON.stringify({
      Version: '2012-10-17',
      Statement: [
        { Effect: 'Allow', Principal: '*', Action: 's3:PutObject', Resource: `arn:aws:s3:::${open}/in/*` },
        {
          Effect: 'Deny',
          Principal: '*',
          Action: 's3:PutObject',
          Resource: `arn:aws:s3:::${open}/*`,
          Condition: { StringLike: { 's3:x-amz-acl': 'public*' } },
        },
      ],
    })
    await s3.send(new PutBucketPolicyCommand({ Bucket: open, Policy }))
    assert.equal((await post({ key: 'in/a' }, 'x', 'f', open)).status, 204)
    assert.equal((await post({ key: 'out/a' }, 'x', 'f', open)).status, 403)
    // The form's acl is what a header would be: conditions see it.
    assert.equal((await post({ key: 'in/b', acl: 'public-read' }, 'x', 'f', open)).status, 403)
    assert.equal((await s3.send(new HeadObjectCommand({ Bucket: open, Key: 'in/a' }))).ContentLength, 1)
  })

  test('the file name takes the place of its placeholder, without its path', async () => {
    // biome-ignore lint/suspicious/noTemplateCurlyInString: S3's own placeholder
    const key = 'up/${filename}'
    const fields = signed({}, [['starts-with', '$key', 'up/']])
    assert.equal((await post({ ...fields, key }, 'x', 'a b.txt')).status, 204)
    await s3.send(new HeadObjectCommand({ Bucket, Key: 'up/a b.txt' }))
    assert.equal((await post({ ...fields, key }, 'x', '../../etc/passwd')).status, 204)
    await s3.send(new HeadObjectCommand({ Bucket, Key: 'up/passwd' }))
  })

  test('the answer is what the form asks for', async () => {
    const ask = (more: Fields) => post(signed({ key: 'k&k', ...more }))
    assert.equal((await ask({ success_action_status: '200' })).status, 200)
    assert.equal((await ask({ success_action_status: '404' })).status, 204)
    const created = await ask({ success_action_status: '201' })
    assert.equal(created.status, 201)
    assert.match(
      await created.text(),
      /<PostResponse><Location>.*<\/Location><Bucket>forms<\/Bucket><Key>k&amp;k<\/Key>/,
    )
    const redirected = await ask({ success_action_redirect: 'http://a.example/done?x=1#top' })
    assert.equal(redirected.status, 303)
    assert.match(
      redirected.headers.get('location') ?? '',
      /^http:\/\/a\.example\/done\?x=1&bucket=forms&key=k%26k&etag=%22[0-9a-f]{32}%22$/,
    )
    assert.equal((await ask({ success_action_redirect: 'javascript:alert(1)' })).status, 204)
  })

  test('a body that is no form is refused', async () => {
    const answer = await fetch(`${region.endpoint}/${Bucket}`, { method: 'POST', body: 'x' })
    assert.equal(answer.status, 412)
    const broken = await fetch(`${region.endpoint}/${Bucket}`, {
      method: 'POST',
      body: '--b\r\nContent-Disposition: form-data; name="file"\r\n\r\nhalf a file',
      headers: { 'content-type': 'multipart/form-data; boundary=b' },
    })
    assert.equal(await code(broken), 'InvalidArgument')
    assert.equal(
      (await fetch(`${region.endpoint}/no-such-bucket`, { method: 'POST', body: 'x' })).status,
      404,
    )
  })
})
