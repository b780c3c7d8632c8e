import type { AccessSetting, BucketAccess } from './bucket-access.ts'
import type { RangeChange, VersioningChange } from './bucket-changes.ts'
import type { MadeOnce } from './catalog.ts'
import type { ConflictReads, Resolution } from './conflicts.ts'
import type { WriteId } from './ids.ts'
import type { BucketRecord, Layout, ObjectRecord, VersionId, VersioningState } from './object-model.ts'
import type { BackfilledVersion } from './replication-limits.ts'
import type { RetryRecord } from './retry-record.ts'

/**
 * Replication of buckets between regions, as the catalog keeps it and the federation uses it. Every change of a replicated
 * bucket appends an entry to the bucket's outbox in the transaction that makes the change; other regions pull from there.
 */

/** Which regions hold a bucket. The same document in each of them; `epoch` says which is the newer. */
export interface ReplicationRule {
  /** `single`: clients write in the primary region only. `multi`: in every member region. */
  readonly mode: 'single' | 'multi'
  /** Region id. In `multi` mode the region that the others took the bucket from. */
  readonly primary: number
  /** Grows with every change of the rule; 1 for the first. A write of an older epoch is refused when it is applied. */
  readonly epoch: number
  /** Region ids, ascending, each once; the primary is one of them. */
  readonly members: readonly number[]
  /** Keys that begin with it are replicated; empty: all. */
  readonly prefix: string
  /** Age of the oldest entry that a member lacks, above which an alert is raised, milliseconds. */
  readonly rpoMs: number
  /** What happens beyond `rpoMs`: an alert alone (as when absent), or writers are slowed down as well. */
  readonly onBreach?: 'alert' | 'throttle'
  /** A member that is further behind than this in age or bytes no longer holds the outbox: it has to synchronize in full. */
  readonly retentionMs: number
  readonly retentionBytes: number
  /** The bucket's failover group: its primary is that of the group, and its epochs are counted with it. */
  readonly group?: string
  /** Mode `multi`: regions that were members once, ascending, and the last epoch before they left. Deletes are not remembered for them. */
  readonly former?: readonly FormerMember[]
  /** Mode `multi` without edges: the epoch in which the rule was made, the same in all that it becomes. */
  readonly firstEpoch?: number
  /** Some members are edges; mode `multi`, and the primary, their hub, is the only member that is none. */
  readonly edge?: EdgeRule
}

/** It may become a member again with a bucket that is empty and whose rule is new: entries of this epoch and older ones are not taken in. */
export interface FormerMember {
  readonly region: number
  readonly epoch: number
}

/**
 * An edge is a region at the rim that may be cut off at any time: it writes, and hands what it wrote over to the hub in an order of
 * priority. It takes nothing over from the hub but what its clients read.
 */
export interface EdgeRule {
  /** Members that are edges, ascending, each once; all but the primary. */
  readonly regions: readonly number[]
  /** Bytes that an edge keeps for the hub at most, of changes and the bodies that they name. Then writes are refused, nothing is dropped. */
  readonly quotaBytes: number
  /** Age of the oldest change that the hub lacks, beyond which writes are refused. */
  readonly quotaAgeMs: number
  /** What goes first to the hub: a change has the place of the first of these that fits, and comes after all of them when none does. */
  readonly priorities: readonly EdgePriority[]
  /** Bytes of objects that an edge keeps although the hub has them. */
  readonly cacheBytes: number
  /** Keys that begin with one of these are kept whatever `cacheBytes` says. */
  readonly pinned: readonly string[]
}

/** All that is said must fit. What names a tag or a class fits changes that bring a version, as they bring it. */
export interface EdgePriority {
  readonly prefix?: string
  /** `name=value`. */
  readonly tag?: string
  readonly storageClass?: string
}

export const defaultEdge = {
  quotaBytes: 50 * 1024 ** 3,
  quotaAgeMs: 30 * 24 * 3_600_000,
  cacheBytes: 10 * 1024 ** 3,
} as const

export const defaultRpoMs = 60_000
export const defaultRetentionMs = 7 * 24 * 3_600_000
export const defaultRetentionBytes = 50 * 1024 ** 3

/** Time of an entry in the hybrid logical clock of the region that made it. */
export interface EntryTime {
  readonly ms: number
  readonly counter: number
}

