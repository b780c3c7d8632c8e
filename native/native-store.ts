import type {
  BodyDigest,
  ChunkBuffer,
  ChunkInfo,
  ChunkStore,
  ChunkStoreStats,
  DigestAlgorithm,
  ScrubFinding,
} from '../core/contract/chunk-store.ts'
import type { FragmentCode } from '../core/contract/erasure.ts'
import { StorageError } from '../core/contract/errors.ts'
import { type ChunkId, chunkIdBytes, maxChunkBytes } from '../core/contract/ids.ts'
import type { Logger } from '../core/contract/logger.ts'
import type { PlanSink, QosPlan } from '../core/contract/qos.ts'
import {
  decodeListRecord,
  decodeStoreStats,
  listRecordBytes,
  nextChunkId,
} from '../core/contract/store-records.ts'
import { DataPlanePort, type NativeAddon, type NativeOptions, portOps } from './data-plane-port.ts'
import { Gate } from './gate.ts'
import { NativeDigests, nativeDigestNow } from './native-digest.ts'
import { PeerDoor, setPeerDoor } from './peer-door.ts'
import { PeerPages, peerPagesBytes } from './peer-pages.ts'
import type { RingRequest } from './request-ring.ts'
import { SlabPool } from './slab-pool.ts'

/** Of what `discard` takes. */
const minDiscardBytes = 16 * 1024
const pageBytes = 4096
const maxSlabBytes = 2 ** 31 - 4096
const findingBytes = 64
/** kMostQosClasses in native/include/pando/qos.h. */
const mostClasses = 64
/** Records and findings fetched in one step: 128 KiB and 4 KiB of the pool. */
const listStep = 4096
const findingStep = 64
/** Payload that one step of a scrub reads, so that other requests come between the steps. */
const scrubStepBytes = 8 * 1024 * 1024

const problems: readonly (ScrubFinding['problem'] | undefined)[] = [
  undefined,
  'corrupt-payload',
  'corrupt-header',
  'lost-write',
  'unreadable',
]

export interface NativeStoreOptions extends NativeOptions {
  readonly log: Logger
  /** Warns of buffers that were dropped without a release. Costs a registration for each buffer. */
  readonly watchLeaks?: boolean
}

/** ALREADY_OPEN, INVALID_ARGUMENT, INSUFFICIENT_STORAGE, IO_ERROR, CORRUPT_CHUNK (no readable superblock). */
export async function openNativeStore(addon: NativeAddon, options: NativeStoreOptions): Promise<ChunkStore> {
  const poolBytes = options.slabBytes
  const slabBytes = Math.min(poolBytes + peerPagesBytes, maxSlabBytes)
  const port = await DataPlanePort.open(addon, { ...options, slabBytes }, options.log)
  return new NativeStore(addon, port, options)
}

class NativeStore implements ChunkStore {
  readonly kind = 'native'
  readonly planSink: PlanSink = { applyPlan: (plan) => this.#applyPlan(plan) }
  readonly #addon: NativeAddon
  readonly #port: DataPlanePort
  readonly #pool: SlabPool
  readonly #peers: PeerDoor
  readonly #digests: NativeDigests
  readonly #gate = new Gate('chunk store')
  #closing: Promise<void> | undefined

  constructor(addon: NativeAddon, port: DataPlanePort, options: NativeStoreOptions) {
    this.#addon = addon
    this.#port = port
    const onLeak = (byteLength: number): void =>
      options.log.warn({ byteLength }, 'a chunk buffer was dropped without being released')
    const byteLength = port.slab.byteLength - peerPagesBytes
    this.#pool = new SlabPool({ slab: port.slab, byteLength, ...(options.watchLeaks ? { onLeak } : {}) })
    this.#peers = new PeerDoor(port, this.#pool, new PeerPages(port.slab, byteLength))
    setPeerDoor(this, this.#peers)
    this.#digests = new NativeDigests(port)
  }

  #applyPlan({ classes }: QosPlan): void {
    if (this.#closing !== undefined) return
    const numbers = classes
      .slice(0, mostClasses)
      .flatMap(({ weight, reservation, limit, burst }) => [weight, reservation, limit, burst])
    this.#port.setPlan(Float64Array.from(numbers))
  }

  async acquire(byteLength: number, signal?: AbortSignal): Promise<ChunkBuffer> {
    // Not behind the gate: closing rejects those who wait instead of waiting for them.
    this.#gate.check()
    return this.#pool.acquire(byteLength, signal)
  }

  async put(id: ChunkId, buffer: ChunkBuffer, byteLength: number, qosClass = 0): Promise<void> {
    this.#gate.check()
    checkId(id)
    const { bytes } = buffer
    if (!Number.isInteger(byteLength) || byteLength < 1 || byteLength > bytes.length) {
      throw new StorageError('INVALID_ARGUMENT', `cannot store ${byteLength} of ${bytes.length} bytes`)
    }
    // The data plane zeroes the rest of the last page, so a request has its pages for itself.
    if (bytes.buffer !== this.#port.slab || bytes.byteOffset % pageBytes !== 0) {
      throw new StorageError('INVALID_ARGUMENT', 'the buffer is not one that this store handed out')
    }
    const { byteOffset } = bytes
    await this.#ask(
      (words, ringBytes, first) => {
        words[first + 2] = portOps.put | (classByte(qosClass) << 8)
        words[first + 3] = byteLength
        ringBytes.set(id, first * 4 + 16)
        words[first + 8] = byteOffset
      },
      () => undefined,
      'the chunk could not be stored',
    )
  }

  async get(
    id: ChunkId,
    offset: number,
    length: number,
    signal?: AbortSignal,
    qosClass = 0,
  ): Promise<ChunkBuffer> {
    this.#gate.check()
    checkId(id)
    if (!Number.isInteger(offset) || !Number.isInteger(length) || offset < 0 || length < 0) {
      throw new StorageError('INVALID_ARGUMENT', 'a range begins at 0 or later and is not negative')
    }
    const wanted = Math.min(length, maxChunkBytes)
    if (wanted === 0 || offset > maxChunkBytes) return this.#getNothing(id, offset, signal)
    const buffer = await this.#pool.acquire(wanted, signal)
    try {
      const { byteOffset } = buffer.bytes
      const byteLength = await this.#ask(
        (words, ringBytes, first) => {
          words[first + 2] = portOps.get | (classByte(qosClass) << 8)
          words[first + 3] = wanted
          ringBytes.set(id, first * 4 + 16)
          words[first + 8] = byteOffset
          words[first + 10] = offset
        },
        (words, _ringBytes, first) => words[first + 3] ?? 0,
        'the chunk could not be read',
      )
      if (signal?.aborted)
        throw new StorageError('CANCELLED', 'the read was cancelled', { cause: signal.reason })
      return byteLength === wanted ? buffer : buffer.narrow(0, byteLength)
    } catch (reason) {
      buffer.release()
      throw reason
    }
  }

