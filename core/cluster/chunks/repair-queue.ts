import type { Stripe } from '../../contract/erasure.ts'
import type { ChunkId } from '../../contract/ids.ts'

export interface MissingChunk {
  readonly id: ChunkId
  readonly byteLength: number
  /** What is here is to be replaced. */
  readonly isCorrupt: boolean
  /** Sound copies elsewhere, as far as they answered, nearest first. */
  readonly sources: readonly string[]
  /** Of a fragment: when nobody has it, it is computed. */
  readonly stripe?: Stripe
  /** What may still be lost before the chunk is: fragments beyond those needed. Absent: sources. */
  readonly spare?: number
}

const levels = 6

/** What a node lacks, those with the fewest copies elsewhere first. Bounded; each chunk once. */
export class RepairQueue {
  readonly #limit: number
  readonly #levels: MissingChunk[][] = Array.from({ length: levels }, () => [])
  readonly #known = new Set<string>()
  #bytes = 0

  constructor(limit: number) {
    this.#limit = limit
  }

  get length(): number {
    return this.#known.size
  }

  get bytes(): number {
    return this.#bytes
  }

  get isFull(): boolean {
    return this.#known.size >= this.#limit
  }

  has(id: ChunkId): boolean {
    return this.#known.has(keyOf(id))
  }

  /** False: it is full. */
  add(chunk: MissingChunk): boolean {
    const key = keyOf(chunk.id)
    if (this.#known.has(key)) return true
    if (this.isFull) return false
    this.#known.add(key)
    this.#bytes += chunk.byteLength
    this.#levels[Math.min(levels - 1, chunk.spare ?? chunk.sources.length)]?.push(chunk)
    return true
  }

  take(): MissingChunk | undefined {
    for (const level of this.#levels) {
      const chunk = level.pop()
      if (chunk === undefined) continue
      this.#known.delete(keyOf(chunk.id))
      this.#bytes -= chunk.byteLength
      return chunk
    }
    return undefined
  }
}

const keyOf = (id: ChunkId): string => Buffer.from(id.buffer, id.byteOffset, id.byteLength).toString('latin1')
