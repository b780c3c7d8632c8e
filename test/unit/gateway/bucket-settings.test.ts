import assert from 'node:assert/strict'
import { after, before, describe, test } from 'node:test'
import {
  CompleteMultipartUploadCommand,
  CreateBucketCommand,
  CreateMultipartUploadCommand,
  GetBucketLoggingCommand,
  GetBucketNotificationConfigurationCommand,
  GetBucketTaggingCommand,
  GetObjectCommand,
  GetObjectLegalHoldCommand,
  GetObjectRetentionCommand,
  HeadObjectCommand,
  PutBucketLoggingCommand,
  PutBucketNotificationConfigurationCommand,
  PutBucketTaggingCommand,
  PutObjectCommand,
  PutObjectLegalHoldCommand,
  PutObjectRetentionCommand,
  type S3Client,
  UploadPartCommand,
} from '@aws-sdk/client-s3'
import { type S3Region, startS3Region } from '../../kit/s3-region.ts'

describe('settings of buckets', () => {
  let region: S3Region
  let s3: S3Client
  const Bucket = 'settings'

  before(async () => {
    region = await startS3Region()
    s3 = region.client()
    await s3.send(new CreateBucketCommand({ Bucket }))
  })
  after(() => region.close())

  test('a bucket is made with its tags, and made again with them', async () => {
    const Tags = [
      { Key: 'team', Value: 'blue' },
      { Key: 'a', Value: '' },
    ]
    const create = (tags?: typeof Tags) =>
      s3.send(
        new CreateBucketCommand({
          Bucket: 'tagged',
          ...(tags === undefined ? {} : { CreateBucketConfiguration: { Tags: tags } }),
        }),
      )
    await create(Tags)
    const tagsOf = async () => (await s3.send(new GetBucketTaggingCommand({ Bucket: 'tagged' }))).TagSet
    assert.deepEqual(await tagsOf(), Tags)
    await create(Tags)
    await create()
    await assert.rejects(create([{ Key: 'team', Value: 'red' }]), { name: 'BucketAlreadyExists' })
    assert.deepEqual(await tagsOf(), Tags)
    await s3.send(new PutBucketTaggingCommand({ Bucket: 'tagged', Tagging: { TagSet: [] } }))
    await create()
    const twice = [
      { Key: 'a', Value: '1' },
      { Key: 'a', Value: '2' },
    ]
    await assert.rejects(
      s3.send(new CreateBucketCommand({ Bucket: 'tagged-2', CreateBucketConfiguration: { Tags: twice } })),
      { name: 'InvalidTag' },
    )
    await assert.rejects(s3.send(new GetBucketTaggingCommand({ Bucket: 'tagged-2' })), {
      name: 'NoSuchBucket',
    })
  })

  test('taking logging and notifications away succeeds, setting them does not', async () => {
    await s3.send(new PutBucketLoggingCommand({ Bucket, BucketLoggingStatus: {} }))
    await s3.send(new PutBucketNotificationConfigurationCommand({ Bucket, NotificationConfiguration: {} }))
    const LoggingEnabled = { TargetBucket: Bucket, TargetPrefix: 'log/' }
    await assert.rejects(
      s3.send(new PutBucketLoggingCommand({ Bucket, BucketLoggingStatus: { LoggingEnabled } })),
      { name: 'NotImplemented' },
    )
    const NotificationConfiguration = { EventBridgeConfiguration: {} }
    await assert.rejects(
      s3.send(new PutBucketNotificationConfigurationCommand({ Bucket, NotificationConfiguration })),
      { name: 'NotImplemented' },
    )
    assert.equal((await s3.send(new GetBucketLoggingCommand({ Bucket }))).LoggingEnabled, undefined)
    const { EventBridgeConfiguration } = await s3.send(
      new GetBucketNotificationConfigurationCommand({ Bucket }),
    )
    assert.equal(EventBridgeConfiguration, undefined)
  })

  test('retention and holds: the bucket has no object lock', async () => {
    const at = { Bucket, Key: 'held' }
    await s3.send(new PutObjectCommand({ ...at, Body: 'x' }))
    const missing = { name: 'InvalidRequest', message: 'Bucket is missing Object Lock Configuration' }
    await assert.rejects(s3.send(new GetObjectRetentionCommand(at)), missing)
    await assert.rejects(s3.send(new GetObjectLegalHoldCommand(at)), missing)
    await assert.rejects(
      s3.send(new PutObjectLegalHoldCommand({ ...at, LegalHold: { Status: 'ON' } })),
      missing,
    )
    const Retention = { Mode: 'GOVERNANCE', RetainUntilDate: new Date('2100-01-01') } as const
    await assert.rejects(s3.send(new PutObjectRetentionCommand({ ...at, Retention })), missing)
  })

  test('a part without bytes is answered without a range, which could not be written', async () => {
    await s3.send(new PutObjectCommand({ Bucket, Key: 'empty', Body: '' }))
    const at = { Bucket, Key: 'parts' }
    const { UploadId } = await s3.send(new CreateMultipartUploadCommand(at))
    const Parts = []
    for (const [index, Body] of [Buffer.alloc(5 * 1024 * 1024, 1), Buffer.alloc(0)].entries()) {
      const part = { ...at, UploadId, PartNumber: index + 1, Body }
      const { ETag } = await s3.send(new UploadPartCommand(part))
      Parts.push({ ETag, PartNumber: index + 1 })
    }
    await s3.send(new CompleteMultipartUploadCommand({ ...at, UploadId, MultipartUpload: { Parts } }))
    for (const [Key, PartNumber, PartsCount] of [
      ['empty', 1, undefined],
      ['parts', 2, 2],
    ] as const) {
      const got = await s3.send(new GetObjectCommand({ Bucket, Key, PartNumber }))
      assert.equal(await got.Body?.transformToString(), '')
      const head = await s3.send(new HeadObjectCommand({ Bucket, Key, PartNumber }))
      for (const answer of [got, head]) {
        assert.equal(answer.ContentRange, undefined)
        assert.equal(answer.ContentLength, 0)
        assert.equal(answer.PartsCount, PartsCount)
        assert.equal(answer.$metadata.httpStatusCode, 200)
      }
    }
    const first = await s3.send(new HeadObjectCommand({ ...at, PartNumber: 1 }))
    assert.equal(first.ContentRange, 'bytes 0-5242879/5242880')
    assert.equal(first.$metadata.httpStatusCode, 206)
  })
})
