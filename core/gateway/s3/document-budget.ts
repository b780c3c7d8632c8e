import type { ChunkStore } from '../../contract/chunk-store.ts'
import type { Clock } from '../../contract/clock.ts'
import { StorageError } from '../../contract/errors.ts'

/**
 * How much memory bodies may hold that are read as one text (lists of deletes and of parts, policies, tags), and forms until their file
 * begins. They are no part of the buffer pool, and some are read before it is known whether their sender may do anything. What counts is what has arrived, not what was announced. Where
 * there is no room, whoever has been at it the longest goes, so that documents that trickle keep nobody out; in their first two seconds
 * they are safe, or newcomers would push each other out and none would ever be whole.
 */
export class DocumentBudget {
  readonly #totalBytes: number
  readonly #clock: Clock
  #heldBytes = 0
  /** The oldest first. */
  readonly #arriving = new Set<ArrivingDocument>()

  constructor(totalBytes: number, clock: Clock) {
    this.#totalBytes = totalBytes
    this.#clock = clock
  }

  /** `cut` is called at most once, when the document has to go. */
  open(cut: (reason: StorageError) => void): DocumentRoom {
    const document: ArrivingDocument = {
      sinceMs: this.#clock.monotonic(),
      heldBytes: 0,
      cut,
    }
    this.#arriving.add(document)
    return {
      take: (byteLength) => this.#take(document, byteLength),
      arrived: () => void this.#arriving.delete(document),
      close: () => this.#close(document),
    }
  }

  #take(document: ArrivingDocument, byteLength: number): void {
    // One document always fits, however small the budget.
    while (this.#heldBytes > document.heldBytes && this.#heldBytes + byteLength > this.#totalBytes) {
      const [oldest] = this.#arriving
      const isLate = oldest !== undefined && this.#clock.monotonic() - oldest.sinceMs >= safeMs
      if (oldest === undefined || !isLate || oldest === document) throw tooMany()
      this.#close(oldest)
      oldest.cut(tooMany())
    }
    document.heldBytes += byteLength
    this.#heldBytes += byteLength
  }

  #close(document: ArrivingDocument): void {
    this.#arriving.delete(document)
    this.#heldBytes -= document.heldBytes
    document.heldBytes = 0
  }
}

/** Of one document. */
export interface DocumentRoom {
  /** For bytes that have arrived. SLOW_DOWN when there is none. */
  take(byteLength: number): void
  /** All of it is here: it waits for nobody any more, and is not cut. */
  arrived(): void
  /** Gives back what was taken; again does nothing. */
  close(): void
}

interface ArrivingDocument {
  readonly sinceMs: number
  heldBytes: number
  readonly cut: (reason: StorageError) => void
}

/** The largest document takes as long at 1 MiB/s, and the usual one some milliseconds. */
const safeMs = 2_000

const tooMany = (): StorageError =>
  new StorageError('SLOW_DOWN', 'Too many documents arrive at once. Reduce your request rate.')

const budgets = new WeakMap<ChunkStore, DocumentBudget>()

/** The one budget of a store: a quarter of what its buffer pool has, beside it. Waits only the first time. */
export function documentBudgetOf(chunks: ChunkStore, clock: Clock): DocumentBudget | Promise<DocumentBudget> {
  return (
    budgets.get(chunks) ??
    chunks.stats().then(({ poolBytes }) => {
      const budget = budgets.get(chunks) ?? new DocumentBudget(poolBytes / 4, clock)
      budgets.set(chunks, budget)
      return budget
    })
  )
}