/** A stored run of bytes in the region of origin, which serves it under the write id. */
export interface ReplicatedBody {
  readonly writeId: WriteId
  readonly byteLength: number
}

/** A version as it travels. */
export interface ReplicatedVersion extends Omit<ObjectRecord, 'key' | 'modifiedMs' | 'layout'> {
  readonly uploadId?: string
  /** Time and region of the last change of tags or access list (10 bytes); absent: never changed. */
  readonly changed?: Uint8Array
  /** In order; empty for a body of no bytes and for one that is `inline`. */
  readonly bodies: readonly ReplicatedBody[]
  /** The whole body, when it is small. */
  readonly inline?: Uint8Array
}

/** One entry of an outbox. Version ids name `null` versions too: by the id that is behind the `null`. */
export type ReplicatedChange =
  /** A version or delete marker came to be. */
  | (MadeOnce & { readonly type: 'put'; readonly key: string; readonly version: ReplicatedVersion })
  /** Tags or access list of a version changed. */
  | {
      readonly type: 'attributes'
      readonly key: string
      readonly versionId: VersionId
      readonly changed: Uint8Array
      readonly tags: Readonly<Record<string, string>>
      readonly acl?: string
    }
  /** A version is gone for good. `isNull`: and with it every older `null` version of the key. */
  | { readonly type: 'purge'; readonly key: string; readonly versionId: VersionId; readonly isNull: boolean }
  | VersioningChange
  /** Who may do what in the bucket has changed, or is told once more: the entry's `access` says it. */
  | { readonly type: 'access' }
  | RangeChange
  /**
   * Of a comparison: a hash over the versions of a range of keys (as in `range`) that were made up to `before`, as they are at this
   * place of the outbox. `root`, with the last range: the hash chain over the hashes of the whole pass.
   */
  | {
      readonly type: 'digest'
      readonly after: string
      readonly through?: string
      readonly before: EntryTime
      readonly hash: Uint8Array
      readonly root?: Uint8Array
    }
  /**
   * Where several regions write: at this place of its outbox the region has applied these logs up to these entries, without a gap. Who has
   * this entry gets nothing more from the region that does not know of the deletes in front of them.
   */
  | {
      readonly type: 'passed'
      readonly seen: readonly (readonly [region: number, logId: string, lsn: number])[]
    }

export interface OutboxEntry {
  /** 1, 2, ... without a gap. */
  readonly lsn: number
  readonly epoch: number
  /** Region that made the change. */
  readonly origin: number
  readonly time: EntryTime
  readonly change: ReplicatedChange
  /** Who may do what in the bucket from this place on: with the first entry, with every change, and whenever others may lack it. */
  readonly access?: readonly AccessSetting[]
}

/** An entry as it is stored and sent: `chain` is the SHA-256 over the chain of the entry before it and `bytes`. */
export interface OutboxRow {
  readonly lsn: number
  readonly bytes: Uint8Array
}

/** A place in an outbox: everything up to and with `lsn`. */
export interface LogPoint {
  readonly lsn: number
  readonly chain: Uint8Array
}

/** An entry of the outbox of a region. */
export interface LogPlace {
  readonly region: number
  readonly logId: string
  readonly lsn: number
}

/** What a region remembers of versions that are gone for good. */
export interface TombstoneNumbers {
  readonly held: number
  readonly collected: number
  /** Other regions are to be told what of theirs was taken over. */
  readonly isTellDue: boolean
  /** Some may be settled that were not when they were last looked at. */
  readonly isCollectDue: boolean
  /** A pass over them is under way. */
  readonly isSweeping: boolean
}

export interface OutboxState {
  /** Hex, 24 characters: another log has another one, also under the same bucket name. */
  readonly id: string
  readonly head: LogPoint
  readonly headTime: EntryTime
  /** Entries up to here are not kept any more. */
  readonly trimmed: LogPoint
  /** Of the entries that are kept; of their rows, and of the bodies that they name. */
  readonly rowBytes: number
  readonly bodyBytes: number
  /** A full synchronization is being written: it began behind `from`, and has come to the key `after`, and of the next one to a version. */
  readonly backfill?: { readonly from: number; readonly after: string; readonly within?: BackfilledVersion }
  /** Last entry of the last full synchronization; 0: none is complete. */
  readonly backfilledThrough: number
  /** A comparison is under way: it has come to the key `after`. */
  readonly comparing?: { readonly after: string; readonly root: Uint8Array }
  /** A member has come back after a long time: what it has is to be compared. */
  readonly isCompareDue?: true
  /** The last comparison that came to its end. */
  readonly compared?: ComparedPoint
  /** Who may do what in the bucket is said in front of all that comes; absent: the next entry says it. */
  readonly isAccessTold?: true
}

