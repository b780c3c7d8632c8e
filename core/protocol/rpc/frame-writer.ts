import type { ByteStream } from './byte-stream.ts'
import { type Crc32c, encodeHeader, type FrameHeader } from './frame.ts'

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

  constructor(stream: ByteStream, crc32c: Crc32c) {
    this.#stream = stream
    this.#crc32c = crc32c
  }

  get bytesWritten(): number {
    return this.#bytesWritten
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
          await this.#stream.write(next.pieces)
          for (const { length } of next.pieces) this.#bytesWritten += length
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
