import type { IncomingMessage } from 'node:http'
import type { BytePace } from '../../../contract/admission.ts'
import type { ChunkStore } from '../../../contract/chunk-store.ts'
import type { Clock } from '../../../contract/clock.ts'
import type { StorageError } from '../../../contract/errors.ts'
import { type DocumentRoom, documentBudgetOf } from '../document-budget.ts'
import type { PieceSink, RequestBody } from '../operation.ts'
import { bodyText, incomplete } from '../request-body.ts'
import { blockBytes, type SharedSlab } from './shared-slab.ts'

const pieceBytes = 64 * 1024

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
  readonly #clock: Clock
  readonly #message: IncomingMessage
  readonly #place: SlabPlace
  #used = false

  constructor(
    chunks: ChunkStore,
    message: IncomingMessage,
    place: SlabPlace,
    payloadSha256: string | undefined,
    clock: Clock,
  ) {
    this.#chunks = chunks
    this.#clock = clock
    this.#message = message
    this.#place = place
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

  /** Of documents, which are short. */
  async pump(sink: PieceSink): Promise<void> {
    if (this.#used) throw new TypeError('a body can be read once')
    const piece = new Uint8Array(Math.min(pieceBytes, this.declaredBytes))
    while (this.receivedBytes < this.declaredBytes) {
      const next = piece.subarray(0, this.declaredBytes - this.receivedBytes)
      await this.readInto(next)
      const wait = sink(next)
      if (wait !== undefined) await wait
    }
  }

  /** A copy, which the client cannot change any more. INCOMPLETE_BODY where it has cut its memory short, or has given up. */
  async readInto(target: Uint8Array): Promise<void> {
    this.#used = true
    const { slab, blocks } = this.#place
    for (let filled = 0; filled < target.length; ) {
      const offset = this.receivedBytes % blockBytes
      const block = blocks[(this.receivedBytes - offset) / blockBytes]
      const length = Math.min(blockBytes - offset, target.length - filled)
      // A client that has given up uses its blocks for something else.
      if (block === undefined || this.#message.socket.destroyed) throw incomplete()
      const got = await slab.read(target.subarray(filled, filled + length), block * blockBytes + offset)
      if (got !== length) throw incomplete()
      filled += length
      this.receivedBytes += length
    }
    if (this.#message.socket.destroyed) throw incomplete()
  }

  text(limitBytes: number, checksumsOf?: 'document' | 'object'): Promise<string> {
    return bodyText(this, this.#chunks, this.#message.headers, limitBytes, checksumsOf)
  }

  async room(cut: (reason: StorageError) => void): Promise<DocumentRoom> {
    return (await documentBudgetOf(this.#chunks, this.#clock)).open(cut)
  }
}

const none: ReadonlyMap<string, string> = new Map()
