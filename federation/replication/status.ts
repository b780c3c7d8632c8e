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
  /** Why the last try to follow it was cut short. */
  readonly problem?: string
}

/** As many as a comparison writes in front of a copy, or nearly: then its age is told for a moment. */
const entriesAhead = 8

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
  return catalog.replication
    .ruledBuckets(0, Number.MAX_SAFE_INTEGER)
    .flatMap((id) => bucketStatus(catalog, id, nowMs, regionId, seen) ?? [])
}

/** Of one bucket; undefined: it has no rule. */
export function bucketStatus(
  catalog: Reads,
  id: number,
  nowMs: number,
  regionId: number,
  seen: (bucket: string, source: number) => SeenHead | undefined,
): BucketReplicationStatus | undefined {
  const { replication } = catalog
  const bucket = catalog.bucketById(id)
  const rule = replication.rule(id)
  if (bucket === undefined || rule === undefined) return undefined
  const outbox = replication.outbox(id)
  const backlog = replication.backlog(id)
  const isWritten = outbox !== undefined && (rule.mode === 'multi' || rule.primary === regionId)
  const outgoing = isWritten
    ? replication.members(id).map((member) => outgoingOf(catalog, bucket, outbox.head.lsn, member, nowMs))
    : []
  const tombstones = replication.tombstones(id, regionId)
  const incoming = replication
    .cursors(id)
    .filter(({ source }) => rule.members.includes(source))
    .map((cursor) => incomingOf(cursor, seen(bucket.name, cursor.source), nowMs))
  return {
    ...{ bucket: bucket.name, rule, outgoing, incoming },
    isWritten,
    head: isWritten ? outbox.head.lsn + (backlog?.waiting ?? 0) : 0,
    entriesKept: isWritten ? outbox.head.lsn - outbox.trimmed.lsn + (backlog?.waiting ?? 0) : 0,
    bytesKept: isWritten ? (backlog?.bytes ?? outbox.rowBytes + outbox.bodyBytes) : 0,
    ...(backlog === undefined ? {} : { backlog }),
    isBackfilling: isWritten && outbox.backfill !== undefined,
    tombstonesHeld: tombstones?.held ?? 0,
    tombstonesCollected: tombstones?.collected ?? 0,
    comparedMs: outbox?.compared?.ms ?? 0,
    comparedRoot: hex(outbox?.compared?.root),
    isBreached: outgoing.some(({ oldestUnshippedMs }) => oldestUnshippedMs > rule.rpoMs),
  }
}

const hex = (bytes: Uint8Array | undefined): string =>
  bytes === undefined ? '' : Buffer.from(bytes).toString('hex')

function outgoingOf(
  { replication }: Reads,
  bucket: BucketRecord,
  head: number,
  { region, acknowledged, acknowledgedTime, needsFullSync, dead = [] }: MemberState,
  nowMs: number,
): OutgoingStatus {
  const lagEntries = head - acknowledged
  const outbox = replication.outbox(bucket.id)
  const synchronizing =
    needsFullSync || outbox?.backfill !== undefined || acknowledged < (outbox?.backfilledThrough ?? 0)
  if (needsFullSync) {
    // What it lacks is not kept any more: its last acknowledgement bounds the age.
    const sinceMs = acknowledgedTime.ms > 0 ? acknowledgedTime.ms : bucket.createdMs
    return {
      region,
      acknowledged,
      needsFullSync,
      synchronizing,
      dead: dead.length,
      lagEntries,
      oldestUnshippedMs: Math.max(0, nowMs - sinceMs),
    }
  }
  const backlog = replication.backlog(bucket.id)
  if (backlog !== undefined) {
    return {
      ...{ region, acknowledged, needsFullSync, synchronizing, dead: dead.length },
      lagEntries: backlog.entries,
      oldestUnshippedMs: backlog.oldestMs === undefined ? 0 : Math.max(0, nowMs - backlog.oldestMs),
    }
  }
  const trimmed = outbox?.trimmed.lsn ?? 0
  // The digests of a comparison are nothing that could be lost, nor is what was told of other logs.
  const madeMs = replication
    .entries(bucket.id, Math.max(acknowledged, trimmed), entriesAhead, 1024 * 1024)
    .map(({ bytes }) => replication.decode(bytes))
    .find(({ change }) => change.type !== 'digest' && change.type !== 'passed')?.time.ms
  return {
    ...{ region, acknowledged, needsFullSync, synchronizing, lagEntries },
    dead: dead.length,
    oldestUnshippedMs: madeMs === undefined ? 0 : Math.max(0, nowMs - madeMs),
  }
}

function incomingOf(cursor: CursorState, seen: SeenHead | undefined, nowMs: number): IncomingStatus {
  const { source, watermark, retries, dead, synchronizing, received, comparison } = cursor
  const head = Math.max(seen?.head ?? 0, received.lsn)
  return {
    ...{ region: source, watermark, head, retries, dead, synchronizing },
    lagEntries: head - watermark,
    comparedRanges: comparison?.ranges ?? 0,
    differences: comparison?.differences ?? 0,
    agreedMs: comparison?.agreed?.ms ?? 0,
    agreedRoot: hex(comparison?.agreed?.root),
    heardMs: seen === undefined ? -1 : Math.max(0, nowMs - seen.seenMs),
    problem: seen?.problem ?? '',
  }
}
