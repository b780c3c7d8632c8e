import type { ChunkBuffer, ChunkInfo, ChunkStoreGauges } from '../core/contract/chunk-store.ts'
import { StorageError } from '../core/contract/errors.ts'
import { type ChunkId, chunkIdBytes, maxChunkBytes } from '../core/contract/ids.ts'
import type { TransportName } from '../core/contract/policy.ts'
import {
  decodeListRecord,
  decodeStoreStats,
  listRecordBytes,
  nextChunkId,
  storeStatsBytes,
} from '../core/contract/store-records.ts'
import {
  type ChunkSession,
  noticeBytes,
  type PeerIdentity,
  type RequestOptions,
  type SessionEnd,
  type SessionStats,
} from '../core/contract/transport.ts'
import { portOps } from './data-plane-port.ts'
import { type PeerAnswer, type PeerAsk, type PeerDoor, PeerFault } from './peer-door.ts'
import type { PeerPage } from './peer-pages.ts'
import type { SlabBuffer } from './slab-pool.ts'

const pageBytes = 4096
const maxListRecords = 4096
const defaultDeadlineMs = 30_000
const defaultGraceMs = 5000

const notDeleted = 'the chunk could not be deleted at the peer'
const endedBy = ['us', 'peer', 'failure'] as const

export interface NativeSessionOptions {
  readonly adapterId: string
  readonly kind: TransportName
  readonly door: PeerDoor
  readonly handle: number
  readonly page: PeerPage
}

/** A session of the data plane: requests are ring entries, and their bytes stay in the slab. */
export class NativeSession implements ChunkSession {
  readonly adapterId: string
  readonly kind: TransportName
  readonly peer: PeerIdentity
  readonly ended: Promise<SessionEnd>
  readonly #door: PeerDoor
  readonly #handle: number
  readonly #page: PeerPage
  readonly #unregister: () => void
  #inFlight = 0
  #closing: Promise<void> | undefined
  #lastStats: SessionStats | undefined

  constructor({ adapterId, kind, door, handle, page }: NativeSessionOptions) {
    this.adapterId = adapterId
    this.kind = kind
    this.#door = door
    this.#handle = handle
    this.#page = page
    this.peer = {
      nodeId: page.peerNode,
      regionId: page.peerRegion,
      mapEpoch: page.peerEpoch,
      protocolVersion: page.version,
      capabilities: page.capabilities,
    }
    this.ended = this.#waitForEnd()
    this.#unregister = door.register(() => this.close(0))
  }

  get inFlight(): number {
    return this.#inFlight
  }

