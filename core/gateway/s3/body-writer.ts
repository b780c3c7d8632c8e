import type { BodyDigest, ChunkBuffer, DigestAlgorithm } from '../../contract/chunk-store.ts'
import { type ErasureScheme, fragmentBytesOf, stripeBufferBytes, stripeOf } from '../../contract/erasure.ts'
import { errorCodes, StorageError } from '../../contract/errors.ts'
import { type Checksum, checksumDigest } from '../../contract/object-model.ts'
import {
  badChecksum,
  badMd5,
  badPayloadHash,
  base64Of,
  checksumHeader,
  declaredChecksum,
  declaredMd5,
  equalBytes,
  hexOf,
  maxDigestNowBytes,
} from './checksum.ts'
import type {
  BodySource,
  Gateway,
  OperationContext,
  S3Request,
  StoreBody,
  StoreBodyOptions,
  StoredBody,
} from './operation.ts'
import { StoredChunks } from './stored-chunks.ts'
import { type WriteBudget, writeBudgetOf } from './write-budget.ts'

/** The largest body of one PUT or part, as in S3: 5 GiB. */
export const maxBodyBytes = 5 * 1024 ** 3
/** The digest is fed in runs of at least this much: less would cost more in calls than it overlaps. */
const digestRunBytes = 256 * 1024
/** What is read at once of a body that is at hand: its digest is computed while the next run is read. */
const readRunBytes = 512 * 1024
/** Chunks smaller than this would cost more to keep than pacing is worth. */
const minPacedChunkBytes = 64 * 1024

type Digests = ReadonlyMap<DigestAlgorithm, Uint8Array>

/** See `StoreBody`. Bodies of at most `inlineBytes` are kept in memory for the entry; all others go to the chunk store. */
export const storeBody: StoreBody = async (gateway, source, options, signal) => {
  const { declaredBytes } = source
  if (declaredBytes !== undefined) {
    if (declaredBytes > maxBodyBytes) throw tooLarge(declaredBytes)
    if (declaredBytes <= gateway.config.inlineBytes)
      return storeInline(gateway, source, declaredBytes, options)
    // So little is kept as copies whatever its class: fragments of it would take more room.
    if (declaredBytes <= maxDigestNowBytes) return storeSmall(gateway, source, declaredBytes, options, signal)
  }
  const budget = await writeBudgetOf(gateway.chunks)
  return new ChunkedWrite(gateway, source, options, signal, budget).run()
}

/** Stores the payload of the request with the digests that its headers declare. Errors of `storeBody`, INVALID_DIGEST. */
export async function storeRequestBody(context: OperationContext, storageClass: string): Promise<StoredBody> {
  const { request, gateway } = context
  requireLength(request)
  // A body that is kept in memory waits for nothing that a signal could end, and a signal costs something to make.
  const { declaredBytes } = request.body
  const waits = declaredBytes === undefined || declaredBytes > gateway.config.inlineBytes
  const options = { ...bodyOptions(request), storageClass }
  return storeBody(gateway, request.body, options, waits ? request.signal : undefined)
}

/**
 * MISSING_CONTENT_LENGTH when the request says neither how long its body is nor that it is chunked. HTTP reads that as an
 * empty body; S3 refuses it, because it is what a client sends that lost the body on its way.
 */
export function requireLength({ headers }: S3Request): void {
  if (headers['content-length'] === undefined && headers['transfer-encoding'] === undefined) {
    throw new StorageError('MISSING_CONTENT_LENGTH', 'You must provide the Content-Length HTTP header.')
  }
}

/** What the headers (and the trailers to come) of a request declare about its payload. */
export function bodyOptions(request: S3Request): StoreBodyOptions {
  const contentMd5 = declaredMd5(request.headers)
  const checksum = declaredChecksum(request.headers)
  if (contentMd5 === undefined && checksum === undefined) return noOptions
  return {
    ...(contentMd5 === undefined ? {} : { contentMd5 }),
    ...(checksum === undefined
      ? {}
      : {
          checksumAlgorithm: checksum.algorithm,
          expectedChecksum:
            checksum.value ?? (() => request.body.trailers().get(checksumHeader(checksum.algorithm))),
        }),
  }
}

const noOptions: StoreBodyOptions = {}

/**
 * Submits the entry that makes a stored body visible, and settles the body by what became of it. The bytes are freed only
 * when the answer is certain: an entry that failed without an answer may yet be applied.
 */
