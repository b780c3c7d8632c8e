import type { Clock } from '../../contract/clock.ts'
import { DueTimer } from '../../contract/due-timer.ts'

interface Waiting {
  readonly condition: () => boolean
  readonly untilMs: number
  readonly settle: (isTrue: boolean) => void
  readonly fail: (reason: unknown) => void
}

/**
 * Waits for conditions of a state that says when it has changed. One timer serves all of them: every linearizable read waits here, and
 * hardly any wait comes to its end by time.
 */
export class Watchers {
  private readonly clock: Clock
  private readonly lasting: AbortSignal
  private readonly waiting = new Set<Waiting>()
  /** Those of them that wait with the lasting signal. */
  private readonly lastingly = new Set<Waiting>()
  private readonly timer: DueTimer

  /** `lasting`: the signal that most waits have. It is listened to once: a listener for each wait is dearer than all the rest of the wait. */
  constructor(clock: Clock, lasting: AbortSignal) {
    this.clock = clock
    this.lasting = lasting
    this.timer = new DueTimer(clock, () => this.expire())
    lasting.addEventListener('abort', () => {
      for (const one of this.lastingly) one.fail(lasting.reason)
    })
  }

  changed(): void {
    for (const one of this.waiting) {
      if (one.condition()) one.settle(true)
    }
  }

  /** Resolves true when the condition holds, false after the time; rejects when the signal aborts. */
  until(condition: () => boolean, signal: AbortSignal, timeoutMs: number): Promise<boolean> {
    return new Promise((resolve, reject) => {
      signal.throwIfAborted()
      if (condition()) {
        resolve(true)
        return
      }
      const isLasting = signal === this.lasting
      const end = (): void => {
        this.waiting.delete(one)
        if (isLasting) this.lastingly.delete(one)
        else signal.removeEventListener('abort', onAbort)
      }
      const one: Waiting = {
        condition,
        untilMs: this.clock.monotonic() + timeoutMs,
        settle(isTrue) {
          end()
          resolve(isTrue)
        },
        fail(reason) {
          end()
          reject(reason)
        },
      }
      const onAbort = (): void => one.fail(signal.reason)
      this.waiting.add(one)
      if (isLasting) this.lastingly.add(one)
      else signal.addEventListener('abort', onAbort, { once: true })
      this.timer.arm(one.untilMs)
    })
  }

  /** Whoever waits goes on waiting for its signal. */
  close(): void {
    this.timer.close()
  }

  private expire(): void {
    const nowMs = this.clock.monotonic()
    let nextMs = Number.POSITIVE_INFINITY
    for (const one of this.waiting) {
      if (one.untilMs <= nowMs) one.settle(one.condition())
      else nextMs = Math.min(nextMs, one.untilMs)
    }
    if (nextMs < Number.POSITIVE_INFINITY) this.timer.arm(nextMs)
  }
}
