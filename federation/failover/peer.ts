import type { Ballot, GroupPosition, GroupRecord } from '../../core/contract/failover.ts'

/** What voters ask each other. One question and one answer; a question that is repeated is harmless. */
export type Question =
  /** Of a primary: it holds the group still, and wants to for another lease. Also how a record comes to the others. */
  | { readonly kind: 'renew'; readonly record: GroupRecord; readonly endpoints: readonly string[] }
  | VoteQuestion
  | { readonly kind: 'state'; readonly group: string }
  /** Of a primary that has handed over: a majority has voted for the region that is asked. `outageMs`: since it stopped writes. */
  | { readonly kind: 'take'; readonly group: string; readonly epoch: number; readonly outageMs: number }
  /** To the primary: hand over to the region that asks. */
  | { readonly kind: 'hand-over'; readonly group: string }
  /** Of the primary: the group is no more. */
  | { readonly kind: 'forget'; readonly group: string }

export interface VoteQuestion {
  readonly kind: 'vote'
  readonly group: string
  readonly epoch: number
  readonly primary: number
  /** Epoch of the newest record that the candidate knows. */
  readonly knows: number
  /** Nothing is promised: would the vote be given? */
  readonly isProbe: boolean
  /** The primary asks for its successor, and gives its lease up. */
  readonly isHandover: boolean
  readonly positions: readonly GroupPosition[]
}

export interface Answer {
  readonly isGranted: boolean
  /** Why not; empty when it is granted. */
  readonly reason: string
  /** What the voter knows; absent: no such group. */
  readonly record?: GroupRecord
  readonly ballot: Ballot
  /** Of what it has granted to the primary of its ballot. */
  readonly leaseLeftMs: number
  /** Of a region: what it holds. */
  readonly positions: readonly GroupPosition[]
  /** Of the primary: what each other region lacks. */
  readonly lags: readonly RegionLag[]
  /** Where clients reach the region that answers, as its configuration says; empty: not said. */
  readonly endpoints: readonly string[]
  /** Of the region: nothing stands in the way of its leading. */
  readonly blockers: readonly string[]
}

/** The other nodes of this region, where it has several: they vote as one, and acknowledge under one lease. */
export interface Colleagues {
  /** Whether this node is the one that asks other regions: one is enough, and two that both think so do no harm. */
  isActing(): boolean
  /** What the node knows that goes before this one; nothing where there is none. Asked again and again: an answer keeps this one back. */
  held(): Promise<RegionLeases>
}

export interface RegionLeases {
  /** What is left of each at the moment of the answer, ms: whoever asked counts it from before that. */
  readonly leases: readonly { readonly group: string; readonly epoch: number; readonly leftMs: number }[]
  /** Where clients reach other regions. */
  readonly endpoints: readonly { readonly region: number; readonly endpoints: readonly string[] }[]
}

/** What a region lacks of what the primary has acknowledged or may have. */
export interface RegionLag {
  readonly region: number
  readonly entries: number
  /** Of bodies; -1: too many entries to count. */
  readonly bytes: number
  /** Age of the oldest. */
  readonly oldestMs: number
  readonly isSynchronizing: boolean
}

/** The other voters of this one. */
export interface FailoverPeers {
  connected(): readonly number[]
  /** PEER_UNREACHABLE, DEADLINE_EXCEEDED; the other side's refusals. */
  ask(region: number, question: Question, withinMs: number): Promise<Answer>
}
