import type { ClientEnvironment } from './environment.ts'
import { invalidArgument, type PandoError } from './errors.ts'

/**
 * Retries are paid for by successes: a client whose requests mostly fail soon stops to retry, instead of doubling the load
 * of a server that is down (Brooker, "Exponential Backoff And Jitter", 2015; "Fixing retries with token buckets", 2022).
 */
export class RetryBudget {
  readonly #capacity: number
  readonly #successesPerRetry: number
  /** In successes: whole numbers, so that nothing is lost to rounding. */
  #earned: number

  /** `capacity` retries at once after a quiet time; later one for so many successes. */
  constructor(capacity: number, successesPerRetry: number) {
    this.#capacity = capacity * successesPerRetry
    this.#successesPerRetry = successesPerRetry
    this.#earned = this.#capacity
  }

  /** False: the budget is used up. */
  take(): boolean {
    if (this.#earned < this.#successesPerRetry) return false
    this.#earned -= this.#successesPerRetry
    return true
  }

  succeeded(): void {
    if (this.#earned < this.#capacity) this.#earned += 1
  }
}

export interface BackoffOptions {
  readonly firstMs: number
  readonly longestMs: number
}

/** Full jitter; but never sooner than the server has asked for. `attempt` is the one that failed, from 1. */
export function backoffMs(
  attempt: number,
  options: BackoffOptions,
  random: number,
  retryAfterMs: number | undefined,
): number {
  const ceiling = Math.min(options.longestMs, options.firstMs * 2 ** Math.min(attempt - 1, 20))
  return (retryAfterMs ?? 0) + random * ceiling
}

/** Codes whose requests did nothing, so that they can be sent again whatever they ask for. */
const didNothing = new Set([
  'SlowDown',
  'TooManyRequests',
  'ConditionalRequestConflict',
  'OperationAborted',
  'RequestTimeout',
  'RequestTimeTooSkewed',
  'ExpiredToken',
  'AuthorizationHeaderMalformed',
])

const retryableCodes = new Set([
  ...['SlowDown', 'TooManyRequests', 'ConditionalRequestConflict', 'OperationAborted', 'RequestTimeout'],
  ...['InternalError', 'ServiceUnavailable', 'Throttling', 'ThrottlingException', 'InsufficientStorage'],
  // Told to somebody who is there: the memory that a body was in had gone, or a proxy's connection.
  'ClientClosedRequest',
])

/** What S3's answers say about asking again. */
export function judge(
  status: number,
  code: string,
  details: Readonly<Record<string, string>> = {},
): Pick<PandoError, 'retryable' | 'ambiguous'> {
  // Another region writes the bucket: nothing was done here.
  if (details['PrimaryRegion'] !== undefined) return { retryable: true, ambiguous: false }
  const retryable =
    retryableCodes.has(code) || status === 429 || status === 408 || (status >= 500 && status !== 501)
  const isUnknown = (status >= 500 && status !== 501) || code === 'ClientClosedRequest'
  return { retryable, ambiguous: isUnknown && !didNothing.has(code) }
}

/** Seconds, or a date (RFC 9110 10.2.3). */
export function parseRetryAfter(value: string | null, nowMs: number): number | undefined {
  if (value === null) return undefined
  const seconds = /^\s*(\d{1,6})\s*$/.exec(value)?.[1]
  if (seconds !== undefined) return Number(seconds) * 1000
  const dateMs = Date.parse(value)
  return Number.isNaN(dateMs) ? undefined : Math.max(0, dateMs - nowMs)
}

/**
 * One key for all attempts of a request that is to have one effect. Requests that are not signed get none: keys belong to who signs, and a
 * gateway refuses those of strangers. InvalidArgument when the caller wants one all the same.
 */
export function withIdempotencyKey<
  R extends { readonly once?: string | true; readonly headers?: Readonly<Record<string, string>> },
>(request: R, environment: Pick<ClientEnvironment, 'random'>, isSigned: boolean): R {
  if (request.once === undefined) return request
  if (!isSigned) {
    if (request.once === true) return request
    throw invalidArgument('an idempotencyKey needs a client with credentials')
  }
  const word = (): string =>
    Math.floor(environment.random() * 2 ** 32)
      .toString(16)
      .padStart(8, '0')
  const key = request.once === true ? `${word()}${word()}${word()}${word()}` : request.once
  return { ...request, headers: { ...request.headers, 'x-pando-idempotency-key': key } }
}
