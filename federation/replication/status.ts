import type { Catalog } from '../../core/contract/catalog.ts'
import type { BucketRecord } from '../../core/contract/object-model.ts'
import type { CursorState, MemberState, ReplicationRule } from '../../core/contract/replication.ts'

/** What is known of the other side of a cursor. */
export interface SeenHead {
  readonly head: number
  /** Time of that entry, by the clock of its region. */
  readonly headMs: number
  /** When it was told. */
  readonly seenMs: number
}

export interface OutgoingStatus {
  readonly region: number
  readonly acknowledged: number
  readonly lagEntries: number
  /** Age of the oldest entry that the region lacks, 0 for none: what would be lost with this region now. */
  readonly oldestUnshippedMs: number
  readonly needsFullSync: boolean
}

export interface IncomingStatus {
  readonly region: number
  readonly watermark: number
  /** The other region's head, as far as it has been told. */
  readonly head: number
  readonly lagEntries: number
  /** Time since the other region was last heard of; undefined: never by this process. */
  readonly heardMs: number | undefined
  readonly retries: number
  readonly dead: number
  readonly synchronizing: boolean
}

export interface BucketReplicationStatus {
  readonly bucket: string
  readonly rule: ReplicationRule
  /** Absent where no client writes. */
  readonly outbox?: {
    readonly head: number
    readonly entriesKept: number
    readonly bytesKept: number
    readonly backfilling: boolean
  }
  readonly outgoing: readonly OutgoingStatus[]
  readonly incoming: readonly IncomingStatus[]
  /** Some region is further behind than the rule's objective. */
  readonly breached: boolean
}

export type ReplicationStatus = readonly BucketReplicationStatus[]

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
): ReplicationStatus {
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
        breached: outgoing.some(({ oldestUnshippedMs }) => oldestUnshippedMs > rule.rpoMs),
        ...(isWritten
          ? {
              outbox: {
                head: outbox.head.lsn,
                entriesKept: outbox.head.lsn - outbox.trimmed.lsn,
                bytesKept: outbox.rowBytes + outbox.bodyBytes,
                backfilling: outbox.backfill !== undefined,
              },
            }
          : {}),
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
    heardMs: seen === undefined ? undefined : Math.max(0, nowMs - seen.seenMs),
  }
}
