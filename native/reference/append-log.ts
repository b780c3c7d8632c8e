import { StorageError } from '../../core/contract/errors.ts'
import type { Logger } from '../../core/contract/logger.ts'
import type { ChunkLocation } from './chunk-index.ts'
import type { Directory } from './file-system.ts'
import { LogSegment, segmentName } from './log-segment.ts'
import {
  encodeFileHeader,
  encodeRecord,
  fileHeaderBytes,
  headerBytes,
  type PayloadChecks,
  type RecordHeader,
  type RecordKind,
  recordBytes,
} from './record.ts'

export const defaultSegmentBytes = 64 * 1024 * 1024
const batchBytes = 8 * 1024 * 1024
const batchRecords = 256
const queueRecords = 65_536
const padding = Buffer.alloc(8)

export interface AppendRequest {
  readonly kind: RecordKind
  readonly id: Uint8Array
  readonly payload: Uint8Array
  readonly checks: PayloadChecks
}

interface Queued extends AppendRequest {
  readonly resolve: (location: ChunkLocation) => void
  readonly reject: (reason: StorageError) => void
}

export interface AppendLogState {
  readonly segments: Map<number, LogSegment>
  readonly storeId: Uint8Array
  readonly nextSequence: number
  /** A segment that has reached this is followed by a new one. */
  readonly segmentBytes: number
}

/**
 * The ordered end of the store. One batch is written and synced at a time and whatever arrives meanwhile forms the
 * next one, so the depth of batches follows the load. A request is answered only after its batch is durable.
 */
export class AppendLog {
  readonly segments: Map<number, LogSegment>
  readonly #directory: Directory
  readonly #storeId: Uint8Array
  readonly #storeSeed: number
  readonly #log: Logger
  readonly #segmentBytes: number
  readonly #queue: Queued[] = []
  #current: LogSegment | undefined
  #nextSequence: number
  #durableSequence: number
  #running: Promise<void> | undefined
  /** Why writes are refused; a failed write or sync is never retried, since the kernel may drop what it failed on. */
  #offline: StorageError | undefined

  constructor(directory: Directory, state: AppendLogState, storeSeed: number, log: Logger) {
    this.segments = state.segments
    this.#directory = directory
    this.#storeId = state.storeId
    this.#storeSeed = storeSeed
    this.#log = log
    this.#segmentBytes = state.segmentBytes
    this.#nextSequence = state.nextSequence
    this.#durableSequence = state.nextSequence - 1
    this.#current = [...state.segments.values()].at(-1)
  }

  get online(): boolean {
    return this.#offline === undefined
  }

  get totalBytes(): number {
    let total = 0
    for (const segment of this.segments.values()) total += segment.size
    return total
  }

  isCurrent(segment: LogSegment): boolean {
    return segment === this.#current
  }

