import { type GroupPosition, type GroupReads, groupEpochOf } from '../../contract/failover.ts'
import { watermarkOf } from '../replication/apply-remote.ts'
import { readCursor, readOutboxState } from '../replication/rows.ts'
import type { TableReader } from '../tables.ts'
import { bucketsOf } from './apply-group.ts'
import { readGroup, readGroups, readLosses } from './rows.ts'

/** What failover reads of the catalog of a region. */
export function createGroupReads(reader: TableReader): GroupReads {
  return {
    group: (name) => readGroup(reader, name),
    groups: () => readGroups(reader),
    positions(name, here) {
      const state = readGroup(reader, name)
      if (state === undefined) return []
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
    },
    losses: (bucketId, limit) => readLosses(reader, bucketId, limit),
  }
}
