import type { FakeClock } from '../kit/fake-clock.ts'
import type { SeededRandom } from './seeded-random.ts'

/** What a log asks of the nodes that write it. */
export interface LogNode {
  /** It runs, and reaches the others of its region. */
  readonly isThere: boolean
}

/**
 * The ordered log of a region of several nodes: takes entries while a majority of them is there, keeps what it has taken, and tells nobody
 * what became of some. How far each node has read it is the node's own affair.
 */
export class RegionLog<N extends LogNode> {
  readonly entries: Uint8Array[] = []
  readonly nodes: N[] = []
  readonly #clock: FakeClock
  readonly #random: SeededRandom
  #stalledUntilMs = 0

  constructor(clock: FakeClock, random: SeededRandom) {
    this.#clock = clock
    this.#random = random
  }

  get isWritable(): boolean {
    const there = this.nodes.filter(({ isThere }) => isThere).length
    return there > this.nodes.length / 2 && this.#clock.monotonic() >= this.#stalledUntilMs
  }

  /** Another node begins to order the log. */
  stall(): void {
    this.#stalledUntilMs = this.#clock.monotonic() + this.#random.below(3_000)
  }

  /** Takes the entry some time later, and nobody hears of it. */
  takeLate(entry: Uint8Array): void {
    void this.#clock.sleep(this.#random.below(6_000)).then(() => this.entries.push(entry))
  }
}
