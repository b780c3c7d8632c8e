import type { ChunkStore } from '../../contract/chunk-store.ts'
import type { Clock } from '../../contract/clock.ts'
import { DueTimer } from '../../contract/due-timer.ts'

/**
 * How much of the buffer pool reads may hold. The pool is first come, first served, so readers that take their bytes slowly
 * (or not at all) would end up with all of it, and every write would wait for them. Reads get half of the pool; of that,
 * reading ahead gets half, so that a new reader finds room for its next piece. A piece that the socket has not taken cannot be
 * taken back, so pieces are the smaller the more of them there are: a thousand readers that have stopped hold what a hundred fast
 * ones do. Where even that is used up, the connection of a reader goes that has not taken its piece for long.
 */
export class ReadBudget {
  readonly #totalBytes: number
  readonly #clock: Clock
  #usedBytes = 0
  /** Of those what is read ahead. */
  #aheadBytes = 0
  readonly #waiting: { readonly byteLength: number; readonly go: () => void }[] = []
  #wantedBytes = 0
  /** The oldest first. */
  readonly #sending = new Set<Sending>()
  readonly #patience: DueTimer

  constructor(poolBytes: number, clock: Clock) {
    this.#totalBytes = poolBytes / 2
    this.#clock = clock
    this.#patience = new DueTimer(clock, () => this.#cutStalled())
  }

  /** How long a piece may be now, at most `mostBytes`. */
  pieceBytes(mostBytes: number): number {
    const sentBytes = this.#usedBytes - this.#aheadBytes
    for (const { share, byteLength } of steps) {
      if (sentBytes < this.#totalBytes * share) return Math.min(mostBytes, byteLength)
    }
    return Math.min(mostBytes, leastPieceBytes)
  }

  /** Room for the piece that is sent next: undefined when there is some, else resolves when there is (first come, first served). */
  take(byteLength: number): Promise<void> | undefined {
    if (this.#waiting.length === 0 && this.#fits(byteLength)) {
      this.#usedBytes += byteLength
      return undefined
    }
    return new Promise((go) => {
      this.#waiting.push({ byteLength, go })
      this.#wantedBytes += byteLength
      this.#cutStalled()
    })
  }

  /** Room for reading ahead: only while plenty is left and nobody waits. */
  takeAhead(byteLength: number): boolean {
    if (this.#waiting.length > 0 || this.#usedBytes + byteLength > this.#totalBytes / 2) return false
    this.#usedBytes += byteLength
    this.#aheadBytes += byteLength
    return true
  }

  /** What was read ahead is sent next. */
  sendAhead(byteLength: number): void {
    this.#aheadBytes -= byteLength
  }

  giveAhead(byteLength: number): void {
    this.#aheadBytes -= byteLength
    this.give(byteLength)
  }

  give(byteLength: number): void {
    this.#usedBytes -= byteLength
    for (
      let first = this.#waiting[0];
      first !== undefined && this.#fits(first.byteLength);
      first = this.#waiting[0]
    ) {
      this.#waiting.shift()
      this.#wantedBytes -= first.byteLength
      this.#usedBytes += first.byteLength
      first.go()
    }
  }

  /** A piece is given to its client, who may be cut when it does not take it. The result is to be called when it has, or has gone. */
  send(byteLength: number, cut: () => void): () => void {
    const sending: Sending = { byteLength, sinceMs: this.#clock.monotonic(), cut, isCut: false }
    this.#sending.add(sending)
    if (this.#waiting.length > 0) this.#patience.arm(sending.sinceMs + stalledMs)
    return () => void this.#sending.delete(sending)
  }

  /** As many as there is room wanted: memory comes back when their sockets are closed. */
  #cutStalled(): void {
    const nowMs = this.#clock.monotonic()
    let wantedBytes = this.#wantedBytes
    for (const sending of this.#sending) {
      if (wantedBytes <= 0) return
      const dueMs = sending.sinceMs + stalledMs
      if (!sending.isCut && dueMs > nowMs) {
        this.#patience.arm(dueMs)
        return
      }
      wantedBytes -= sending.byteLength
      if (sending.isCut) continue
      sending.isCut = true
      sending.cut()
    }
  }

  /** One piece always fits, however small the pool. */
  #fits(byteLength: number): boolean {
    return this.#usedBytes === 0 || this.#usedBytes + byteLength <= this.#totalBytes
  }
}

interface Sending {
  readonly byteLength: number
  readonly sinceMs: number
  readonly cut: () => void
  isCut: boolean
}

/** While what is sent takes less than this share of the budget, pieces are this long. */
const steps = [
  { share: 1 / 2, byteLength: Number.POSITIVE_INFINITY },
  { share: 3 / 4, byteLength: 256 * 1024 },
] as const
const leastPieceBytes = 64 * 1024

/** Slow readers have small pieces by then, which even a thin link takes in less. */
const stalledMs = 5_000

const budgets = new WeakMap<ChunkStore, ReadBudget>()

/** The one budget of a store. Waits only the first time. */
export function readBudgetOf(chunks: ChunkStore, clock: Clock): ReadBudget | Promise<ReadBudget> {
  return (
    budgets.get(chunks) ??
    chunks.stats().then(({ poolBytes }) => {
      const budget = budgets.get(chunks) ?? new ReadBudget(poolBytes, clock)
      budgets.set(chunks, budget)
      return budget
    })
  )
}
