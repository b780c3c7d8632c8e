import type { ChunkStore } from '../../contract/chunk-store.ts'

/**
 * How much of the buffer pool reads may hold. The pool is first come, first served, so readers that take their bytes slowly
 * (or not at all) would end up with all of it, and every write would wait for them. Reads get half of the pool; of that,
 * reading ahead gets half, so that a new reader finds room for its next piece.
 */
export class ReadBudget {
  readonly #totalBytes: number
  #usedBytes = 0
  readonly #waiting: { readonly byteLength: number; readonly go: () => void }[] = []

  constructor(poolBytes: number) {
    this.#totalBytes = poolBytes / 2
  }

  /** Room for the piece that is sent next: undefined when there is some, else resolves when there is (first come, first served). */
  take(byteLength: number): Promise<void> | undefined {
    if (this.#waiting.length === 0 && this.#fits(byteLength)) {
      this.#usedBytes += byteLength
      return undefined
    }
    return new Promise((go) => this.#waiting.push({ byteLength, go }))
  }

  /** Room for reading ahead: only while plenty is left and nobody waits. */
  takeAhead(byteLength: number): boolean {
    if (this.#waiting.length > 0 || this.#usedBytes + byteLength > this.#totalBytes / 2) return false
    this.#usedBytes += byteLength
    return true
  }

  give(byteLength: number): void {
    this.#usedBytes -= byteLength
    for (
      let first = this.#waiting[0];
      first !== undefined && this.#fits(first.byteLength);
      first = this.#waiting[0]
    ) {
      this.#waiting.shift()
      this.#usedBytes += first.byteLength
      first.go()
    }
  }

  /** One piece always fits, however small the pool. */
  #fits(byteLength: number): boolean {
    return this.#usedBytes === 0 || this.#usedBytes + byteLength <= this.#totalBytes
  }
}

const budgets = new WeakMap<ChunkStore, ReadBudget>()

/** The one budget of a store. Waits only the first time. */
export function readBudgetOf(chunks: ChunkStore): ReadBudget | Promise<ReadBudget> {
  return (
    budgets.get(chunks) ??
    chunks.stats().then(({ poolBytes }) => {
      const budget = budgets.get(chunks) ?? new ReadBudget(poolBytes)
      budgets.set(chunks, budget)
      return budget
    })
  )
}
