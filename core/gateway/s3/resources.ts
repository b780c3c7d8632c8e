import { StorageError } from '../../contract/errors.ts'
import type { BucketRecord, ObjectRecord, VersionId } from '../../contract/object-model.ts'
import { invalidArgument, noSuchBucket, noSuchKey } from './errors.ts'
import type { OperationContext } from './operation.ts'
import { formatVersionId, parseVersionId } from './version-id.ts'

/** The bucket that the request names; the edge has answered NO_SUCH_BUCKET before a handler runs. */
export function bucketOf(context: OperationContext): BucketRecord {
  if (context.bucket === undefined) throw noSuchBucket(context.request.bucketName ?? '')
  return context.bucket
}

export function keyOf(context: OperationContext): string {
  const { key } = context.request
  if (key === undefined)
    throw new RangeError('the routing table sent a request without a key to an object operation')
  return key
}

/** `versionId` of the query. INVALID_ARGUMENT when it is not a version id. */
export function versionOf(context: OperationContext): VersionId | 'null' | undefined {
  const text = context.request.query.get('versionId')
  if (text === undefined) return undefined
  const version = parseVersionId(text)
  if (version === undefined) throw invalidArgument('Invalid version id specified', 'versionId', text)
  return version
}

/**
 * The object that the request names, for its sub-resources. NO_SUCH_KEY, NO_SUCH_VERSION, and METHOD_NOT_ALLOWED for a
 * delete marker that is named by its version.
 */
export function objectOf(context: OperationContext): ObjectRecord {
  const key = keyOf(context)
  const version = versionOf(context)
  const record = context.gateway.catalog.object(bucketOf(context).id, key, version)
  if (version === undefined) {
    if (record === undefined || record.deleteMarker) throw noSuchKey(key)
    return record
  }
  if (record === undefined) {
    throw new StorageError('NO_SUCH_VERSION', 'The specified version does not exist.', {
      details: { Key: key, VersionId: formatVersionId(version) },
    })
  }
  if (record.deleteMarker) {
    throw new StorageError(
      'METHOD_NOT_ALLOWED',
      'The specified method is not allowed against this resource.',
      {
        details: { Method: context.request.method, ResourceType: 'DeleteMarker' },
      },
    )
  }
  return record
}

/** The version id that the answer to a write shows: only writes that made a version of its own have one. */
export function writtenVersion(versionId: VersionId | 'null'): string | undefined {
  return versionId === 'null' ? undefined : formatVersionId(versionId)
}

/** The id to show for a record of a bucket that has (or had) versioning; undefined where it never had. */
export function shownVersion(bucket: BucketRecord, record: ObjectRecord): string | undefined {
  if (bucket.versioning === 'off') return undefined
  return record.isNull ? 'null' : formatVersionId(record.versionId)
}
