import assert from 'node:assert/strict'
import { once } from 'node:events'
import { request as httpRequest, type IncomingMessage } from 'node:http'
import { after, before, describe, test } from 'node:test'
import {
  CreateBucketCommand,
  DeleteObjectTaggingCommand,
  GetObjectAclCommand,
  GetObjectTaggingCommand,
  PutBucketAclCommand,
  PutBucketOwnershipControlsCommand,
  PutBucketPolicyCommand,
  PutBucketVersioningCommand,
  PutObjectAclCommand,
  PutObjectCommand,
  PutObjectTaggingCommand,
  type S3Client,
} from '@aws-sdk/client-s3'
import type { Command } from '../../../core/contract/catalog.ts'
import { signRequest } from '../../kit/s3-client.ts'
import { accounts, type S3Region, startS3Region } from '../../kit/s3-region.ts'

const openList =
  '<AccessControlPolicy><Owner><ID>bob</ID></Owner><AccessControlList>' +
  '<Grant><Grantee xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance" xsi:type="CanonicalUser"><ID>bob</ID></Grantee>' +
  '<Permission>FULL_CONTROL</Permission></Grant>' +
  '<Grant><Grantee xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance" xsi:type="Group">' +
  '<URI>http://acs.amazonaws.com/groups/global/AllUsers</URI></Grantee><Permission>READ</Permission></Grant>' +
  '</AccessControlList></AccessControlPolicy>'
const tagged = (value: string) =>
  `<Tagging><TagSet><Tag><Key>by</Key><Value>${value}</Value></Tag></TagSet></Tagging>`

