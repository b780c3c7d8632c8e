/** How long answers take to begin, of the last few requests: what a second request beside a slow one waits for. */
export class LatencyWindow {
  readonly #samples = new Float64Array(128)
  #count = 0
  #sinceSorted = 0
  #p95 = Number.POSITIVE_INFINITY

  add(ms: number): void {
    this.#samples[this.#count % this.#samples.length] = ms
    this.#count += 1
    this.#sinceSorted += 1
    // Sorting 128 numbers takes some microseconds: every sixteenth time is often enough.
    if (this.#sinceSorted < 16) return
    this.#sinceSorted = 0
    const sorted = this.#samples.slice(0, Math.min(this.#count, this.#samples.length)).sort()
    this.#p95 = sorted[Math.floor(sorted.length * 0.95)] ?? Number.POSITIVE_INFINITY
  }

  /** Infinite until there are 16 samples. */
  get p95Ms(): number {
    return this.#p95
  }
}