  async put(id: ChunkId, buffer: ChunkBuffer, byteLength: number, options?: RequestOptions): Promise<void> {
    checkId(id)
    const { bytes } = buffer
    if (!Number.isInteger(byteLength) || byteLength < 1 || byteLength > bytes.length) {
      throw new StorageError('INVALID_ARGUMENT', `cannot send ${byteLength} of ${bytes.length} bytes`)
    }
    if (bytes.buffer !== this.#door.port.slab || bytes.byteOffset % pageBytes !== 0) {
      throw new StorageError('INVALID_ARGUMENT', 'the buffer is not one that the own store handed out')
    }
    await this.#ask(
      {
        op: portOps.peerPut,
        id,
        length: byteLength,
        slabOffset: bytes.byteOffset,
        chunkOffset: options?.mapEpoch ?? 0,
      },
      options,
      'the chunk could not be stored at the peer',
    )
  }

  async get(id: ChunkId, offset: number, length: number, options?: RequestOptions): Promise<ChunkBuffer> {
    checkId(id)
    if (!Number.isInteger(offset) || !Number.isInteger(length) || offset < 0 || length < 0) {
      throw new StorageError('INVALID_ARGUMENT', 'a range begins at 0 or later and is not negative')
    }
    const wanted = Math.min(length, maxChunkBytes)
    return this.#fill(
      wanted,
      options,
      {
        op: portOps.peerGet,
        id,
        length: wanted,
        chunkOffset: Math.min(offset, maxChunkBytes + 1),
      },
      'the chunk could not be read from the peer',
      (buffer, { length: byteLength }) => (byteLength === wanted ? buffer : buffer.narrow(0, byteLength)),
    )
  }

  /** Asks for what goes into a buffer of the pool, which `read` keeps or releases. */
  async #fill<T>(
    byteLength: number,
    options: RequestOptions | undefined,
    ask: PeerAsk,
    what: string,
    read: (buffer: SlabBuffer, answer: PeerAnswer) => T,
  ): Promise<T> {
    if (this.#closing) throw new StorageError('CLOSED', 'the session is closed')
    const { deadlineMs = defaultDeadlineMs, signal } = options ?? {}
    if (signal?.aborted) throw cancelled(signal)
    let buffer = this.#door.pool.acquireNow(byteLength)
    let left = options
    if (!buffer) {
      // The wait for memory is a part of the request's time.
      const beganMs = performance.now()
      const limit = AbortSignal.timeout(Math.min(Math.max(1, deadlineMs), 0x7fffffff))
      this.#inFlight++
      try {
        buffer = await this.#door.pool.acquire(byteLength, signal ? AbortSignal.any([signal, limit]) : limit)
      } catch (reason) {
        if (!limit.aborted || signal?.aborted) throw reason
        throw new StorageError('DEADLINE_EXCEEDED', 'no memory came free for the answer', { cause: reason })
      } finally {
        this.#inFlight--
      }
      left = { ...options, deadlineMs: deadlineMs - (performance.now() - beganMs) }
    }
    try {
      const slabOffset = byteLength === 0 ? 0 : buffer.bytes.byteOffset
      return read(buffer, await this.#ask({ ...ask, slabOffset }, left, what))
    } catch (reason) {
      buffer.release()
      throw reason
    }
  }

  async has(id: ChunkId, options?: RequestOptions): Promise<boolean> {
    return this.#exists({ op: portOps.peerHas, id }, options, 'the chunk could not be looked up at the peer')
  }

  async delete(id: ChunkId, options?: RequestOptions): Promise<boolean> {
    const chunkOffset = options?.mapEpoch ?? 0
    return this.#exists({ op: portOps.peerDelete, id, chunkOffset }, options, notDeleted)
  }

  async #exists(
    ask: PeerAsk & { readonly id: ChunkId },
    options: RequestOptions | undefined,
    what: string,
  ): Promise<boolean> {
    checkId(ask.id)
    try {
      await this.#ask(ask, options, what)
      return true
    } catch (reason) {
      if (reason instanceof StorageError && reason.code === 'CHUNK_NOT_FOUND') return false
      throw reason
    }
  }

  async list(after: ChunkId | null, limit: number, options?: RequestOptions): Promise<readonly ChunkInfo[]> {
    if (after !== null) checkId(after)
    if (!Number.isInteger(limit) || limit < 1 || limit > maxListRecords) {
      throw new StorageError('INVALID_ARGUMENT', `a listing has 1 to ${maxListRecords} chunks, not ${limit}`)
    }
    const from = after === null ? new Uint8Array(chunkIdBytes) : nextChunkId(after)
    if (!from) return []
    return this.#fill(
      limit * listRecordBytes,
      options,
      { op: portOps.peerList, id: from, length: limit },
      'the chunks of the peer could not be listed',
      (buffer, { length: count }) => {
        const chunks = Array.from({ length: count }, (_, index) => decodeListRecord(buffer.bytes, index))
        buffer.release()
        return chunks
      },
    )
  }

  async stat(options?: RequestOptions): Promise<ChunkStoreGauges> {
    return this.#fill(
      storeStatsBytes,
      options,
      { op: portOps.peerStat },
      'the peer told no statistics',
      (buffer) => {
        // The pool is the peer's own business.
        const gauges = decodeStoreStats(buffer.bytes)
        buffer.release()
        return gauges
      },
    )
  }

  async ping(options?: RequestOptions): Promise<number> {
    const { value } = await this.#ask({ op: portOps.peerPing }, options, 'the peer gave no sign of life')
    return value / 1000
  }

  async notice(options?: RequestOptions): Promise<Uint8Array | undefined> {
    try {
      const answer = await this.#ask({ op: portOps.peerNotice }, options, 'the peer did not tell its notice')
      const notice = Buffer.allocUnsafe(noticeBytes)
      notice.set(answer.id)
      notice.writeInt32LE(answer.chunkLength, 16)
      notice.writeInt32LE(answer.crc32c, 20)
      return notice
    } catch (reason) {
      if (isWithoutNotice(reason)) return undefined
      throw reason
    }
  }

  stats(): SessionStats {
    return this.#lastStats ?? readStats(this.#page)
  }

  close(graceMs: number = defaultGraceMs): Promise<void> {
    this.#closing ??= this.#close(graceMs)
    return this.#closing
  }

  async #close(graceMs: number): Promise<void> {
    await this.#door.ask({
      op: portOps.peerClose,
      peer: this.#handle,
      length: Math.min(Math.max(0, Math.floor(graceMs)), 0xffffffff),
    })
    await this.ended
    this.#lastStats = readStats(this.#page)
    this.#unregister()
    this.#door.givePage(this.#page)
  }

  async #waitForEnd(): Promise<SessionEnd> {
    try {
      const { value } = await this.#door.ask({ op: portOps.peerEnded, peer: this.#handle })
      return { by: endedBy[value] ?? 'failure' }
    } catch (reason) {
      if (!(reason instanceof PeerFault)) return { by: 'us' }
      const error = new StorageError(reason.code, this.#page.message || 'the session is over')
      return { by: endedBy[reason.value] ?? 'failure', error }
    }
  }

  async #ask(ask: PeerAsk, options: RequestOptions | undefined, what: string): Promise<PeerAnswer> {
    const { deadlineMs = defaultDeadlineMs, classIndex = 0, traceId, onRequestId, signal } = options ?? {}
    if (this.#closing) throw new StorageError('CLOSED', 'the session is closed')
    if (signal?.aborted) throw cancelled(signal)
    this.#inFlight++
    try {
      const answer = await this.#door.ask({
        ...ask,
        peer: this.#handle,
        qosClass: classIndex,
        deadlineUs: Math.min(Math.max(1, Math.floor(deadlineMs * 1000)), 0xffffffff),
        ...(traceId ? { trace: traceId } : {}),
        ...(signal ? { signal } : {}),
      })
      if (traceId) onRequestId?.(answer.value)
      return answer
    } catch (reason) {
      if (!(reason instanceof PeerFault)) throw reason
      if (traceId) onRequestId?.(reason.value)
      if (signal?.aborted && (reason.code === 'CANCELLED' || reason.code === 'DEADLINE_EXCEEDED')) {
        throw cancelled(signal)
      }
      throw new StorageError(reason.code, what, { cause: reason })
    } finally {
      this.#inFlight--
    }
  }
}

