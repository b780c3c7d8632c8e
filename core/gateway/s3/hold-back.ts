import type { BucketRecord } from '../../contract/object-model.ts'
import type { Gateway, Operation } from './operation.ts'
import { operationKind } from './operation-kind.ts'

/** What other regions ask of writes to a bucket that they have copies of. */

/** How long the request waits because copies are further behind than their rule allows, milliseconds. */
export function heldBackMs(gateway: Gateway, bucket: BucketRecord | undefined, operation: Operation): number {
  if (bucket?.replicated !== true) return 0
  const kind = operationKind(operation.name)
  if (kind !== 'write' && kind !== 'copy' && kind !== 'delete') return 0
  return gateway.replication?.holdBackMs(bucket.id) ?? 0
}

/** Before a body is taken that could not be committed. INSUFFICIENT_STORAGE. */
export function checkRoom(
  gateway: Gateway,
  bucket: BucketRecord | undefined,
  operation: Operation,
  byteLength: number,
): void {
  if (bucket?.replicated !== true) return
  const kind = operationKind(operation.name)
  if (kind !== 'write' && kind !== 'copy') return
  const refusal = gateway.replication?.refusal(bucket.id, byteLength)
  if (refusal !== undefined) throw refusal
}
