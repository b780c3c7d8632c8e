import { createHash, type Hash } from 'node:crypto'
import { StorageError } from '../../../contract/errors.ts'
import type { PieceSink } from '../operation.ts'
import { hmacSha256, sha256Hex } from './signing-key.ts'
import { equalHex, type SignatureChain } from './sigv4.ts'

/**
 * The `aws-chunked` content encoding: `<hex size>[;chunk-signature=<hex>]CRLF <bytes> CRLF`, a chunk of size 0 at the end,
 * then trailers and an empty line. minio-go writes one more: before the signature of the trailers, or at the end of unsigned ones; it is
 * let pass there, and nowhere else. Payload is passed on as it comes, without a copy; a signature that does not match
 * rejects the body at the end of its chunk, and nothing of a rejected body becomes visible.
 */
export interface ChunkedOptions {
  readonly declaredBytes: number
  /** Signed chunks: every chunk's signature covers the one before it. */
  readonly chain: SignatureChain | undefined
  /** Names announced by x-amz-trailer, lower case; each must arrive. */
  readonly announcedTrailers: readonly string[]
}

/** A chunk header with a signature has about 100 characters. */
const maxLineBytes = 1024
const maxTrailerBytes = 8192
const emptyHash = 'e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855'

export class ChunkedDecoder {
  readonly trailers = new Map<string, string>()
  readonly #options: ChunkedOptions
  #state: 'size' | 'data' | 'data-end' | 'trailers' | 'trailer-signature' | 'ended' | 'done' = 'size'
  #line = ''
  #remaining = 0
  #received = 0
  #signature: string
  #claimed = ''
  #hash: Hash | undefined
  #trailerText = ''
  #trailerBytes = 0
  #trailerSignature: string | undefined

  constructor(options: ChunkedOptions) {
    this.#options = options
    this.#signature = options.chain?.seed ?? ''
  }

