import assert from 'node:assert/strict'
import { after, before, describe, test } from 'node:test'
import {
  CopyObjectCommand,
  CreateBucketCommand,
  DeleteBucketPolicyCommand,
  DeleteObjectCommand,
  DeleteObjectsCommand,
  DeletePublicAccessBlockCommand,
  GetBucketAclCommand,
  GetBucketPolicyCommand,
  GetBucketPolicyStatusCommand,
  GetBucketTaggingCommand,
  GetObjectAclCommand,
  GetObjectCommand,
  HeadBucketCommand,
  HeadObjectCommand,
  ListObjectsV2Command,
  PutBucketAclCommand,
  PutBucketOwnershipControlsCommand,
  PutBucketPolicyCommand,
  PutBucketVersioningCommand,
  PutObjectAclCommand,
  PutObjectCommand,
  PutObjectTaggingCommand,
  PutPublicAccessBlockCommand,
  type S3Client,
} from '@aws-sdk/client-s3'
import { type S3Region, startS3Region } from '../../kit/s3-region.ts'

const denied = (promise: Promise<unknown>) => rejects(promise, 'AccessDenied', 403)

const rejects = (promise: Promise<unknown>, name: string, status?: number) =>
  assert.rejects(promise, (error: { name: string; $metadata?: { httpStatusCode?: number } }) => {
    assert.equal(error.name, name)
    if (status !== undefined) assert.equal(error.$metadata?.httpStatusCode, status)
    return true
  })

