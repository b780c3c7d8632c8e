import type { EdgeBacklog, EdgeRule, ReplicationRule } from './replication.ts'

/** How replication is shown and steered: one list for the command, the admin service and metrics. */
export interface OutgoingStatus {
  readonly region: number
  /** Everything up to here is applied and durable there. */
  readonly acknowledged: number
  readonly lagEntries: number
  /** Age of the oldest entry that the region lacks, 0 for none: what would be lost with this region now. */
  readonly oldestUnshippedMs: number
  readonly needsFullSync: boolean
  /** It has not yet got all that was there before it joined or fell behind. */
  readonly synchronizing: boolean
  /** Entries that it has given up; an operator of that region may have them tried again. */
  readonly dead: number
}

export interface IncomingStatus {
  readonly region: number
  readonly watermark: number
  /** The other region's head, as far as it has been told. */
  readonly head: number
  readonly lagEntries: number
  /** Time since the other region was last heard of; -1: never by this process. */
  readonly heardMs: number
  readonly retries: number
  readonly dead: number
  readonly synchronizing: boolean
  /** Ranges of keys that were compared with that region, and how many of them differed and were asked for again. */
  readonly comparedRanges: number
  readonly differences: number
  /** When all of the bucket was last found to be the same; 0: not yet. And the root of that comparison, hex. */
  readonly agreedMs: number
  readonly agreedRoot: string
  /** Why it does not go on, as the node that follows has last seen it: a full disk here, say. Empty: it does, or another node follows. */
  readonly problem: string
}

export interface BucketReplicationStatus {
  readonly bucket: string
  readonly rule: ReplicationRule
  /** Clients of this region may write; without it the numbers of the outbox are 0. */
  readonly isWritten: boolean
  readonly head: number
  readonly entriesKept: number
  readonly bytesKept: number
  /** This region is an edge of the bucket. */
  readonly backlog?: EdgeBacklog
  readonly isBackfilling: boolean
  readonly outgoing: readonly OutgoingStatus[]
  readonly incoming: readonly IncomingStatus[]
  /** The last whole comparison of the copies with what is here; 0 and empty: none yet. */
  readonly comparedMs: number
  readonly comparedRoot: string
  /** Deletes that are remembered so that no late copy undoes them, and those that need not be any more. Where several regions write. */
  readonly tombstonesHeld: number
  readonly tombstonesCollected: number
  /** Some region is further behind than the rule's objective. */
  readonly isBreached: boolean
}

export type ReplicationReport = readonly BucketReplicationStatus[]

export interface ReplicateRequest {
  readonly bucket: string
  readonly mode: ReplicationRule['mode']
  /** The other regions, by id. */
  readonly regions: readonly number[]
  readonly prefix: string
  /** 0: the default, or what the rule says. */
  readonly rpoMs: number
  /** Absent: as it is, or an alert. */
  readonly onBreach?: 'alert' | 'throttle'
  /** The other regions are edges, with all that is not said as it is, or the default. */
  readonly edge?: Partial<Omit<EdgeRule, 'regions'>>
}

export interface ReplicationAdministration {
  report(): Promise<ReplicationReport>
  /** NO_SUCH_BUCKET; INVALID_ARGUMENT for a region that this one is not joined with; what `set-replication` says. */
  replicate(request: ReplicateRequest): Promise<ReplicationReport>
  /** The copies stay, as buckets of their regions once they are taken off there, too. */
  stop(bucket: string): Promise<ReplicationReport>
  /** Begins to compare the copies with what is here, unless that is under way; ranges that differ are repaired. NO_SUCH_REPLICATION. */
  compare(bucket: string): Promise<ReplicationReport>
  /** Tries again what waits for a bucket, dead letters too. */
  retry(bucket: string): Promise<ReplicationReport>
}
