import type { Clock } from '../contract/clock.ts'

/** Holds background work to a rate: `take` resolves when the next `count` units may be done. */
export class Pace {
  private readonly clock: Clock
  private readonly perSecond: number
  private nextMs = 0

  constructor(clock: Clock, perSecond: number) {
    this.clock = clock
    this.perSecond = perSecond
  }

  async take(count: number, signal?: AbortSignal): Promise<void> {
    const nowMs = this.clock.monotonic()
    const startMs = Math.max(this.nextMs, nowMs)
    this.nextMs = startMs + (count * 1000) / this.perSecond
    if (startMs > nowMs) await this.clock.sleep(startMs - nowMs, signal)
  }
}
