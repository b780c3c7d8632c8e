import type { EntryTime } from './replication.ts'

/**
 * Failover of replicated buckets. A group is a set of buckets that have one primary region together. Voters (the regions of the
 * group, and witnesses that hold nothing but this) decide by majority which region that is; who won keeps it by a lease, and every
 * change of the primary is a new epoch. The catalog of each region and of each witness keeps a `GroupState` for each group.
 */
export interface GroupRecord {
  readonly name: string
  /** Region ids of those that hold the buckets, ascending. */
  readonly regions: readonly number[]
  /** Region ids of those that only vote, ascending. */
  readonly witnesses: readonly number[]
  /** Names, ascending. */
  readonly buckets: readonly string[]
  /** Of the buckets, those that acknowledge a write when other regions have it, too. */
  readonly syncBuckets: readonly string[]
  /** Whether another region takes over by itself when the primary is lost. Needs three voters. */
  readonly automatic: boolean
  /** At most one automatic change of the primary in this time, ms. */
  readonly flapMs: number
  /** How long a voter holds what it has granted to a primary, ms of its monotonic clock. */
  readonly leaseMs: number
  readonly primary: number
  /** Grows with every change of the primary; never used twice. */
  readonly epoch: number
  /** Grows with every change of what an operator may change, within one epoch. */
  readonly revision: number
  /** Wall clock of the last change that nobody asked for; 0: none. */
  readonly automaticMs: number
  /** The last changes of the primary, oldest first. */
  readonly reigns: readonly Reign[]
}

/** A region became the primary. */
export interface Reign {
  readonly epoch: number
  readonly primary: number
  /** Its clock at that moment: everything that it made before is older, everything since is newer. */
  readonly start: EntryTime
  readonly cause: 'made' | 'planned' | 'by-hand' | 'automatic'
  /**
   * For how long nobody acknowledged writes, ms: since the primary before stopped them (planned), or since it was last heard of, which is some
   * seconds before it can have failed. Absent: not known.
   */
  readonly outageMs?: number
  /** How far it had come in what was written before. */
  readonly taken: readonly TakenBucket[]
}

/** Where a new primary had come to in the outbox of the one before: what is behind it there is lost to the group. */
export interface TakenBucket {
  readonly bucket: string
  /** Region that wrote until then, and in which outbox. */
  readonly from: number
  readonly logId: string
  readonly received: number
  /** Up to `received`, entries that had not been applied. */
  readonly missing: readonly number[]
  /** Everything up to this time of that region was applied. */
  readonly time: EntryTime
}

/** The greatest epoch that a voter has given its vote to, and for whom. */
export interface Ballot {
  readonly epoch: number
  readonly primary: number
}

/** What a region of several nodes has granted: any of them may be asked, so all must know, and each counts it from when it sees it. */
export interface LeaseGrant {
  /** Position of the entry in the region's log: no two grants have the same. */
  readonly at: number
  /** Region that may rely on it. */
  readonly to: number
  readonly epoch: number
  /** The longest that was granted in this epoch: an operator may have made it shorter since. */
  readonly leaseMs: number
}

export interface GroupState {
  readonly record: GroupRecord
  readonly ballot: Ballot
  /** Region by which this one first heard of the group. Absent: made here, or not known. */
  readonly introducedBy?: number
  /** Absent: nothing yet, or this voter is one process and keeps what it grants in memory. */
  readonly grant?: LeaseGrant
  /**
   * The region was recovered from a node that may lack the last entries, votes and grants among them: it votes for nobody, grants nothing and
   * leads nothing until the group is made anew.
   */
  readonly isRecovered?: true
  /** The primary takes no writes: it hands over. */
  readonly isFrozen: boolean
  /** Position of the entry that has stopped writes; of two that hand over one of them has to see that it was not its own. */
  readonly frozenAt?: number
  /** Buckets that this region wrote until another took over, and whose loss is still to be listed. */
  readonly diverged: readonly Divergence[]
  /** Of this region's own writing, where no reign tells how far its successor had come. */
  readonly estimates: readonly Reign[]
}