  /** Decodes one piece; a promise when the sink asked to wait. INCOMPLETE_BODY, SIGNATURE_DOES_NOT_MATCH. */
  write(piece: Uint8Array, sink: PieceSink): undefined | Promise<void> {
    let offset = 0
    while (offset < piece.length) {
      if (this.#state === 'data') {
        const length = Math.min(this.#remaining, piece.length - offset)
        const payload = piece.subarray(offset, offset + length)
        offset += length
        this.#hash?.update(payload)
        this.#remaining -= length
        if (this.#remaining === 0) this.#endChunk(false)
        const wait = sink(payload)
        if (wait !== undefined) return this.#continue(wait, piece.subarray(offset), sink)
      } else {
        offset = this.#readLine(piece, offset)
      }
    }
    return undefined
  }

  /** To be called after the last byte. */
  end(): void {
    // Some clients leave out the very last line break.
    if (this.#state === 'trailers' || this.#state === 'trailer-signature') {
      if (this.#line !== '') this.#trailer(this.#line)
      this.#finish()
    } else if (this.#state !== 'done' && (this.#state !== 'ended' || this.#line !== '')) throw truncated()
  }

  async #continue(wait: Promise<void>, rest: Uint8Array, sink: PieceSink): Promise<void> {
    await wait
    await this.write(rest, sink)
  }

  #readLine(piece: Uint8Array, offset: number): number {
    if (this.#state === 'done') throw bytesAfterEnd()
    const newline = piece.indexOf(10, offset)
    const end = newline < 0 ? piece.length : newline
    if (this.#line.length + end - offset > maxLineBytes) throw malformed('a chunk header is too long')
    this.#line += Buffer.from(piece.buffer, piece.byteOffset + offset, end - offset).toString('latin1')
    if (this.#state === 'ended' && this.#line !== '' && this.#line !== '\r') throw bytesAfterEnd()
    if (newline < 0) return piece.length
    const line = this.#line.endsWith('\r') ? this.#line.slice(0, -1) : this.#line
    this.#line = ''
    if (this.#state === 'size') this.#beginChunk(line)
    else if (this.#state === 'data-end') {
      if (line !== '') throw malformed('a chunk is longer than its size')
      this.#state = 'size'
    } else if (this.#state === 'ended') this.#state = 'done'
    else if (line !== '') this.#trailer(line)
    else if (this.#state === 'trailers' && this.#awaitsSignature()) this.#state = 'trailer-signature'
    else this.#finish()
    return newline + 1
  }

  #beginChunk(line: string): void {
    const semicolon = line.indexOf(';')
    const size = semicolon < 0 ? line : line.slice(0, semicolon)
    if (!/^[0-9a-fA-F]{1,12}$/.test(size)) throw malformed('a chunk size is not a number')
    const length = Number.parseInt(size, 16)
    this.#received += length
    if (this.#received > this.#options.declaredBytes) throw wrongLength()
    if (this.#options.chain !== undefined) {
      const extension = semicolon < 0 ? '' : line.slice(semicolon + 1).trim()
      if (!extension.startsWith('chunk-signature=')) throw malformed('a chunk has no signature')
      this.#claimed = extension.slice('chunk-signature='.length)
      this.#hash = createHash('sha256')
    }
    if (length === 0) this.#endChunk(true)
    else {
      this.#remaining = length
      this.#state = 'data'
    }
  }

  #endChunk(last: boolean): void {
    const { chain } = this.#options
    if (chain !== undefined && this.#hash !== undefined) {
      const text =
        `AWS4-HMAC-SHA256-PAYLOAD\n${chain.time}\n${chain.scope}\n${this.#signature}\n${emptyHash}\n` +
        this.#hash.digest('hex')
      if (!equalHex(hmacSha256(chain.key, text), this.#claimed)) throw signatureMismatch()
      this.#signature = this.#claimed
      this.#hash = undefined
    }
    this.#state = last ? 'trailers' : 'data-end'
  }

  #trailer(line: string): void {
    this.#trailerBytes += line.length
    const colon = line.indexOf(':')
    if (colon < 1 || this.#trailerBytes > maxTrailerBytes) throw malformedTrailer()
    const name = line.slice(0, colon).trim().toLowerCase()
    const value = line.slice(colon + 1).trim()
    if (name === 'x-amz-trailer-signature') {
      this.#trailerSignature = value
      return
    }
    if (!this.#options.announcedTrailers.includes(name) || this.trailers.has(name)) throw malformedTrailer()
    if (this.#state === 'trailer-signature') throw malformedTrailer()
    this.trailers.set(name, value)
    this.#trailerText += `${name}:${value}\n`
  }

  /** Of the trailers. */
  #awaitsSignature(): boolean {
    const { chain, announcedTrailers } = this.#options
    return chain !== undefined && announcedTrailers.length > 0 && this.#trailerSignature === undefined
  }

  #finish(): void {
    if (this.#received !== this.#options.declaredBytes) throw wrongLength()
    for (const name of this.#options.announcedTrailers) if (!this.trailers.has(name)) throw malformedTrailer()
    const { chain } = this.#options
    if (chain !== undefined && this.#options.announcedTrailers.length > 0) {
      const text =
        `AWS4-HMAC-SHA256-TRAILER\n${chain.time}\n${chain.scope}\n${this.#signature}\n` +
        sha256Hex(this.#trailerText)
      if (!equalHex(hmacSha256(chain.key, text), this.#trailerSignature ?? '')) throw signatureMismatch()
    }
    this.#state = chain === undefined && this.trailers.size > 0 ? 'ended' : 'done'
  }
}

const malformed = (what: string): StorageError =>
  new StorageError('INCOMPLETE_BODY', `The aws-chunked body is malformed: ${what}`)

const bytesAfterEnd = (): StorageError => malformed('bytes after the end of the body')

const truncated = (): StorageError =>
  new StorageError('INCOMPLETE_BODY', 'The request body terminated unexpectedly')

const wrongLength = (): StorageError =>
  new StorageError(
    'INCOMPLETE_BODY',
    'You did not provide the number of bytes specified by the x-amz-decoded-content-length HTTP header',
  )

const malformedTrailer = (): StorageError =>
  new StorageError(
    'MALFORMED_TRAILER',
    'The request contained trailing data that was not well-formed or did not conform to our published schema.',
  )

const signatureMismatch = (): StorageError =>
  new StorageError(
    'SIGNATURE_DOES_NOT_MATCH',
    'The request signature we calculated does not match the signature you provided. Check your key and signing method.',
  )
