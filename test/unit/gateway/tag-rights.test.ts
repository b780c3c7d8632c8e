import assert from 'node:assert/strict'
import { request as httpRequest, type IncomingMessage } from 'node:http'
import { after, before, describe, test } from 'node:test'
import {
  CopyObjectCommand,
  CreateBucketCommand,
  GetBucketTaggingCommand,
  GetObjectTaggingCommand,
  PutBucketPolicyCommand,
  PutBucketVersioningCommand,
  PutObjectCommand,
  type S3Client,
} from '@aws-sdk/client-s3'
import { openS3Client, type S3Client as RawClient, signRequest } from '../../kit/s3-client.ts'
import { accounts, type S3Region, startS3Region } from '../../kit/s3-region.ts'

const document = (tags: Record<string, string>) =>
  `<Tagging><TagSet>${Object.entries(tags)
    .map(([key, value]) => `<Tag><Key>${key}</Key><Value>${value}</Value></Tag>`)
    .join('')}</TagSet></Tagging>`

describe('what a policy says of tags and lists holds wherever they are set', () => {
  let region: S3Region
  let alice: S3Client
  let raw: { readonly alice: RawClient; readonly bob: RawClient }
  let serial = 0

  before(async () => {
    region = await startS3Region()
    alice = region.client('alice')
    const open = (account: string) => {
      const { accessKeyId: accessKey = '', secretKey = '' } = accounts[account] ?? {}
      return openS3Client({ endpoint: region.endpoint, accessKey, secretKey })
    }
    raw = { alice: open('alice'), bob: open('bob') }
  })
  after(async () => {
    raw.alice.close()
    raw.bob.close()
    await region.close()
  })

  /** A bucket of Alice with `k`, and in it what the statements say. */
  async function bucket(...statements: object[]): Promise<string> {
    serial += 1
    const Bucket = `tags-${serial}`
    await alice.send(new CreateBucketCommand({ Bucket }))
    await alice.send(new PutObjectCommand({ Bucket, Key: 'k', Body: 'text', Tagging: 'level=first' }))
    const Statement = statements.map((statement) => ({
      ...{ Effect: 'Allow', Principal: '*', Resource: `arn:aws:s3:::${Bucket}/*` },
      ...(JSON.parse(JSON.stringify(statement).replaceAll('BUCKET', Bucket)) as object),
    }))
    const Policy = JSON.stringify({ Version: '2012-10-17', Statement })
    if (statements.length > 0) await alice.send(new PutBucketPolicyCommand({ Bucket, Policy }))
    return Bucket
  }

  const level = (value: string) => ({ StringEquals: { 's3:RequestObjectTag/level': value } })

  async function tagsOf(Bucket: string, Key = 'k'): Promise<Record<string, string>> {
    const { TagSet = [] } = await alice.send(new GetObjectTaggingCommand({ Bucket, Key }))
    return Object.fromEntries(TagSet.map(({ Key: name = '', Value = '' }) => [name, Value]))
  }

  const tag = async (
    who: 'alice' | 'bob',
    bucketName: string,
    tags: Record<string, string>,
    headers: Record<string, string> = {},
    key = 'k',
  ) =>
    (
      await raw[who].send({
        ...{ method: 'PUT', bucket: bucketName, key, query: { tagging: '' } },
        ...{ headers, body: document(tags) },
      })
    ).status

  test('PutObjectTagging is allowed by the tags of its document, whatever a header says', async () => {
    const name = await bucket({ Action: 's3:PutObjectTagging', Condition: level('low') })
    assert.equal(await tag('bob', name, { level: 'high' }, { 'x-amz-tagging': 'level=low' }), 403)
    assert.equal(await tag('bob', name, { level: 'high' }), 403)
    assert.equal(await tag('bob', name, { other: 'low' }), 403)
    assert.deepEqual(await tagsOf(name), { level: 'first' })
    assert.equal(await tag('bob', name, { level: 'low', more: 'x' }, { 'x-amz-tagging': 'level=high' }), 200)
    assert.deepEqual(await tagsOf(name), { level: 'low', more: 'x' })
  })

  test('and refused by them, the owner of the bucket as well', async () => {
    const keys = { 'ForAnyValue:StringEquals': { 's3:RequestObjectTagKeys': ['secret'] } }
    const name = await bucket(
      { Effect: 'Deny', Action: 's3:PutObjectTagging', Condition: level('top') },
      { Effect: 'Deny', Action: 's3:PutObjectTagging', Condition: keys },
    )
    assert.equal(await tag('alice', name, { level: 'top' }), 403)
    assert.equal(await tag('alice', name, { level: 'top' }, { 'x-amz-tagging': 'level=low' }), 403)
    assert.equal(await tag('alice', name, { a: 'b', secret: 'x' }), 403)
    assert.deepEqual(await tagsOf(name), { level: 'first' })
    assert.equal(await tag('alice', name, { level: 'low' }, { 'x-amz-tagging': 'level=top&secret=x' }), 200)
    assert.deepEqual(await tagsOf(name), { level: 'low' })
  })

  test('also where a policy asks that a tag is there, or puts it into a name', async () => {
    const without = { Null: { 's3:RequestObjectTag/level': 'true' } }
    const name = await bucket(
      // biome-ignore lint/suspicious/noTemplateCurlyInString: a variable of policies
      { Action: 's3:PutObjectTagging', Resource: 'arn:aws:s3:::BUCKET/${s3:RequestObjectTag/level}/*' },
      { Effect: 'Deny', Action: 's3:PutObjectTagging', Condition: without },
    )
    for (const Key of ['low/k', 'high/k']) {
      await alice.send(new PutObjectCommand({ Bucket: name, Key, Body: 'x' }))
    }
    assert.equal(await tag('bob', name, { level: 'low' }, {}, 'low/k'), 200)
    assert.equal(await tag('bob', name, { level: 'low' }, {}, 'high/k'), 403)
    assert.equal(await tag('alice', name, { other: 'x' }, { 'x-amz-tagging': 'level=low' }), 403)
    assert.equal(await tag('alice', name, { level: 'x' }), 200)
  })

  test('who can be allowed by no tags is refused before the body is wanted', async () => {
    const refuse = { Effect: 'Deny', Action: 's3:PutObjectTagging', Resource: 'arn:aws:s3:::BUCKET/shut/*' }
    const open = { Action: 's3:PutObjectTagging', Resource: 'arn:aws:s3:::BUCKET/open/*' }
    const name = await bucket({ ...open, Condition: level('low') }, refuse)
    const { accessKeyId: accessKey = '', secretKey = '' } = accounts['bob'] ?? {}
    /** Whether the body was wanted, or the status of the answer instead. */
    const wanted = (key: string) =>
      new Promise<true | number | undefined>((resolve, reject) => {
        const target = `/${name}/${key}?tagging=`
        const headers = { host: `127.0.0.1:${region.port}`, 'content-length': '10', expect: '100-continue' }
        const sent = httpRequest({
          ...{ host: '127.0.0.1', port: region.port, method: 'PUT', path: target },
          headers: signRequest({ method: 'PUT', target, headers, accessKey, secretKey }),
        })
        const settle = (value: true | number | undefined) => {
          resolve(value)
          sent.destroy()
        }
        sent.once('continue', () => settle(true))
        sent.once('response', (answer: IncomingMessage) => settle(answer.statusCode))
        sent.once('error', reject)
        sent.flushHeaders()
      })
    for (const Key of ['open/k', 'shut/k']) {
      await alice.send(new PutObjectCommand({ Bucket: name, Key, Body: 'x' }))
    }
    assert.equal(await wanted('open/k'), true)
    assert.equal(await wanted('k'), 403)
    assert.equal(await wanted('shut/k'), 403)
  })

  test('tags of the bucket itself are judged likewise', async () => {
    const Condition = { StringEquals: { 'aws:RequestTag/level': 'low' } }
    const name = await bucket({ Action: 's3:PutBucketTagging', Resource: 'arn:aws:s3:::BUCKET', Condition })
    const put = async (value: string, headers: Record<string, string> = {}) => {
      const request = { method: 'PUT', bucket: name, query: { tagging: '' }, headers }
      return (await raw.bob.send({ ...request, body: document({ level: value }) })).status
    }
    assert.equal(await put('high', { 'x-amz-tagging': 'level=low' }), 403)
    await assert.rejects(alice.send(new GetBucketTaggingCommand({ Bucket: name })), { name: 'NoSuchTagSet' })
    assert.equal(await put('low'), 204)
  })

  test('CopyObject is judged by the tags of its source, or by its own where they replace them', async () => {
    const name = await bucket({ Action: 's3:PutObject', Condition: level('low') }, { Action: 's3:GetObject' })
    for (const value of ['low', 'high']) {
      const object = { Bucket: name, Key: value, Body: 'x', Tagging: `level=${value}` }
      await alice.send(new PutObjectCommand(object))
    }
    const copy = async (source: string, target: string, headers: Record<string, string> = {}) =>
      (
        await raw.bob.send({
          ...{ method: 'PUT', bucket: name, key: target },
          headers: { ...headers, 'x-amz-copy-source': `${name}/${source}` },
        })
      ).status
    assert.equal(await copy('high', 'a', { 'x-amz-tagging': 'level=low' }), 403)
    assert.equal(await copy('high', 'a'), 403)
    await assert.rejects(tagsOf(name, 'a'), { name: 'NoSuchKey' })
    assert.equal(await copy('low', 'b', { 'x-amz-tagging': 'level=high' }), 200)
    assert.deepEqual(await tagsOf(name, 'b'), { level: 'low' })
    const replace = { 'x-amz-tagging-directive': 'REPLACE' }
    assert.equal(await copy('low', 'c', { ...replace, 'x-amz-tagging': 'level=high' }), 403)
    assert.equal(await copy('low', 'c', replace), 403)
    assert.equal(await copy('high', 'c', { ...replace, 'x-amz-tagging': 'level=low' }), 200)
    assert.deepEqual(await tagsOf(name, 'c'), { level: 'low' })
  })

  test('a Deny sees the tags that a copy brings', async () => {
    const name = await bucket({ Effect: 'Deny', Action: 's3:PutObject', Condition: level('first') })
    const CopySource = `${name}/k`
    const copy = (more: object) =>
      alice.send(new CopyObjectCommand({ Bucket: name, Key: 'copy', CopySource, ...more }))
    await assert.rejects(copy({}), { name: 'AccessDenied' })
    await copy({ TaggingDirective: 'REPLACE', Tagging: 'level=second' })
    assert.deepEqual(await tagsOf(name, 'copy'), { level: 'second' })
  })

  test('a part, and the completion, are judged by the tags of the upload', async () => {
    const name = await bucket({ Action: 's3:PutObject', Condition: level('low') })
    const start = async (who: 'alice' | 'bob', value: string) => {
      const headers = { 'x-amz-tagging': `level=${value}` }
      const answer = await raw[who].send({
        ...{ method: 'POST', bucket: name, key: value, query: { uploads: '' }, headers },
      })
      return /<UploadId>(.*)<\/UploadId>/.exec(answer.body.toString())?.[1] ?? ''
    }
    const finish = async (uploadId: string, key: string, headers: Record<string, string> = {}) => {
      const part = await raw.bob.send({
        ...{ method: 'PUT', bucket: name, key, query: { partNumber: '1', uploadId }, headers, body: 'x' },
      })
      if (part.status !== 200) return part.status
      const body = `<CompleteMultipartUpload><Part><PartNumber>1</PartNumber><ETag>${part.headers.etag}</ETag></Part></CompleteMultipartUpload>`
      return (await raw.bob.send({ method: 'POST', bucket: name, key, query: { uploadId }, headers, body }))
        .status
    }
    assert.equal(await finish(await start('alice', 'high'), 'high', { 'x-amz-tagging': 'level=low' }), 403)
    assert.equal(await finish(await start('bob', 'low'), 'low'), 200)
    assert.deepEqual(await tagsOf(name, 'low'), { level: 'low' })
    assert.equal(await start('bob', 'high'), '')
  })

  test('a completion that is asked for again is answered, also where conditions on tags decide', async () => {
    const Condition = { Null: { 's3:RequestObjectTag/level': 'true' } }
    const allowed = await bucket({ Action: 's3:PutObject', Condition: level('low') })
    const untagged = await bucket({ Effect: 'Deny', Action: 's3:PutObject', Condition })
    for (const [who, name] of [
      ['bob', allowed],
      ['alice', untagged],
    ] as const) {
      const to = { bucket: name, key: 'big' }
      const headers = { 'x-amz-tagging': 'level=low' }
      const started = await raw[who].send({ method: 'POST', ...to, query: { uploads: '' }, headers })
      const uploadId = /<UploadId>(.*)<\/UploadId>/.exec(started.body.toString())?.[1] ?? ''
      const query = { partNumber: '1', uploadId }
      const part = await raw[who].send({ method: 'PUT', ...to, query, body: 'x' })
      const body = `<CompleteMultipartUpload><Part><PartNumber>1</PartNumber><ETag>${part.headers.etag}</ETag></Part></CompleteMultipartUpload>`
      const complete = (client: RawClient) =>
        client.send({ method: 'POST', ...to, query: { uploadId }, body })
      const [one, two] = await Promise.all([complete(raw[who]), complete(raw[who])])
      assert.deepEqual([one.status, two.status], [200, 200], name)
      const again = await complete(raw[who])
      assert.equal(again.status, 200, name)
      assert.deepEqual(again.body, one.body)
      const late = await raw[who].send({ method: 'PUT', ...to, query, body: 'x' })
      assert.deepEqual([late.status, late.code], [404, 'NoSuchUpload'])
      assert.deepEqual(await tagsOf(name, 'big'), { level: 'low' })
      if (name === untagged) {
        assert.equal((await complete(raw.bob)).status, 403, 'who may put under no condition')
        assert.equal((await raw.bob.send({ method: 'PUT', ...to, query, body: 'x' })).status, 403)
      }
    }
    const unsigned = await fetch(`${region.endpoint}/${untagged}/big?uploadId=gone`, {
      method: 'POST',
      body: 'x',
    })
    assert.equal(unsigned.status, 403)
  })

  test('a form is judged by its field', async () => {
    const name = await bucket({ Action: 's3:PutObject', Condition: level('low') })
    const post = async (value: string, headers: Record<string, string> = {}) => {
      const form = new FormData()
      form.append('key', 'form')
      form.append('tagging', document({ level: value }))
      form.append('file', new Blob(['text']), 'f')
      return (await fetch(`${region.endpoint}/${name}`, { method: 'POST', body: form, headers })).status
    }
    assert.equal(await post('high'), 403)
    assert.equal(await post('high', { 'x-amz-tagging': 'level=low' }), 403)
    assert.equal(await post('low', { 'x-amz-tagging': 'level=high' }), 204)
    assert.deepEqual(await tagsOf(name, 'form'), { level: 'low' })
  })

  const refused = (...Action: string[]) => ({ Effect: 'Deny', Principal: { AWS: 'bob' }, Action })
  let targets = 0

  /** Every way in which Bob makes an object, with what the headers or fields say of it, to its status. */
  async function create(
    bucketName: string,
    headers: Record<string, string>,
    source: string,
  ): Promise<Record<string, number>> {
    targets += 1
    const key = `new-${targets}`
    const send = async (request: Parameters<RawClient['send']>[0]) => (await raw.bob.send(request)).status
    const to = { bucket: bucketName, key }
    const form = new FormData()
    form.append('key', key)
    for (const [name, value] of Object.entries(headers)) form.append(name, value)
    form.append('file', new Blob(['text']), 'f')
    const more = { 'x-amz-copy-source': source, 'x-amz-tagging-directive': 'REPLACE' }
    return {
      put: await send({ method: 'PUT', ...to, headers, body: 'x' }),
      upload: await send({ method: 'POST', ...to, headers, query: { uploads: '' } }),
      copy: await send({ method: 'PUT', ...to, headers: { ...headers, ...more } }),
      form: (await fetch(`${region.endpoint}/${bucketName}`, { method: 'POST', body: form })).status,
    }
  }

  const all = (status: number, form = status) => ({ put: status, upload: status, copy: status, form })

  test('who must not read tags copies none', async () => {
    const reads = ['s3:GetObject', 's3:GetObjectVersion', 's3:GetObjectTagging', 's3:GetObjectVersionTagging']
    const name = await bucket({ Action: reads }, refused('s3:GetObjectTagging'))
    const Status = 'Enabled'
    await alice.send(new PutBucketVersioningCommand({ Bucket: name, VersioningConfiguration: { Status } }))
    const tagged = { Bucket: name, Key: 'k', Body: 'x', Tagging: 'secret=1' }
    const { VersionId } = await alice.send(new PutObjectCommand(tagged))
    await alice.send(new PutObjectCommand({ Bucket: name, Key: 'plain', Body: 'x' }))
    const mine = `${name}-of-bob`
    const bob = region.client('bob')
    await bob.send(new CreateBucketCommand({ Bucket: mine }))
    const copy = (source: string, more: object = {}) =>
      bob.send(new CopyObjectCommand({ Bucket: mine, Key: 'copy', CopySource: `${name}/${source}`, ...more }))
    const none = { name: 'AccessDenied' }
    await assert.rejects(copy('k'), none)
    await copy('k', { TaggingDirective: 'REPLACE' })
    await copy('plain')
    // As reading them would be: a version that is named has an action of its own.
    await copy(`k?versionId=${VersionId}`)
    const Statement = [
      { Effect: 'Allow', Principal: '*', Action: reads, Resource: `arn:aws:s3:::${name}/*` },
      { ...refused('s3:GetObjectVersionTagging'), Resource: `arn:aws:s3:::${name}/*` },
    ]
    const Policy = JSON.stringify({ Version: '2012-10-17', Statement })
    await alice.send(new PutBucketPolicyCommand({ Bucket: name, Policy }))
    await assert.rejects(copy(`k?versionId=${VersionId}`), none)
    await copy('k')
  })

  test('who must not set tags makes no object that has some', async () => {
    const writes = { Action: ['s3:PutObject', 's3:GetObject'] }
    const everyone = { Effect: 'Deny', Action: 's3:PutObjectTagging' }
    const name = await bucket(writes, everyone)
    assert.deepEqual(await create(name, { 'x-amz-tagging': 'a=b' }, `${name}/k`), all(403))
    assert.deepEqual(await create(name, {}, `${name}/k`), all(200, 204))
    const copied = { bucket: name, key: 'copy', headers: { 'x-amz-copy-source': `${name}/k` } }
    assert.equal((await raw.bob.send({ method: 'PUT', ...copied })).status, 403)
    const some = await bucket(writes, { ...everyone, Condition: level('top') })
    assert.deepEqual(await create(some, { 'x-amz-tagging': 'level=top' }, `${name}/k`), all(403))
    assert.deepEqual(await create(some, { 'x-amz-tagging': 'level=low' }, `${name}/k`), all(200, 204))
  })

  test('who must not set lists makes no object that has one', async () => {
    const writes = { Action: ['s3:PutObject', 's3:GetObject'] }
    const name = await bucket(writes, { Effect: 'Deny', Action: 's3:PutObjectAcl' })
    for (const headers of [{ 'x-amz-acl': 'public-read' }, { 'x-amz-grant-read': 'id="alice"' }]) {
      assert.deepEqual(await create(name, headers, `${name}/k`), all(403))
    }
    assert.deepEqual(await create(name, {}, `${name}/k`), all(200, 204))
    const isPublic = { StringEquals: { 's3:x-amz-acl': 'public-read' } }
    const some = await bucket(writes, { Effect: 'Deny', Action: 's3:PutObjectAcl', Condition: isPublic })
    assert.deepEqual(await create(some, { 'x-amz-acl': 'public-read' }, `${name}/k`), all(403))
    assert.deepEqual(await create(some, { 'x-amz-acl': 'private' }, `${name}/k`), all(200, 204))
  })

  test('PutObject alone is enough for tags and lists that nobody refuses', async () => {
    const name = await bucket({ Action: ['s3:PutObject', 's3:GetObject'] })
    const headers = { 'x-amz-tagging': 'a=b', 'x-amz-acl': 'public-read' }
    assert.deepEqual(await create(name, headers, `${name}/k`), all(200, 204))
    assert.deepEqual(await tagsOf(name, `new-${targets}`), { a: 'b' })
  })
})