export interface Divergence {
  readonly bucketId: number
  readonly bucket: string
  /** Epoch that ended. */
  readonly epoch: number
  readonly received: number
  readonly missing: readonly number[]
  /** The next entry to look at. */
  readonly next: number
  /** Nobody knows how far the others had come: everything that was not acknowledged counts as lost. */
  readonly isEstimate: boolean
  /** Only what is newer than this counts, when it is an estimate. */
  readonly since: EntryTime
}

/** One change that a former primary had made and its successor never received. */
export interface LostChange {
  readonly bucket: string
  /** Epoch in which it was made. */
  readonly epoch: number
  readonly lsn: number
  readonly kind: 'put' | 'delete-marker' | 'purge' | 'attributes' | 'versioning' | 'access'
  /** Empty for `versioning` and `access`. */
  readonly key: string
  /** As S3 shows it; empty where there is none. */
  readonly versionId: string
  readonly byteLength: number
  readonly madeMs: number
}

/** How much of a bucket a region holds; greater is more recent. */
export interface GroupPosition {
  readonly bucket: string
  /** Epoch of the primary whose outbox it follows (or writes). */
  readonly epoch: number
  /** Entries applied of that outbox, without a gap. */
  readonly watermark: number
  /** False while it synchronizes in full: part of it may be missing. */
  readonly isWhole: boolean
}

/** The first `sync` bucket of which a region holds (`own`) something that another one (`positions`) lacks. */
export function firstBehind(
  { syncBuckets }: Pick<GroupRecord, 'syncBuckets'>,
  positions: readonly GroupPosition[],
  own: readonly GroupPosition[],
): string | undefined {
  return own.find((mine) => syncBuckets.includes(mine.bucket) && !isAsRecent(positions, mine))?.bucket
}

function isAsRecent(positions: readonly GroupPosition[], own: GroupPosition): boolean {
  if (own.epoch === 0) return true
  const there = positions.find(({ bucket }) => bucket === own.bucket)
  if (there === undefined || !there.isWhole) return false
  return there.epoch > own.epoch || (there.epoch === own.epoch && there.watermark >= own.watermark)
}

export const failoverLimits = {
  groups: 64,
  buckets: 256,
  reigns: 24,
  /** Of `missing`, of all buckets of a reign; with more of them everything behind the first counts. */
  missing: 1000,
  /** Of what the reigns of a record tell in `taken`, as JSON: with everything else it fits into one message of voters. */
  takenBytes: 512 * 1024,
  name: 64,
  /** Gateways of a region that others are told of. */
  endpoints: 16,
} as const

/** Why a region that was recovered takes no part in deciding (`GroupState.isRecovered`). */
export const recoveredReason = (group: string): string =>
  `this region was recovered and may have forgotten votes: it takes no part in the group ${group} until that is removed and made anew`

export const failoverDefaults = { leaseMs: 8_000, flapMs: 600_000 } as const

/**
 * Rates of two monotonic clocks differ by less than this. A primary counts its lease so much shorter than its voters do, and a margin
 * on top of that for what lies between looking at the clock and the answer leaving.
 */
export const clockDrift = 0.01
export const leaseMarginMs = 250

/** How long after it asked for it a primary may rely on a lease. */
export const usableLeaseMs = (leaseMs: number): number => leaseMs * (1 - 2 * clockDrift) - leaseMarginMs

/** Rules of a group's buckets count in two parts: the epoch of the group, and changes within it. */
export const ruleEpochsOfGroup = 1024
export const groupEpochOf = (ruleEpoch: number): number => Math.floor(ruleEpoch / ruleEpochsOfGroup)

export const votersOf = ({ regions, witnesses }: Pick<GroupRecord, 'regions' | 'witnesses'>): number[] =>
  [...regions, ...witnesses].toSorted((left, right) => left - right)

export const majorityOf = (voters: number): number => Math.floor(voters / 2) + 1

