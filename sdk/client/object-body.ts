import { errorOfFailure, joined } from './answers.ts'
import type { ApiAnswer, ApiRequest } from './api-request.ts'
import { type RunningChecksum, startChecksum } from './crc.ts'
import { sleep } from './environment.ts'
import { invalidAnswer, PandoError } from './errors.ts'
import { type AnswerReader, answerOf } from './http-answer.ts'
import { type ObjectInfo, quoted } from './object-headers.ts'
import { backoffMs } from './retry.ts'
import type { Sender } from './sender.ts'

/** Where bytes of an object come from, in order. */
export interface ByteReader {
  /** Undefined: that was all, and it is what was stored. */
  next(): Promise<Uint8Array | undefined>
  /** No more bytes are wanted. */
  cancel(): void
}

/** Content encodings that fetch takes off: what arrives then is neither as long as the object nor has its checksum. */
const decodedByFetch = /^(gzip|x-gzip|deflate|br|zstd)$/i

export const isDecodedByFetch = (contentEncoding: string | null | undefined): boolean =>
  (contentEncoding ?? '').split(',').some((name) => decodedByFetch.test(name.trim()))

export interface BodyPlace {
  readonly info: ObjectInfo
  /** First byte of the answer within the object, and the one after its last. */
  readonly start: number
  readonly end: number
  /** Checks what arrives against the object's checksum: only of whole objects. */
  readonly verify: boolean
}

/**
 * The body of one answer. A connection that breaks in the middle is no error for the reader: the rest is asked for again,
 * from any gateway, on condition that the object is still the same.
 */
export class ResumingReader implements ByteReader {
  readonly #sender: Sender
  readonly #request: ApiRequest
  readonly #place: BodyPlace
  readonly #resumable: boolean
  readonly #checksum: RunningChecksum | undefined
  #answer: ApiAnswer
  #reader: AnswerReader | undefined
  #position: number
  #failures = 0
  #ended = false

  constructor(sender: Sender, request: ApiRequest, answer: ApiAnswer, place: BodyPlace) {
    this.#sender = sender
    this.#request = request
    this.#answer = answer
    this.#place = place
    this.#position = place.start
    this.#resumable = !isDecodedByFetch(answer.headers.get('content-encoding'))
    const { checksum, size } = place.info
    const isWhole = place.start === 0 && place.end === size
    if (place.verify && isWhole && this.#resumable && checksum !== undefined)
      this.#checksum = startChecksum(checksum.algorithm)
  }

  async next(): Promise<Uint8Array | undefined> {
    while (!this.#ended) {
      let piece: Uint8Array | undefined
      try {
        piece = await this.#read(() => {
          this.#reader ??= this.#answer.response.body?.getReader()
          return this.#reader === undefined
            ? Promise.resolve(undefined)
            : this.#reader.read().then(({ value }) => value)
        })
        if (piece === undefined && this.#resumable && this.#position < this.#place.end)
          throw new PandoError('NetworkError', 'the body ended early', { retryable: true })
      } catch (reason) {
        await this.#resume(reason)
        continue
      }
      if (piece === undefined) {
        this.#finish()
        return undefined
      }
      if (piece.length === 0) continue
      this.#take(piece)
      return piece
    }
    return undefined
  }

