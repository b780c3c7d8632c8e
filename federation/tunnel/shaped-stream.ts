import { StorageError } from '../../core/contract/errors.ts'
import type { LinkClass, TunnelStream, TunnelWriter } from '../../core/contract/tunnel.ts'
import type { LinkShaper, Turn } from './link-shaper.ts'

/** A stream whose bytes wait for their share of the link. */
export function shapedStream(stream: TunnelStream, shaper: LinkShaper, linkClass: LinkClass): TunnelStream {
  const writer = new ShapedWriter(stream.writable, shaper, linkClass)
  stream.classify?.(linkClass)
  const { readable, writable } = stream
  return {
    readable,
    writable: {
      write: (bytes) => writer.write(bytes),
      ...(writable.lend === undefined ? {} : { lend: (bytes, release) => writer.lend(bytes, release) }),
      close: () => writable.close(),
      abort: (reason) => writer.abort(reason),
    },
    classify(next) {
      writer.linkClass = next
      stream.classify?.(next)
    },
  }
}

class ShapedWriter {
  linkClass: LinkClass
  readonly #writable: TunnelWriter
  readonly #shaper: LinkShaper
  #turn: Turn | undefined
  #isAborted = false

  constructor(writable: TunnelWriter, shaper: LinkShaper, linkClass: LinkClass) {
    this.#writable = writable
    this.#shaper = shaper
    this.linkClass = linkClass
  }

  write(bytes: Uint8Array): Promise<void> {
    const pieceBytes = this.#shaper.pieceBytes
    if (pieceBytes !== undefined) return this.#inPieces(bytes, pieceBytes)
    this.#shaper.ask(this.linkClass, bytes.length)
    return this.#writable.write(bytes)
  }

  lend(bytes: Uint8Array, release: () => void): Promise<void> {
    const { lend } = this.#writable
    if (lend === undefined) throw new TypeError('nothing can be lent to this stream')
    const pieceBytes = this.#shaper.pieceBytes
    if (pieceBytes !== undefined) return this.#inPieces(bytes, pieceBytes, { lend, release })
    this.#shaper.ask(this.linkClass, bytes.length)
    return lend(bytes, release)
  }

  abort(reason?: string): Promise<void> {
    this.#isAborted = true
    this.#turn?.leave()
    return this.#writable.abort(reason)
  }

  async #inPieces(
    bytes: Uint8Array,
    pieceBytes: number,
    loan?: { readonly lend: NonNullable<TunnelWriter['lend']>; readonly release: () => void },
  ): Promise<void> {
    // One for each piece that the tunnel holds, and one for those that it has not been given.
    let held = 1
    const giveBack = (): void => {
      if (--held === 0) loan?.release()
    }
    try {
      for (let at = 0; at < bytes.length; at += pieceBytes) {
        const piece = bytes.subarray(at, at + pieceBytes)
        this.#turn = this.#shaper.ask(this.linkClass, piece.length)
        if (this.#turn.come !== undefined) await this.#turn.come
        this.#turn = undefined
        if (this.#isAborted) throw new StorageError('CANCELLED', 'the stream was given up here')
        if (loan === undefined) await this.#writable.write(piece)
        else {
          held++
          await loan.lend(piece, giveBack)
        }
      }
    } finally {
      giveBack()
    }
  }
}
