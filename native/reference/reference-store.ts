import { randomFillSync } from 'node:crypto'
import type {
  BodyDigest,
  ChunkBuffer,
  ChunkInfo,
  ChunkStore,
  ChunkStoreStats,
  DigestAlgorithm,
  ScrubFinding,
} from '../../core/contract/chunk-store.ts'
import type { FragmentCode } from '../../core/contract/erasure.ts'
import { StorageError } from '../../core/contract/errors.ts'
import { type ChunkId, chunkIdBytes, maxChunkBytes } from '../../core/contract/ids.ts'
import { type Logger, silentLogger } from '../../core/contract/logger.ts'
import { crc32c } from '../crc.ts'
import { Gate } from '../gate.ts'
import { type SlabBuffer, SlabPool } from '../slab-pool.ts'
import { AppendLog, defaultSegmentBytes } from './append-log.ts'
import { type ChunkIndex, type ChunkLocation, idOf, keyOf } from './chunk-index.ts'
import { Collector } from './collector.ts'
import { digestNow, ReferenceDigest } from './digest.ts'
import { recomputeFragments } from './erasure.ts'
import { type Directory, type FileSystem, nodeFileSystem } from './file-system.ts'
import {
  blockBytes,
  blockCount,
  checkPayload,
  decodeRecord,
  headerBytes,
  type PayloadChecks,
  payloadOffset,
  recordBytes,
} from './record.ts'
import { recover } from './recovery.ts'
import { Turns } from './turns.ts'

export interface ReferenceStoreOptions {
  readonly directory: string
  /** What the log files may come to; the file system's size when absent. New chunks are refused at 92 % of it. */
  readonly capacityBytes?: number
  /** Size of the buffer pool; 128 MiB unless told. */
  readonly poolBytes?: number
  readonly log?: Logger
  readonly fileSystem?: FileSystem
  /** Size of a log segment; 64 MiB unless told. */
  readonly segmentBytes?: number
  /** Fills the store's id when the first segment is made. */
  readonly randomFill?: (target: Uint8Array) => Uint8Array
}

const defaultPoolBytes = 128 * 1024 * 1024
const usableShare = 0.92
const noChecks = { crc: 0, blockCrcs: new Uint32Array() }
const noBytes = new Uint8Array()

/**
 * Opens the chunk store that is written in TypeScript: the native store's test twin, and what serves where no addon
 * could be built. Durable and checked like the native one, slower, and its index takes several times the memory.
 * ALREADY_OPEN, UNSUPPORTED_FORMAT, IO_ERROR.
 */
export async function openReferenceStore(options: ReferenceStoreOptions): Promise<ChunkStore> {
  const log = options.log ?? silentLogger
  const slab = new ArrayBuffer(options.poolBytes ?? defaultPoolBytes)
  const pool = new SlabPool({ slab })
  try {
    const directory = await (options.fileSystem ?? nodeFileSystem).openDirectory(options.directory)
    try {
      const { segments, index, damage, storeId: found, nextSequence } = await recover(directory, log)
      const storeId = found ?? (options.randomFill ?? randomFillSync)(new Uint8Array(16))
      const storeSeed = crc32c(storeId)
      const segmentBytes = options.segmentBytes ?? defaultSegmentBytes
      const append = new AppendLog(
        directory,
        { segments, storeId, nextSequence, segmentBytes },
        storeSeed,
        log,
      )
      const turns = new Turns()
      const collector = new Collector({ directory, append, index, turns, storeSeed, log })
      const capacityBytes = options.capacityBytes ?? append.totalBytes + (await directory.freeBytes())
      const parts = { directory, append, index, turns, collector, pool, damage, storeSeed, capacityBytes }
      const store = new ReferenceStore(parts)
      collector.wake()
      return store
    } catch (reason) {
      await directory.close()
      throw reason
    }
  } catch (reason) {
    throw StorageError.from(reason, 'IO_ERROR')
  }
}