  /** All of a small body at once: one wait instead of one for each piece. Only before the first `next`. */
  async whole(): Promise<Uint8Array> {
    try {
      const bytes = await this.#read(async () => new Uint8Array(await this.#answer.response.arrayBuffer()))
      if (this.#resumable && bytes.length < this.#place.end - this.#place.start)
        throw new PandoError('NetworkError', 'the body ended early', { retryable: true })
      this.#take(bytes)
      this.#finish()
      return bytes
    } catch (reason) {
      if (reason instanceof PandoError && reason.code === 'ChecksumMismatch') throw reason
      await this.#resume(reason)
    }
    return collect(this, this.#place.end - this.#place.start)
  }

  cancel(): void {
    this.#ended = true
    this.#answer.discard()
  }

  async #read<T>(begin: () => Promise<T>): Promise<T> {
    const { idleTimeoutMs } = this.#sender.limits
    let stoodStill = false
    const cancelTimer = this.#sender.environment.after(idleTimeoutMs, () => {
      stoodStill = true
      this.#answer.discard()
    })
    try {
      return await begin()
    } catch (reason) {
      if (!stoodStill) throw reason
      throw new PandoError('AttemptTimeout', `the body stood still for ${idleTimeoutMs} ms`, {
        retryable: true,
        cause: reason,
        endpoint: this.#answer.endpoint.origin,
      })
    } finally {
      cancelTimer()
    }
  }

  #take(piece: Uint8Array): void {
    this.#position += piece.length
    this.#failures = 0
    if (this.#resumable && this.#position > this.#place.end) {
      this.cancel()
      throw invalidAnswer('the body is longer than the answer said', this.#answer.endpoint.origin)
    }
    this.#checksum?.update(piece)
  }

  #finish(): void {
    this.#ended = true
    // Nothing is to be ended any more; this lets go of the caller's signal.
    this.#answer.discard()
    const { checksum } = this.#place.info
    if (this.#checksum === undefined || checksum === undefined) return
    const value = this.#checksum.value()
    if (value !== checksum.value)
      throw checksumMismatch(this.#place.info, value, this.#answer.endpoint.origin)
  }

  /** Throws when nothing more can be done; otherwise the next read goes on where the last one ended. */
  async #resume(reason: unknown): Promise<void> {
    const { environment, limits, pool } = this.#sender
    const { signal } = this.#request.options
    if (this.#ended) throw reason
    this.#answer.discard()
    signal?.throwIfAborted()
    const { endpoint } = this.#answer
    const error = errorOfFailure(reason, endpoint.origin)
    this.#failures += 1
    pool.failed(endpoint)
    const isHopeless = !this.#resumable || !error.retryable || this.#failures >= limits.maxAttempts
    if (isHopeless || !this.#sender.takeRetry()) {
      this.#ended = true
      throw error
    }
    if (this.#failures > 1) {
      const waitMs = backoffMs(
        this.#failures - 1,
        { firstMs: 50, longestMs: 5000 },
        environment.random(),
        undefined,
      )
      await sleep(environment, waitMs, signal)
    }
    const { info, end } = this.#place
    if (this.#position >= end) {
      // Every byte is here; what broke was the end of the connection.
      this.#reader = undefined
      this.#answer = { ...this.#answer, response: answerOf(200, '') }
      return
    }
    try {
      this.#answer = await requestRange(this.#sender, this.#request, info, this.#position, end)
    } catch (failure) {
      this.#ended = true
      throw failure
    }
    this.#reader = undefined
  }
}

/** Bytes `start` to `end` (exclusive) of exactly this version of the object. ObjectChanged when it is another one by now. */
export async function requestRange(
  sender: Sender,
  request: ApiRequest,
  info: ObjectInfo,
  start: number,
  end: number,
): Promise<ApiAnswer> {
  let answer: ApiAnswer
  try {
    answer = await sender.send({
      ...request,
      headers: { ...request.headers, range: `bytes=${start}-${end - 1}`, 'if-match': quoted(info.etag) },
    })
  } catch (reason) {
    if (reason instanceof PandoError && reason.code === 'PreconditionFailed') {
      throw new PandoError('ObjectChanged', `${info.bucket}/${info.key} was replaced while it was read`, {
        cause: reason,
        retryable: true,
      })
    }
    throw reason
  }
  const range = answer.headers.get('content-range')
  const isRight =
    range === null
      ? start === 0 && answer.status === 200
      : range.startsWith(`bytes ${start}-${end - 1}/`) && answer.status === 206
  // A page that may not see Content-Range has the length to go by.
  const isLength =
    answer.status === 206 && range === null && Number(answer.headers.get('content-length')) === end - start
  if (!isRight && !isLength) {
    answer.discard()
    throw invalidAnswer(
      `asked for bytes ${start}-${end - 1}, got ${range ?? 'no range'}`,
      answer.endpoint.origin,
    )
  }
  return answer
}

export function checksumMismatch(info: ObjectInfo, value: string, endpoint: string): PandoError {
  return new PandoError(
    'ChecksumMismatch',
    `${info.bucket}/${info.key} has the ${info.checksum?.algorithm} ${info.checksum?.value}; what arrived has ${value}`,
    { retryable: true, endpoint },
  )
}

/** Everything that a reader still has. `expected` bytes are a guess. */
export async function collect(reader: ByteReader, expected: number): Promise<Uint8Array> {
  const pieces: Uint8Array[] = []
  let length = 0
  const whole = new Uint8Array(expected)
  for (let piece = await reader.next(); piece !== undefined; piece = await reader.next()) {
    // Copied as it comes: twice the object in memory would be the price of joining at the end.
    if (pieces.length === 0 && length + piece.length <= expected) whole.set(piece, length)
    else {
      if (pieces.length === 0) pieces.push(whole.subarray(0, length))
      pieces.push(piece)
    }
    length += piece.length
  }
  if (pieces.length > 0) return joined(pieces, length)
  return length === expected ? whole : whole.subarray(0, length)
}
