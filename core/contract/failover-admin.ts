import type { GroupRecord, LostChange, Reign } from './failover.ts'

/** How failover is shown and steered: one list for the command, the admin service and the demonstration. */
export interface GroupStatus {
  readonly record: Omit<GroupRecord, 'reigns'>
  /** The newest last. */
  readonly reigns: readonly Omit<Reign, 'taken' | 'outageMs'>[]
  /** This region is the primary, and its lease holds (or it needs none): writes are acknowledged. */
  readonly isWritable: boolean
  /** For how long the primary may acknowledge without hearing of its voters; 0 where it needs no lease or has none. */
  readonly leaseLeftMs: number
  readonly voters: readonly VoterStatus[]
  /** The regions, the primary among them. */
  readonly members: readonly MemberStatus[]
  /** Changes of this region's own that a failover has lost. */
  readonly losses: number
  /** Of the last change of the primary: for how long nobody acknowledged writes (`Reign.outageMs`); -1: not known, or there was none. */
  readonly lastRtoMs: number
  /**
   * Of the last change of the primary: the age that the oldest change which it lost had by then; 0: nothing was lost; -1: not known, or there
   * was none. A change that nobody had planned is known where the former primary is, once that is back and has listed what it had not handed over.
   */
  readonly lastRpoMs: number
}

export interface VoterStatus {
  readonly region: number
  readonly isWitness: boolean
  readonly isConnected: boolean
  /** Greatest epoch that it has voted in; 0: it does not answer. */
  readonly votedEpoch: number
}

export interface MemberStatus {
  readonly region: number
  readonly isPrimary: boolean
  readonly isConnected: boolean
  /** What it lacks; -1: not known. */
  readonly lagEntries: number
  /** Of bodies; -1: not known. */
  readonly lagBytes: number
  readonly lagMs: number
  /** Why it cannot be the primary now. */
  readonly blockers: readonly string[]
}

export interface FailoverPlan {
  readonly group: string
  readonly from: number
  readonly to: number
  /** `planned`: the primary hands over, and nothing is lost. `forced`: it cannot be reached. */
  readonly kind: 'planned' | 'forced'
  readonly blockers: readonly string[]
  /** What would be lost; -1: not known. */
  readonly lossEntries: number
  readonly lossBytes: number
  readonly lossMs: number
}

export interface SetGroupRequest {
  readonly group: string
  /** All of them. */
  readonly buckets: readonly string[]
  readonly syncBuckets: readonly string[]
  readonly witnesses: readonly number[]
  readonly automatic: boolean
  /** 0: the default, or what the group has. */
  readonly flapMs: number
  readonly leaseMs: number
}

export interface RunFailoverRequest {
  readonly group: string
  readonly to: number
  /** At most so many entries may be lost when the primary cannot be reached; -1: none. What is not known wants `Number.MAX_SAFE_INTEGER`. */
  readonly acceptLoss: number
  /** The operator knows that the old primary is down: only where there are two voters. */
  readonly isPrimaryDown: boolean
}

export interface FailoverResult {
  readonly group: string
  readonly primary: number
  readonly epoch: number
  readonly kind: FailoverPlan['kind']
  /** From the last write that the old primary could take (planned), or from the command, to the new one's readiness. */
  readonly durationMs: number
  readonly lossEntries: number
}

export interface FailoverAdministration {
  report(): Promise<readonly GroupStatus[]>
  /** Makes a group, or changes it. At its primary only: NOT_PRIMARY. INVALID_ARGUMENT. */
  set(request: SetGroupRequest): Promise<GroupStatus>
  /** Takes a group away in all regions. UNAVAILABLE unless all voters answer. */
  remove(group: string): Promise<void>
  plan(group: string, to: number): Promise<FailoverPlan>
  /** At the region that takes over, or at the primary. UNAVAILABLE with the reasons when it did not come about. */
  run(request: RunFailoverRequest): Promise<FailoverResult>
  /** What failovers have lost of what this region wrote. */
  losses(group: string, limit: number): Promise<readonly LostChange[]>
}
