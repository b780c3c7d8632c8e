import { createHash } from 'node:crypto'
import type { ChunkBuffer, ChunkStore } from '../../core/contract/chunk-store.ts'
import type { Clock } from '../../core/contract/clock.ts'
import { type ErrorCode, StorageError } from '../../core/contract/errors.ts'
import { chunkId, type WriteId } from '../../core/contract/ids.ts'
import type { Extent, Layout } from '../../core/contract/object-model.ts'
import { backgroundClass } from '../../core/contract/qos.ts'
import type { ReplicatedBody, ReplicatedVersion } from '../../core/contract/replication.ts'
import type { WriteRegistry } from '../../core/contract/write-registry.ts'
import type { FetchWindow } from './fetch-window.ts'
import type { BodyClass, PeerRegion } from './peer.ts'

export interface FetchOptions {
  readonly chunks: Pick<ChunkStore, 'acquire' | 'put' | 'digest'>
  readonly writes: Pick<WriteRegistry, 'begin' | 'settle'>
  readonly clock: Clock
  /** Size of the chunks that bodies are cut into here. */
  readonly chunkBytes: number
  /**
   * Bytes of the buffer pool that bodies on their way may have, shared by all who fetch. Absent: no bound, which is for stores whose
   * pool has none.
   */
  readonly buffers?: FetchWindow
  /**
   * How urgent bodies are on the way; `bulk` when absent. `read`: a client waits, so another region that takes no more at once is asked
   * again only when a part of the version has come.
   */
  readonly linkClass?: BodyClass
  /** A `traceparent` that the other region is told. */
  readonly traceParent?: string
}

export interface Fetched {
  readonly layout: Layout
  /** To be called when the entry with the layout has been applied, or given up. */
  settle(): void
}

const pathCodes: ReadonlySet<ErrorCode> = new Set([
  'PEER_UNREACHABLE',
  'PROTOCOL_ERROR',
  'CANCELLED',
  'DEADLINE_EXCEEDED',
  'CLOSED',
])
/** Whether an error tells of the way to the other region, not of what was asked for. */
export const isPathError = (error: unknown): boolean =>
  error instanceof StorageError && pathCodes.has(error.code)

/** Whether the other region, or the way to it, takes no more at once, also where that is told as an error of the way: it is there. */
export const isOverloaded = (error: unknown): boolean =>
  error instanceof StorageError && [error, error.cause].some(saysOverloaded)

const saysOverloaded = (error: unknown): boolean =>
  error instanceof StorageError && error.code === 'OVERLOADED'

/** What is wrong is the version, as the other region has it, and not the way to it nor this region: the others can go on. */
export class UnfetchableVersion extends Error {
  override readonly name = 'UnfetchableVersion'
}

/** Times that a body is taken up again where it was cut, without a byte more, before it is left for later. */
const mostCuts = 8
const firstWaitMs = 100
const mostWaitMs = 5_000
/** The pool hands out nothing smaller. */
const leastSliceBytes = 4096

/**
 * Brings the body of a version into this region's chunk store. A cut connection is taken up where it was cut. What has come is
 * compared with the version's ETag (MD5 of the body, or of the MD5s of its parts). UnfetchableVersion.
 */
export async function fetchVersion(
  options: FetchOptions,
  peer: PeerRegion,
  bucket: string,
  version: ReplicatedVersion,
  signal: AbortSignal,
): Promise<Fetched> {
  const begun: WriteId[] = []
  const settle = (): void => {
    for (const writeId of begun.splice(0)) options.writes.settle(writeId)
  }
  const begin = (): WriteId => {
    const writeId = options.writes.begin()
    begun.push(writeId)
    return writeId
  }
  try {
    if (version.inline !== undefined) return { layout: { kind: 'inline', writeId: begin() }, settle }
    if (version.bodies.length === 0) return { layout: { kind: 'empty' }, settle }
    const isProved = isProvable(version)
    const extents: Extent[] = []
    const digests: Uint8Array[] = []
    for (const body of version.bodies) {
      const writeId = begin()
      const isHurried = options.linkClass === 'read' && extents.length === 0
      const fetch = (): Promise<Uint8Array> =>
        new BodyFetch(options, peer, bucket, body, writeId, isProved).run(isHurried, signal)
      // Before it is asked for: a stream that nobody reads because its reader waits for a buffer keeps the tunnel's credit from those
      // who have the buffers and wait for bytes.
      const held = heldBytes(body.byteLength, options.chunkBytes)
      digests.push(await (options.buffers?.run(held, fetch, signal) ?? fetch()))
      extents.push({ writeId, chunkBytes: options.chunkBytes, byteLength: body.byteLength })
    }
    checkEtag(version, digests)
    return { layout: { kind: 'chunks', extents }, settle }
  } catch (error) {
    settle()
    throw error
  }
}

