import assert from 'node:assert/strict'
import { after, before, beforeEach, describe, test } from 'node:test'
import {
  CreateBucketCommand,
  DeleteObjectCommand,
  GetObjectCommand,
  HeadObjectCommand,
  ListBucketsCommand,
  PutObjectCommand,
  S3ServiceException,
} from '@aws-sdk/client-s3'
import { getSignedUrl } from '@aws-sdk/s3-request-presigner'
import { StorageError } from '../../../core/contract/errors.ts'
import type { CredentialSource } from '../../../core/gateway/s3/operation.ts'
import { accounts, type S3Region, startS3Region } from '../../kit/s3-region.ts'

const accessKeyId = accounts['alice']?.accessKeyId ?? ''
const Bucket = 'revoked'

/** A gateway that is behind: what was acknowledged elsewhere comes with the read point. */
describe('a key that was revoked or enabled elsewhere', () => {
  let region: S3Region
  let lookups = 0
  /** Comes to this gateway with the next read point. */
  let comes: (() => Promise<unknown>) | undefined
  let turn: (() => Promise<void>) | undefined

  const enable = (enabled: boolean): Promise<unknown> =>
    region.catalog.submit({ type: 'set-access-key-enabled', accessKeyId, enabled })

  before(async () => {
    region = await startS3Region({
      hooks: {
        admission: {
          admit: () =>
            ({ turn: turn?.(), qosClass: 0, pace: () => undefined, abandon() {}, end() {} }) as never,
        },
      },
    })
    const { catalog } = region
    const credentials = region.gateway.credentials as { lookup: CredentialSource['lookup'] }
    const lookup = credentials.lookup.bind(credentials)
    credentials.lookup = (id) => {
      lookups++
      return catalog.accessKey(id)?.enabled === true ? lookup(id) : 'disabled'
    }
    const alice = region.client()
    await alice.send(new CreateBucketCommand({ Bucket }))
    await alice.send(new PutObjectCommand({ Bucket, Key: 'kept', Body: 'kept' }))
    const barrier = catalog.barrier.bind(catalog)
    catalog.barrier = async (scope) => {
      const coming = comes
      comes = undefined
      await coming?.()
      await barrier(scope)
    }
  })
  beforeEach(async () => {
    await enable(true)
    lookups = 0
    comes = undefined
    turn = undefined
  })
  after(() => region.close())

  const requests = {
    GetObject: () => region.client().send(new GetObjectCommand({ Bucket, Key: 'kept' })),
    PutObject: () => region.client().send(new PutObjectCommand({ Bucket, Key: 'new', Body: 'new' })),
    ListBuckets: () => region.client().send(new ListBucketsCommand({})),
  }

  for (const [name, request] of Object.entries(requests)) {
    test(`${name} is refused when the read point shows it`, async () => {
      comes = () => enable(false)
      await assert.rejects(request(), { name: 'InvalidAccessKeyId' })
      assert.equal(comes, undefined, 'no read point was waited for')
      assert.equal(region.catalog.object(region.catalog.bucket(Bucket)?.id ?? 0, 'new'), undefined)
    })
  }

  test('a presigned request is refused likewise', async () => {
    const url = await getSignedUrl(region.client(), new GetObjectCommand({ Bucket, Key: 'kept' }))
    comes = () => enable(false)
    const answer = await fetch(url)
    assert.equal(answer.status, 403)
    assert.match(await answer.text(), /<Code>InvalidAccessKeyId<\/Code>/)
  })

  test('who waited for a turn meanwhile is refused', async () => {
    turn = async () => {
      await enable(false)
    }
    await assert.rejects(requests.GetObject(), { name: 'InvalidAccessKeyId' })
  })

  for (const [name, request] of Object.entries(requests)) {
    test(`${name} with a key that was enabled elsewhere is let in`, async () => {
      await enable(false)
      comes = () => enable(true)
      await request()
      assert.equal(comes, undefined, 'no read point was waited for')
      await region.client().send(new DeleteObjectCommand({ Bucket, Key: 'new' }))
    })
  }

  test('one that nobody knows is refused, and looked up once', async () => {
    await enable(false)
    lookups = 0
    await assert.rejects(requests.ListBuckets(), { name: 'InvalidAccessKeyId' })
    assert.equal(lookups, 1)
  })

  test('who is not known is not refused for good while nobody can tell', async () => {
    await enable(false)
    comes = async () => {
      throw new StorageError('UNAVAILABLE', 'no majority')
    }
    await assert.rejects(
      region.client('alice', { maxAttempts: 1 }).send(new ListBucketsCommand({})),
      (error: unknown) => error instanceof S3ServiceException && error.$metadata.httpStatusCode === 503,
    )
  })

  test('a key is looked up once when nothing has changed, and again when something has', async () => {
    await region.client().send(new HeadObjectCommand({ Bucket, Key: 'kept' }))
    assert.equal(lookups, 1)
    await requests.ListBuckets()
    assert.equal(lookups, 2)
    comes = () => enable(true)
    await region.client().send(new HeadObjectCommand({ Bucket, Key: 'kept' }))
    assert.equal(lookups, 4)
  })
})