/** The end of a comparison; `ms` by the clock of the region that says so. */
export interface ComparedPoint {
  readonly lsn: number
  readonly ms: number
  /** Over all versions of the bucket. */
  readonly root: Uint8Array
}

/** What an edge keeps for its hub. */
export interface EdgeBacklog {
  /** Changes without a place in the outbox yet: they get one in the order of priority when the hub asks. */
  readonly waiting: number
  /** By priority, as many as the rule names and one more. */
  readonly waitingByPriority: readonly number[]
  /** Of all that the hub lacks or has not said to have: changes, and the bodies that they name. */
  readonly entries: number
  readonly bytes: number
  /** When the oldest of them was made; undefined: there is none. */
  readonly oldestMs?: number
}

/** A range of keys behind `after` up to and with `through`; absent: to the end. */
export interface KeyRange {
  readonly after: string
  readonly through?: string
}

/** What the region of origin knows of a member. */
export interface MemberState {
  readonly region: number
  /** Everything up to here is applied and durable there. */
  readonly acknowledged: number
  /** Time of that entry, 0 for none. */
  readonly acknowledgedTime: EntryTime
  /** It fell behind the retention, or is new: it takes up the outbox at the beginning of a full synchronization. */
  readonly needsFullSync: boolean
  /** Entries that the member has given up by itself, ascending, at most `replicationLimits.deadTold`; absent: none. */
  readonly dead?: readonly number[]
  /** It was told to begin a full synchronization at `acknowledged` and has not come beyond: all that it is known to have. */
  readonly held?: number
  /**
   * Where several regions write: it has a place in this outbox, which it said before it was handed the first entry. Who asks without one
   * later has lost what it knew of deletes.
   */
  readonly hasBegun?: true
}

/** How far this region has come in the outbox of another. */
export interface CursorState {
  readonly source: number
  readonly logId: string
  /** Received without a gap: applied, or kept in the retry table. */
  readonly received: LogPoint
  /** Time of the entry at `received`. */
  readonly receivedTime: EntryTime
  /** Applied without a gap: what the source is told. */
  readonly watermark: number
  /** Entries in the retry table, dead letters among them; their bytes, absent until one has come since that is counted. */
  readonly retries: number
  readonly retryBytes?: number
  readonly dead: number
  /** A full synchronization is under way: the content is between two states. */
  readonly synchronizing: boolean
  /** Absent until the source has compared something. */
  readonly comparison?: ComparisonState
  /** What the source last said to have applied of other logs, and the entry in which it did. */
  readonly passed?: { readonly at: number; readonly seen: readonly LogPlace[] }
  /** Entries up to here were applied before this region began to synchronize in full once more. */
  readonly reached?: number
}

/** What comparisons with a source have found. */
export interface ComparisonState {
  /** Compared since the bucket follows the source, and how many of them differed. */
  readonly ranges: number
  readonly differences: number
  /** Of the pass under way: the root so far, and whether every range could be compared. */
  readonly root: Uint8Array
  readonly isWhole: boolean
  /** To be asked for again. */
  readonly differing: readonly KeyRange[]
  /** The last pass whose root was the same here. */
  readonly agreed?: ComparedPoint
}

/** One pulled entry on its way into the catalog. */
export interface PulledEntry {
  readonly bytes: Uint8Array
  /** Where this region has put the body; absent: `empty`, or nothing to store. */
  readonly layout?: Layout
  /** It could not be fetched: into the retry table with it. */
  readonly failure?: string
  /** SHA-256 of the entry, whose bytes have come by `put-entry-part` then; `bytes` is empty. */
  readonly inParts?: Uint8Array
  readonly resolution?: Resolution
}

export { isRetryTableFull, replicationLimits } from './replication-limits.ts'
export type { RetryRecord } from './retry-record.ts'

export type ReplicationStatus = 'pending' | 'completed' | 'failed' | 'replica'