interface StoreParts {
  readonly directory: Directory
  readonly append: AppendLog
  readonly index: ChunkIndex
  readonly turns: Turns
  readonly collector: Collector
  readonly pool: SlabPool
  readonly damage: readonly ScrubFinding[]
  readonly storeSeed: number
  readonly capacityBytes: number
}

class ReferenceStore implements ChunkStore {
  readonly kind = 'reference'
  readonly #parts: StoreParts
  readonly #gate = new Gate('chunk store')
  /** Chunks known to be damaged: a put of one writes it anew instead of trusting what is there. */
  readonly #corrupt = new Set<string>()
  #written = false
  /** Of puts that were let in and are not in the log yet. */
  #reservedBytes = 0

  constructor(parts: StoreParts) {
    this.#parts = parts
  }

  async acquire(byteLength: number, signal?: AbortSignal): Promise<ChunkBuffer> {
    // Not behind the gate: closing rejects those who wait instead of waiting for them.
    this.#gate.check()
    return this.#parts.pool.acquire(byteLength, signal)
  }

  async put(id: ChunkId, buffer: ChunkBuffer, byteLength: number): Promise<void> {
    const key = checkedKey(id)
    if (!Number.isInteger(byteLength) || byteLength < 1 || byteLength > buffer.bytes.length) {
      throw new StorageError('INVALID_ARGUMENT', `cannot store ${byteLength} of ${buffer.bytes.length} bytes`)
    }
    await this.#gate.run(async () => {
      const payload = buffer.bytes.subarray(0, byteLength)
      const checks = checkPayload(payload)
      if (this.#holds(key, payload, checks.crc)) return
      const needed = recordBytes(byteLength)
      // Room is made before the turn is taken: collection takes turns itself.
      await this.#makeRoom(needed)
      this.#reservedBytes += needed
      try {
        await this.#parts.turns.take(key, () => this.#write(key, id, payload, checks))
      } finally {
        this.#reservedBytes -= needed
      }
    })
  }

  async #write(key: string, id: ChunkId, payload: Uint8Array, checks: PayloadChecks): Promise<void> {
    const { append, index, collector } = this.#parts
    if (this.#holds(key, payload, checks.crc)) return
    this.#written = true
    index.set(key, await append.append({ kind: 'put', id, payload, checks }))
    this.#corrupt.delete(key)
    collector.wake()
  }

  /** True when the store has exactly these bytes, CONFLICT when it has others; a damaged chunk counts as absent. */
  #holds(key: string, payload: Uint8Array, crc: number): boolean {
    const present = this.#parts.index.get(key)
    if (!present || this.#corrupt.has(key)) return false
    if (present.byteLength === payload.length && present.crc === crc) return true
    throw new StorageError('CONFLICT', 'a chunk of this id exists with other content')
  }

  async #makeRoom(neededBytes: number): Promise<void> {
    const { append, index, collector, capacityBytes } = this.#parts
    const limit = usableShare * capacityBytes - neededBytes
    const isRoom = (): boolean => append.totalBytes + this.#reservedBytes <= limit
    if (isRoom()) return
    // Collection cannot make room where there is little to give back.
    if (index.liveBytes + this.#reservedBytes <= limit) {
      await append.drain()
      append.seal()
      while (!isRoom() && (await collector.reclaim(0.05)));
    }
    if (!isRoom()) throw new StorageError('INSUFFICIENT_STORAGE', 'the chunk store is full')
  }

  async get(id: ChunkId, offset: number, length: number, signal?: AbortSignal): Promise<ChunkBuffer> {
    const key = checkedKey(id)
    if (!Number.isInteger(offset) || !Number.isInteger(length) || offset < 0 || length < 0) {
      throw new StorageError('INVALID_ARGUMENT', 'a range begins at 0 or later and is not negative')
    }
    return this.#gate.run(async () => {
      const known = this.#parts.index.get(key)
      if (!known) throw new StorageError('CHUNK_NOT_FOUND', 'there is no such chunk')
      if (offset > known.byteLength) throw behindTheEnd(offset, known.byteLength)
      const end = Math.min(known.byteLength, offset + length)
      if (offset >= end) return this.#parts.pool.acquire(0, signal)
      const first = Math.floor(offset / blockBytes)
      const from = first * blockBytes
      const to = Math.min(known.byteLength, Math.ceil(end / blockBytes) * blockBytes)
      const buffer = await this.#parts.pool.acquire(to - from, signal)
      try {
        // Looked up again: collection may have moved the chunk, or a delete removed it, while we waited.
        const location = this.#parts.index.get(key)
        if (!location) throw new StorageError('CHUNK_NOT_FOUND', 'the chunk was deleted')
        await this.#readVerified(key, location, from, buffer)
        return buffer.narrow(offset - from, end - offset)
      } catch (reason) {
        buffer.release()
        throw StorageError.from(reason, 'IO_ERROR')
      }
    })
  }

  /** Fills the buffer with whole blocks from `from` and checks each; CORRUPT_CHUNK. */
  async #readVerified(key: string, location: ChunkLocation, from: number, buffer: SlabBuffer): Promise<void> {
    const { segment, offset, byteLength, crc, tableCrc } = location
    const { bytes } = buffer
    const whole = bytes.length === byteLength
    const table = Buffer.alloc(whole ? 0 : 4 * blockCount(byteLength))
    const [tableRead, read] = await Promise.all([
      table.length > 0 ? segment.read(table, offset + headerBytes) : 0,
      segment.read(bytes, offset + payloadOffset(byteLength) + from),
    ])
    let sound = tableRead === table.length && read === bytes.length
    if (whole) sound &&= crc32c(bytes) === crc
    else {
      sound &&= crc32c(table) === tableCrc
      for (let at = 0; sound && at < bytes.length; at += blockBytes) {
        const expected = table.readUInt32LE(4 * ((from + at) / blockBytes))
        sound = crc32c(bytes.subarray(at, at + blockBytes)) === expected
      }
    }
    if (sound) return
    if (this.#parts.index.get(key) === location) this.#corrupt.add(key)
    throw new StorageError('CORRUPT_CHUNK', 'the stored bytes of the chunk do not match their checksum')
  }

  async has(id: ChunkId): Promise<boolean> {
    this.#gate.check()
    const key = checkedKey(id)
    return this.#parts.index.get(key) !== undefined && !this.#corrupt.has(key)
  }

  async delete(id: ChunkId): Promise<boolean> {
    const key = checkedKey(id)
    return this.#gate.run(() =>
      this.#parts.turns.take(key, async () => {
        const { append, index, collector } = this.#parts
        if (!index.get(key)) return false
        this.#written = true
        await append.append({ kind: 'delete', id, payload: noBytes, checks: noChecks })
        index.delete(key)
        this.#corrupt.delete(key)
        collector.wake()
        return true
      }),
    )
  }

  async list(after: ChunkId | null, limit: number): Promise<readonly ChunkInfo[]> {
    this.#gate.check()
    return this.#parts.index
      .page(after === null ? null : checkedKey(after), limit)
      .map(([key, { byteLength, crc }]) => ({ id: idOf(key), byteLength, crc32c: crc }))
  }

  async *scrub(signal?: AbortSignal): AsyncGenerator<ScrubFinding, void, void> {
    this.#gate.check()
    yield* this.#parts.damage
    const scratch = Buffer.alloc(payloadOffset(maxChunkBytes) + maxChunkBytes)
    let after: string | null = null
    for (;;) {
      const page = this.#parts.index.page(after, 256)
      for (const [key] of page) {
        if (signal?.aborted)
          throw new StorageError('CANCELLED', 'the scrub was cancelled', { cause: signal.reason })
        const finding = await this.#gate.run(() => this.#scrubChunk(key, scratch))
        if (finding) yield finding
      }
      const last = page.at(-1)
      if (!last) return
      after = last[0]
    }
  }

  async #scrubChunk(key: string, scratch: Buffer): Promise<ScrubFinding | null> {
    const location = this.#parts.index.get(key)
    if (!location) return null
    const { segment, offset, byteLength, crc, tableCrc } = location
    const bytes = scratch.subarray(0, payloadOffset(byteLength) + byteLength)
    const finding = (problem: ScrubFinding['problem'], detail: string): ScrubFinding | null => {
      // A chunk that was deleted or moved while it was read is no finding.
      if (this.#parts.index.get(key) !== location) return null
      this.#corrupt.add(key)
      return { id: idOf(key), problem, detail: `${detail} (segment ${segment.number}, offset ${offset})` }
    }
    try {
      if ((await segment.read(bytes, offset)) < bytes.length)
        return finding('lost-write', 'the file ends early')
    } catch (reason) {
      return finding('unreadable', StorageError.from(reason, 'IO_ERROR').reason)
    }
    const place = { fileNumber: segment.number, offset, storeSeed: this.#parts.storeSeed }
    const header = decodeRecord(bytes, place)
    const payload = bytes.subarray(payloadOffset(byteLength))
    const table = bytes.subarray(headerBytes, payloadOffset(byteLength))
    if (crc32c(payload) !== crc) {
      const lost = header === null && bytes.every((byte) => byte === 0)
      return lost
        ? finding('lost-write', 'there are only zeros')
        : finding('corrupt-payload', 'checksum mismatch')
    }
    if (header === null || keyOf(header.id) !== key || header.crc !== crc) {
      return finding('corrupt-header', 'the record header is damaged')
    }
    if (table.length > 0 && crc32c(table) !== tableCrc)
      return finding('corrupt-header', 'the block table is damaged')
    return null
  }

  recompute(code: FragmentCode): Promise<void> {
    return this.#gate.run(async () => recomputeFragments(code))
  }

  digest(algorithms: readonly DigestAlgorithm[]): BodyDigest {
    this.#gate.check()
    return new ReferenceDigest(algorithms)
  }

  digestNow(
    algorithms: readonly DigestAlgorithm[],
    bytes: Uint8Array,
  ): ReadonlyMap<DigestAlgorithm, Uint8Array> {
    this.#gate.check()
    return digestNow(algorithms, bytes)
  }

  async stats(): Promise<ChunkStoreStats> {
    this.#gate.check()
    const { append, index, pool, damage, capacityBytes } = this.#parts
    let staleBytes = 0
    for (const segment of append.segments.values()) staleBytes += segment.staleBytes
    return {
      backend: 'reference',
      chunkCount: index.size,
      liveBytes: index.liveBytes,
      staleBytes,
      capacityBytes,
      freeBytes: Math.max(0, capacityBytes - append.totalBytes),
      indexBytes: index.approximateBytes,
      cacheBytes: 0,
      cacheHits: 0,
      cacheMisses: 0,
      poolUsedBytes: pool.usedBytes,
      poolBytes: pool.totalBytes,
      corruptChunks: this.#corrupt.size + damage.length,
      online: append.online,
    }
  }

  async close(): Promise<void> {
    if (this.#gate.closed) return
    const { append, collector, directory, pool } = this.#parts
    const emptied = this.#gate.close()
    pool.close()
    await emptied
    await collector.stop()
    await append.drain()
    if (this.#written && append.online) {
      // Says that everything before it was durable, so that the next start can tell damage there from a torn tail.
      const mark = {
        kind: 'mark',
        id: new Uint8Array(chunkIdBytes),
        payload: noBytes,
        checks: noChecks,
      } as const
      await append.append(mark).catch(() => undefined)
    }
    for (const segment of append.segments.values()) await segment.close()
    await directory.close()
  }
}

function behindTheEnd(offset: number, byteLength: number): StorageError {
  return new StorageError(
    'INVALID_ARGUMENT',
    `offset ${offset} lies behind the end of a chunk of ${byteLength} bytes`,
  )
}

function checkedKey(id: ChunkId): string {
  if (id.length !== chunkIdBytes) {
    throw new StorageError('INVALID_ARGUMENT', `a chunk id has ${chunkIdBytes} bytes, not ${id.length}`)
  }
  return keyOf(id)
}
