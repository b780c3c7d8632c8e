import type { ChunkBuffer, ChunkInfo, ChunkStoreGauges } from '../../contract/chunk-store.ts'
import { StorageError } from '../../contract/errors.ts'
import { type ChunkId, chunkIdBytes, maxChunkBytes } from '../../contract/ids.ts'
import type { TransportName } from '../../contract/policy.ts'
import { decodeStoreStats, listRecordBytes, storeStatsBytes } from '../../contract/store-records.ts'
import {
  type ChunkSession,
  noticeBytes,
  type PeerIdentity,
  type RequestOptions,
  type SessionEnd,
  type SessionStats,
} from '../../contract/transport.ts'
import { ClientChannel, type ClientChannelParts, defaultDeadlineMs, pingSpec } from './client-channel.ts'
import { creditBytes, type FrameHeader, flags, largestList, ops } from './frame.ts'
import { decodeList, listFrom } from './list-records.ts'

export interface ClientSessionParts extends ClientChannelParts {
  readonly adapterId: string
  readonly kind: TransportName
}

/** The client's side of a session: native/RPC.md over any stream of bytes. */
export class ClientSession implements ChunkSession {
  readonly adapterId: string
  readonly kind: TransportName
  readonly peer: PeerIdentity
  readonly ended: Promise<SessionEnd>
  readonly #parts: ClientSessionParts
  readonly #channel: ClientChannel

  constructor(parts: ClientSessionParts) {
    this.#parts = parts
    this.adapterId = parts.adapterId
    this.kind = parts.kind
    this.peer = parts.peer
    this.#channel = new ClientChannel(parts)
    this.ended = this.#channel.ended
  }

  get inFlight(): number {
    return this.#channel.inFlight
  }

