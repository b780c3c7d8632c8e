import type { Clock } from './clock.ts'

/** A timer that is not far off is not worth being taken back: it costs less to let it fire in vain. */
const nearMs = 64
// One for all: making an exception for each timer that is set anew is what costs.
const replaced = new Error('another timer has taken its place')

/**
 * One timer for whoever waits for many deadlines, hardly any of which comes. It stays behind when the one that it is for is gone: the next
 * deadline, which is never far, needs none of its own then. Times are of the monotonic clock.
 */
export class DueTimer {
  readonly #clock: Clock
  readonly #onDue: () => void
  #dueMs = Number.POSITIVE_INFINITY
  #control: AbortController | undefined
  #turn = 0

  /** `onDue` looks who is due, and arms the timer for the next one. */
  constructor(clock: Clock, onDue: () => void) {
    this.#clock = clock
    this.#onDue = onDue
  }

  /** At this time at the latest. */
  arm(dueMs: number): void {
    if (this.#dueMs <= dueMs) return
    this.#control?.abort(replaced)
    const delayMs = Math.max(0, dueMs - this.#clock.monotonic())
    const control = delayMs > nearMs ? new AbortController() : undefined
    this.#control = control
    this.#dueMs = dueMs
    const turn = ++this.#turn
    this.#clock.sleep(delayMs, control?.signal).then(
      () => {
        if (turn !== this.#turn) return
        this.#dueMs = Number.POSITIVE_INFINITY
        this.#control = undefined
        this.#onDue()
      },
      () => undefined,
    )
  }

  /** Nobody is told any more, until it is armed again. */
  close(): void {
    this.#turn++
    this.#control?.abort(replaced)
    this.#control = undefined
    this.#dueMs = Number.POSITIVE_INFINITY
  }
}
