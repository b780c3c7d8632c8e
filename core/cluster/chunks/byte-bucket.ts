import type { Clock } from '../../contract/clock.ts'

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
    this.#tokens = perSecond
    this.#atMs = clock.monotonic()
  }

  get rate(): number {
    const pressure = Math.min(1, Math.max(0, this.#pressure()))
    return this.#perSecond * Math.max(0.1, 1 - pressure)
  }

  async take(byteLength: number, signal: AbortSignal): Promise<void> {
    const nowMs = this.#clock.monotonic()
    const { rate } = this
    this.#tokens = Math.min(rate, this.#tokens + ((nowMs - this.#atMs) * rate) / 1000)
    this.#atMs = nowMs
    this.#tokens -= byteLength
    if (this.#tokens < 0) await this.#clock.sleep((-this.#tokens * 1000) / rate, signal)
  }
}