/** Two voters cannot tell a dead one from a cut path: then an operator decides, and nobody needs a lease. */
export const hasLeases = (record: Pick<GroupRecord, 'regions' | 'witnesses'>): boolean =>
  record.regions.length + record.witnesses.length >= 3

/** Regions, the primary among them, that must have a write of a `sync` bucket: so many that every majority knows of one. */
export const syncCopies = (record: Pick<GroupRecord, 'regions' | 'witnesses'>): number => {
  const voters = record.regions.length + record.witnesses.length
  return Math.max(2, Math.min(record.regions.length, voters - majorityOf(voters) + 1))
}

export const isNewerRecord = (
  left: Pick<GroupRecord, 'epoch' | 'revision'>,
  right: Pick<GroupRecord, 'epoch' | 'revision'>,
): boolean => left.epoch > right.epoch || (left.epoch === right.epoch && left.revision > right.revision)

export type GroupCommand =
  /**
   * What an operator of the primary says, or another region tells (`toldBy`). STALE_EPOCH when a newer one is known or promised;
   * INVALID_ARGUMENT for what is no group; ACCESS_DENIED for what another region has no say in.
   */
  | {
      readonly type: 'put-group'
      readonly record: GroupRecord
      /**
       * Region that tells of it: no bucket joins the group by that. Absent: an operator of this region says so, and its buckets join. Entries of
       * software that did not tell the two apart have none, and are applied as they were then.
       */
      readonly toldBy?: number
    }
  /** The group is no more; its buckets stay replicated as they are. */
  | { readonly type: 'remove-group'; readonly name: string }
  /** Gives this voter's vote, for good. STALE_EPOCH unless it is the greatest epoch seen; the same again is a success. */
  | {
      readonly type: 'vote-group'
      readonly name: string
      readonly epoch: number
      readonly primary: number
      /** The last grant (0: none) that has been waited for: STALE_EPOCH when another node of the region has granted since. */
      readonly grantedAt?: number
      /** What the candidate holds: STALE_EPOCH when this region has more of a `sync` bucket. Absent in a planned change. */
      readonly positions?: readonly GroupPosition[]
      /** Of a primary that hands over: STALE_EPOCH unless writes are stopped still, and by this entry. */
      readonly frozenAt?: number
    }
  /**
   * A region of several nodes grants the primary its lease. STALE_EPOCH when it is the primary no more, or a later one is promised:
   * decided in the order of the log, and so against every vote of every node.
   */
  | { readonly type: 'grant-lease'; readonly name: string; readonly epoch: number; readonly primary: number }
  /** This region is the primary of an epoch that a majority has voted for. CONFLICT when it does not hold the whole. */
  | {
      readonly type: 'take-group'
      readonly name: string
      readonly epoch: number
      readonly cause: Reign['cause']
      /** -1: not known. */
      readonly outageMs?: number
    }
  /** The primary takes no more writes, or takes them again. STALE_EPOCH when it is the primary no more. */
  | {
      readonly type: 'freeze-group'
      readonly name: string
      readonly epoch: number
      readonly isFrozen: boolean
    }
  /** The next step of listing what a former primary had not handed over. */
  | { readonly type: 'list-losses'; readonly name: string; readonly bucketId: number }

export interface GroupResults {
  'put-group': Record<string, never>
  'remove-group': Record<string, never>
  /** The record as it was then: how long the lease is. */
  'vote-group': { readonly record: GroupRecord }
  'grant-lease': { readonly record: GroupRecord }
  'take-group': { readonly record: GroupRecord }
  /** Position of the entry. */
  'freeze-group': { readonly at: number }
  'list-losses': { readonly done: boolean }
}

/** What failover reads of the catalog, synchronous. */
export interface GroupReads {
  group(name: string): GroupState | undefined
  /** Ascending by name. */
  groups(): readonly GroupState[]
  /** What this region (`here`) holds of the group's buckets, in the order of the record. */
  positions(name: string, here: number): readonly GroupPosition[]
  /** The first so many, in the order in which they were made. */
  losses(bucketId: number, limit: number): readonly LostChange[]
}
