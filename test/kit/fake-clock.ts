import type { Clock, Environment } from '../../core/contract/clock.ts'
import { seededRandom } from './random.ts'

/** A clock that goes only when it is told to. Timers fire in their order, and what they cause happens before the next. */
export class FakeClock implements Clock {
  #monotonicMs: number
  #wallMs = 1_700_000_000_000
  readonly #timers = new Set<{ readonly atMs: number; readonly fire: () => void }>()

  constructor(monotonicMs = 1000) {
    this.#monotonicMs = monotonicMs
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
      const timer = { atMs: this.#monotonicMs + delayMs, fire: resolve }
      this.#timers.add(timer)
      signal?.addEventListener(
        'abort',
        () => {
          this.#timers.delete(timer)
          reject(signal.reason)
        },
        { once: true },
      )
    })
  }

  /** Timers that wait. */
  get pending(): number {
    return this.#timers.size
  }

  async advance(byMs: number): Promise<void> {
    const untilMs = this.#monotonicMs + byMs
    await settle()
    for (;;) {
      let next: { readonly atMs: number; readonly fire: () => void } | undefined
      for (const timer of this.#timers) if (next === undefined || timer.atMs < next.atMs) next = timer
      if (next === undefined || next.atMs > untilMs) break
      this.#timers.delete(next)
      this.#to(Math.max(next.atMs, this.#monotonicMs))
      next.fire()
      await settle()
    }
    this.#to(untilMs)
    await settle()
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

  #to(atMs: number): void {
    this.#wallMs += atMs - this.#monotonicMs
    this.#monotonicMs = atMs
  }
}

/** Promises that are due have been settled. */
async function settle(): Promise<void> {
  for (let turn = 0; turn < 8; turn++) await undefined
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
