import type { BytePace } from '../contract/admission.ts'
import type { Clock } from '../contract/clock.ts'
import { StorageError } from '../contract/errors.ts'
import type { Gcra } from './gcra.ts'

export interface PaceOwner {
  /** Aborted when the request is abandoned or has ended. */
  signal(): AbortSignal
  /** A wait begins: the request works no more for the moment. */
  waits(delayMs: number): void
}

/**
 * Bytes of one body against all budgets that apply. A piece is paid for before it is moved, and its time comes when what was
 * paid before it has been earned: streams of one budget take turns, and none holds a buffer while it waits.
 */
export class BudgetPace implements BytePace {
  charged = 0
  readonly #clock: Clock
  readonly #budgets: readonly Gcra[]
  readonly #owner: PaceOwner

  constructor(clock: Clock, budgets: readonly Gcra[], owner: PaceOwner) {
    this.#clock = clock
    this.#budgets = budgets
    this.#owner = owner
  }

  get pieceBytes(): number {
    let bytes = maxPieceBytes
    for (const { perSecond } of this.#budgets) bytes = Math.min(bytes, (perSecond * pieceMs) / 1000)
    return Math.max(minPieceBytes, 2 ** Math.floor(Math.log2(bytes)))
  }

  take(byteLength: number): Promise<void> | undefined {
    const now = this.#clock.monotonic()
    const wait = this.#waitMs(now)
    this.#charge(byteLength, now)
    return wait > 0 ? this.#sleep(byteLength, wait) : undefined
  }

  tryTake(byteLength: number): boolean {
    const now = this.#clock.monotonic()
    if (this.#waitMs(now) > 0) return false
    this.#charge(byteLength, now)
    return true
  }

  refund(byteLength: number): void {
    this.charged -= byteLength
    for (const gcra of this.#budgets) gcra.refund(byteLength)
  }

  #waitMs(nowMs: number): number {
    let wait = 0
    for (const gcra of this.#budgets) wait = Math.max(wait, gcra.waitMs(nowMs))
    return wait
  }

  #charge(byteLength: number, nowMs: number): void {
    this.charged += byteLength
    for (const gcra of this.#budgets) gcra.take(byteLength, nowMs)
  }

  async #sleep(byteLength: number, wait: number): Promise<void> {
    this.#owner.waits(wait)
    try {
      await this.#clock.sleep(wait, this.#owner.signal())
    } catch (error) {
      this.refund(byteLength)
      throw new StorageError('CANCELLED', 'the client went away while its body was paced', { cause: error })
    }
  }
}

/** A piece is at most what the budget gives in this time: 0.5 % of the 10 s over which limits are looked at. */
const pieceMs = 50
const minPieceBytes = 16 * 1024
const maxPieceBytes = 4 * 1024 * 1024
