import type { Clock } from '../../contract/clock.ts'

/** What is not taken is kept for so long: whoever has waited is not to come with all of a second at once. */
const keptMs = 100

/**
 * A token bucket of bytes. What is taken may exceed it: the next one waits until it is paid for. While the foreground is busy the
 * rate falls, to a tenth when nothing is left for others.
 */
export class ByteBucket {
  readonly #clock: Clock
  readonly #perSecond: number
  readonly #pressure: () => number
  #tokens: number
  #atMs: number

  /** `pressure`: how busy the foreground is, 0 to 1. */
  constructor(clock: Clock, perSecond: number, pressure: () => number) {
    this.#clock = clock
    this.#perSecond = perSecond
    this.#pressure = pressure
    this.#tokens = (perSecond * keptMs) / 1000
    this.#atMs = clock.monotonic()
  }

  get rate(): number {
    const pressure = Math.min(1, Math.max(0, this.#pressure()))
    return this.#perSecond * Math.max(0.1, 1 - pressure)
  }

  async take(byteLength: number, signal: AbortSignal): Promise<void> {
    const nowMs = this.#clock.monotonic()
    const { rate } = this
    this.#tokens = Math.min((rate * keptMs) / 1000, this.#tokens + ((nowMs - this.#atMs) * rate) / 1000)
    this.#atMs = nowMs
    this.#tokens -= byteLength
    if (this.#tokens < 0) await this.#clock.sleep((-this.#tokens * 1000) / rate, signal)
  }
}