  async put(
    id: ChunkId,
    buffer: ChunkBuffer,
    byteLength: number,
    options: RequestOptions = {},
  ): Promise<void> {
    checkId(id)
    if (
      !Number.isInteger(byteLength) ||
      byteLength < 1 ||
      byteLength > Math.min(buffer.bytes.length, maxChunkBytes)
    ) {
      throw new StorageError('INVALID_ARGUMENT', `cannot store ${byteLength} of ${buffer.bytes.length} bytes`)
    }
    const payload = buffer.bytes.subarray(0, byteLength)
    const { header } = await this.#channel.call(
      {
        op: ops.put,
        fields: { chunkId: id, offset: options.mapEpoch ?? 0, length: byteLength, flags: flags.payload },
        payload,
        answerBytes: 0,
        creditBytes: creditBytes({ op: ops.put, length: byteLength }),
      },
      options,
    )
    if (header.chunkLength !== byteLength) {
      throw new StorageError('PROTOCOL_ERROR', `the peer stored ${header.chunkLength} of ${byteLength} bytes`)
    }
  }

  async get(id: ChunkId, offset: number, length: number, options: RequestOptions = {}): Promise<ChunkBuffer> {
    checkId(id)
    if (
      !Number.isInteger(offset) ||
      !Number.isInteger(length) ||
      offset < 0 ||
      offset > 0xffff_ffff ||
      length < 0
    ) {
      throw new StorageError('INVALID_ARGUMENT', 'a range begins at 0 or later and is not negative')
    }
    const wanted = Math.min(length, maxChunkBytes)
    const startedMs = this.#parts.clock.monotonic()
    const buffer = await this.#channel.acquire(wanted, options)
    const spentMs = this.#parts.clock.monotonic() - startedMs
    const deadlineMs = Math.max(0, (options.deadlineMs ?? defaultDeadlineMs) - spentMs)
    const { header } = await this.#channel.call(
      {
        op: ops.get,
        fields: { chunkId: id, offset, length: wanted },
        buffer,
        answerBytes: wanted,
        creditBytes: creditBytes({ op: ops.get, length: wanted }),
      },
      { ...options, deadlineMs },
    )
    if (!isSoundGet(header, offset, wanted)) {
      buffer.release()
      throw new StorageError('IO_ERROR', 'the payload of an answer is not what was asked for')
    }
    return {
      bytes: buffer.bytes.subarray(0, header.length),
      release: () => buffer.release(),
    }
  }

  has(id: ChunkId, options: RequestOptions = {}): Promise<boolean> {
    return this.#exists(ops.has, { chunkId: id }, options)
  }

  delete(id: ChunkId, options: RequestOptions = {}): Promise<boolean> {
    return this.#exists(ops.delete, { chunkId: id, offset: options.mapEpoch ?? 0 }, options)
  }

  async #exists(
    op: number,
    fields: { readonly chunkId: ChunkId; readonly offset?: number },
    options: RequestOptions,
  ): Promise<boolean> {
    checkId(fields.chunkId)
    try {
      await this.#channel.call({ op, fields, answerBytes: 0, creditBytes: 0 }, options)
      return true
    } catch (reason) {
      if (reason instanceof StorageError && reason.code === 'CHUNK_NOT_FOUND') return false
      throw reason
    }
  }

  async list(
    after: ChunkId | null,
    limit: number,
    options: RequestOptions = {},
  ): Promise<readonly ChunkInfo[]> {
    if (after !== null) checkId(after)
    if (!Number.isInteger(limit) || limit < 0 || limit > largestList) {
      throw new StorageError('INVALID_ARGUMENT', `a list has 0 to ${largestList} chunks a call`)
    }
    const from = listFrom(after)
    if (limit === 0 || from === null) {
      this.#channel.check()
      return []
    }
    const { payload } = await this.#channel.call(
      {
        op: ops.list,
        fields: { chunkId: from, length: limit },
        answerBytes: limit * listRecordBytes,
        creditBytes: creditBytes({ op: ops.list, length: limit }),
      },
      options,
    )
    return decodeList(payload)
  }

  async stat(options: RequestOptions = {}): Promise<ChunkStoreGauges> {
    const { payload } = await this.#channel.call(
      {
        op: ops.stat,
        fields: {},
        answerBytes: storeStatsBytes,
        creditBytes: creditBytes({ op: ops.stat, length: 0 }),
      },
      options,
    )
    if (payload.length !== storeStatsBytes)
      throw new StorageError('PROTOCOL_ERROR', 'statistics of a wrong length')
    return decodeStoreStats(payload)
  }

  async ping(options: RequestOptions = {}): Promise<number> {
    const { clock } = this.#parts
    const beganMs = clock.monotonic()
    await this.#channel.call(pingSpec, options)
    return clock.monotonic() - beganMs
  }

  async notice(options: RequestOptions = {}): Promise<Uint8Array | undefined> {
    try {
      const call = { op: ops.notice, fields: {}, answerBytes: 0, creditBytes: 0 }
      const { header } = await this.#channel.call(call, options)
      const notice = Buffer.alloc(noticeBytes)
      notice.set(header.chunkId)
      notice.writeUInt32LE(header.chunkLength, 16)
      notice.writeUInt32LE(header.chunkCrc, 20)
      return notice
    } catch (reason) {
      const { code } = StorageError.from(reason)
      // Nothing was posted; or a peer that does not know the question yet.
      if (code === 'CHUNK_NOT_FOUND' || code === 'INVALID_ARGUMENT') return undefined
      throw reason
    }
  }

  stats(): SessionStats {
    return this.#channel.stats()
  }

  close(graceMs?: number): Promise<void> {
    return this.#channel.close(graceMs)
  }
}

/** Of a chunk that is longer than what came, what came must be what was asked for; of a whole one the store's own CRC holds. */
function isSoundGet(
  { length, chunkLength, payloadCrc, chunkCrc }: FrameHeader,
  offset: number,
  wanted: number,
): boolean {
  if (length !== Math.min(wanted, Math.max(0, chunkLength - offset))) return false
  return offset !== 0 || length === 0 || length !== chunkLength || payloadCrc === chunkCrc
}

function checkId(id: ChunkId): void {
  if (id.length !== chunkIdBytes) {
    throw new StorageError('INVALID_ARGUMENT', `a chunk id has ${chunkIdBytes} bytes, not ${id.length}`)
  }
}
