import type { Clock } from '../../contract/clock.ts'
import { StorageError } from '../../contract/errors.ts'

interface Waiting {
  readonly condition: () => boolean
  readonly untilMs: number
  readonly settle: (isTrue: boolean) => void
}

// One for all: making an exception for each timer that is set anew is what costs.
const noLongerNeeded = new StorageError('CANCELLED', 'it is not needed any more')

/**
 * Waits for conditions of a state that says when it has changed. One timer serves all of them: every linearizable read waits here, and
 * hardly any wait comes to its end by time.
 */
export class Watchers {
  private readonly clock: Clock
  private readonly waiting = new Set<Waiting>()
  private timer: { readonly dueMs: number; readonly control: AbortController } | undefined

  constructor(clock: Clock) {
    this.clock = clock
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
      const end = (): void => {
        this.waiting.delete(one)
        signal.removeEventListener('abort', onAbort)
      }
      const one: Waiting = {
        condition,
        untilMs: this.clock.monotonic() + timeoutMs,
        settle(isTrue) {
          end()
          resolve(isTrue)
        },
      }
      const onAbort = (): void => {
        end()
        reject(signal.reason)
      }
      this.waiting.add(one)
      signal.addEventListener('abort', onAbort, { once: true })
      this.arm(one.untilMs)
    })
  }

  /** Whoever waits goes on waiting for its signal. */
  close(): void {
    this.timer?.control.abort(noLongerNeeded)
    this.timer = undefined
  }

  private arm(dueMs: number): void {
    if (this.timer !== undefined) {
      if (this.timer.dueMs <= dueMs) return
      this.timer.control.abort(noLongerNeeded)
    }
    const timer = { dueMs, control: new AbortController() }
    this.timer = timer
    this.clock.sleep(Math.max(0, dueMs - this.clock.monotonic()), timer.control.signal).then(
      () => {
        if (this.timer === timer) this.expire()
      },
      () => undefined,
    )
  }

  private expire(): void {
    this.timer = undefined
    const nowMs = this.clock.monotonic()
    let nextMs = Number.POSITIVE_INFINITY
    for (const one of this.waiting) {
      if (one.untilMs <= nowMs) one.settle(one.condition())
      else nextMs = Math.min(nextMs, one.untilMs)
    }
    // It stays behind when the one that it is for is gone: the next wait, which is never far, needs none of its own then.
    if (nextMs < Number.POSITIVE_INFINITY) this.arm(nextMs)
  }
}
