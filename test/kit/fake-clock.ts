import type { Clock, Environment } from '../../core/contract/clock.ts'
import { type HeapElement, IndexedHeap } from '../../core/qos/indexed-heap.ts'
import { seededRandom } from './random.ts'

interface Timer extends HeapElement {
  readonly atMs: number
  readonly order: number
  readonly fire: () => void
}

/** A clock that goes only when it is told to. Timers fire in their order, and what they cause happens before the next. */
export class FakeClock implements Clock {
  #monotonicMs: number
  #wallMs = 1_700_000_000_000
  #made = 0
  readonly #timers = new IndexedHeap<Timer>((left, right) =>
    left.atMs === right.atMs ? left.order < right.order : left.atMs < right.atMs,
  )

  readonly #turns: number

  /** @param turns of the microtask queue that everything caused by a timer gets before the next one fires */
  constructor(monotonicMs = 1000, turns = 8) {
    this.#monotonicMs = monotonicMs
    this.#turns = turns
  }

  now(): number {
    return this.#wallMs
  }

  monotonic(): number {
    return this.#monotonicMs
  }

  sleep(delayMs: number, signal?: AbortSignal): Promise<void> {
    return new Promise((resolve, reject) => {
      if (signal?.aborted === true) {
        reject(signal.reason)
        return
      }
      const onAbort = (): void => {
        this.#timers.remove(timer)
        reject(signal?.reason)
      }
      const fire = (): void => {
        signal?.removeEventListener('abort', onAbort)
        resolve()
      }
      const timer: Timer = { heapIndex: -1, order: this.#made++, atMs: this.#monotonicMs + delayMs, fire }
      this.#timers.push(timer)
      signal?.addEventListener('abort', onAbort, { once: true })
    })
  }

  /** Timers that wait. */
  get pending(): number {
    return this.#timers.size
  }

  async advance(byMs: number): Promise<void> {
    const untilMs = this.#monotonicMs + byMs
    await this.#settle()
    for (let next = this.#timers.peek(); next !== undefined && next.atMs <= untilMs; ) {
      this.#timers.remove(next)
      this.#to(Math.max(next.atMs, this.#monotonicMs))
      next.fire()
      await this.#settle()
      next = this.#timers.peek()
    }
    this.#to(untilMs)
    await this.#settle()
  }

  /** The wall clock is set; the monotonic clock does not notice. */
  stepWall(byMs: number): void {
    this.#wallMs += byMs
  }

  /** The process is stopped for so long: time passes and no timer fires until it goes on. */
  async standStill(forMs: number): Promise<void> {
    this.#to(this.#monotonicMs + forMs)
    await this.advance(0)
  }

  /** Promises that are due have been settled. */
  async #settle(): Promise<void> {
    for (let turn = 0; turn < this.#turns; turn++) await undefined
  }

  #to(atMs: number): void {
    this.#wallMs += atMs - this.#monotonicMs
    this.#monotonicMs = atMs
  }
}

export function fakeEnvironment(clock: Clock, seed = 1): Environment {
  const random = seededRandom(seed)
  return {
    clock,
    randomness: {
      fill(target) {
        for (let index = 0; index < target.length; index++) target[index] = random.below(256)
        return target
      },
    },
  }
}
