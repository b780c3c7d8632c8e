export interface BreakerTimes {
  /** Pause after the first failure; doubled by each further one. */
  readonly firstMs: number
  readonly mostMs: number
  /** Only a transport that has served for so long begins with the first pause again: one that flaps waits longer each time. */
  readonly steadyMs: number
}

export const breakerTimes: BreakerTimes = { firstMs: 500, mostMs: 30_000, steadyMs: 30_000 }

/** Keeps a broken transport from being tried all the time, and lets one attempt through when its pause is over. */
export class CircuitBreaker {
  readonly #times: BreakerTimes
  /** 0 to 1. */
  readonly #random: () => number
  #state: 'closed' | 'open' | 'half-open' = 'closed'
  #failures = 0
  #retryAtMs = 0
  #closedSinceMs = 0

  constructor(random: () => number, times: BreakerTimes = breakerTimes) {
    this.#random = random
    this.#times = times
  }

  get state(): 'closed' | 'open' | 'half-open' {
    return this.#state
  }

  /** When the next attempt is due; 0 when none is held back. */
  get retryAtMs(): number {
    return this.#state === 'open' ? this.#retryAtMs : 0
  }

  /** Whether to try now. An open breaker says yes once when its pause is over, and then waits for what became of it. */
  mayTry(nowMs: number): boolean {
    if (this.#state === 'closed') return true
    if (this.#state === 'half-open' || nowMs < this.#retryAtMs) return false
    this.#state = 'half-open'
    return true
  }

  succeeded(nowMs: number): void {
    if (this.#state === 'closed') return
    this.#state = 'closed'
    this.#closedSinceMs = nowMs
  }

  /** A session was lost that had served for `livedMs`. After a life of some length it may be tried again at once. */
  lost(nowMs: number, livedMs: number): void {
    if (livedMs < this.#times.firstMs * 2) this.failed(nowMs)
  }

  failed(nowMs: number): void {
    const { firstMs, mostMs, steadyMs } = this.#times
    if (this.#state === 'closed' && nowMs - this.#closedSinceMs >= steadyMs) this.#failures = 0
    const pauseMs = Math.min(mostMs, firstMs * 2 ** Math.min(this.#failures, 16))
    this.#failures++
    this.#state = 'open'
    // Spread over the pause's last fifth: peers that lost the same switch do not come back in step.
    this.#retryAtMs = nowMs + pauseMs * (0.8 + 0.2 * this.#random())
  }

  /** Something has changed that may have healed it: the next attempt is due now. */
  retryNow(nowMs: number): void {
    if (this.#state === 'open') this.#retryAtMs = nowMs
  }
}