export async function commitBody<T extends object>(body: StoredBody, submit: () => Promise<T>): Promise<T> {
  let result: T
  try {
    result = await submit()
  } catch (reason) {
    const { http } = errorCodes[StorageError.from(reason).code]
    await body.settle(http >= 400 && http < 499 ? 'abandoned' : 'unknown')
    throw reason
  }
  // An earlier request made the object, of a body of its own.
  await body.settle('first' in result ? 'abandoned' : 'committed')
  return result
}

async function storeInline(
  gateway: Gateway,
  source: BodySource,
  declaredBytes: number,
  options: StoreBodyOptions,
): Promise<StoredBody> {
  const bytes = Buffer.allocUnsafe(declaredBytes)
  await fill(source, bytes, declaredBytes)
  const { md5, checksum } = verify(
    gateway.chunks.digestNow(algorithmsOf(source, options), bytes),
    source,
    options,
  )
  if (declaredBytes === 0) {
    return { byteLength: 0, md5, checksum, layout: { kind: 'empty' }, inline: undefined, settle: settled }
  }
  const writeId = gateway.writes.begin()
  return {
    byteLength: declaredBytes,
    md5,
    checksum,
    layout: { kind: 'inline', writeId },
    inline: bytes,
    settle: () => {
      gateway.writes.settle(writeId)
      return done
    },
  }
}

const done = Promise.resolve()
const settled = (): Promise<void> => done

/** One chunk whose digests are computed here while the store writes. */
async function storeSmall(
  gateway: Gateway,
  source: BodySource,
  declaredBytes: number,
  options: StoreBodyOptions,
  signal: AbortSignal | undefined,
): Promise<StoredBody> {
  const { chunks, writes, config } = gateway
  const budget = await writeBudgetOf(chunks)
  budget.chunkBytes(declaredBytes)
  const buffer = await chunks.acquire(declaredBytes, signal)
  budget.hold(declaredBytes)
  try {
    await fill(source, buffer.bytes, declaredBytes)
  } catch (error) {
    buffer.release()
    throw error
  } finally {
    budget.drop(declaredBytes)
  }
  const writeId = writes.begin()
  const stored = new StoredChunks(gateway, writeId, config.chunkBytes, source.qosClass)
  const put = stored.put(buffer, declaredBytes)
  try {
    const payload = buffer.bytes.subarray(0, declaredBytes)
    const { md5, checksum } = verify(
      chunks.digestNow(algorithmsOf(source, options), payload),
      source,
      options,
    )
    await put
    return stored.body(declaredBytes, md5, checksum)
  } catch (error) {
    await put.catch(() => undefined)
    await stored.abandon()
    throw error
  } finally {
    buffer.release()
  }
}

/** Copies a body of known length. INCOMPLETE_BODY when it is shorter or longer. */
async function fill(source: BodySource, target: Uint8Array, byteLength: number): Promise<void> {
  let length = 0
  await source.pump((piece) => {
    if (length + piece.length > byteLength) throw wrongLength()
    target.set(piece, length)
    length += piece.length
    return undefined
  })
  if (length !== byteLength) throw wrongLength()
}

/** A body of more than a little, or of unknown length: a row of chunks, written while the rest still arrives. */
class ChunkedWrite {
  readonly #gateway: Gateway
  readonly #source: BodySource
  readonly #options: StoreBodyOptions
  readonly #signal: AbortSignal | undefined
  readonly #digest: BodyDigest
  readonly #stored: StoredChunks
  readonly #budget: WriteBudget
  readonly #chunkBytes: number
  readonly #erasure: ErasureScheme | undefined
  /** Chunks handed to the store whose buffers are not back yet, oldest first. */
  readonly #inFlight: Promise<void>[] = []
  #buffer: ChunkBuffer | undefined
  /** Of the buffer, for data: parity comes behind it. */
  #room = 0
  #filled = 0
  #digested = 0
  #updates: Promise<void>[] = []
  #length = 0
  #failure: StorageError | undefined
  /** The source has ended or failed; a wait that is still on its way must not take anything more. */
  #ended = false

