import type { VersionId } from './object-model.ts'

/** The last version of a key of which a full synchronization has written a part. */
export interface BackfilledVersion {
  readonly key: string
  readonly versionId: VersionId
}

/** Bounds of what replication keeps and of what regions tell each other. */
export const replicationLimits = {
  members: 16,
  formerMembers: 256,
  /** Of one `apply-remote`. */
  entries: 256,
  /** Of an entry that one record of the region's log has no room for, and how many of them one entry may have: 17 MiB in all. */
  entryPartBytes: 512 * 1024,
  entryParts: 34,
  /** Entries that a bucket's retry table keeps for one source, and their bytes; beyond either, no more is taken in. */
  retries: 10_000,
  retryBytes: 64 * 1024 * 1024,
  /** Bytes of the entries of one page of them, unless its first one alone has more. */
  retryPageBytes: 4 * 1024 * 1024,
  /** Versions of one step of a full synchronization. */
  backfillVersions: 256,
  /** Versions of one range of a comparison, unless one key has more. */
  compareVersions: 256,
  /** Ranges that differ and are asked for again at once. */
  rangesAsked: 16,
  reasonChars: 500,
  /** Dead letters that a member tells the source of; there may be more. */
  deadTold: 256,
  edgePriorities: 15,
  edgePinned: 64,
  /** Changes of an edge that have a place in the outbox and are not acknowledged: what is more urgent can be that far behind. */
  stagedEntries: 512,
  /** Of one `evict-versions`. */
  evictedVersions: 256,
  stagedBodyBytes: 64 * 1024 * 1024,
} as const

/**
 * Whether a retry table takes no more. The bytes go beyond their bound by one batch, of an entry of 17 MiB at most. Nothing is lost: what is not
 * taken in stays in the source's outbox as long as the rule says, and after that comes by a full synchronization.
 */
export const isRetryTableFull = ({
  retries,
  retryBytes = 0,
}: {
  readonly retries: number
  readonly retryBytes?: number
}): boolean => retries >= replicationLimits.retries || retryBytes >= replicationLimits.retryBytes