/** What a body has of the pool at most: the chunk that is being filled and the one before, in slices of powers of two. */
function heldBytes(byteLength: number, chunkBytes: number): number {
  const slice = 2 ** Math.ceil(Math.log2(Math.max(leastSliceBytes, Math.min(byteLength, chunkBytes))))
  return byteLength > chunkBytes ? 2 * slice : slice
}

/** One stored body on its way. */
class BodyFetch {
  readonly #options: FetchOptions
  readonly #peer: PeerRegion
  readonly #bucket: string
  readonly #body: ReplicatedBody
  readonly #writeId: WriteId
  readonly #isProved: boolean
  #received = 0
  #buffer: ChunkBuffer | undefined
  /** Of the chunk being filled. */
  #filled = 0
  /** The chunk before, while it is being stored. */
  #storing: Promise<void> = Promise.resolve()

  constructor(
    options: FetchOptions,
    peer: PeerRegion,
    bucket: string,
    body: ReplicatedBody,
    writeId: WriteId,
    isProved: boolean,
  ) {
    this.#options = options
    this.#peer = peer
    this.#bucket = bucket
    this.#body = body
    this.#writeId = writeId
    this.#isProved = isProved
  }

  /** Resolves with the MD5, when everything is durable. `isHurried`: who is refused before the first byte is not to wait here. */
  async run(isHurried: boolean, signal: AbortSignal): Promise<Uint8Array> {
    const digest = this.#options.chunks.digest(['md5'])
    const sink = { update: digest.update.bind(digest) }
    try {
      let cuts = 0
      while (this.#received < this.#body.byteLength) {
        const before = this.#received
        try {
          await this.#receive(sink, signal)
        } catch (error) {
          if (!isPathError(error) || signal.aborted) throw error
          if (isHurried && this.#received === 0 && isOverloaded(error)) throw error
          cuts = this.#received > before ? 1 : cuts + 1
          if (cuts > mostCuts) throw error
          await this.#options.clock.sleep(Math.min(firstWaitMs * 2 ** (cuts - 1), mostWaitMs), signal)
        }
      }
      await this.#storing
      const md5 = (await digest.finish()).get('md5')
      if (md5 === undefined) throw new Error('an MD5 was asked for')
      return md5
    } catch (error) {
      digest.abort()
      await this.#storing.catch(() => undefined)
      this.#buffer?.release()
      this.#buffer = undefined
      throw error
    }
  }

  async #receive(
    digest: Pick<ReturnType<ChunkStore['digest']>, 'update'>,
    signal: AbortSignal,
  ): Promise<void> {
    const { writeId } = this.#body
    const { linkClass, traceParent } = this.#options
    const request = {
      ...{ bucket: this.#bucket, writeId, offset: this.#received, isProved: this.#isProved },
      // Not told where it is as ever: regions of before do not know it.
      ...(linkClass === undefined || linkClass === 'bulk' ? {} : { linkClass }),
      ...(traceParent === undefined ? {} : { traceParent }),
    }
    const before = this.#received
    for await (const piece of answersOf(this.#peer.body(request, signal))) {
      if (this.#received + piece.length > this.#body.byteLength) {
        throw new UnfetchableVersion('the body that came is longer than its version says')
      }
      let at = 0
      while (at < piece.length) at += await this.#take(piece.subarray(at), digest, signal)
    }
    if (this.#received === this.#body.byteLength) return
    // What was asked for from there and is nothing, by an answer that is whole, will be nothing every time.
    if (this.#received === before) {
      throw new UnfetchableVersion(
        `the other region has ${before} of ${this.#body.byteLength} bytes of the body`,
      )
    }
    throw new StorageError('PROTOCOL_ERROR', 'the body that came ended early')
  }

  async #take(
    bytes: Uint8Array,
    digest: Pick<ReturnType<ChunkStore['digest']>, 'update'>,
    signal: AbortSignal,
  ): Promise<number> {
    const { chunks, chunkBytes } = this.#options
    const left = this.#body.byteLength - this.#received + this.#filled
    const size = Math.min(chunkBytes, left)
    this.#buffer ??= await chunks.acquire(size, signal).catch((reason: unknown) => {
      throw ownError(reason)
    })
    const buffer = this.#buffer
    const part = bytes.subarray(0, size - this.#filled)
    buffer.bytes.set(part, this.#filled)
    this.#filled += part.length
    this.#received += part.length
    if (this.#filled === size) {
      const index = Math.floor((this.#received - 1) / chunkBytes)
      await this.#storing
      this.#storing = this.#store(buffer, index, size, digest)
      // Awaited with the next chunk or at the end; a rejection in between must not count as unhandled.
      this.#storing.catch(() => undefined)
      this.#buffer = undefined
      this.#filled = 0
    }
    return part.length
  }

  async #store(
    buffer: ChunkBuffer,
    index: number,
    size: number,
    digest: Pick<ReturnType<ChunkStore['digest']>, 'update'>,
  ): Promise<void> {
    const put = this.#options.chunks.put(chunkId(this.#writeId, index), buffer, size, backgroundClass)
    const results = await Promise.allSettled([put, digest.update(buffer, 0, size)])
    buffer.release()
    for (const result of results) if (result.status === 'rejected') throw ownError(result.reason)
  }
}

/** This region's own store, too, can be late or closed: that is no cut in the way, behind which the body is taken up again. */
function ownError(reason: unknown): StorageError {
  const error = StorageError.from(reason)
  return isPathError(error) ? new StorageError('UNAVAILABLE', error.message, { cause: error }) : error
}

/** The other region's own refusals as such. */
async function* answersOf(pieces: AsyncIterable<Uint8Array>): AsyncGenerator<Uint8Array> {
  const iterator = pieces[Symbol.asyncIterator]()
  try {
    for (;;) {
      const next = await iterator.next().catch((reason: unknown) => {
        const error = StorageError.from(reason)
        // It has too much to do now, which says nothing of the version: a failure would hold up all later changes of its key.
        if (error.code === 'OVERLOADED')
          throw new StorageError('PEER_UNREACHABLE', error.reason, { cause: error })
        throw isPathError(error) ? error : new UnfetchableVersion(error.message, { cause: error })
      })
      if (next.done === true) return
      yield next.value
    }
  } finally {
    await iterator.return?.()
  }
}

const md5 = (bytes: Uint8Array): Uint8Array => createHash('md5').update(bytes).digest()
const hex = (bytes: Uint8Array): string => Buffer.from(bytes).toString('hex')

/** Whether `checkEtag` will compare the ETag with the MD5 of every byte. */
function isProvable({ etag, parts, bodies }: ReplicatedVersion): boolean {
  if (parts === undefined) return bodies.length === 1 && /^[0-9a-f]{32}$/.test(etag)
  const filled = parts.filter(({ byteLength }) => byteLength > 0)
  const isWhole = filled.length === bodies.length
  return (
    isWhole &&
    filled.every(({ byteLength }, at) => bodies[at]?.byteLength === byteLength) &&
    /^[0-9a-f]{32}-[0-9]+$/.test(etag)
  )
}

/** An ETag of another form says nothing of the bytes. */
function checkEtag({ etag, parts, bodies }: ReplicatedVersion, digests: readonly Uint8Array[]): void {
  const expected = parts === undefined ? plainEtag(digests) : compositeEtag(parts, bodies, digests)
  if (expected === undefined || etag.includes('-') !== (parts !== undefined)) return
  if (expected !== etag) {
    throw new UnfetchableVersion(`the body that came has the ETag ${expected}, its version ${etag}`)
  }
}

function plainEtag(digests: readonly Uint8Array[]): string | undefined {
  const [only] = digests
  return only === undefined || digests.length > 1 ? undefined : hex(only)
}

function compositeEtag(
  parts: NonNullable<ReplicatedVersion['parts']>,
  bodies: ReplicatedVersion['bodies'],
  digests: readonly Uint8Array[],
): string | undefined {
  let next = 0
  const ofParts: Uint8Array[] = []
  for (const { byteLength } of parts) {
    if (byteLength === 0) {
      ofParts.push(md5(new Uint8Array(0)))
      continue
    }
    const digest = digests[next]
    if (digest === undefined || bodies[next]?.byteLength !== byteLength) return undefined
    ofParts.push(digest)
    next++
  }
  return `${hex(md5(Buffer.concat(ofParts)))}-${parts.length}`
}