/** The reads of the catalog that replication needs, synchronous like all others. */
export interface ReplicationReads extends ConflictReads {
  rule(bucketId: number): ReplicationRule | undefined
  /** It was recovered, and takes no part in the replication. */
  isForgetful(bucketId: number): boolean
  /** It was taken away in region `here`, and must not be given to the bucket of this name again. */
  isForgotten(bucket: string, rule: ReplicationRule, here: number): boolean
  /** Ids of buckets that have a rule, ascending, behind `after`. */
  ruledBuckets(after: number, limit: number): readonly number[]
  outbox(bucketId: number): OutboxState | undefined
  members(bucketId: number): readonly MemberState[]
  /** Entries behind `after`, at most `limit`, and no more than `maxBytes` unless it is one. LOG_TRIMMED. */
  entries(bucketId: number, after: number, limit: number, maxBytes: number): readonly OutboxRow[]
  /** Chain and time of an entry that is kept, or of the last one trimmed (its time is 0 then). */
  entryAt(bucketId: number, lsn: number): (LogPoint & { readonly time: EntryTime }) | undefined
  cursor(bucketId: number, source: number): CursorState | undefined
  cursors(bucketId: number): readonly CursorState[]
  /** Behind `after`, by lsn: at most `limit`, and of many bytes fewer. None: there are no more. */
  retries(bucketId: number, source: number, after: number, limit: number): readonly RetryRecord[]
  /** PROTOCOL_ERROR for anything that is no entry. */
  decode(bytes: Uint8Array): OutboxEntry
  /**
   * Of one version, the newest when none is named. `replica`: it was made in another region. Undefined: the bucket or the key is not
   * replicated, or there is no such version. `failed`: some member has given it up; an operator may have it tried again there.
   */
  status(bucketId: number, key: string, version?: VersionId | 'null'): ReplicationStatus | undefined
  /** Undefined: this region is no edge of the bucket. */
  backlog(bucketId: number): EdgeBacklog | undefined
  /** Whether this region, an edge, has changed the key and the hub has not got it. */
  isUnshipped(bucketId: number, key: string): boolean
  /** Such keys, ascending, that begin with `prefix` and come behind `after`. */
  unshippedKeys(bucketId: number, prefix: string, after: string, limit: number): readonly string[]
  /** One version, the newest when none is named, in the form of an entry: for an edge that reads it. Undefined: there is none. */
  versionEntry(bucketId: number, key: string, version?: VersionId | 'null'): Uint8Array | undefined
  /** What such an entry of region `from` tells region `here`, without a body. PROTOCOL_ERROR. */
  recordOf(entry: Uint8Array, from: number, here: number): ObjectRecord
  /** `here`: this region's id. Undefined: only one region writes the bucket, and nothing has to be remembered. */
  tombstones(bucketId: number, here: number): TombstoneNumbers | undefined
  /** Of a bucket of region `here`, this one. */
  access(bucket: BucketRecord, here: number): BucketAccess
  /** All of them; undefined: not known. */
  accessSettings(bucket: BucketRecord, here: number): readonly AccessSetting[] | undefined
  /** Whether a version with this very id is here. */
  hasVersion(bucketId: number, key: string, versionId: VersionId): boolean
  /** Whether the body of a version has to be fetched: it is not here, or with another content that does not last. */
  isWanted(bucketId: number, key: string, version: ReplicatedVersion): boolean
}

