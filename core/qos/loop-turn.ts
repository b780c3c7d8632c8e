/** Calls back when the event loop has come round: input that was ready has been read, and turned into requests. */
export type NextTurn = (go: () => void) => void

/**
 * How many requests may begin in one turn of the event loop while tenants compete. What a turn has begun, it ends before it
 * reads again: a request that arrives meanwhile waits for all of it, whoever's it is. So a turn begins only what takes about
 * a millisecond, in fair order, and looks at the sockets again. How many that are is learnt from how long turns take, which
 * includes the reading and parsing of what came in.
 *
 * This, and not the limit of concurrency, is what keeps the queue of a loop that is busy in front of the scheduler: a
 * request out of memory takes its time from the loop alone, begins and ends within a turn and never meets another one.
 */
export class LoopTurn {
  readonly #nextTurn: NextTurn
  readonly #monotonic: () => number
  readonly #onTurn: (nowMs: number) => void
  #begun = 0
  #beganMs = 0
  #perRequestMs = firstGuessMs
  #allowed = Math.round(turnMs / firstGuessMs)

  /** `onTurn` is called when the turn of the last `begin` is over. */
  constructor(nextTurn: NextTurn, monotonic: () => number, onTurn: (nowMs: number) => void) {
    this.#nextTurn = nextTurn
    this.#monotonic = monotonic
    this.#onTurn = onTurn
  }

  /** Nothing more is to begin before the loop has come round. */
  get isFull(): boolean {
    return this.#begun >= this.#allowed
  }

  begin(nowMs: number): void {
    if (++this.#begun > 1) return
    this.#beganMs = nowMs
    this.#nextTurn(this.#over)
  }

  readonly #over = (): void => {
    const now = this.#monotonic()
    const perRequestMs = (now - this.#beganMs) / this.#begun
    // One turn in which the process had no processor says nothing about requests.
    const bounded = Math.min(perRequestMs, this.#perRequestMs * 4)
    this.#perRequestMs += (bounded - this.#perRequestMs) * gain
    this.#allowed = Math.min(Math.max(1, Math.round(turnMs / this.#perRequestMs)), mostPerTurn)
    this.#begun = 0
    this.#onTurn(now)
  }
}

/**
 * Waiting for a turn that is under way is what isolation costs those who wait; a turn costs the loop some 15 us of its own
 * (epoll, immediates), 1.5 % of this.
 */
const turnMs = 1
const firstGuessMs = 0.25
const gain = 1 / 16
const mostPerTurn = 16
