import type { TransportCandidate } from './policy.ts'

/** What is told of the live connections between nodes: plain data, for the command line and for metrics. Times are milliseconds. */
export interface LinkReport {
  /** Name of the node at the other end. */
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
  /** The last 32, oldest first; the first one of all is the choice that the link began with. */
  readonly switches: readonly SwitchRecord[]
  /** All there were since the link began, without the first choice. */
  readonly switchCount: number
}

/** What may follow what is in core/protocol/link-state.ts. */
export const linkStates = [
  'detecting',
  'connecting',
  'active',
  'degraded',
  'switching',
  'failed',
  'closed',
] as const

export type LinkState = (typeof linkStates)[number]

export interface CandidateReport extends TransportCandidate {
  readonly id: string
  readonly address: string
  /** Why it is down; empty while it is not. */
  readonly problem: string
  /** Cipher of the session (`aes-256-gcm`); empty: what it carries is not encrypted, or there is none. */
  readonly encryption: string
  /** Until the next attempt; 0 when none is held back. */
  readonly retryInMs: number
}

export interface SwitchRecord {
  /** Since the Unix epoch. */
  readonly atMs: number
  /** Empty: nothing was in use before. */
  readonly from: string
  readonly to: string
  /** The one before had failed; otherwise something was better. */
  readonly isForced: boolean
  readonly why: string
  /** From the loss of the one to the use of the other; 0 when both were up. */
  readonly pauseMs: number
}

/** Where this node lets others in. */
export interface ListenerReport {
  /** Id of the transport. */
  readonly transport: string
  /** As bound, or as configured while it is not. */
  readonly address: string
  /** Why it does not listen; empty while it does. */
  readonly problem: string
  /** Authenticated and open. */
  readonly sessions: number
  /** Who was turned away since the node started: strangers, other regions, other versions. */
  readonly refused: number
  /** The last of them in words; empty: none yet. */
  readonly lastRefusal: string
}

export interface TransportReport {
  readonly id: string
  readonly kind: string
  readonly available: boolean
  readonly found: string
  /** What to do about it; empty: nothing. */
  readonly advice: string
}

/** All that a node knows of its links. */
export interface NodeLinksReport {
  /** false: this node neither listens for others nor connects to any. */
  readonly enabled: boolean
  readonly node: string
  /** 32 hex digits. */
  readonly nodeId: string
  readonly regionId: string
  readonly transports: readonly TransportReport[]
  readonly listeners: readonly ListenerReport[]
  readonly links: readonly LinkReport[]
}