  constructor(
    gateway: Gateway,
    source: BodySource,
    options: StoreBodyOptions,
    signal: AbortSignal | undefined,
    budget: WriteBudget,
  ) {
    this.#budget = budget
    // A body that is paced takes its buffers one after the other, each for as long as its bytes take to come.
    const { chunkBytes } = gateway.config
    const paced = Math.max(minPacedChunkBytes, source.pace?.pieceBytes ?? chunkBytes)
    const most = budget.chunkBytes(Math.min(chunkBytes, paced))
    const scheme = gateway.erasure?.(options.storageClass ?? 'STANDARD')
    this.#erasure = scheme
    this.#chunkBytes =
      scheme === undefined ? most : scheme.dataFragments * fragmentBytesOf(scheme, source.declaredBytes, most)
    this.#gateway = gateway
    this.#source = source
    this.#options = options
    this.#signal = signal
    this.#digest = gateway.chunks.digest(algorithmsOf(source, options))
    const { qosClass } = source
    this.#stored = new StoredChunks(gateway, gateway.writes.begin(), this.#chunkBytes, qosClass, scheme)
  }

  async run(): Promise<StoredBody> {
    try {
      const source = this.#source
      if (source.readInto === undefined) await source.pump((piece) => this.#take(piece))
      else await this.#readAll(source.declaredBytes ?? 0, source)
      if (this.#source.declaredBytes !== undefined && this.#length !== this.#source.declaredBytes) {
        throw wrongLength()
      }
      this.#flush()
      const digests = await this.#digest.finish()
      await Promise.all(this.#inFlight)
      if (this.#failure !== undefined) throw this.#failure
      const { md5, checksum } = verify(digests, this.#source, this.#options)
      return this.#stored.body(this.#length, md5, checksum)
    } catch (error) {
      this.#ended = true
      this.#digest.abort()
      await Promise.allSettled(this.#updates)
      if (this.#buffer !== undefined) this.#budget.drop(this.#buffer.bytes.length)
      this.#buffer?.release()
      this.#buffer = undefined
      await Promise.all(this.#inFlight)
      await this.#stored.abandon()
      throw this.#failure ?? error
    }
  }

  #take(piece: Uint8Array): undefined | Promise<void> {
    if (this.#failure !== undefined) throw this.#failure
    const limit = this.#source.declaredBytes ?? maxBodyBytes
    if (this.#length + piece.length > limit) {
      throw this.#source.declaredBytes === undefined ? tooLarge(this.#length + piece.length) : wrongLength()
    }
    const offset = this.#copy(piece, 0)
    return offset === piece.length ? undefined : this.#takeRest(piece, offset)
  }

  /** Copies what fits into the current buffer; the offset of what did not. */
  #copy(piece: Uint8Array, offset: number): number {
    const buffer = this.#buffer
    if (buffer === undefined) return offset
    const length = Math.min(piece.length - offset, this.#room - this.#filled)
    buffer.bytes.set(length === piece.length ? piece : piece.subarray(offset, offset + length), this.#filled)
    this.#grow(buffer, length)
    return offset + length
  }

  /** So many bytes more are in the buffer. */
  #grow(buffer: ChunkBuffer, length: number): void {
    this.#filled += length
    this.#length += length
    if (this.#filled === this.#room) this.#flush()
    else if (this.#filled - this.#digested >= digestRunBytes) this.#feedDigest(buffer)
  }

  async #takeRest(piece: Uint8Array, start: number): Promise<void> {
    for (let offset = start; offset < piece.length; ) {
      await this.#openBuffer()
      offset = this.#copy(piece, offset)
    }
  }

  /** A body that is at hand goes into the chunks' memory by itself. */
  async #readAll(byteLength: number, source: BodySource): Promise<void> {
    while (this.#length < byteLength) {
      const buffer = this.#buffer ?? (await this.#openBuffer())
      const length = Math.min(readRunBytes, this.#room - this.#filled)
      await source.readInto?.(buffer.bytes.subarray(this.#filled, this.#filled + length))
      if (this.#failure !== undefined) throw this.#failure
      this.#grow(buffer, length)
    }
  }

  async #openBuffer(): Promise<ChunkBuffer> {
    const { windowBytes } = this.#gateway.config
    const chunkBytes = this.#chunkBytes
    const { declaredBytes } = this.#source
    const want = declaredBytes === undefined ? chunkBytes : Math.min(chunkBytes, declaredBytes - this.#length)
    // The window bounds what one request holds of the pool that all share; a single chunk is always let through.
    while (this.#inFlight.length > 0 && (this.#inFlight.length + 1) * chunkBytes > windowBytes) {
      await this.#inFlight[0]
    }
    if (this.#failure !== undefined) throw this.#failure
    const turn = this.#source.pace?.take(want)
    if (turn !== undefined) await turn
    const buffer = await this.#gateway.chunks.acquire(this.#bufferBytes(want), this.#signal)
    if (this.#ended) {
      buffer.release()
      throw new StorageError('CANCELLED', 'the body was given up meanwhile')
    }
    this.#buffer = buffer
    this.#room = want
    this.#budget.hold(buffer.bytes.length)
    this.#filled = 0
    this.#digested = 0
    this.#updates = []
    return buffer
  }

  #bufferBytes(byteLength: number): number {
    const chunkBytes = this.#chunkBytes
    if (this.#erasure === undefined) return byteLength
    return stripeBufferBytes(stripeOf({ chunkBytes, byteLength }, this.#erasure, 0))
  }

  #feedDigest(buffer: ChunkBuffer): void {
    const length = this.#filled - this.#digested
    const update = this.#digest.update(buffer, this.#digested, length)
    update.catch((error: unknown) => this.#fail(error))
    this.#updates.push(update)
    this.#digested = this.#filled
  }

  /** Hands the current buffer to the store; it goes back to the pool when store and digest are done with it. */
  #flush(): void {
    const buffer = this.#buffer
    if (buffer === undefined) return
    this.#buffer = undefined
    this.#budget.drop(buffer.bytes.length)
    const put = this.#stored.put(buffer, this.#filled)
    if (this.#filled > this.#digested) this.#feedDigest(buffer)
    const flight = Promise.allSettled([put, ...this.#updates]).then((results) => {
      buffer.release()
      this.#inFlight.splice(this.#inFlight.indexOf(flight), 1)
      for (const result of results) if (result.status === 'rejected') this.#fail(result.reason)
    })
    this.#inFlight.push(flight)
    this.#updates = []
  }

  #fail(reason: unknown): void {
    this.#failure ??= StorageError.from(reason)
  }
}

function algorithmsOf(source: BodySource, options: StoreBodyOptions): readonly DigestAlgorithm[] {
  const { checksumAlgorithm } = options
  if (checksumAlgorithm === undefined) return source.payloadSha256 === undefined ? md5Only : md5AndSha256
  const digest = checksumDigest[checksumAlgorithm]
  return source.payloadSha256 === undefined || digest === 'sha256'
    ? ['md5', digest]
    : ['md5', 'sha256', digest]
}

const md5Only: readonly DigestAlgorithm[] = ['md5']
const md5AndSha256: readonly DigestAlgorithm[] = ['md5', 'sha256']

/** CONTENT_SHA256_MISMATCH, BAD_DIGEST. */
function verify(
  digests: Digests,
  source: BodySource,
  options: StoreBodyOptions,
): { md5: string; checksum: Checksum | undefined } {
  if (source.payloadSha256 !== undefined && hexOf(digests.get('sha256')) !== source.payloadSha256) {
    throw badPayloadHash()
  }
  const md5 = digests.get('md5')
  if (md5 === undefined) throw new StorageError('INTERNAL', 'the chunk store computed no MD5')
  if (options.contentMd5 !== undefined && !equalBytes(md5, options.contentMd5)) throw badMd5()
  const { checksumAlgorithm: algorithm, expectedChecksum } = options
  if (algorithm === undefined) return { md5: hexOf(md5), checksum: undefined }
  const value = base64Of(digests.get(checksumDigest[algorithm]))
  if (expectedChecksum !== undefined) {
    const expected = typeof expectedChecksum === 'function' ? expectedChecksum() : expectedChecksum
    if (expected !== value) throw badChecksum(algorithm)
  }
  return { md5: hexOf(md5), checksum: { algorithm, type: 'FULL_OBJECT', value } }
}

const wrongLength = (): StorageError =>
  new StorageError(
    'INCOMPLETE_BODY',
    'You did not provide the number of bytes specified by the Content-Length HTTP header',
  )

const tooLarge = (byteLength: number): StorageError =>
  new StorageError('ENTITY_TOO_LARGE', 'Your proposed upload exceeds the maximum allowed size', {
    details: { ProposedSize: String(byteLength), MaxSizeAllowed: String(maxBodyBytes) },
  })
