const windowSize = 256

/** Round trips and counts of one session. */
export class SessionMeasures {
  readonly #rttMs = new Float64Array(windowSize)
  #answers = 0
  #lastMs = -1
  #jitterMs = 0
  requests = 0
  pathErrors = 0

  answered(rttMs: number): void {
    this.#rttMs[this.#answers % windowSize] = rttMs
    this.#answers++
    // RFC 3550, 6.4.1: a running mean with a gain of 1/16.
    if (this.#lastMs >= 0) this.#jitterMs += (Math.abs(rttMs - this.#lastMs) - this.#jitterMs) / 16
    this.#lastMs = rttMs
  }

  get jitterMs(): number {
    return this.#jitterMs
  }

  /** Of the answers in the window; 0 without one. */
  quantiles(): { readonly p50: number; readonly p99: number } {
    const sorted = this.#rttMs.slice(0, Math.min(this.#answers, windowSize)).sort()
    return {
      p50: sorted[Math.floor(sorted.length * 0.5)] ?? 0,
      p99: sorted[Math.floor(sorted.length * 0.99)] ?? 0,
    }
  }
}
