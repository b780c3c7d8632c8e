import type { Catalog } from '../../core/contract/catalog.ts'
import { type GroupRecord, recoveredReason } from '../../core/contract/failover.ts'
import type { RegionLag } from './peer.ts'

/** Entries that are read to count their bytes. */
const mostCounted = 20_000

type Reads = Pick<Catalog, 'bucket' | 'replication' | 'failover'>

/** What each other region lacks of what this one, the primary, has written. */
export function lagsOf({ bucket, replication }: Reads, record: GroupRecord, nowMs: number): RegionLag[] {
  return record.regions
    .filter((region) => region !== record.primary)
    .map((region) => {
      const lag = { region, entries: 0, bytes: 0, oldestMs: 0, isSynchronizing: false }
      for (const name of record.buckets) {
        const id = bucket(name)?.id ?? 0
        const outbox = replication.outbox(id)
        const member = replication.members(id).find((one) => one.region === region)
        if (outbox === undefined || member === undefined) continue
        const { acknowledged, needsFullSync } = member
        lag.entries += outbox.head.lsn - acknowledged
        const isWhole =
          !needsFullSync && outbox.backfill === undefined && acknowledged >= outbox.backfilledThrough
        if (!isWhole) lag.isSynchronizing = true
        for (let at = Math.max(acknowledged, outbox.trimmed.lsn); at < outbox.head.lsn; ) {
          if (at - acknowledged > mostCounted) {
            lag.bytes = -1
            break
          }
          const rows = replication.entries(id, at, 256, 1024 * 1024)
          if (rows.length === 0) break
          for (const { bytes, lsn } of rows) {
            const { change, time } = replication.decode(bytes)
            if (change.type === 'put' && lag.bytes >= 0) lag.bytes += change.version.byteLength
            lag.oldestMs = Math.max(lag.oldestMs, nowMs - time.ms)
            at = lsn
          }
        }
      }
      return lag
    })
}

/** What the primary says of a region that does not hold all of what was written before it asked. */
export const stillSynchronizing = (region: number): string =>
  `region ${region} is still synchronizing in full`

/** What keeps a region from being the primary of a group: it does not hold the whole, or owes an account of its own past. */
export function blockersOf({ failover }: Reads, group: string, here: number): string[] {
  const state = failover.group(group)
  if (state === undefined) return ['the group is not known here']
  if (!state.record.regions.includes(here)) return ['a witness holds no buckets']
  if (state.isRecovered === true) return [recoveredReason(group)]
  const blockers = failover
    .positions(group, here)
    .filter(({ isWhole }) => !isWhole)
    .map(({ bucket }) => `region ${here} holds only a part of the bucket ${bucket}`)
  if (state.diverged.length > 0) {
    blockers.push(`region ${here} is still listing what it had not handed over`)
  }
  return blockers
}

/** Whether the regions that a write of a `sync` bucket needs have it, when the outbox has come to `lsn`. */
export function hasCopies(
  { replication }: Reads,
  bucketId: number,
  record: Pick<GroupRecord, 'regions'>,
  lsn: number,
  copies: number,
): boolean {
  const outbox = replication.outbox(bucketId)
  if (outbox === undefined) return false
  const holders = replication
    .members(bucketId)
    .filter(
      ({ region, acknowledged, needsFullSync }) =>
        record.regions.includes(region) &&
        !needsFullSync &&
        outbox.backfill === undefined &&
        acknowledged >= Math.max(lsn, outbox.backfilledThrough),
    )
  return holders.length + 1 >= copies
}
