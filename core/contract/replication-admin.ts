import type { ReplicationRule } from './replication.ts'

/** How replication is shown and steered: one list for the command, the admin service and metrics. */
export interface OutgoingStatus {
  readonly region: number
  /** Everything up to here is applied and durable there. */
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
  /** Time since the other region was last heard of; -1: never by this process. */
  readonly heardMs: number
  readonly retries: number
  readonly dead: number
  readonly synchronizing: boolean
}

export interface BucketReplicationStatus {
  readonly bucket: string
  readonly rule: ReplicationRule
  /** Clients of this region may write; without it the numbers of the outbox are 0. */
  readonly isWritten: boolean
  readonly head: number
  readonly entriesKept: number
  readonly bytesKept: number
  readonly isBackfilling: boolean
  readonly outgoing: readonly OutgoingStatus[]
  readonly incoming: readonly IncomingStatus[]
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
}

export interface ReplicationAdministration {
  report(): Promise<ReplicationReport>
  /** NO_SUCH_BUCKET; INVALID_ARGUMENT for a region that this one is not joined with; what `set-replication` says. */
  replicate(request: ReplicateRequest): Promise<ReplicationReport>
  /** The copies stay, as buckets of their regions once they are taken off there, too. */
  stop(bucket: string): Promise<ReplicationReport>
  /** Tries again what waits for a bucket, dead letters too. */
  retry(bucket: string): Promise<ReplicationReport>
}
