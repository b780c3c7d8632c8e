import type { BytePace } from '../../contract/admission.ts'
import type { ChunkBuffer } from '../../contract/chunk-store.ts'
import { type Stripe, stripeOf } from '../../contract/erasure.ts'
import { StorageError } from '../../contract/errors.ts'
import { type ChunkId, chunkId, type WriteId } from '../../contract/ids.ts'
import type { Layout } from '../../contract/object-model.ts'
import type { BodySource, Gateway, PieceSink, ResponseStream } from './operation.ts'
import { readBudgetOf } from './read-budget.ts'
import { ended } from './traced-gateway.ts'

/** One read from the chunk store: pieces let the first byte leave early and bound what a slow reader holds. */
const maxPieceBytes = 1024 * 1024
const minPieceBytes = 64 * 1024
/** A client that takes longer than this for a piece gets smaller ones, so that slow readers hold little of the pool. */
const slowPieceMs = 500

interface Piece {
  readonly id: ChunkId
  readonly offset: number
  readonly length: number
  readonly stripe: Stripe | undefined
}

interface Entry {
  readonly piece: Piece
  readonly reading: Promise<ChunkBuffer>
}

/**
 * The bytes [start, start + length) of a body, to be sent or copied. The chunks are pinned from this call (which must follow
 * the catalog read without an await in between) until they have been sent or discarded, so that an overwrite meanwhile does
 * not break the read. CATALOG_CORRUPT.
 */
export function openBody(
  gateway: Gateway,
  layout: Layout,
  start: number,
  length: number,
): Uint8Array | StoredStream {
  if (length === 0 || layout.kind === 'empty') return noBytes
  if (layout.kind === 'inline') {
    const bytes = gateway.catalog.inlineBody(layout.writeId)
    if (bytes === undefined || bytes.length < start + length) {
      throw new StorageError('CATALOG_CORRUPT', 'an inline body is missing or short')
    }
    return bytes.length === length ? bytes : bytes.subarray(start, start + length)
  }
  return new StoredStream(gateway, layout.extents, start, length)
}

const noBytes = new Uint8Array(0)
/** A reason of our own: without one, each abort makes an error with a stack that nobody reads. */
const over = new StorageError('CANCELLED', 'the body is over')

type Extents = Extract<Layout, { kind: 'chunks' }>['extents']

/** A body in the chunk store, read ahead within the request's window. */
export class StoredStream implements ResponseStream, BodySource {
  readonly byteLength: number
  pace: BytePace | undefined
  qosClass: number | undefined
  readonly #gateway: Gateway
  readonly #extents: Extents
  readonly #start: number
  readonly #unpin: (() => void)[]
  #maxPieceBytes = maxPieceBytes
  #pieceBytes = maxPieceBytes

  constructor(gateway: Gateway, extents: Extents, start: number, length: number) {
    this.byteLength = length
    this.#gateway = gateway
    this.#extents = extents
    this.#start = start
    this.#unpin = writesOf(extents, start, length).map((writeId) => gateway.writes.pin(writeId))
  }

  get declaredBytes(): number {
    return this.byteLength
  }

