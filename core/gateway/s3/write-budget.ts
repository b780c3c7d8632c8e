import type { ChunkStore } from '../../contract/chunk-store.ts'
import { StorageError } from '../../contract/errors.ts'

/**
 * How much of the buffer pool bodies may hold while they arrive. A client that trickles keeps its current buffer for as long
 * as it likes (the least rate that cuts it is low, for thin links), so bodies that begin while many arrive get smaller
 * chunks: thousands of slow uploads then hold what some tens of fast ones do, and the rest of the pool stays free for others.
 * Buffers on their way to the disk do not count: they come back at the disk's speed.
 */
export class WriteBudget {
  readonly #poolBytes: number
  #heldBytes = 0

  constructor(poolBytes: number) {
    this.#poolBytes = poolBytes
  }

  /** Chunk size for a body that begins now, at most `chunkBytes`. SLOW_DOWN when arriving bodies hold half of the pool. */
  chunkBytes(chunkBytes: number): number {
    for (const { share, divisor } of steps) {
      const bytes = Math.max(Math.ceil(chunkBytes / divisor), Math.min(chunkBytes, minChunkBytes))
      if (this.#heldBytes === 0 || this.#heldBytes + bytes <= this.#poolBytes * share) return bytes
    }
    throw new StorageError('SLOW_DOWN', 'Too many uploads arrive at once. Reduce your request rate.')
  }

  hold(byteLength: number): void {
    this.#heldBytes += byteLength
  }

  drop(byteLength: number): void {
    this.#heldBytes -= byteLength
  }
}

const minChunkBytes = 64 * 1024
const steps = [
  { share: 1 / 4, divisor: 1 },
  { share: 3 / 8, divisor: 16 },
  { share: 1 / 2, divisor: 64 },
] as const

const budgets = new WeakMap<ChunkStore, WriteBudget>()

/** The one budget of a store. Waits only the first time. */
export function writeBudgetOf(chunks: ChunkStore): WriteBudget | Promise<WriteBudget> {
  return (
    budgets.get(chunks) ??
    chunks.stats().then(({ poolBytes }) => {
      const budget = budgets.get(chunks) ?? new WriteBudget(poolBytes)
      budgets.set(chunks, budget)
      return budget
    })
  )
}