export type ReplicationCommand =
  /**
   * Gives a bucket its rule, or takes it away (null). CONFLICT unless its epoch follows the one in force (the same document again is a success);
   * INVALID_ARGUMENT: this region is no member; BUCKET_NOT_EMPTY: a bucket with content would become a copy. `done: false`: more is to be removed.
   */
  | {
      readonly type: 'set-replication'
      readonly bucketId: number
      readonly rule: ReplicationRule | null
      /** Of the hub's bucket, told to an edge, which follows no outbox. */
      readonly versioning?: VersioningState
      readonly access?: readonly AccessSetting[]
    }
  /**
   * What was pulled from a source, in the order of its outbox, behind the cursor. Idempotent: a batch that the cursor has passed
   * is a success. CONFLICT when it does not begin at the cursor; STALE_EPOCH when the source may not write any more; CLOCK_SKEW
   * when the source's clock is more than a minute ahead; OVERLOADED when too many entries wait in the retry table.
   */
  | {
      readonly type: 'apply-remote'
      readonly bucketId: number
      readonly source: number
      readonly logId: string
      /** The cursor that the batch was pulled from. */
      readonly after: number
      readonly entries: readonly PulledEntry[]
    }
  /** A part of the next entry, which is longer than a record of the region's log. Part 0 forgets those of an earlier try. CONFLICT: the cursor is elsewhere. */
  | {
      readonly type: 'put-entry-part'
      readonly bucketId: number
      readonly source: number
      readonly logId: string
      readonly lsn: number
      readonly part: number
      readonly bytes: Uint8Array
    }
  /** One entry of the retry table was tried again: `layout` when its body is here, else `failure`. CONFLICT unless it is its key's first, where the order counts (`single`). */
  | {
      readonly type: 'retry-remote'
      readonly bucketId: number
      readonly source: number
      readonly lsn: number
      readonly layout?: Layout
      readonly failure?: { readonly reason: string; readonly nextMs: number; readonly dead: boolean }
    }
  /** Begins to follow a source, at the place where a full synchronization begins. What waited in the retry table is dropped. */
  | {
      readonly type: 'set-cursor'
      readonly bucketId: number
      readonly source: number
      readonly logId: string
      readonly at: LogPoint
    }
  /** A member says how far it has come, and what it has given up. INVALID_ARGUMENT beyond the head. */
  | {
      readonly type: 'acknowledge-outbox'
      readonly bucketId: number
      readonly region: number
      readonly logId: string
      readonly lsn: number
      readonly dead?: readonly number[]
    }
  /** A member cannot go on where it was: a full synchronization begins, unless one is under way that it can join. */
  | { readonly type: 'start-full-sync'; readonly bucketId: number; readonly region: number }
  /** The next step of a full synchronization. */
  | { readonly type: 'backfill'; readonly bucketId: number }
  /** The next step of a comparison of the copies with what is here; begins one when none is under way. */
  | { readonly type: 'compare-content'; readonly bucketId: number }
  /** A copy differs in a range: writes it into the outbox again. */
  | ({ readonly type: 'send-range'; readonly bucketId: number } & KeyRange)
  /**
   * At an edge: gives the most urgent changes that wait their places behind the head of the outbox, as many as `replicationLimits`
   * says; one at least when the hub has come to `askedFrom`, the head.
   */
  | { readonly type: 'stage-outbox'; readonly bucketId: number; readonly askedFrom: number }
  /**
   * At an edge: what the hub has under a key, or as the version of it that is named; absent: nothing. Kept as the edge's own, unless the
   * edge has changed the key meanwhile (`kept: false`).
   */
  | {
      readonly type: 'cache-version'
      readonly bucketId: number
      readonly key: string
      readonly version?: VersionId | 'null'
      readonly entry?: Uint8Array
      readonly layout?: Layout
    }
  /** At an edge: gives up versions that the hub has. Those of keys that the hub has not got all changes of stay. */
  | {
      readonly type: 'evict-versions'
      readonly bucketId: number
      readonly versions: readonly (readonly [key: string, versionId: VersionId])[]
    }
  /** Writes into the outbox what of other logs is applied here, when deletes among it have not been told of. */
  | { readonly type: 'tell-passed'; readonly bucketId: number }
  /** Writes into the outbox who may do what in the bucket, unless that was told. */
  | { readonly type: 'tell-access'; readonly bucketId: number }
  /** The next step of a pass over the tombstones: removes those that nothing can need any more. */
  | { readonly type: 'collect-tombstones'; readonly bucketId: number }
  /** Removes what all have, and what the retention says. `done: false`: there is more. */
  | { readonly type: 'trim-outbox'; readonly bucketId: number }

export interface ReplicationResults {
  'set-replication': { readonly done: boolean }
  'apply-remote': { readonly applied: number; readonly retries: number }
  'retry-remote': { readonly applied: boolean }
  'put-entry-part': Record<string, never>
  'set-cursor': Record<string, never>
  'acknowledge-outbox': Record<string, never>
  'start-full-sync': Record<string, never>
  backfill: { readonly done: boolean }
  'compare-content': { readonly done: boolean }
  'send-range': Record<string, never>
  'stage-outbox': { readonly staged: number }
  'cache-version': { readonly kept: boolean }
  'evict-versions': { readonly evicted: number }
  'tell-passed': Record<string, never>
  'tell-access': Record<string, never>
  'collect-tombstones': { readonly collected: number; readonly done: boolean }
  'trim-outbox': { readonly done: boolean; readonly dropped: readonly number[] }
}
