import type { ChunkId } from '../../contract/ids.ts'

/** What was begun: its answer, and the end of everything that it still does (never rejects). */
export interface BegunTurn<T> {
  readonly answer: Promise<T>
  readonly settled: Promise<unknown>
}

/** Writes and deletes of one chunk from this node settle everywhere in the order they were made: each waits for the one before. */
export class ChunkTurns {
  readonly #last = new Map<string, Promise<void>>()

  /** `begin` must not throw. */
  async take<T>(id: ChunkId, begin: () => BegunTurn<T>): Promise<T> {
    const key = Buffer.from(id.buffer, id.byteOffset, id.byteLength).toString('latin1')
    let end: () => void = () => undefined
    const ended = new Promise<void>((resolve) => {
      end = resolve
    })
    const before = this.#last.get(key)
    this.#last.set(key, ended)
    const done = (): void => {
      if (this.#last.get(key) === ended) this.#last.delete(key)
      end()
    }
    if (before !== undefined) await before
    const { answer, settled } = begin()
    void settled.then(done)
    return answer
  }

  /** Resolves when everything that was begun has settled. */
  async idle(): Promise<void> {
    while (this.#last.size > 0) await Promise.all(this.#last.values())
  }
}
