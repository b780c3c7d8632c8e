import type { RequestOperation } from '../contract/policy.ts'
import type { QosConcurrency } from '../contract/qos.ts'

/**
 * How many requests may work at the same time. By Little's law the machine is busy, and nothing waits inside it, when as
 * many are at work as complete in the time that one takes on the idle machine. The limit is a multiple of that product of
 * bandwidth and delay (as BBR uses it for packets), so it leaves the disk's batching room and grows as long as more
 * concurrency brings more throughput: what is beyond it waits in our queue, where order can be kept, instead of in the
 * machine, where it cannot.
 *
 * The time on the idle machine is learnt for each kind and size of request from those that start while hardly anything
 * runs. A mean and not a minimum: reads from the cache must not make reads from the disk look congested.
 */
export class ConcurrencyLimit {
  #config: QosConcurrency
  #value: number
  /** By operation and size. */
  readonly #baselines = Array.from({ length: operations.length * sizes }, () => new Baseline())
  #windowStartMs = Number.NEGATIVE_INFINITY
  #samples = 0
  #serviceMs = 0
  #baseMs = 0
  #saturated = false

  constructor(config: QosConcurrency) {
    this.#config = config
    this.#value = initialValue(config)
  }

  get value(): number {
    return this.#value
  }

  configure(config: QosConcurrency): void {
    this.#config = config
    this.#value =
      config.limit === 'auto'
        ? Math.min(Math.max(this.#value, config.minimum), config.maximum)
        : initialValue(config)
  }

  /** A request that held its slot from start to end. `slots`: how many were held when it started, itself included. */
  sample(
    operation: RequestOperation,
    byteLength: number,
    serviceMs: number,
    slots: number,
    nowMs: number,
  ): void {
    if (this.#config.limit !== 'auto') return
    const baseline = this.#baseline(operation, byteLength)
    if (baseline === undefined) return
    baseline.windowMs += serviceMs
    baseline.windowSamples++
    if (slots <= idleSlots) baseline.learn(serviceMs, idleGain)
    this.#samples++
    this.#serviceMs += serviceMs
    this.#baseMs += baseline.meanMs ?? serviceMs
    if (slots >= this.#value) this.#saturated = true
    const elapsedMs = nowMs - this.#windowStartMs
    if (elapsedMs >= minWindowMs && this.#samples >= minSamples) this.#closeWindow(elapsedMs, nowMs)
  }

  /** The process stood still: what was measured across the gap means nothing. */
  forgetWindow(nowMs: number): void {
    this.#windowStartMs = nowMs
    this.#samples = 0
    this.#serviceMs = 0
    this.#baseMs = 0
    this.#saturated = false
    for (const baseline of this.#baselines) baseline.forgetWindow()
  }

  #closeWindow(elapsedMs: number, nowMs: number): void {
    const { minimum, maximum } = this.#config
    // A window that began before a lull says nothing about rates.
    if (this.#saturated && elapsedMs <= maxWindowMs) {
      const busy = this.#baseMs / elapsedMs
      const target = Math.min(Math.max(busy * gain + headroom, minimum), maximum)
      const slowdown = this.#serviceMs / this.#baseMs
      this.#value = Math.round(this.#value + (target - this.#value) * smoothing)
      for (const baseline of this.#baselines) {
        const meanMs = baseline.windowMeanMs()
        if (meanMs === undefined) continue
        // Faster under load than when idle: the idle figure is out of date.
        if (baseline.meanMs === undefined || meanMs < baseline.meanMs) baseline.learn(meanMs, idleGain)
        // As few as may be are at work: what they take then is not their own waiting but the machine's pace.
        else if (this.#value <= minimum && slowdown > gain) baseline.learn(meanMs, floorGain)
      }
    }
    this.forgetWindow(nowMs)
  }

  #baseline(operation: RequestOperation, byteLength: number): Baseline | undefined {
    const size = byteLength <= 4096 ? 0 : byteLength <= 65_536 ? 1 : byteLength <= 1_048_576 ? 2 : 3
    return this.#baselines[operations.indexOf(operation) * sizes + size]
  }
}

class Baseline {
  meanMs: number | undefined
  windowMs = 0
  windowSamples = 0

  learn(serviceMs: number, gainOfSample: number): void {
    this.meanMs =
      this.meanMs === undefined ? serviceMs : this.meanMs + (serviceMs - this.meanMs) * gainOfSample
  }

  windowMeanMs(): number | undefined {
    return this.windowSamples < minBaselineSamples ? undefined : this.windowMs / this.windowSamples
  }

  forgetWindow(): void {
    this.windowMs = 0
    this.windowSamples = 0
  }
}

function initialValue({ limit, minimum, maximum }: QosConcurrency): number {
  return limit === 'auto' ? Math.min(Math.max(initialLimit, minimum), maximum) : limit
}

/** The frequent ones first. */
const operations: readonly RequestOperation[] = ['read', 'write', 'head', 'list', 'delete', 'copy', 'other']
const sizes = 4
const initialLimit = 64
/** So many at work hardly disturb each other. */
const idleSlots = 4
/** A group commit makes a write wait for the one under way and then for its own: twice the idle time, plus some. */
const gain = 3
const headroom = 8
const smoothing = 0.3
const idleGain = 1 / 32
const floorGain = 0.02
const minWindowMs = 250
const maxWindowMs = 5000
const minSamples = 32
const minBaselineSamples = 8
