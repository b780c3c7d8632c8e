import type { Credentials, CredentialsProvider } from './credentials.ts'
import type { Endpoint } from './endpoints.ts'
import type { ClientEnvironment } from './environment.ts'
import { invalidArgument } from './errors.ts'
import type { Protocol, Transport } from './transport.ts'
import type { ReadWishes, Wishes } from './wishes.ts'

export interface PandoClientOptions extends Wishes {
  /** The gateways to talk to: URLs of one region's nodes, or objects that say which belong together. */
  readonly endpoints: readonly (string | Endpoint)[]
  /**
   * Left out: requests are not signed. Writes have no idempotency key then: one that is sent again after its answer was lost can be done twice, as at
   * other S3 servers.
   */
  readonly credentials?: Credentials | CredentialsProvider
  /** Name of the region in signatures. Default `us-east-1`; a server that expects another one says so and is believed. */
  readonly region?: string
  /** How often the server is asked for one call at most, the first time included. Default 6. */
  readonly maxAttempts?: number
  /** Retries that may follow each other while nothing succeeds; each success earns a tenth of one back. Default 20. */
  readonly retryBudget?: number
  /** For one attempt to be answered, apart from the time that its body takes at 64 KiB/s. Default 15 000. */
  readonly attemptTimeoutMs?: number
  /** For a call with all its attempts, up to the answer's head; a part of an upload is a call. Default 120 000. */
  readonly deadlineMs?: number
  /** A body that has brought nothing for so long is asked for again, from where it stopped. Default 20 000. */
  readonly idleTimeoutMs?: number
  /**
   * Asks a second gateway of the same group when the first has not begun to answer a read after the time in which 95 of 100
   * do; at most one read in twenty. Default true; needs two endpoints of one group.
   */
  readonly hedgedReads?: boolean
  /**
   * `causal`: in whatever region a request is answered, the answer knows what this client has written and seen of the bucket. A region that
   * is behind is waited for, others are asked meanwhile, until the deadline. Default, `strong`: each region answers with all that was
   * acknowledged in it. `local`: see `ReadWishes`.
   */
  readonly consistency?: 'strong' | 'local' | 'causal'
  /**
   * How endpoints are reached. Default `auto`: by the `transport` where and while it has a way to them, otherwise over HTTP. `http`: never by it.
   * `local`: by it alone; a call that finds no way fails with `LocalUnavailable`.
   */
  readonly protocol?: Protocol
  /** Another way to some of the endpoints than HTTP: `localTransport` of `pando/sdk/local`. */
  readonly transport?: Transport
  /** For tests: time, randomness and network. */
  readonly environment?: ClientEnvironment
}

export interface CallOptions extends Wishes, ReadWishes {
  /** Ends the call: it rejects with the signal's reason, and what it had begun is taken back where that is possible. */
  readonly signal?: AbortSignal
  /** Instead of the client's `deadlineMs`; Infinity for none. The time that the application's own source of a body takes is no part of it: `signal` ends that. */
  readonly deadlineMs?: number
}

export interface RepeatableOptions extends CallOptions {
  /**
   * Calls with the same key are one call: what was done for the first is not done again, and all are answered alike. For retries by the
   * application, also of another process; those of the client itself have a key of their own. Letters, digits and `. _ ~ + / = : -`, at most
   * 200; for 24 hours. The same key for another call fails with `IdempotencyKeyReused`. An upload in parts goes on by `resume`.
   * Needs credentials: `InvalidArgument` without.
   */
  readonly idempotencyKey?: string
}

export interface ClientLimits {
  readonly maxAttempts: number
  readonly attemptTimeoutMs: number
  readonly deadlineMs: number
  readonly idleTimeoutMs: number
}

export function clientLimits(options: PandoClientOptions): ClientLimits {
  return {
    maxAttempts: whole('maxAttempts', options.maxAttempts ?? 6, 1, 100),
    attemptTimeoutMs: whole('attemptTimeoutMs', options.attemptTimeoutMs ?? 15_000, 1, 3_600_000),
    deadlineMs: whole('deadlineMs', options.deadlineMs ?? 120_000, 1, 86_400_000),
    idleTimeoutMs: whole('idleTimeoutMs', options.idleTimeoutMs ?? 20_000, 1, 3_600_000),
  }
}

/** Throws InvalidArgument unless `least <= value <= most`. */
export function whole(name: string, value: number, least: number, most: number): number {
  if (!Number.isSafeInteger(value) || value < least || value > most)
    throw invalidArgument(`${name} is a whole number from ${least} to ${most}, not ${value}`)
  return value
}