function checkId(id: ChunkId): void {
  if (id.length !== chunkIdBytes) {
    throw new StorageError('INVALID_ARGUMENT', `a chunk id has ${chunkIdBytes} bytes, not ${id.length}`)
  }
}

function cancelled(signal: AbortSignal): StorageError {
  return new StorageError('CANCELLED', 'the request was cancelled', { cause: signal.reason })
}

/** Nothing was posted there; or it is a node that does not know the question yet. */
const isWithoutNotice = (reason: unknown): boolean =>
  reason instanceof StorageError && (reason.code === 'CHUNK_NOT_FOUND' || reason.code === 'INVALID_ARGUMENT')

function readStats(page: PeerPage): SessionStats {
  const trips = page.roundTripsMs()
  const sorted = trips.toSorted((a, b) => a - b)
  let jitterMs = 0
  // RFC 3550, 6.4.1: a running mean with a gain of 1/16.
  for (let at = 1; at < trips.length; at++) {
    jitterMs += (Math.abs((trips[at] ?? 0) - (trips[at - 1] ?? 0)) - jitterMs) / 16
  }
  return {
    rttP50Ms: sorted[Math.floor(sorted.length * 0.5)] ?? 0,
    rttP99Ms: sorted[Math.floor(sorted.length * 0.99)] ?? 0,
    jitterMs,
    requests: page.counter('requests'),
    pathErrors: page.counter('pathErrors'),
    bytesSent: page.counter('bytesSent'),
    bytesReceived: page.counter('bytesReceived'),
    retransmits: page.retransmits,
  }
}
