/**
 * Percentiles of the last 5 to 10 seconds: counts in buckets that are 12 % wide, in two halves that take turns, so that
 * recording is one addition and nothing is kept of single requests.
 */
export class LatencyWindow {
  #current = new Uint32Array(bucketCount)
  #previous = new Uint32Array(bucketCount)
  #turnedMs = Number.NEGATIVE_INFINITY
  #freshMs = Number.NEGATIVE_INFINITY
  #p50Ms = 0
  #p99Ms = 0

  record(latencyMs: number, nowMs: number): void {
    if (nowMs - this.#turnedMs >= halfMs) this.#turn(nowMs)
    const index = bucketOf(latencyMs)
    this.#current[index] = (this.#current[index] ?? 0) + 1
  }

  /** At most 100 ms old: percentiles are asked for by every request. 0 when nothing was recorded. */
  p50Ms(nowMs: number): number {
    this.#refresh(nowMs)
    return this.#p50Ms
  }

  p99Ms(nowMs: number): number {
    this.#refresh(nowMs)
    return this.#p99Ms
  }

  #turn(nowMs: number): void {
    const spare = this.#previous
    // After a silence of more than one half both are old.
    this.#previous = nowMs - this.#turnedMs >= 2 * halfMs ? new Uint32Array(bucketCount) : this.#current
    spare.fill(0)
    this.#current = spare
    this.#turnedMs = nowMs
  }

  #refresh(nowMs: number): void {
    if (nowMs - this.#freshMs < refreshMs) return
    this.#freshMs = nowMs
    if (nowMs - this.#turnedMs >= halfMs) this.#turn(nowMs)
    let total = 0
    for (let index = 0; index < bucketCount; index++) total += this.#count(index)
    this.#p50Ms = this.#percentile(total, 0.5)
    this.#p99Ms = this.#percentile(total, 0.99)
  }

  #percentile(total: number, share: number): number {
    if (total === 0) return 0
    let left = Math.ceil(total * share)
    for (let index = 0; index < bucketCount; index++) {
      left -= this.#count(index)
      if (left <= 0) return upperEdgeMs(index)
    }
    return upperEdgeMs(bucketCount - 1)
  }

  #count(index: number): number {
    return (this.#current[index] ?? 0) + (this.#previous[index] ?? 0)
  }
}

const halfMs = 5000
const refreshMs = 100
/** From 10 us to 17 minutes, six buckets for each doubling. */
const smallestMs = 0.01
const perDoubling = 6
const bucketCount = 160

function bucketOf(latencyMs: number): number {
  if (!(latencyMs > smallestMs)) return 0
  const index = Math.ceil(Math.log2(latencyMs / smallestMs) * perDoubling)
  return index < bucketCount ? index : bucketCount - 1
}

const upperEdgeMs = (index: number): number => smallestMs * 2 ** (index / perDoubling)
