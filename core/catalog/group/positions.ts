import {
  type GroupPosition,
  type GroupRecord,
  type GroupState,
  groupEpochOf,
} from '../../contract/failover.ts'
import type { BucketRecord } from '../../contract/object-model.ts'
import { bucketNameKey } from '../apply-buckets.ts'
import { watermarkOf } from '../replication/apply-remote.ts'
import { readCursor, readOutboxState, readRule, type StoredRule } from '../replication/rows.ts'
import { decodeBucketRow } from '../rows.ts'
import type { TableReader } from '../tables.ts'

/** The buckets of a group that are here, each with its rule. */
export function bucketsOf(
  context: Pick<TableReader, 'get'>,
  { name, buckets }: Pick<GroupRecord, 'name' | 'buckets'>,
): { readonly bucket: BucketRecord; readonly rule: StoredRule }[] {
  return buckets.flatMap((bucketName) => {
    const row = context.get(bucketNameKey(bucketName))
    if (row === undefined) return []
    const bucket = decodeBucketRow(row)
    const rule = readRule(context, bucket.id)
    return rule?.group === name ? [{ bucket, rule }] : []
  })
}

/** How much of each bucket of a group the region `here` holds, in the order of the record. */
export function positionsOf(
  reader: Pick<TableReader, 'get' | 'rows'>,
  state: GroupState,
  here: number,
): GroupPosition[] {
  const found = new Map(bucketsOf(reader, state.record).map((one) => [one.bucket.name, one]))
  return state.record.buckets.map((bucket): GroupPosition => {
    const one = found.get(bucket)
    if (one === undefined) return { bucket, epoch: 0, watermark: 0, isWhole: false }
    const { rule } = one
    const { id } = one.bucket
    const epoch = groupEpochOf(rule.epoch)
    // It has heard of another primary, and does not follow that one's outbox yet.
    const isCurrent = epoch === state.record.epoch
    if (rule.primary === here) {
      const isWhole = isCurrent && !state.diverged.some(({ bucketId }) => bucketId === id)
      return { bucket, epoch, watermark: readOutboxState(reader, id)?.head.lsn ?? 0, isWhole }
    }
    const cursor = readCursor(reader, id, rule.primary)
    if (cursor === undefined) return { bucket, epoch, watermark: 0, isWhole: false }
    const watermark = watermarkOf(reader, id, rule.primary, cursor)
    return { bucket, epoch, watermark, isWhole: isCurrent && !cursor.synchronizing }
  })
}
