import type { ChunkBuffer } from '../../contract/chunk-store.ts'

/**
 * A buffer that outlives its owner's `release` while a slow copy is still being written from it: a write is acknowledged when
 * enough nodes have it, and the others go on reading the same bytes.
 */
export class HeldBuffer implements ChunkBuffer {
  readonly inner: ChunkBuffer
  #holds = 0
  #isReleased = false

  constructor(inner: ChunkBuffer) {
    this.inner = inner
  }

  get bytes(): Uint8Array {
    return this.inner.bytes
  }

  /** Keeps the bytes until the returned function is called, once. */
  hold(): () => void {
    this.#holds++
    return () => {
      this.#holds--
      if (this.#isReleased && this.#holds === 0) this.inner.release()
    }
  }

  release(): void {
    if (this.#isReleased) throw new Error('a buffer was released twice')
    this.#isReleased = true
    if (this.#holds === 0) this.inner.release()
  }
}
