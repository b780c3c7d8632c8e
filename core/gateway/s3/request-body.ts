import type { IncomingMessage } from 'node:http'
import type { BytePace } from '../../contract/admission.ts'
import type { ChunkStore } from '../../contract/chunk-store.ts'
import type { Clock } from '../../contract/clock.ts'
import { StorageError } from '../../contract/errors.ts'
import { ChunkedDecoder } from './authenticate/aws-chunked.ts'
import type { PayloadProtection } from './authenticate/sigv4.ts'
import { verifyDocument } from './checksum.ts'
import { type DocumentRoom, documentBudgetOf } from './document-budget.ts'
import type { Gateway, PieceSink, RequestBody } from './operation.ts'

/** The payload of one request, pushed from the socket without a copy and without a queue of our own. */
export class SocketBody implements RequestBody {
  readonly declaredBytes: number | undefined
  readonly payloadSha256: string | undefined
  /** Bytes taken from the socket so far, framing included: the edge's watch on slow clients. */
  receivedBytes = 0
  /** Waiting for the client (and not for our own storage). */
  waiting = false
  /** Set by the edge when the request may start. */
  pace: BytePace | undefined
  qosClass: number | undefined
  readonly #chunks: ChunkStore
  readonly #clock: Clock
  readonly #message: IncomingMessage
  readonly #decoder: ChunkedDecoder | undefined
  /** Called once, before the first byte is asked for: `100 Continue`. */
  readonly #begin: (() => void) | undefined
  #used = false
  #cut: ((reason: StorageError) => void) | undefined

