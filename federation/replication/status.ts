import type { Catalog } from '../../core/contract/catalog.ts'
import type { BucketRecord } from '../../core/contract/object-model.ts'
import type { CursorState, MemberState } from '../../core/contract/replication.ts'
import type {
  BucketReplicationStatus,
  IncomingStatus,
  OutgoingStatus,
  ReplicationReport,
} from '../../core/contract/replication-admin.ts'

/** What is known of the other side of a cursor. */
export interface SeenHead {
  readonly head: number
  /** Time of that entry, by the clock of its region. */
  readonly headMs: number
  /** When it was told. */
  readonly seenMs: number
}

type Reads = Pick<Catalog, 'bucketById' | 'replication'>

/**
 * How far all replicated buckets are, from the catalog's rows: right also when the other region is down, and when nothing has been
 * written for long (then nothing is unshipped, and the age is 0).
 */
export function replicationStatus(
  catalog: Reads,
  nowMs: number,
  regionId: number,
  seen: (bucket: string, source: number) => SeenHead | undefined,
): ReplicationReport {
  const { replication } = catalog
  return replication.ruledBuckets(0, Number.MAX_SAFE_INTEGER).flatMap((id): BucketReplicationStatus[] => {
    const bucket = catalog.bucketById(id)
    const rule = replication.rule(id)
    if (bucket === undefined || rule === undefined) return []
    const outbox = replication.outbox(id)
    const isWritten = outbox !== undefined && (rule.mode === 'multi' || rule.primary === regionId)
    const outgoing = isWritten
      ? replication.members(id).map((member) => outgoingOf(catalog, bucket, outbox.head.lsn, member, nowMs))
      : []
    const incoming = replication
      .cursors(id)
      .filter(({ source }) => rule.members.includes(source))
      .map((cursor) => incomingOf(cursor, seen(bucket.name, cursor.source), nowMs))
    return [
      {
        ...{ bucket: bucket.name, rule, outgoing, incoming },
        isWritten,
        head: isWritten ? outbox.head.lsn : 0,
        entriesKept: isWritten ? outbox.head.lsn - outbox.trimmed.lsn : 0,
        bytesKept: isWritten ? outbox.rowBytes + outbox.bodyBytes : 0,
        isBackfilling: isWritten && outbox.backfill !== undefined,
        isBreached: outgoing.some(({ oldestUnshippedMs }) => oldestUnshippedMs > rule.rpoMs),
      },
    ]
  })
}

function outgoingOf(
  { replication }: Reads,
  bucket: BucketRecord,
  head: number,
  { region, acknowledged, acknowledgedTime, needsFullSync }: MemberState,
  nowMs: number,
): OutgoingStatus {
  const lagEntries = head - acknowledged
  if (needsFullSync) {
    // What it lacks is not kept any more: its last acknowledgement bounds the age.
    const sinceMs = acknowledgedTime.ms > 0 ? acknowledgedTime.ms : bucket.createdMs
    return {
      region,
      acknowledged,
      needsFullSync,
      lagEntries,
      oldestUnshippedMs: Math.max(0, nowMs - sinceMs),
    }
  }
  const trimmed = replication.outbox(bucket.id)?.trimmed.lsn ?? 0
  const [next] = replication.entries(bucket.id, Math.max(acknowledged, trimmed), 1, 1)
  const madeMs = next === undefined ? undefined : replication.decode(next.bytes).time.ms
  return {
    ...{ region, acknowledged, needsFullSync },
    lagEntries,
    oldestUnshippedMs: madeMs === undefined ? 0 : Math.max(0, nowMs - madeMs),
  }
}

function incomingOf(cursor: CursorState, seen: SeenHead | undefined, nowMs: number): IncomingStatus {
  const { source, watermark, retries, dead, synchronizing, received } = cursor
  const head = Math.max(seen?.head ?? 0, received.lsn)
  return {
    ...{ region: source, watermark, head, retries, dead, synchronizing },
    lagEntries: head - watermark,
    heardMs: seen === undefined ? -1 : Math.max(0, nowMs - seen.seenMs),
  }
}
