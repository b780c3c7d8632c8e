import { StorageError } from '../../contract/errors.ts'
import type { BucketRecord, ObjectRecord } from '../../contract/object-model.ts'
import { accessDenied, notImplemented } from './errors.ts'
import type { Gateway, GatewayReplication, Operation, OperationContext } from './operation.ts'
import {
  deserializeNames,
  parseReplication,
  type ReplicationNames,
  renderReplication,
  serializeNames,
} from './replication-document.ts'
import { bucketOf } from './resources.ts'
import type { Route } from './route.ts'

/** S3's replication calls: another way to say what `pando replication set` and `stop` say. */

/** S3's own limit of the document. */
const maxConfigBytes = 2 * 1024 * 1024

function replicationOf({ gateway }: OperationContext): GatewayReplication {
  if (gateway.replication === undefined) throw notImplemented('replication')
  return gateway.replication
}

/** A rule sends data to other regions and makes a bucket there: the operator's decision, not every bucket owner's. */
function checkOperator({ identity }: OperationContext): void {
  if (identity.kind !== 'key' || !identity.root) throw accessDenied()
}

const getBucketReplication: Operation = {
  name: 'GetBucketReplication',
  action: 's3:GetReplicationConfiguration',
  async handle(context) {
    const { gateway } = context
    const bucket = bucketOf(context)
    const rule = gateway.catalog.replication.rule(bucket.id)
    if (rule === undefined) {
      throw new StorageError('NO_SUCH_REPLICATION', 'The replication configuration was not found', {
        details: { BucketName: bucket.name },
      })
    }
    const replication = replicationOf(context)
    const joined = await replication.regions()
    const names = namesOf(gateway, bucket)
    return { status: 200, body: renderReplication(bucket, rule, replication.regionId, joined, names) }
  },
}

const putBucketReplication: Operation = {
  name: 'PutBucketReplication',
  action: 's3:PutReplicationConfiguration',
  async handle(context) {
    const replication = replicationOf(context)
    checkOperator(context)
    const { gateway, request } = context
    const bucket = bucketOf(context)
    const text = await request.body.text(maxConfigBytes)
    const wanted = parseReplication(text, bucket, await replication.regions())
    const mode = gateway.catalog.replication.rule(bucket.id)?.mode ?? 'single'
    const { regions, prefix, rpoMs } = wanted
    await replication.replicate({ bucket: bucket.name, mode, regions, prefix, rpoMs })
    await keepNames(context, bucket, wanted.names)
    return { status: 200 }
  },
}

const deleteBucketReplication: Operation = {
  name: 'DeleteBucketReplication',
  action: 's3:PutReplicationConfiguration',
  async handle(context) {
    checkOperator(context)
    const bucket = bucketOf(context)
    // Deleting what is not there succeeds in S3.
    if (context.gateway.catalog.replication.rule(bucket.id) !== undefined) {
      await replicationOf(context).stop(bucket.name)
    }
    if (namesOf(context.gateway, bucket) !== undefined) await keepNames(context, bucket, undefined)
    return { status: 204 }
  },
}

function namesOf({ catalog }: Gateway, bucket: BucketRecord): ReplicationNames | undefined {
  const stored = catalog.bucketConfig(bucket.id, 'replication')
  return stored === undefined ? undefined : deserializeNames(Buffer.from(stored).toString())
}

async function keepNames(
  { gateway }: OperationContext,
  { id: bucketId }: BucketRecord,
  names: ReplicationNames | undefined,
): Promise<void> {
  const value = names === undefined ? null : Buffer.from(serializeNames(names))
  await gateway.catalog.submit({ type: 'set-bucket-config', bucketId, kind: 'replication', value })
}

/**
 * `x-amz-replication-status` of a version, found out when it is asked for: from how far the members have come, and what they have
 * given up. Undefined: the version is not replicated.
 */
export function replicationStatus(
  { catalog }: Gateway,
  bucket: BucketRecord,
  { key, isNull, versionId }: ObjectRecord,
): string | undefined {
  if (bucket.replicated !== true) return undefined
  return catalog.replication.status(bucket.id, key, isNull ? 'null' : versionId)?.toUpperCase()
}

export const replicationRoutes: readonly Route[] = [
  { level: 'bucket', method: 'GET', subresource: 'replication', operation: getBucketReplication },
  { level: 'bucket', method: 'PUT', subresource: 'replication', operation: putBucketReplication },
  { level: 'bucket', method: 'DELETE', subresource: 'replication', operation: deleteBucketReplication },
]
