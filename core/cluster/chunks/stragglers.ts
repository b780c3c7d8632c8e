import type { Clock } from '../../contract/clock.ts'

/** A copy on its way after its write was acknowledged: what it keeps in memory, and how to give it up. */
interface Straggler {
  readonly byteLength: number
  readonly sinceMs: number
  readonly giveUp: () => void
}

export interface StragglerLimits {
  /** Bytes that all of them may keep; the oldest are given up above that. */
  readonly bytes: number
  /** How long one may take after the acknowledgement. */
  readonly ms: number
}

const sweepMs = 250

/**
 * Copies that are slower than the quorum. They go on in the background, within bounds of memory and time: a node that is slow for long
 * then costs the writers nothing, and catches up by repair.
 */
export class Stragglers {
  readonly #clock: Clock
  readonly #limits: StragglerLimits
  /** In the order of their acknowledgement. */
  readonly #running = new Set<Straggler>()
  #bytes = 0
  #sweeping: AbortController | undefined

  constructor(clock: Clock, limits: StragglerLimits) {
    this.#clock = clock
    this.#limits = limits
  }

  get bytes(): number {
    return this.#bytes
  }

  get count(): number {
    return this.#running.size
  }

  /** Returns how to say that the copy has settled. */
  add(byteLength: number, giveUp: () => void): () => void {
    const straggler: Straggler = { byteLength, sinceMs: this.#clock.monotonic(), giveUp }
    this.#running.add(straggler)
    this.#bytes += byteLength
    let excess = this.#bytes - this.#limits.bytes
    for (const oldest of this.#running) {
      if (excess <= 0) break
      excess -= oldest.byteLength
      oldest.giveUp()
    }
    if (this.#sweeping === undefined) void this.#sweep()
    return () => {
      if (!this.#running.delete(straggler)) return
      this.#bytes -= byteLength
      if (this.#running.size === 0) this.#sweeping?.abort()
    }
  }

  /** One timer for all of them, and none while there are none. */
  async #sweep(): Promise<void> {
    const sweeping = new AbortController()
    this.#sweeping = sweeping
    try {
      while (this.#running.size > 0) {
        await this.#clock.sleep(sweepMs, sweeping.signal)
        const nowMs = this.#clock.monotonic()
        for (const straggler of this.#running) {
          if (nowMs - straggler.sinceMs < this.#limits.ms) break
          straggler.giveUp()
        }
      }
    } catch {
      // Nothing is left to watch.
    } finally {
      if (this.#sweeping === sweeping) this.#sweeping = undefined
      if (this.#running.size > 0 && this.#sweeping === undefined) void this.#sweep()
    }
  }

  giveUpAll(): void {
    for (const straggler of [...this.#running]) straggler.giveUp()
  }
}