  /** A read of no bytes still tells whether the chunk is there and the offset within it. */
  async #getNothing(id: ChunkId, offset: number, signal?: AbortSignal): Promise<ChunkBuffer> {
    const byteLength = await this.#ask(
      (words, ringBytes, first) => {
        words[first + 2] = portOps.has
        ringBytes.set(id, first * 4 + 16)
      },
      (words, _ringBytes, first) => words[first + 7] ?? 0,
      'there is no such chunk',
    )
    if (offset > byteLength) {
      const problem = `offset ${offset} lies behind the end of a chunk of ${byteLength} bytes`
      throw new StorageError('INVALID_ARGUMENT', problem)
    }
    return this.#pool.acquire(0, signal)
  }

  async has(id: ChunkId): Promise<boolean> {
    this.#gate.check()
    checkId(id)
    return this.#exists(portOps.has, id, 'the chunk could not be looked up')
  }

  async delete(id: ChunkId, qosClass = 0): Promise<boolean> {
    this.#gate.check()
    checkId(id)
    return this.#exists(portOps.delete | (classByte(qosClass) << 8), id, 'the chunk could not be deleted')
  }

  async #exists(op: number, id: ChunkId, what: string): Promise<boolean> {
    try {
      await this.#ask(
        (words, ringBytes, first) => {
          words[first + 2] = op
          ringBytes.set(id, first * 4 + 16)
        },
        () => undefined,
        what,
      )
      return true
    } catch (reason) {
      if (reason instanceof StorageError && reason.code === 'CHUNK_NOT_FOUND') return false
      throw reason
    }
  }

  async list(after: ChunkId | null, limit: number): Promise<readonly ChunkInfo[]> {
    this.#gate.check()
    if (after !== null) checkId(after)
    const found: ChunkInfo[] = []
    let from = after === null ? new Uint8Array(chunkIdBytes) : nextChunkId(after)
    while (from && found.length < limit) {
      const page = await this.#listPage(from, Math.min(listStep, limit - found.length))
      found.push(...page.chunks)
      from = page.next
    }
    return found
  }

  async #listPage(from: ChunkId, limit: number): Promise<{ chunks: ChunkInfo[]; next: ChunkId | null }> {
    const buffer = await this.#pool.acquire(limit * listRecordBytes)
    try {
      const { byteOffset } = buffer.bytes
      const { count, next } = await this.#ask(
        (words, ringBytes, first) => {
          words[first + 2] = portOps.list
          words[first + 3] = limit
          ringBytes.set(from, first * 4 + 16)
          words[first + 8] = byteOffset
        },
        (words, ringBytes, first) => ({
          count: words[first + 3] ?? 0,
          next: words[first + 4] === 1 ? ringBytes.slice(first * 4 + 32, first * 4 + 48) : null,
        }),
        'the chunks could not be listed',
      )
      const chunks = Array.from({ length: count }, (_, index) => decodeListRecord(buffer.bytes, index))
      return { chunks, next }
    } finally {
      buffer.release()
    }
  }

  async *scrub(signal?: AbortSignal): AsyncGenerator<ScrubFinding, void, void> {
    this.#gate.check()
    let low = 0
    let high = 0
    do {
      if (signal?.aborted)
        throw new StorageError('CANCELLED', 'the scrub was cancelled', { cause: signal.reason })
      const step = await this.#scrubStep(low, high, signal)
      yield* step.findings
      low = step.low
      high = step.high
    } while (low !== 0 || high !== 0)
  }

  async #scrubStep(low: number, high: number, signal?: AbortSignal) {
    const buffer = await this.#pool.acquire(findingStep * findingBytes, signal)
    try {
      const { byteOffset } = buffer.bytes
      const step = await this.#ask(
        (words, _ringBytes, first) => {
          words[first + 2] = portOps.scrub
          words[first + 3] = findingStep
          words[first + 8] = byteOffset
          words[first + 11] = scrubStepBytes
          words[first + 12] = low
          words[first + 13] = high
        },
        (words, _ringBytes, first) => ({
          count: words[first + 3] ?? 0,
          low: words[first + 4] ?? 0,
          high: words[first + 5] ?? 0,
        }),
        'the store could not be scrubbed',
      )
      const findings = Array.from({ length: step.count }, (_, index) => readFinding(buffer.bytes, index))
      return { ...step, findings }
    } finally {
      buffer.release()
    }
  }

  recompute(code: FragmentCode): Promise<void> {
    return this.#gate.run(() => this.#digests.recompute(code))
  }

  digest(algorithms: readonly DigestAlgorithm[]): BodyDigest {
    this.#gate.check()
    return this.#digests.begin(algorithms)
  }

  discard(bytes: Uint8Array): void {
    const { buffer } = bytes
    // A part of something larger is not ours to end, and a little costs the collector less than the call.
    if (bytes.length < minDiscardBytes || bytes.length !== buffer.byteLength) return
    if (buffer instanceof ArrayBuffer) this.#addon.discard(buffer)
  }

  digestNow(
    algorithms: readonly DigestAlgorithm[],
    bytes: Uint8Array,
  ): ReadonlyMap<DigestAlgorithm, Uint8Array> {
    this.#gate.check()
    return nativeDigestNow(this.#addon, algorithms, bytes)
  }

  async stats(): Promise<ChunkStoreStats> {
    this.#gate.check()
    // Not of the pool: that it is empty is what somebody may want to see.
    const page = this.#peers.takePage()
    try {
      await this.#ask(
        (words, _ringBytes, first) => {
          words[first + 2] = portOps.stats
          words[first + 8] = page.offset
        },
        () => undefined,
        'the statistics could not be read',
      )
      const pool = { poolUsedBytes: this.#pool.usedBytes, poolBytes: this.#pool.totalBytes }
      return { backend: this.#port.backend, ...decodeStoreStats(page.bytes), ...pool }
    } finally {
      this.#peers.givePage(page)
    }
  }

  #ask<T>(
    write: RingRequest['write'],
    read: (words: Int32Array, bytes: Uint8Array, first: number) => T,
    what: string,
  ): Promise<T> {
    return this.#gate.run(() => this.#port.request(write, read, what))
  }

  close(): Promise<void> {
    this.#closing ??= this.#close()
    return this.#closing
  }

  async #close(): Promise<void> {
    const emptied = this.#gate.close()
    // What waits for the limit of a class would keep the close waiting.
    this.#port.setPlan(Float64Array.of(1, 0, 0, 0))
    await this.#peers.close()
    this.#pool.close()
    await emptied
    await this.#port.close()
  }
}

/** Positions beyond what the native side has room for are of the first class, as those that no plan names are. */
function classByte(qosClass: number): number {
  return qosClass >= 0 && qosClass < mostClasses ? qosClass : 0
}

function checkId(id: ChunkId): void {
  if (id.length !== chunkIdBytes) {
    throw new StorageError('INVALID_ARGUMENT', `a chunk id has ${chunkIdBytes} bytes, not ${id.length}`)
  }
}

function readFinding(bytes: Buffer, index: number): ScrubFinding {
  const at = index * findingBytes
  const id = Uint8Array.from(bytes.subarray(at, at + chunkIdBytes))
  const problem = problems[bytes.readUInt32LE(at + 16)] ?? 'corrupt-header'
  const [partition, segment, page] = [20, 24, 28].map((field) => bytes.readUInt32LE(at + field))
  const osError = bytes.readInt32LE(at + 44)
  const place = `partition ${partition}, segment ${segment}, page ${page}`
  const detail = osError === 0 ? place : `${place}, errno ${osError}`
  return id.some((byte) => byte !== 0) ? { id, problem, detail } : { problem, detail }
}
