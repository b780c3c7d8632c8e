import type { TransportCandidate } from '../contract/policy.ts'
import type { LinkState } from './link-state.ts'

/** What is shown of a link: plain data. Times are milliseconds. */
export interface LinkReport {
  readonly peer: string
  readonly state: LinkState
  readonly stateForMs: number
  /** Id of the transport in use; empty without one. */
  readonly active: string
  /** Which policy chose it, and the reason that it gave. */
  readonly why: string
  readonly requests: number
  readonly inFlight: number
  /** Requests that were sent again on another session. */
  readonly resent: number
  /** Requests that ended with an error of the path. */
  readonly failed: number
  readonly candidates: readonly CandidateReport[]
  /** The last 32, oldest first; the first one is the choice that the link began with. */
  readonly switches: readonly SwitchRecord[]
}

export interface CandidateReport extends TransportCandidate {
  readonly id: string
  readonly address: string
  /** Why it is down; empty while it is not. */
  readonly problem: string
  /** Until the next attempt; 0 when none is held back. */
  readonly retryInMs: number
}

export interface SwitchRecord {
  /** Since the Unix epoch. */
  readonly atMs: number
  readonly from: string
  readonly to: string
  /** The one before had failed; otherwise something was better. */
  readonly isForced: boolean
  readonly why: string
  /** From the loss of the one to the use of the other; 0 when both were up. */
  readonly pauseMs: number
}
