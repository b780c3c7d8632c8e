import type { ByteStream } from './byte-stream.ts'
import { type Crc32c, encodeHeader, type FrameHeader } from './frame.ts'
import type { Sealer } from './seal.ts'

interface Queued {
  readonly pieces: readonly Uint8Array[]
  readonly written: () => void
  readonly failed: (reason: unknown) => void
}

/** Sends frames one after another. The queue is bounded by the credits of the session: a frame waits for its turn. */
export class FrameWriter {
  readonly #stream: ByteStream
  readonly #crc32c: Crc32c
  readonly #queue: Queued[] = []
  #running: Promise<void> | undefined
  #bytesWritten = 0
  #sealer: Sealer | undefined

  constructor(stream: ByteStream, crc32c: Crc32c) {
    this.#stream = stream
    this.#crc32c = crc32c
  }

  get bytesWritten(): number {
    return this.#bytesWritten
  }

  /** From the next frame on all are sealed. REQUIRES: nothing waits to be written. */
  seal(sealer: Sealer): void {
    this.#sealer = sealer
  }

  /** Resolves when the stream has taken the frame and the payload may be changed; rejects when the stream is broken. */
  send(header: FrameHeader, payload?: Uint8Array): Promise<void> {
    const encoded = encodeHeader(header, this.#crc32c)
    const pieces = payload === undefined || payload.length === 0 ? [encoded] : [encoded, payload]
    return new Promise((written, failed) => {
      this.#queue.push({ pieces, written, failed })
      this.#running ??= this.#run()
    })
  }

  /** Resolves when the stream has taken everything that was sent so far, or has broken. */
  async drained(): Promise<void> {
    while (this.#running) await this.#running
  }

  async #run(): Promise<void> {
    try {
      for (let next = this.#queue.shift(); next !== undefined; next = this.#queue.shift()) {
        try {
          const sealer = this.#sealer
          // In the order of the queue, which is that of the nonces.
          const pieces =
            sealer === undefined ? next.pieces : next.pieces.flatMap((piece) => sealer.seal(piece))
          await this.#stream.write(pieces)
          for (const { length } of pieces) this.#bytesWritten += length
          next.written()
        } catch (reason) {
          next.failed(reason)
        }
      }
    } finally {
      this.#running = undefined
    }
  }
}
