import type { ChunkId } from '../../contract/ids.ts'

/** Chunks that something happened to within a time, the last so many of them. */
export class RecentChunks {
  readonly #most: number
  readonly #forMs: number
  /** Since when, in the order of time. */
  readonly #since = new Map<string, number>()

  constructor(most: number, forMs: number) {
    this.#most = most
    this.#forMs = forMs
  }

  note(id: ChunkId, nowMs: number): void {
    const key = keyOf(id)
    this.#since.delete(key)
    this.#since.set(key, nowMs)
    for (const [oldest, sinceMs] of this.#since) {
      if (this.#since.size <= this.#most && nowMs - sinceMs < this.#forMs) break
      this.#since.delete(oldest)
    }
  }

  has(id: ChunkId, nowMs: number): boolean {
    const sinceMs = this.#since.get(keyOf(id))
    return sinceMs !== undefined && nowMs - sinceMs < this.#forMs
  }
}

const keyOf = (id: ChunkId): string => Buffer.from(id.buffer, id.byteOffset, id.byteLength).toString('latin1')
