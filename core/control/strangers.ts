import type { Socket } from 'node:net'
import type { Clock } from '../contract/clock.ts'
import { DueTimer } from '../contract/due-timer.ts'

export interface StrangerLimits {
  /** For one more the oldest goes. */
  readonly count: number
  /** Each goes after so long. */
  readonly ms: number
}

/** Whoever means well is known after milliseconds. */
const usualLimits: StrangerLimits = { count: 256, ms: 10_000 }

/** Connections of which nobody knows yet whose they are, or what they want: few, and none of them for long, so that they keep no descriptors. */
export class Strangers<Key> {
  readonly #clock: Clock
  readonly #limits: StrangerLimits
  /** The oldest first. */
  readonly #waiting = new Map<Key, { readonly socket: Socket; readonly untilMs: number }>()
  readonly #patience: DueTimer

  constructor(clock: Clock, limits = usualLimits) {
    this.#clock = clock
    this.#limits = limits
    this.#patience = new DueTimer(clock, () => {
      const nowMs = clock.monotonic()
      this.#dismiss((untilMs) => untilMs <= nowMs)
    })
  }

  meet(key: Key, socket: Socket): void {
    const { count, ms } = this.#limits
    this.#waiting.set(key, { socket, untilMs: this.#clock.monotonic() + ms })
    socket.once('close', () => {
      if (this.#waiting.get(key)?.socket === socket) this.#waiting.delete(key)
    })
    this.#dismiss(() => this.#waiting.size > count)
  }

  /** It is none any more. */
  know(key: Key): void {
    this.#waiting.delete(key)
  }

  /** Nobody is sent away any more. */
  close(): void {
    this.#patience.close()
  }

  #dismiss(goes: (untilMs: number) => boolean): void {
    for (const [key, { socket, untilMs }] of this.#waiting) {
      if (!goes(untilMs)) {
        this.#patience.arm(untilMs)
        return
      }
      this.#waiting.delete(key)
      socket.destroy()
    }
  }
}
