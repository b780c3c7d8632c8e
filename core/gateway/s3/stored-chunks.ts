import type { ChunkBuffer } from '../../contract/chunk-store.ts'
import { type ErasureScheme, type Stripe, stripeOf } from '../../contract/erasure.ts'
import { chunkId, type WriteId } from '../../contract/ids.ts'
import type { Checksum, Layout } from '../../contract/object-model.ts'
import type { Span } from '../../contract/trace.ts'
import { hexOf } from './checksum.ts'
import type { Gateway, StoredBody } from './operation.ts'
import { ended } from './traced-gateway.ts'

/** The chunks of one write on their way from the store's point of view: what to name, and what to free. */
export class StoredChunks {
  readonly #gateway: Gateway
  readonly #writeId: WriteId
  readonly #chunkBytes: number
  readonly #qosClass: number | undefined
  readonly #erasure: ErasureScheme | undefined
  #count = 0

  constructor(
    gateway: Gateway,
    writeId: WriteId,
    chunkBytes: number,
    qosClass: number | undefined,
    erasure?: ErasureScheme,
  ) {
    this.#erasure = erasure
    this.#gateway = gateway
    this.#writeId = writeId
    this.#chunkBytes = chunkBytes
    this.#qosClass = qosClass
  }

  put(buffer: ChunkBuffer, byteLength: number): Promise<void> {
    const index = this.#count
    this.#count += 1
    const id = chunkId(this.#writeId, index)
    const { chunks, trace, acks } = this.#gateway
    const stripe = this.#stripe(byteLength)
    const put = (span?: Span): Promise<void> =>
      chunks.put(id, buffer, byteLength, this.#qosClass, stripe, span, acks)
    if (trace === undefined) return put()
    const span = trace.child('chunk.put', 'internal', { 'pando.chunk': hexOf(id), 'pando.bytes': byteLength })
    return ended(span, () => put(span))
  }

  #stripe(byteLength: number): Stripe | undefined {
    const chunkBytes = this.#chunkBytes
    return this.#erasure === undefined ? undefined : stripeOf({ chunkBytes, byteLength }, this.#erasure, 0)
  }

  body(byteLength: number, md5: string, checksum: Checksum | undefined): StoredBody {
    const layout: Layout =
      byteLength === 0
        ? { kind: 'empty' }
        : {
            kind: 'chunks',
            extents: [
              {
                writeId: this.#writeId,
                chunkBytes: this.#chunkBytes,
                byteLength,
                ...(this.#erasure === undefined ? {} : { erasure: this.#erasure }),
              },
            ],
          }
    return {
      byteLength,
      md5,
      checksum,
      layout,
      inline: undefined,
      settle: async (outcome) => {
        if (outcome === 'abandoned') await this.abandon()
        else this.#gateway.writes.settle(this.#writeId)
      },
    }
  }

  /**
   * Frees the chunks, unless something owns them after all: an entry that came twice, after its first answer was forgotten, is refused or
   * answered because of the very object that it has made. What cannot be freed now belongs to no object, and the orphan collector will find it. */
  async abandon(): Promise<void> {
    const { catalog, chunks, writes, log } = this.#gateway
    if (catalog.writeOwner(this.#writeId) !== undefined) {
      writes.settle(this.#writeId)
      return
    }
    for (let index = 0; index < this.#count; index++) {
      try {
        // Of a whole chunk: a shorter one has the same fragments, or fewer.
        await chunks.delete(chunkId(this.#writeId, index), this.#qosClass, this.#stripe(this.#chunkBytes))
      } catch (error) {
        log.warn({ err: error, writeId: hexOf(this.#writeId), index }, 'a chunk of a refused body is left')
        break
      }
    }
    writes.settle(this.#writeId)
  }
}
