import type { Clock } from '../../contract/clock.ts'

export interface Deadline {
  readonly atMs: number
  readonly expire: () => void
}

/**
 * Many deadlines behind one timer: nearly all are taken back before they come, so each may cost no more than a place in a
 * set. Times are of the monotonic clock.
 */
export class Deadlines {
  readonly #clock: Clock
  readonly #waiting = new Set<Deadline>()
  #sleepsUntilMs = Number.POSITIVE_INFINITY
  #sleep: AbortController | undefined
  #closed = false

  constructor(clock: Clock) {
    this.#clock = clock
  }

  add(deadline: Deadline): void {
    this.#waiting.add(deadline)
    if (deadline.atMs < this.#sleepsUntilMs) this.#arm(deadline.atMs)
  }

  remove(deadline: Deadline): void {
    this.#waiting.delete(deadline)
    if (this.#waiting.size === 0) this.#disarm()
  }

  /** Nothing expires any more. */
  close(): void {
    this.#closed = true
    this.#waiting.clear()
    this.#disarm()
  }

  #disarm(): void {
    this.#sleep?.abort()
    this.#sleep = undefined
    this.#sleepsUntilMs = Number.POSITIVE_INFINITY
  }

  #arm(atMs: number): void {
    if (this.#closed) return
    this.#disarm()
    const sleep = new AbortController()
    this.#sleep = sleep
    this.#sleepsUntilMs = atMs
    // A timer may fire a little early by the clock that is asked next; one more millisecond costs nothing.
    const delayMs = Math.max(1, Math.ceil(atMs - this.#clock.monotonic()))
    this.#clock.sleep(delayMs, sleep.signal).then(
      () => this.#expire(sleep),
      () => undefined,
    )
  }

  #expire(sleep: AbortController): void {
    if (this.#sleep !== sleep) return
    this.#sleep = undefined
    this.#sleepsUntilMs = Number.POSITIVE_INFINITY
    const nowMs = this.#clock.monotonic()
    let nextMs = Number.POSITIVE_INFINITY
    const due: Deadline[] = []
    for (const deadline of this.#waiting) {
      if (deadline.atMs <= nowMs) due.push(deadline)
      else nextMs = Math.min(nextMs, deadline.atMs)
    }
    if (nextMs < Number.POSITIVE_INFINITY) this.#arm(nextMs)
    for (const deadline of due) {
      if (this.#waiting.delete(deadline)) deadline.expire()
    }
  }
}