describe('who may do what, over the whole edge', () => {
  let region: S3Region
  let alice: S3Client
  let bob: S3Client
  let root: S3Client
  let serial = 0

  before(async () => {
    region = await startS3Region()
    alice = region.client('alice')
    bob = region.client('bob')
    root = region.client('root')
  })
  after(() => region.close())

  /** A bucket of Alice with one object `k`. */
  async function bucket(): Promise<string> {
    serial += 1
    const Bucket = `rules-${serial}`
    await alice.send(new CreateBucketCommand({ Bucket }))
    await alice.send(new PutObjectCommand({ Bucket, Key: 'k', Body: 'text' }))
    return Bucket
  }

  const putPolicy = (Bucket: string, ...Statement: object[]) =>
    alice.send(
      new PutBucketPolicyCommand({ Bucket, Policy: JSON.stringify({ Version: '2012-10-17', Statement }) }),
    )
  const allow = (Bucket: string, Action: string | string[], path = '/*', more: object = {}) => ({
    Effect: 'Allow',
    Principal: '*',
    Action,
    Resource: `arn:aws:s3:::${Bucket}${path}`,
    ...more,
  })

  const anonymous = (method: string, path: string, headers: Record<string, string> = {}, body?: string) =>
    fetch(`${region.endpoint}/${path}`, { method, headers, ...(body === undefined ? {} : { body }) })

  test('a bucket is closed to everyone but its owner and root', async () => {
    const Bucket = await bucket()
    await denied(bob.send(new GetObjectCommand({ Bucket, Key: 'k' })))
    await denied(bob.send(new PutObjectCommand({ Bucket, Key: 'k', Body: 'x' })))
    await denied(bob.send(new DeleteObjectCommand({ Bucket, Key: 'k' })))
    await denied(bob.send(new ListObjectsV2Command({ Bucket })))
    await denied(bob.send(new GetBucketPolicyCommand({ Bucket })))
    await denied(bob.send(new PutBucketAclCommand({ Bucket, ACL: 'public-read' })))
    for (const method of ['GET', 'PUT', 'DELETE']) {
      assert.equal((await anonymous(method, `${Bucket}/k`)).status, 403, method)
      assert.equal((await anonymous(method, Bucket)).status, 403, method)
    }
    assert.equal((await anonymous('GET', '')).status, 403)
    assert.equal((await root.send(new GetObjectCommand({ Bucket, Key: 'k' }))).ContentLength, 4)
  })

  test('whether a key exists is told only to those who may list', async () => {
    const Bucket = await bucket()
    await denied(bob.send(new GetObjectCommand({ Bucket, Key: 'missing' })))
    await putPolicy(Bucket, allow(Bucket, 's3:GetObject'))
    await denied(bob.send(new GetObjectCommand({ Bucket, Key: 'missing' })))
    assert.equal((await anonymous('GET', `${Bucket}/missing`)).status, 403)
    const onlyPublic = { Condition: { StringLike: { 's3:prefix': 'public/*' } } }
    await putPolicy(Bucket, allow(Bucket, 's3:ListBucket', '', onlyPublic))
    await rejects(bob.send(new HeadObjectCommand({ Bucket, Key: 'public/x' })), 'NotFound', 404)
    await assert.rejects(
      bob.send(new HeadObjectCommand({ Bucket, Key: 'private/x' })),
      (error: { $metadata: { httpStatusCode: number } }) => error.$metadata.httpStatusCode === 403,
    )
    await rejects(bob.send(new GetObjectCommand({ Bucket, Key: 'public/x' })), 'NoSuchKey', 404)
    await denied(bob.send(new GetObjectCommand({ Bucket, Key: 'k' })))
  })

  test('a policy opens exactly what it says, for exactly whom', async () => {
    const Bucket = await bucket()
    await putPolicy(
      Bucket,
      allow(Bucket, 's3:GetObject', '/k', { Principal: { AWS: 'arn:aws:iam::bob:root' } }),
    )
    assert.equal((await bob.send(new GetObjectCommand({ Bucket, Key: 'k' }))).ContentLength, 4)
    assert.equal((await anonymous('GET', `${Bucket}/k`)).status, 403)
    await denied(bob.send(new ListObjectsV2Command({ Bucket })))
    await denied(bob.send(new GetObjectAclCommand({ Bucket, Key: 'k' })))
    await denied(bob.send(new GetObjectCommand({ Bucket, Key: 'k', VersionId: 'null' })))
    await putPolicy(Bucket, allow(Bucket, ['s3:GetObject', 's3:GetObjectVersion'], '/k'))
    assert.equal((await anonymous('GET', `${Bucket}/k`)).status, 200)
    assert.equal(
      (await bob.send(new GetObjectCommand({ Bucket, Key: 'k', VersionId: 'null' }))).ContentLength,
      4,
    )
  })

  test('a Deny holds for the owner and for root, but never takes the policy out of their hands', async () => {
    const Bucket = await bucket()
    await putPolicy(Bucket, allow(Bucket, '*', '*', { Effect: 'Deny' }))
    await denied(alice.send(new GetObjectCommand({ Bucket, Key: 'k' })))
    await denied(root.send(new GetObjectCommand({ Bucket, Key: 'k' })))
    await denied(bob.send(new DeleteBucketPolicyCommand({ Bucket })))
    assert.ok((await alice.send(new GetBucketPolicyCommand({ Bucket }))).Policy)
    await alice.send(new DeleteBucketPolicyCommand({ Bucket }))
    await alice.send(new GetObjectCommand({ Bucket, Key: 'k' }))
    await rejects(alice.send(new GetBucketPolicyCommand({ Bucket })), 'NoSuchBucketPolicy', 404)
  })

  test('conditions see the address, the transport, the headers and the tags', async () => {
    const Bucket = await bucket()
    const get = async (Condition: object) => {
      await putPolicy(Bucket, allow(Bucket, 's3:GetObject', '/*', { Condition }))
      return (await anonymous('GET', `${Bucket}/k`, { referer: 'http://a.example/page' })).status
    }
    assert.equal(await get({ IpAddress: { 'aws:SourceIp': '127.0.0.0/8' } }), 200)
    assert.equal(await get({ NotIpAddress: { 'aws:SourceIp': '127.0.0.0/8' } }), 403)
    assert.equal(await get({ Bool: { 'aws:SecureTransport': 'true' } }), 403)
    assert.equal(await get({ StringLike: { 'aws:Referer': 'http://a.example/*' } }), 200)
    assert.equal(await get({ StringLike: { 'aws:Referer': 'http://b.example/*' } }), 403)
    assert.equal(await get({ DateLessThan: { 'aws:CurrentTime': '2001-01-01T00:00:00Z' } }), 403)
    assert.equal(await get({ StringEquals: { 's3:ExistingObjectTag/open': 'yes' } }), 403)
    await alice.send(
      new PutObjectTaggingCommand({ Bucket, Key: 'k', Tagging: { TagSet: [{ Key: 'open', Value: 'yes' }] } }),
    )
    assert.equal(await get({ StringEquals: { 's3:ExistingObjectTag/open': 'yes' } }), 200)

    const put = async (Condition: object, extra: object) => {
      await putPolicy(Bucket, allow(Bucket, 's3:PutObject', '/*', { Condition }))
      return bob.send(new PutObjectCommand({ Bucket, Key: 'new', Body: 'x', ...extra }))
    }
    const tagged = { StringEquals: { 's3:RequestObjectTag/team': 'a' } }
    await put(tagged, { Tagging: 'team=a&x=y' })
    await denied(put(tagged, { Tagging: 'team=b' }))
    await denied(put(tagged, {}))
    const notPublic = { StringNotLike: { 's3:x-amz-acl': 'public*' } }
    await put(notPublic, {})
    await denied(put(notPublic, { ACL: 'public-read' }))
  })

  test('copying needs the right to read the source and to write the target', async () => {
    const source = await bucket()
    const target = await bucket()
    const copy = () =>
      bob.send(new CopyObjectCommand({ Bucket: target, Key: 'copy', CopySource: `${source}/k` }))
    await denied(copy())
    await putPolicy(target, allow(target, 's3:PutObject'))
    await denied(copy())
    await putPolicy(source, allow(source, 's3:GetObject', '/other'))
    await denied(copy())
    await putPolicy(source, allow(source, 's3:GetObject'))
    assert.ok((await copy()).CopyObjectResult?.ETag)
    await putPolicy(target, allow(target, 's3:GetObject'))
    await denied(copy())
  })

  test('deleting many keys is judged key by key', async () => {
    const Bucket = await bucket()
    await alice.send(new PutObjectCommand({ Bucket, Key: 'free/a', Body: 'x' }))
    await putPolicy(Bucket, allow(Bucket, 's3:DeleteObject', '/free/*'))
    const answer = await bob.send(
      new DeleteObjectsCommand({ Bucket, Delete: { Objects: [{ Key: 'free/a' }, { Key: 'k' }] } }),
    )
    assert.deepEqual(
      answer.Deleted?.map((item) => item.Key),
      ['free/a'],
    )
    assert.deepEqual(
      answer.Errors?.map((item) => [item.Key, item.Code]),
      [['k', 'AccessDenied']],
    )
    await alice.send(new HeadObjectCommand({ Bucket, Key: 'k' }))
  })

  test('lists grant what they say; owners keep their own', async () => {
    const Bucket = await bucket()
    await alice.send(new PutBucketAclCommand({ Bucket, ACL: 'public-read-write' }))
    assert.equal((await anonymous('GET', Bucket)).status, 200)
    assert.equal((await anonymous('GET', `${Bucket}/k`)).status, 403)
    assert.equal((await anonymous('PUT', `${Bucket}/open`, {}, 'x')).status, 200)
    await bob.send(new PutObjectCommand({ Bucket, Key: 'of-bob', Body: 'x' }))
    // What Bob wrote is Bob's: Alice may delete it, not read it.
    await denied(alice.send(new GetObjectCommand({ Bucket, Key: 'of-bob' })))
    await bob.send(new GetObjectCommand({ Bucket, Key: 'of-bob' }))
    await bob.send(new PutObjectAclCommand({ Bucket, Key: 'of-bob', ACL: 'bucket-owner-read' }))
    await alice.send(new GetObjectCommand({ Bucket, Key: 'of-bob' }))
    await denied(alice.send(new PutObjectAclCommand({ Bucket, Key: 'of-bob', ACL: 'private' })))
    await alice.send(new DeleteObjectCommand({ Bucket, Key: 'of-bob' }))
    await alice.send(new PutBucketAclCommand({ Bucket, ACL: 'authenticated-read' }))
    assert.equal((await anonymous('GET', Bucket)).status, 403)
    await bob.send(new HeadBucketCommand({ Bucket }))
    await denied(bob.send(new GetBucketAclCommand({ Bucket })))
    // Even a list that names nobody leaves the owner in charge.
    await alice.send(
      new PutBucketAclCommand({ Bucket, AccessControlPolicy: { Owner: { ID: 'alice' }, Grants: [] } }),
    )
    assert.deepEqual((await alice.send(new GetBucketAclCommand({ Bucket }))).Grants ?? [], [])
    await alice.send(new PutBucketAclCommand({ Bucket, ACL: 'private' }))
  })

  test('an object list belongs to its version', async () => {
    const Bucket = await bucket()
    await alice.send(
      new PutBucketVersioningCommand({ Bucket, VersioningConfiguration: { Status: 'Enabled' } }),
    )
    const first = await alice.send(new PutObjectCommand({ Bucket, Key: 'v', Body: '1', ACL: 'public-read' }))
    const path = `${Bucket}/v?versionId=${first.VersionId}`
    assert.equal((await anonymous('GET', path)).status, 200)
    await alice.send(new PutObjectCommand({ Bucket, Key: 'v', Body: '2' }))
    assert.equal((await anonymous('GET', `${Bucket}/v`)).status, 403)
    assert.equal((await anonymous('GET', path)).status, 200)
  })

  test('enforced ownership turns lists off', async () => {
    const Bucket = await bucket()
    const enforce = () =>
      alice.send(
        new PutBucketOwnershipControlsCommand({
          Bucket,
          OwnershipControls: { Rules: [{ ObjectOwnership: 'BucketOwnerEnforced' }] },
        }),
      )
    await alice.send(new PutBucketAclCommand({ Bucket, ACL: 'public-read' }))
    await rejects(enforce(), 'InvalidBucketAclWithObjectOwnership', 400)
    await alice.send(new PutBucketAclCommand({ Bucket, ACL: 'private' }))
    await alice.send(new PutObjectAclCommand({ Bucket, Key: 'k', ACL: 'public-read' }))
    assert.equal((await anonymous('GET', `${Bucket}/k`)).status, 200)
    await enforce()
    assert.equal((await anonymous('GET', `${Bucket}/k`)).status, 403)
    await rejects(
      alice.send(new PutBucketAclCommand({ Bucket, ACL: 'public-read' })),
      'AccessControlListNotSupported',
      400,
    )
    await rejects(
      alice.send(new PutObjectCommand({ Bucket, Key: 'x', Body: 'x', ACL: 'public-read' })),
      'AccessControlListNotSupported',
      400,
    )
    await putPolicy(Bucket, allow(Bucket, 's3:PutObject'))
    await bob.send(new PutObjectCommand({ Bucket, Key: 'y', Body: 'y', ACL: 'bucket-owner-full-control' }))
    await alice.send(new GetObjectCommand({ Bucket, Key: 'y' }))
  })

  test('the public access block refuses, ignores and restricts', async () => {
    const Bucket = await bucket()
    const block = (fields: object) =>
      alice.send(new PutPublicAccessBlockCommand({ Bucket, PublicAccessBlockConfiguration: fields }))
    const isPublic = async () =>
      (await alice.send(new GetBucketPolicyStatusCommand({ Bucket }))).PolicyStatus?.IsPublic
    await alice.send(new PutBucketAclCommand({ Bucket, ACL: 'public-read' }))
    assert.equal(await isPublic(), true)
    await block({ IgnorePublicAcls: true })
    assert.equal((await anonymous('GET', Bucket)).status, 403)
    assert.equal(await isPublic(), false)
    await block({ BlockPublicAcls: true })
    await denied(alice.send(new PutBucketAclCommand({ Bucket, ACL: 'public-read' })))
    await denied(alice.send(new PutObjectCommand({ Bucket, Key: 'p', Body: 'x', ACL: 'public-read' })))
    await block({ BlockPublicPolicy: true })
    await denied(putPolicy(Bucket, allow(Bucket, 's3:GetObject')))
    await alice.send(new DeletePublicAccessBlockCommand({ Bucket }))
    await putPolicy(Bucket, allow(Bucket, 's3:GetObject'))
    assert.equal((await anonymous('GET', `${Bucket}/k`)).status, 200)
    await block({ RestrictPublicBuckets: true })
    assert.equal((await anonymous('GET', `${Bucket}/k`)).status, 403)
    await alice.send(new GetObjectCommand({ Bucket, Key: 'k' }))
  })

  test("a bucket that was never given a configuration says so in S3's words", async () => {
    const Bucket = await bucket()
    await rejects(alice.send(new GetBucketTaggingCommand({ Bucket })), 'NoSuchTagSet', 404)
    const codes: [string, string][] = [
      ['lifecycle', 'NoSuchLifecycleConfiguration'],
      ['encryption', 'ServerSideEncryptionConfigurationNotFoundError'],
      ['replication', 'ReplicationConfigurationNotFoundError'],
      ['object-lock', 'ObjectLockConfigurationNotFoundError'],
      ['website', 'NoSuchWebsiteConfiguration'],
      ['cors', 'NoSuchCORSConfiguration'],
      ['publicAccessBlock', 'NoSuchPublicAccessBlockConfiguration'],
      ['ownershipControls', 'OwnershipControlsNotFoundError'],
    ]
    // Everyone may ask, so that plain requests will do.
    await putPolicy(Bucket, allow(Bucket, 's3:*', ''))
    for (const [name, code] of codes) {
      const answer = await anonymous('GET', `${Bucket}?${name}`)
      assert.equal(answer.status, 404, name)
      assert.match(await answer.text(), new RegExp(`<Code>${code}</Code>`))
    }
    for (const name of [
      'accelerate',
      'logging',
      'notification',
      'requestPayment',
      'versioning',
      'inventory',
    ]) {
      assert.equal((await anonymous('GET', `${Bucket}?${name}`)).status, 200, name)
    }
    for (const name of [
      'lifecycle',
      'encryption',
      'replication',
      'website',
      'logging',
      'notification',
      'object-lock',
    ]) {
      const answer = await anonymous('PUT', `${Bucket}?${name}`, {}, '<x/>')
      assert.equal(answer.status, 501, name)
      assert.match(await answer.text(), /<Code>NotImplemented<\/Code>/)
    }
  })
})