  discard(): void {
    for (const unpin of this.#unpin.splice(0)) unpin()
  }

  pump(sink: PieceSink): Promise<void> {
    return this.send(async (piece) => {
      await sink(piece)
    })
  }

  async send(write: (piece: Uint8Array) => Promise<void>, cut?: () => void): Promise<void> {
    const { clock } = this.#gateway.environment
    const { windowBytes } = this.#gateway.config
    const budget = await readBudgetOf(this.#gateway.chunks, clock)
    const { pace } = this
    if (pace !== undefined) this.#maxPieceBytes = Math.min(maxPieceBytes, pace.pieceBytes)
    this.#pieceBytes = this.#maxPieceBytes
    const abort = new AbortController()
    const ahead: Entry[] = []
    let aheadBytes = 0
    const pieces = this.#pieces()
    const returned: Piece[] = []
    const mostBytes = (): number => budget.pieceBytes(this.#pieceBytes)
    const nextPiece = (): Piece | undefined => {
      const piece = returned.shift() ?? pieces.next().value
      const most = mostBytes()
      if (piece === undefined || piece.length <= most) return piece
      returned.unshift({ ...piece, offset: piece.offset + most, length: piece.length - most })
      return { ...piece, length: most }
    }
    const read = (piece: Piece): Entry => {
      const { chunks, trace } = this.#gateway
      const { id, offset, length, stripe } = piece
      const span = trace?.child('chunk.get', 'internal', { 'pando.bytes': length })
      const get = () => chunks.get(id, offset, length, abort.signal, this.qosClass, stripe, span)
      const reading = span === undefined ? get() : ended(span, get)
      reading.catch(() => undefined)
      return { piece, reading }
    }
    const readAhead = (): void => {
      for (;;) {
        const most = mostBytes()
        if (aheadBytes + most > windowBytes || !budget.takeAhead(most)) return
        const piece = nextPiece()
        budget.giveAhead(most - (piece?.length ?? 0))
        if (piece === undefined) return
        // What has to wait for its time is not read yet.
        if (pace?.tryTake(piece.length) === false) {
          budget.giveAhead(piece.length)
          returned.unshift(piece)
          return
        }
        ahead.push(read(piece))
        aheadBytes += piece.length
      }
    }
    const giveBack = (): void => {
      for (const { piece, reading } of ahead) {
        reading.then(
          (buffer) => buffer.release(),
          () => undefined,
        )
        budget.giveAhead(piece.length)
        pace?.refund(piece.length)
      }
      returned.unshift(...ahead.splice(0).map(({ piece }) => piece))
      aheadBytes = 0
    }
    try {
      for (;;) {
        // Read while there was more room: it is read again, in smaller pieces.
        if (ahead[0] !== undefined && ahead[0].piece.length > budget.pieceBytes(ahead[0].piece.length))
          giveBack()
        let entry = ahead.shift()
        if (entry !== undefined) {
          aheadBytes -= entry.piece.length
          budget.sendAhead(entry.piece.length)
        } else {
          const piece = nextPiece()
          if (piece === undefined) break
          // Before the room is taken: a body that is paced holds no memory while it waits.
          const turn = pace?.take(piece.length)
          if (turn !== undefined) await turn
          await budget.take(piece.length)
          entry = read(piece)
        }
        try {
          const buffer = await entry.reading
          let stall: AbortController | undefined
          let taken: (() => void) | undefined
          try {
            if (buffer.bytes.length !== entry.piece.length) {
              throw new StorageError('CORRUPT_CHUNK', 'a chunk is shorter than its object says')
            }
            const startedMs = clock.monotonic()
            // Only now: what is not there at all costs one read, and the client gets a proper error.
            readAhead()
            if (cut !== undefined) taken = budget.send(entry.piece.length, cut)
            const writing = write(buffer.bytes)
            // A reader that has stopped keeps the piece on its way and nothing else.
            if (ahead.length > 0) {
              stall = new AbortController()
              clock.sleep(slowPieceMs, stall.signal).then(giveBack, () => undefined)
            }
            await writing
            this.#adapt(clock.monotonic() - startedMs)
          } finally {
            stall?.abort(over)
            taken?.()
            buffer.release()
          }
        } finally {
          budget.give(entry.piece.length)
        }
      }
    } finally {
      if (ahead.length > 0) abort.abort(over)
      giveBack()
      this.discard()
    }
  }

  #adapt(tookMs: number): void {
    if (tookMs > slowPieceMs) {
      this.#pieceBytes = Math.min(this.#maxPieceBytes, Math.max(minPieceBytes, this.#pieceBytes / 4))
    } else if (tookMs < slowPieceMs / 8)
      this.#pieceBytes = Math.min(this.#maxPieceBytes, this.#pieceBytes * 2)
  }

  *#pieces(): Generator<Piece> {
    let skip = this.#start
    let left = this.byteLength
    for (const extent of this.#extents) {
      if (skip >= extent.byteLength) {
        skip -= extent.byteLength
        continue
      }
      let position = skip
      skip = 0
      while (position < extent.byteLength && left > 0) {
        const index = Math.floor(position / extent.chunkBytes)
        const offset = position - index * extent.chunkBytes
        const { erasure } = extent
        const stripe = erasure === undefined ? undefined : stripeOf(extent, erasure, index)
        // No piece is of two fragments: then its bytes are sent from where they were received.
        const wholeBytes = stripe?.fragmentBytes ?? extent.chunkBytes
        const length = Math.min(
          wholeBytes - (offset % wholeBytes),
          extent.byteLength - position,
          left,
          this.#pieceBytes,
        )
        yield { id: chunkId(extent.writeId, index), offset, length, stripe }
        position += length
        left -= length
      }
      if (left === 0) return
    }
  }
}

function writesOf(extents: Extents, start: number, length: number): WriteId[] {
  const writes: WriteId[] = []
  let position = 0
  for (const extent of extents) {
    const end = position + extent.byteLength
    if (end > start && position < start + length) writes.push(extent.writeId)
    position = end
  }
  return writes
}

/** Bytes in memory as a source, for copies of small objects. */
export function bytesSource(bytes: Uint8Array): BodySource & { discard(): void } {
  return {
    discard() {},
    declaredBytes: bytes.length,
    async pump(sink) {
      if (bytes.length > 0) await sink(bytes)
    },
  }
}