  /** The next append begins a new segment, so that the present one can be collected. */
  seal(): void {
    if (!this.#running) this.#current = undefined
  }

  append(request: AppendRequest): Promise<ChunkLocation> {
    if (this.#offline) return Promise.reject(this.#refusal())
    if (this.#queue.length >= queueRecords) {
      return Promise.reject(new StorageError('OVERLOADED', 'too many writes wait for the chunk log'))
    }
    return new Promise((resolve, reject) => {
      this.#queue.push({ ...request, resolve, reject })
      this.#running ??= this.#run()
    })
  }

  /** Resolves when nothing is queued or being written. */
  async drain(): Promise<void> {
    while (this.#running) await this.#running
  }

  async #run(): Promise<void> {
    // Let the callers of this turn join the first batch.
    await Promise.resolve()
    while (this.#queue.length > 0) await this.#writeBatch()
    this.#running = undefined
  }

  #takeBatch(room: number): Queued[] {
    let bytes = 0
    let count = 0
    for (const { payload } of this.#queue) {
      const next = bytes + recordBytes(payload.length)
      if (count > 0 && (next > Math.min(batchBytes, room) || count >= batchRecords)) break
      bytes = next
      count++
    }
    return this.#queue.splice(0, count)
  }

  async #writeBatch(): Promise<void> {
    let batch: Queued[] = []
    try {
      const segment = await this.#segmentFor(recordBytes(this.#queue[0]?.payload.length ?? 0))
      batch = this.#takeBatch(this.#segmentBytes - segment.size)
      const start = segment.size
      const sequence = this.#nextSequence
      const { pieces, locations, end } = this.#encode(batch, segment)
      try {
        await segment.file.write(pieces, start)
      } catch (reason) {
        const full = StorageError.from(reason, 'IO_ERROR')
        if (full.code !== 'INSUFFICIENT_STORAGE') throw full
        // A full disk is no damage: take back what was written of the batch and stay in service.
        await segment.file.truncate(start)
        this.#nextSequence = sequence
        for (const request of batch) request.reject(full)
        return
      }
      await segment.file.sync()
      segment.size = end
      segment.tombstoneBytes += headerBytes * batch.filter(({ kind }) => kind === 'delete').length
      this.#durableSequence = this.#nextSequence - 1
      for (const [index, request] of batch.entries()) {
        const location = locations[index]
        if (location) request.resolve(location)
      }
    } catch (reason) {
      this.#fail(StorageError.from(reason, 'IO_ERROR'), batch)
    }
  }

  #fail(error: StorageError, batch: readonly Queued[]): void {
    if (error.code === 'INSUFFICIENT_STORAGE' && batch.length === 0) {
      // No room for a new segment; nothing was written.
      for (const request of this.#queue.splice(0)) request.reject(error)
      return
    }
    this.#offline = error
    this.#log.error(
      { err: error },
      'a write to the chunk log failed: the store refuses writes until restarted',
    )
    for (const request of batch) request.reject(new StorageError('IO_ERROR', error.reason, { cause: error }))
    for (const request of this.#queue.splice(0)) request.reject(this.#refusal())
  }

  #refusal(): StorageError {
    const cause = this.#offline
    return new StorageError('DEVICE_OFFLINE', 'the chunk store refuses writes after a failed one', { cause })
  }

  #encode(batch: readonly Queued[], segment: LogSegment) {
    const pieces: Uint8Array[] = []
    const locations: ChunkLocation[] = []
    let at = segment.size
    for (const { kind, id, payload, checks } of batch) {
      const fields: RecordHeader = {
        kind,
        sequence: this.#nextSequence++,
        durableSequence: this.#durableSequence,
        id,
        byteLength: payload.length,
        crc: checks.crc,
        tableCrc: 0,
        fileNumber: segment.number,
        offset: at,
      }
      const head = encodeRecord(fields, checks.blockCrcs, this.#storeSeed)
      const total = recordBytes(payload.length)
      pieces.push(head)
      if (payload.length > 0) pieces.push(payload)
      const rest = total - head.length - payload.length
      if (rest > 0) pieces.push(padding.subarray(0, rest))
      const tableCrc = head.readUInt32LE(48)
      locations.push({ segment, offset: at, byteLength: payload.length, crc: checks.crc, tableCrc })
      at += total
    }
    return { pieces, locations, end: at }
  }

  async #segmentFor(firstBytes: number): Promise<LogSegment> {
    const current = this.#current
    if (current && (current.size === fileHeaderBytes || current.size + firstBytes <= this.#segmentBytes))
      return current
    const number = Math.max(0, ...this.segments.keys()) + 1
    const name = segmentName(number)
    const file = await this.#directory.create(name)
    try {
      await file.write(
        [encodeFileHeader({ fileNumber: number, storeId: this.#storeId, firstSequence: this.#nextSequence })],
        0,
      )
      await file.sync()
      await this.#directory.sync()
    } catch (reason) {
      await file.close()
      await this.#directory.remove(name)
      throw reason
    }
    const segment = new LogSegment(number, file, fileHeaderBytes)
    this.segments.set(number, segment)
    this.#current = segment
    return segment
  }
}
