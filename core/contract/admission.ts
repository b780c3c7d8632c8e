import type { RequestOperation } from './policy.ts'

/**
 * Asking to be served: what a gateway knows of a request goes in, a ticket comes out. The gateway holds the ticket as long
 * as it works for the request; whoever grants it (`core/qos`) decides on the order of those who wait.
 */
export interface Admission {
  /**
   * Asked once per request, after it was authenticated and before it has any effect. Throws SLOW_DOWN (with
   * `retryAfterMs`) when the request is shed: then nothing is held and nothing has to be given back.
   */
  admit(request: AdmissionRequest): AdmissionTicket
}

export interface AdmissionRequest {
  /** The x-amz-request-id of the answer: `explain` finds the request by it. */
  readonly id: string
  readonly operation: RequestOperation
  /** Bytes of the body to come; -1 = not known; 0 for requests without one. */
  readonly byteLength: number
  /** The account that asks, `anonymous` for strangers. */
  readonly tenant: string
  readonly accessKeyId: string | undefined
  readonly bucket: string | undefined
  readonly key: string | undefined
  /** Value of a request header, by lower-case name. */
  header(name: string): string | undefined
  /** Nothing moves because of the client: a request that waits for its client does not keep others waiting. */
  isWaitingForClient(): boolean
}

export interface AdmissionTicket {
  /**
   * Undefined: start at once. Else resolves when the request may start; rejects with SLOW_DOWN when it is shed after all
   * (time-out of the queue, pushed out by others), CANCELLED when it was abandoned, CLOSED when the node stops.
   */
  readonly turn: Promise<void> | undefined
  /** Position of the request's class in the plan: the chunk store schedules by it. */
  readonly qosClass: number
  /** How the body's bytes are to be paced; undefined: as fast as they go. Known once it is the request's turn. */
  pace(direction: 'in' | 'out'): BytePace | undefined
  /** The client has gone: leaves the queue, ends waits of paces. A request that runs keeps its place until `end`. */
  abandon(): void
  /**
   * The request has ended, well or not: gives everything back. Bytes that no pace was asked for are charged now.
   * Idempotent: a second call does nothing.
   */
  end(bytesIn: number, bytesOut: number): void
}

/** Spaces the pieces of one body so that budgets of bytes per second are kept. */
export interface BytePace {
  /** The largest piece to be taken at once: more would overdraw the budget in a way that its owner sees. */
  readonly pieceBytes: number
  /**
   * To be asked before any memory for the piece is taken. Undefined: go on; else resolves when it is this piece's time,
   * rejects with CANCELLED when the ticket was abandoned or ended meanwhile.
   */
  take(byteLength: number): Promise<void> | undefined
  /** As `take`, only if there is no wait: for reading ahead. */
  tryTake(byteLength: number): boolean
  /** Bytes taken that were not moved after all. */
  refund(byteLength: number): void
}