describe('a change of an object is one of the very object that was judged', () => {
  let region: S3Region
  let alice: S3Client
  let bob: S3Client
  let serial = 0

  before(async () => {
    region = await startS3Region()
    alice = region.client('alice')
    bob = region.client('bob')
  })
  after(() => region.close())

  /** A bucket of Alice in which Bob may write, with `k` of Bob. */
  async function bucket(versioning?: 'Enabled' | 'Suspended'): Promise<string> {
    serial += 1
    const Bucket = `judged-${serial}`
    await alice.send(new CreateBucketCommand({ Bucket }))
    if (versioning !== undefined) {
      const VersioningConfiguration = { Status: versioning }
      await alice.send(new PutBucketVersioningCommand({ Bucket, VersioningConfiguration }))
    }
    const OwnershipControls = { Rules: [{ ObjectOwnership: 'ObjectWriter' as const }] }
    await alice.send(new PutBucketOwnershipControlsCommand({ Bucket, OwnershipControls }))
    await alice.send(new PutBucketAclCommand({ Bucket, GrantFullControl: 'id=alice', GrantWrite: 'id=bob' }))
    await bob.send(new PutObjectCommand({ Bucket, Key: 'k', Body: 'of bob' }))
    return Bucket
  }

  const overwrite = (Bucket: string) =>
    alice.send(new PutObjectCommand({ Bucket, Key: 'k', Body: 'a secret', Tagging: 'by=alice' }))
  const tagOf = async (Bucket: string, VersionId?: string) =>
    (await alice.send(new GetObjectTaggingCommand({ Bucket, Key: 'k', VersionId }))).TagSet?.[0]?.Value
  const anonymousGet = async (Bucket: string) => (await fetch(`${region.endpoint}/${Bucket}/k`)).status

  /** A request of Bob that has been let in and whose body is wanted; `finish` sends it. */
  async function held(target: string, body: string) {
    const { accessKeyId = '', secretKey = '' } = accounts['bob'] ?? {}
    const headers = {
      host: `127.0.0.1:${region.port}`,
      'content-length': `${Buffer.byteLength(body)}`,
      expect: '100-continue',
    }
    const sent = httpRequest({
      ...{ host: '127.0.0.1', port: region.port, method: 'PUT', path: target },
      headers: signRequest({ method: 'PUT', target, headers, accessKey: accessKeyId, secretKey }),
    })
    sent.flushHeaders()
    await once(sent, 'continue')
    return {
      finish: async (): Promise<number | undefined> => {
        sent.end(body)
        const [answer] = (await once(sent, 'response')) as [IncomingMessage]
        answer.resume()
        return answer.statusCode
      },
    }
  }

  /** Does `work` once, between the judgment of a change and its entry. */
  function beforeEntry(type: Command['type'], work: () => Promise<unknown>, times = 1) {
    const { catalog } = region
    const { submit } = catalog
    let left = times
    let tries = 0
    catalog.submit = async (command, watch) => {
      if (command.type === type) {
        tries++
        if (left-- > 0) await work()
      }
      return submit.call(catalog, command, watch) as never
    }
    return {
      tries: () => tries,
      [Symbol.dispose]: () => {
        catalog.submit = submit
      },
    }
  }

  for (const versioning of [undefined, 'Suspended'] as const) {
    const where = versioning === undefined ? 'that never had versions' : 'whose versioning is suspended'

    test(`a list that comes late opens no object of another, in a bucket ${where}`, async () => {
      const Bucket = await bucket(versioning)
      const request = await held(`/${Bucket}/k?acl`, openList)
      await overwrite(Bucket)
      assert.equal(await request.finish(), 403)
      assert.equal(await anonymousGet(Bucket), 403)
      const { Grants, Owner } = await alice.send(new GetObjectAclCommand({ Bucket, Key: 'k' }))
      assert.equal(Owner?.ID, 'alice')
      assert.deepEqual(
        Grants?.map(({ Grantee }) => Grantee?.ID),
        ['alice'],
      )
    })
  }

  for (const versioning of [undefined, 'Suspended', 'Enabled'] as const) {
    test(`tags that come late reach no object of another, versioning ${versioning ?? 'off'}`, async () => {
      const Bucket = await bucket(versioning)
      const request = await held(`/${Bucket}/k?tagging`, tagged('bob'))
      await overwrite(Bucket)
      assert.equal(await request.finish(), 403)
      assert.equal(await tagOf(Bucket), 'alice')
    })
  }

  test('what nobody replaced takes what comes late', async () => {
    const Bucket = await bucket()
    const list = await held(`/${Bucket}/k?acl`, openList)
    const tags = await held(`/${Bucket}/k?tagging`, tagged('bob'))
    assert.equal(await list.finish(), 200)
    assert.equal(await tags.finish(), 200)
    assert.equal(await anonymousGet(Bucket), 200)
    assert.equal(await tagOf(Bucket), 'bob')
  })

  test('a policy that asks for the tags of what is there is asked again', async () => {
    const Bucket = await bucket()
    const lock = {
      Effect: 'Deny',
      Principal: '*',
      Action: 's3:PutObjectTagging',
      Resource: `arn:aws:s3:::${Bucket}/*`,
      Condition: { StringEquals: { 's3:ExistingObjectTag/by': 'locked' } },
    }
    const Policy = JSON.stringify({ Version: '2012-10-17', Statement: [lock] })
    await alice.send(new PutBucketPolicyCommand({ Bucket, Policy }))
    const request = await held(`/${Bucket}/k?tagging`, tagged('bob'))
    const Tagging = { TagSet: [{ Key: 'by', Value: 'locked' }] }
    await bob.send(new PutObjectTaggingCommand({ Bucket, Key: 'k', Tagging }))
    assert.equal(await request.finish(), 403)
    assert.equal(await tagOf(Bucket), 'locked')
  })

  test('nor does the last moment before the entry change whose object it is', async () => {
    const denied = { name: 'AccessDenied' }
    for (const versioning of [undefined, 'Suspended'] as const) {
      const Bucket = await bucket(versioning)
      const object = { Bucket, Key: 'k' }
      const again = () => bob.send(new PutObjectCommand({ ...object, Body: 'of bob' }))
      {
        using _ = beforeEntry('set-object-acl', () => overwrite(Bucket))
        await assert.rejects(bob.send(new PutObjectAclCommand({ ...object, ACL: 'public-read' })), denied)
      }
      assert.equal(await anonymousGet(Bucket), 403)
      await again()
      {
        using _ = beforeEntry('set-object-tags', () => overwrite(Bucket))
        const Tagging = { TagSet: [{ Key: 'by', Value: 'bob' }] }
        await assert.rejects(bob.send(new PutObjectTaggingCommand({ ...object, Tagging })), denied)
      }
      await again()
      {
        using _ = beforeEntry('set-object-tags', () => overwrite(Bucket))
        await assert.rejects(bob.send(new DeleteObjectTaggingCommand(object)), denied)
      }
      assert.equal(await tagOf(Bucket), 'alice')
    }
  })

  test('who may change what came instead changes that, and is told to come again when there is no end of it', async () => {
    const Bucket = await bucket()
    const object = { Bucket, Key: 'k' }
    await overwrite(Bucket)
    const Tagging = { TagSet: [{ Key: 'by', Value: 'later' }] }
    const tag = () => alice.send(new PutObjectTaggingCommand({ ...object, Tagging }))
    {
      using entries = beforeEntry('set-object-tags', () => overwrite(Bucket))
      await tag()
      assert.equal(entries.tries(), 2)
    }
    assert.equal(await tagOf(Bucket), 'later')
    {
      using entries = beforeEntry('set-object-tags', () => overwrite(Bucket), 100)
      await assert.rejects(tag(), { name: 'OperationAborted' })
      assert.equal(entries.tries(), 3)
    }
    assert.equal(await tagOf(Bucket), 'alice')
  })
})
