import type { GradualActivation } from './policy-deployment.ts'

/**
 * What joined regions share beside data: access keys, policies, and how they are. All of it is asked for by who receives it, over the
 * tunnels: a region that was cut off comes to the state of the day when it is back, and takes nothing that its operator did not allow.
 */

/** What a region takes of another: said by its own operator, one region at a time. */
export const acceptances = ['keys', 'policies'] as const
export type Acceptance = (typeof acceptances)[number]

/** A policy that a region offers to others, kept in its record of the federation. */
export interface Publication {
  readonly name: string
  readonly digest: string
  readonly config: string
  /** Whether it is to serve there, or is only pushed. */
  readonly activate: boolean
  readonly gradual?: GradualActivation
  /** Ascending, each once. */
  readonly regions: readonly number[]
  /** Of the record of the federation that said it first: a later one of the same name takes its place. */
  readonly revision: number
  readonly sinceMs: number
}

/** What became of another region's publication here. Kept: what was refused, or rolled back here, is not taken again. */
export interface TakenPublication {
  readonly name: string
  readonly digest: string
  readonly revision: number
  readonly outcome: 'accepted' | 'refused'
  /** Why it was refused; otherwise empty. */
  readonly reason: string
  readonly atMs: number
}

/** How a region is, as it tells others. */
export interface RegionHealth {
  readonly version: string
  readonly role: 'region' | 'edge' | 'witness'
  readonly state: 'starting' | 'ready' | 'degraded' | 'stopping'
  /** The first few. */
  readonly problems: readonly string[]
  /** Buckets that it writes and others copy: age of the oldest change that some region lacks (its RPO), and how much is kept. */
  readonly lagMs: number
  readonly backlogEntries: number
  readonly backlogBytes: number
  /** Buckets whose objective is not met. */
  readonly breachedBuckets: number
  /** Changes that it, or another for it, has given up. */
  readonly deadLetters: number
  /** Failover groups that it is a voter of. */
  readonly groups: readonly SharedGroup[]
}

export interface SharedGroup {
  readonly name: string
  readonly epoch: number
  readonly primary: number
  /** It is the primary, and acknowledges writes. */
  readonly isWritable: boolean
  /** As `GroupStatus` has them, of what that region knows; -1: not known to it. */
  readonly lastRtoMs: number
  readonly lastRpoMs: number
}

/** One joined region as this one sees it. */
export interface SharedRegion {
  readonly regionId: number
  readonly name: string
  readonly isConnected: boolean
  /** Since it last told how it is; -1: not to this process. */
  readonly heardMs: number
  /** As of then; absent: never heard. */
  readonly health?: RegionHealth
  /** What is taken of it here. */
  readonly accepts: readonly Acceptance[]
  /** What it takes of this region; as of then. */
  readonly isAccepting: readonly Acceptance[]
  /** Keys of this region that it is to know. */
  readonly keysGiven: number
  /** For how long it has lacked a change of them, a revocation among others; 0: it has them as they are; -1: it has not told. */
  readonly keysLagMs: number
  /** Its keys that are known here. */
  readonly keysTaken: number
  /** Why its keys are not taken, or not all; otherwise empty. */
  readonly keysProblem: string
}

/** A publication of this region at one of the regions that it names. */
export interface PublicationStatus {
  readonly name: string
  readonly digest: string
  readonly regionId: number
  readonly state: 'accepted' | 'refused' | 'pending' | 'unreachable'
  readonly reason: string
  /** What serves there under the name, as `digest` and percent; as of when it was last heard of. */
  readonly serves: readonly { readonly digest: string; readonly percent: number }[]
}

export interface SharingStatus {
  readonly regions: readonly SharedRegion[]
  readonly publications: readonly PublicationStatus[]
}

export interface PublishRequest {
  readonly name: string
  /** Whole. */
  readonly digest: string
  readonly config: string
  readonly activate: boolean
  readonly gradual?: GradualActivation
  /** Empty: all that are joined. */
  readonly regions: readonly number[]
}

/** What an operator asks. */
export interface SharingAdministration {
  status(): SharingStatus
  /** What is taken of a region from now on. What is not, and was, is given up: its keys at once. INVALID_ARGUMENT when it is not joined. */
  accept(regionId: number, accepts: readonly Acceptance[]): Promise<SharingStatus>
  /** In which other regions a key of this one is known. INVALID_ARGUMENT, NO_SUCH_ACCESS_KEY. */
  shareKey(accessKeyId: string, regions: readonly number[]): Promise<void>
  /** Offers a policy that was pushed here. POLICY_NOT_FOUND, INVALID_ARGUMENT. */
  publish(request: PublishRequest): Promise<SharingStatus>
  /** Offers it no more. Where it was taken it stays. POLICY_NOT_FOUND. */
  withdraw(name: string): Promise<SharingStatus>
}

export const sharingLimits = {
  /** Of one region, at another. */
  keys: 1_024,
  publications: 16,
  problems: 4,
  problemChars: 200,
  groups: 64,
  reasonChars: 500,
} as const