  /** MISSING_CONTENT_LENGTH, INVALID_ARGUMENT: the lengths that were declared make no sense. */
  constructor(
    { chunks, environment }: Pick<Gateway, 'chunks'> & { readonly environment: { readonly clock: Clock } },
    message: IncomingMessage,
    protection: PayloadProtection,
    begin: (() => void) | undefined,
  ) {
    this.#chunks = chunks
    this.#clock = environment.clock
    this.#message = message
    this.#begin = begin
    const { headers } = message
    if (protection.kind === 'signed-chunks' || protection.kind === 'unsigned-chunks') {
      this.declaredBytes = decodedLength(headers['x-amz-decoded-content-length'])
      const announced = headers['x-amz-trailer']
      this.#decoder = new ChunkedDecoder({
        declaredBytes: this.declaredBytes,
        chain: protection.kind === 'signed-chunks' ? protection.chain : undefined,
        announcedTrailers: typeof announced === 'string' ? trailerNames(announced) : [],
      })
    } else {
      const length = headers['content-length']
      if (length !== undefined) this.declaredBytes = Number(length)
      else this.declaredBytes = headers['transfer-encoding'] === undefined ? 0 : undefined
      if (protection.kind === 'hash') this.payloadSha256 = protection.sha256
    }
  }

  trailers(): ReadonlyMap<string, string> {
    return this.#decoder?.trailers ?? none
  }

  get started(): boolean {
    return this.#used
  }

  pump(sink: PieceSink): Promise<void> {
    if (this.#used) throw new TypeError('a body can be read once')
    this.#used = true
    this.#begin?.()
    const message = this.#message
    if (message.readableEnded || (this.declaredBytes === 0 && this.#decoder === undefined)) return done
    return message.complete && message.readableLength > 0 ? this.#pumpArrived(sink) : this.#pumpFlow(sink)
  }

  /** Small bodies mostly come with their head: no listeners, no wait for another turn. */
  async #pumpArrived(sink: PieceSink): Promise<void> {
    const message = this.#message
    for (let piece = message.read(); piece !== null; piece = message.read()) {
      const bytes = piece as Buffer
      this.receivedBytes += bytes.length
      const wait = this.#decoder === undefined ? sink(bytes) : this.#decoder.write(bytes, sink)
      if (wait !== undefined) await wait
      this.#chunks.discard?.(bytes)
    }
    this.#decoder?.end()
  }

  #pumpFlow(sink: PieceSink): Promise<void> {
    const message = this.#message
    return new Promise((resolve, reject) => {
      const settle = (error?: unknown): void => {
        this.#cut = undefined
        this.waiting = false
        message.off('data', onData)
        message.off('end', onEnd)
        message.off('close', onClose)
        message.off('error', onClose)
        // What is still to come of a refused body is the edge's to drain or to cut.
        if (error !== undefined) message.pause()
        if (error === undefined) resolve()
        else reject(error)
      }
      let isHeld = false
      let hasEnded = false
      const onData = (piece: Buffer): void => {
        this.receivedBytes += piece.length
        let wait: undefined | Promise<void>
        try {
          wait = this.#decoder === undefined ? sink(piece) : this.#decoder.write(piece, sink)
        } catch (error) {
          settle(error)
          return
        }
        if (wait === undefined) {
          this.#chunks.discard?.(piece)
          return
        }
        this.waiting = false
        isHeld = true
        message.pause()
        wait.then(() => {
          this.#chunks.discard?.(piece)
          isHeld = false
          if (hasEnded) {
            onEnd()
            return
          }
          this.waiting = true
          message.resume()
        }, settle)
      }
      const onEnd = (): void => {
        // A stream that was paused with its end in its buffer tells the end although the last piece made it pause again.
        hasEnded = true
        if (isHeld) return
        try {
          this.#decoder?.end()
          settle()
        } catch (error) {
          settle(error)
        }
      }
      // After the end everything is here: that the stream is closed then means nothing.
      const onClose = (): void => {
        if (!hasEnded) settle(incomplete())
      }
      this.#cut = settle
      this.waiting = true
      message.on('data', onData)
      message.on('end', onEnd)
      message.on('close', onClose)
      message.on('error', onClose)
      if (message.destroyed) onClose()
    })
  }

  /** Ends a pump that waits for a client that is too slow. */
  cut(reason: StorageError): void {
    this.#cut?.(reason)
  }

  text(limitBytes: number, checksumsOf?: 'document' | 'object'): Promise<string> {
    return bodyText(this, this.#chunks, this.#message.headers, limitBytes, checksumsOf)
  }

  async room(cut: (reason: StorageError) => void): Promise<DocumentRoom> {
    const budget = await documentBudgetOf(this.#chunks, this.#clock)
    return budget.open((reason) => {
      cut(reason)
      this.cut(reason)
    })
  }
}

/** What it costs to keep a piece, however short it is: a sender may send a byte at a time. */
const pieceBytes = 256

/** A body as a document: see `RequestBody.text`. */
export async function bodyText(
  body: RequestBody,
  chunks: ChunkStore,
  headers: IncomingMessage['headers'],
  limitBytes: number,
  checksumsOf: 'document' | 'object' = 'document',
): Promise<string> {
  if (body.declaredBytes !== undefined && body.declaredBytes > limitBytes) throw tooLong(limitBytes)
  const pieces: Buffer[] = []
  let length = 0
  let refused: StorageError | undefined
  const room = await body.room((reason) => {
    refused = reason
    pieces.length = 0
  })
  try {
    await body.pump((piece) => {
      if (refused !== undefined) throw refused
      length += piece.length
      if (length > limitBytes) throw tooLong(limitBytes)
      room.take(piece.length + pieceBytes)
      pieces.push(Buffer.from(piece))
      return undefined
    })
    room.arrived()
    // It may have been told between its last piece and its end: what is left of it is not the document.
    if (refused !== undefined) throw refused
    const bytes = pieces.length === 1 && pieces[0] !== undefined ? pieces[0] : Buffer.concat(pieces)
    pieces.length = 0
    const md5 = headers['content-md5']
    const said = checksumsOf === 'document' ? headers : md5 === undefined ? {} : { 'content-md5': md5 }
    await verifyDocument(chunks, said, body.trailers(), body.payloadSha256, bytes)
    return bytes.toString('utf8')
  } finally {
    room.close()
  }
}

const none: ReadonlyMap<string, string> = new Map()
const done = Promise.resolve()

function decodedLength(value: string | string[] | undefined): number {
  if (typeof value !== 'string') {
    throw new StorageError('MISSING_CONTENT_LENGTH', 'You must provide the Content-Length HTTP header.')
  }
  if (!/^\d{1,15}$/.test(value)) {
    throw new StorageError('INVALID_ARGUMENT', 'x-amz-decoded-content-length is not a length', {
      details: { ArgumentName: 'x-amz-decoded-content-length', ArgumentValue: value },
    })
  }
  return Number(value)
}

const trailerNames = (header: string): string[] =>
  header
    .split(',')
    .map((name) => name.trim().toLowerCase())
    .filter((name) => name !== '')

export const incomplete = (): StorageError =>
  new StorageError(
    'INCOMPLETE_BODY',
    'You did not provide the number of bytes specified by the Content-Length HTTP header',
  )

const tooLong = (limitBytes: number): StorageError =>
  new StorageError('MAX_MESSAGE_LENGTH_EXCEEDED', 'Your request was too big.', {
    details: { MaxMessageLengthBytes: String(limitBytes) },
  })
