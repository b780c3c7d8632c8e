import { StorageError } from '../../contract/errors.ts'
import type { ObjectRecord } from '../../contract/object-model.ts'
import { changeJudged, type JudgedObject, readBeforeChange } from './judged-change.ts'
import type { Operation, OperationContext, S3Response } from './operation.ts'
import { bucketOf, objectOf, shownVersion } from './resources.ts'
import type { Route } from './route.ts'
import {
  bucketTagLimits,
  objectTagLimits,
  parseTagging,
  renderTagSet,
  type TagSet,
  tagRecord,
} from './tag-set.ts'
import { document } from './xml.ts'

/** Tags of buckets and objects. */

/** Fifty tags of 128 + 256 characters, escaped, with room to spare. */
const maxTaggingBytes = 256 * 1024

const getBucketTagging: Operation = {
  name: 'GetBucketTagging',
  action: 's3:GetBucketTagging',
  async handle(context) {
    const bucket = bucketOf(context)
    const stored = context.gateway.catalog.bucketConfig(bucket.id, 'tagging')
    if (stored === undefined) {
      throw new StorageError('NO_SUCH_TAG_SET', 'The TagSet does not exist', {
        details: { BucketName: bucket.name },
      })
    }
    const pairs = JSON.parse(Buffer.from(stored).toString()) as [string, string][]
    return { status: 200, body: document('Tagging', renderTagSet(pairs)) }
  },
}

const putBucketTagging: Operation = {
  name: 'PutBucketTagging',
  action: 's3:PutBucketTagging',
  tags: 'later',
  async handle(context) {
    const tags = parseTagging(await context.request.body.text(maxTaggingBytes), bucketTagLimits)
    context.authorize('s3:PutBucketTagging', bucketOf(context), undefined, undefined, tags)
    await setBucketTags(context, Buffer.from(JSON.stringify([...tags])))
    return { status: 204 }
  },
}

const deleteBucketTagging: Operation = {
  name: 'DeleteBucketTagging',
  action: 's3:PutBucketTagging',
  async handle(context) {
    await setBucketTags(context, null)
    return { status: 204 }
  },
}

async function setBucketTags(context: OperationContext, value: Uint8Array | null): Promise<void> {
  await context.gateway.catalog.submit({
    type: 'set-bucket-config',
    bucketId: bucketOf(context).id,
    kind: 'tagging',
    value,
  })
}

const getObjectTagging: Operation = {
  name: 'GetObjectTagging',
  action: 's3:GetObjectTagging',
  async handle(context) {
    const record = objectOf(context)
    // By key, whatever order the request had: the order that S3 answers in.
    const sorted = Object.entries(record.attributes.tags).sort(([left], [right]) => (left < right ? -1 : 1))
    const body = document('Tagging', renderTagSet(sorted))
    return answer(shownVersion(bucketOf(context), record), 200, body)
  },
}

const putObjectTagging: Operation = {
  name: 'PutObjectTagging',
  action: 's3:PutObjectTagging',
  tags: 'later',
  async handle(context) {
    // What is missing is told before the body is read.
    objectOf(context)
    const tags = parseTagging(await readBeforeChange(context, maxTaggingBytes), objectTagLimits)
    return setObjectTags(context, 's3:PutObjectTagging', tags, 200)
  },
}

const deleteObjectTagging: Operation = {
  name: 'DeleteObjectTagging',
  action: 's3:DeleteObjectTagging',
  async handle(context) {
    return setObjectTags(context, 's3:DeleteObjectTagging', new Map(), 204)
  },
}

function setObjectTags(
  context: OperationContext,
  action: string,
  tags: TagSet,
  status: number,
): Promise<S3Response> {
  const change = async (object: JudgedObject, record: ObjectRecord): Promise<S3Response> => {
    const { place } = await context.gateway.catalog.submit({
      type: 'set-object-tags',
      ...object,
      tags: tagRecord(tags),
    })
    return { ...answer(shownVersion(bucketOf(context), record), status), place }
  }
  return changeJudged(context, action, change, tags)
}

function answer(version: string | undefined, status: number, body?: string): S3Response {
  return {
    status,
    ...(version === undefined ? {} : { headers: { 'x-amz-version-id': version } }),
    ...(body === undefined ? {} : { body }),
  }
}

export const taggingRoutes: readonly Route[] = [
  { level: 'bucket', method: 'GET', subresource: 'tagging', operation: getBucketTagging },
  { level: 'bucket', method: 'PUT', subresource: 'tagging', operation: putBucketTagging },
  { level: 'bucket', method: 'DELETE', subresource: 'tagging', operation: deleteBucketTagging },
  { level: 'object', method: 'GET', subresource: 'tagging', operation: getObjectTagging },
  { level: 'object', method: 'PUT', subresource: 'tagging', operation: putObjectTagging },
  { level: 'object', method: 'DELETE', subresource: 'tagging', operation: deleteObjectTagging },
]
