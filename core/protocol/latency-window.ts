const windowSize = 128

/** The last latencies of something, and the one that 95 of 100 do not exceed. */
export class LatencyWindow {
  readonly #values = new Float64Array(windowSize)
  #count = 0
  #p95 = 0
  #p50 = 0

  add(ms: number): void {
    this.#values[this.#count % windowSize] = ms
    this.#count++
    // Sorting 128 numbers costs a few microseconds: once in sixteen is enough for what changes slowly.
    if (this.#count % 16 !== 0) return
    const sorted = this.#values.slice(0, Math.min(this.#count, windowSize)).sort()
    this.#p50 = sorted[Math.floor(sorted.length * 0.5)] ?? 0
    this.#p95 = sorted[Math.floor(sorted.length * 0.95)] ?? 0
  }

  /** 0 before the sixteenth. */
  get p50Ms(): number {
    return this.#p50
  }

  get p95Ms(): number {
    return this.#p95
  }
}
