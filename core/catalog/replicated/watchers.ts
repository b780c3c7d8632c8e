import type { Clock } from '../../contract/clock.ts'
import { linkSignals } from './linked-signal.ts'

/** Waits for conditions of a state that says when it has changed. */
export class Watchers {
  private readonly clock: Clock
  private readonly waiting = new Set<() => void>()

  constructor(clock: Clock) {
    this.clock = clock
  }

  changed(): void {
    for (const wake of [...this.waiting]) wake()
  }

  /** Resolves true when the condition holds, false after the time; rejects when the signal aborts. */
  async until(condition: () => boolean, signal: AbortSignal, timeoutMs: number): Promise<boolean> {
    signal.throwIfAborted()
    if (condition()) return true
    const stop = linkSignals(signal)
    let wake: () => void = () => undefined
    const watched = new Promise<true>((resolve) => {
      wake = () => {
        if (condition()) resolve(true)
      }
      this.waiting.add(wake)
    })
    try {
      return await Promise.race([watched, this.clock.sleep(timeoutMs, stop.signal).then(() => false)])
    } finally {
      this.waiting.delete(wake)
      stop.abort()
    }
  }
}
