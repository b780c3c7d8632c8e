import type { IncomingMessage } from 'node:http'
import type { BytePace } from '../../../contract/admission.ts'
import type { ChunkStore } from '../../../contract/chunk-store.ts'
import type { PieceSink, RequestBody } from '../operation.ts'
import { bodyText, incomplete } from '../request-body.ts'
import { blockBytes, type SharedSlab } from './shared-slab.ts'

/** Half a block: one piece is copied while the next one is read. */
const pieceBytes = 512 * 1024
/** What is kept for the next body: of two bodies at a time. */
const keptBuffers = 4

/** Memory that pieces are copied into, before anybody looks at them. */
export class PieceBuffers {
  readonly #kept: Uint8Array[] = []

  take(): Uint8Array {
    return this.#kept.pop() ?? Buffer.allocUnsafeSlow(pieceBytes)
  }

  give(buffer: Uint8Array): void {
    if (this.#kept.length < keptBuffers) this.#kept.push(buffer)
  }
}

export interface SlabPlace {
  readonly slab: SharedSlab
  readonly byteLength: number
  /** In order; all are full but the last one. */
  readonly blocks: readonly number[]
}

/** The payload of a request that its client has put into the slab before it sent the head. */
export class SlabBody implements RequestBody {
  readonly declaredBytes: number
  readonly payloadSha256: string | undefined
  receivedBytes = 0
  /** All of it is here: nobody waits for the client. */
  readonly waiting = false
  pace: BytePace | undefined
  qosClass: number | undefined
  readonly #chunks: ChunkStore
  readonly #message: IncomingMessage
  readonly #place: SlabPlace
  readonly #buffers: PieceBuffers
  #used = false

  constructor(
    chunks: ChunkStore,
    message: IncomingMessage,
    place: SlabPlace,
    payloadSha256: string | undefined,
    buffers: PieceBuffers,
  ) {
    this.#chunks = chunks
    this.#message = message
    this.#place = place
    this.#buffers = buffers
    this.declaredBytes = place.byteLength
    this.payloadSha256 = payloadSha256
  }

  get started(): boolean {
    return this.#used
  }

  trailers(): ReadonlyMap<string, string> {
    return none
  }

  /** Nothing to cut: see `waiting`. */
  cut(): void {}

  async pump(sink: PieceSink): Promise<void> {
    if (this.#used) throw new TypeError('a body can be read once')
    this.#used = true
    const buffers = [this.#buffers.take(), this.#buffers.take()] as const
    let reading: Promise<Uint8Array> | undefined
    try {
      reading = this.#read(buffers[0], 0)
      for (let at = 0, turn = 1; reading !== undefined; turn++) {
        const piece: Uint8Array = await reading
        at += piece.length
        reading = undefined
        // A client that has given up uses its blocks for something else.
        if (this.#message.socket.destroyed) throw incomplete()
        if (at < this.declaredBytes) reading = this.#read(buffers[turn % 2 === 0 ? 0 : 1], at)
        this.receivedBytes += piece.length
        const wait = sink(piece)
        if (wait !== undefined) await wait
      }
    } finally {
      await reading?.catch(() => undefined)
      for (const buffer of buffers) this.#buffers.give(buffer)
    }
  }

  text(limitBytes: number): Promise<string> {
    return bodyText(this, this.#chunks, this.#message.headers, limitBytes)
  }

  /** A copy, which the client cannot change any more. INCOMPLETE_BODY where it has cut its memory short. */
  async #read(buffer: Uint8Array, at: number): Promise<Uint8Array> {
    const offset = at % blockBytes
    const block = this.#place.blocks[(at - offset) / blockBytes] ?? 0
    const length = Math.min(pieceBytes, this.declaredBytes - at)
    const piece = buffer.subarray(0, length)
    if ((await this.#place.slab.read(piece, block * blockBytes + offset)) !== length) throw incomplete()
    return piece
  }
}

const none: ReadonlyMap<string, string> = new Map()
