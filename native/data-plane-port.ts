import type { ErrorCode } from '../core/contract/errors.ts'
import { StorageError } from '../core/contract/errors.ts'
import type { Logger } from '../core/contract/logger.ts'
import { statusName, statusNames } from '../core/contract/status-numbers.ts'
import type { NativeBdev } from './bdevs.ts'
import { RequestRing, type RingRequest } from './request-ring.ts'
import { RingPair } from './ring-pair.ts'

/** What native/src/napi/addon.cc exports. */
export interface NativeAddon {
  readonly layoutVersion: number
  /** Built with libibverbs and librdmacm. */
  readonly hasRdma: boolean
  open(
    options: NativeOptions,
    onDoorbell: () => void,
    onLog: (level: number, text: string) => void,
  ): [handle: NativeHandle, regions: Promise<NativeRegions>]
  close(handle: NativeHandle): Promise<void>
  closeNow(handle: NativeHandle): void
  kick(handle: NativeHandle): void
  kickDigest(handle: NativeHandle, worker: number): void
  setReferenced(handle: NativeHandle, referenced: boolean): void
  /** Weight, reservation, limit and burst of each class, one after the other. Nothing happens once it is closed. */
  setPlan(handle: NativeHandle, numbers: Float64Array): void
  /** Freed memory that the process keeps before it gives any back to the system; of the whole process. */
  keepFreedMemory(bytes: number): void
  /** Detaches the memory: every view of it is empty from then on. */
  discard(memory: ArrayBuffer): void
  digestNow(algorithms: number, bytes: Uint8Array, results: Uint8Array): void
  /** Version of SPDK, and why there is none when it is empty. */
  spdk(): [version: string, reason: string]
  benchThreadsafeCalls(count: number, callback: (token: number) => void): void
}

export type NativeHandle = { readonly __nativeHandle: never }

export interface NativeOptions {
  readonly directory: string
  readonly backend: 'uring' | 'posix' | 'memory' | 'spdk'
  readonly reactors: number
  readonly cacheBytes: number
  readonly capacityBytes: number
  readonly sqEntries: number
  readonly cqEntries: number
  readonly slabBytes: number
  readonly digestWorkers: number
  readonly digestEntries: number
  readonly bdevs: readonly NativeBdev[]
  readonly spdkMemoryBytes: number
}

interface NativeRegions {
  readonly rings: ArrayBuffer
  readonly slab: ArrayBuffer
  readonly digestRings: readonly ArrayBuffer[]
  readonly backend: string
}

/** PortOp in native/include/pando/port_layout.h. */
export const portOps = {
  nop: 0,
  put: 1,
  get: 2,
  has: 3,
  delete: 4,
  list: 5,
  stats: 6,
  scrub: 7,
  sync: 8,
  // To other nodes: peer_layout.h.
  peerConnect: 16,
  peerListen: 17,
  peerClose: 18,
  peerEnded: 19,
  peerPut: 20,
  peerGet: 21,
  peerHas: 22,
  peerDelete: 23,
  peerList: 24,
  peerStat: 25,
  peerPing: 26,
  peerCancel: 27,
  peerNotice: 28,
} as const

/** Undefined for success. */
export function statusCode(status: number): ErrorCode | undefined {
  const name = statusName(status)
  return name === 'OK' ? undefined : name
}

export function statusError(status: number, what: string, osError = 0): StorageError {
  const cause = osError === 0 ? undefined : { cause: new Error(`errno ${osError}`) }
  const code = statusCode(status) ?? 'INTERNAL'
  // What S3 clients show to a person who has to make room.
  const message = code === 'INSUFFICIENT_STORAGE' ? `${what}: no space is left` : what
  return new StorageError(code, message, cause)
}

/**
 * The bridge of one JavaScript thread to its data plane: the port's rings, the rings of the digest workers, the slab,
 * and one doorbell for all of them.
 */
export class DataPlanePort {
  readonly slab: ArrayBuffer
  readonly backend: string
  readonly requests: RequestRing
  readonly digests: readonly RequestRing[]
  readonly #addon: NativeAddon
  readonly #handle: NativeHandle
  readonly #onExit: () => void
  #busyRings = 0
  #closed = false
  #turnScheduled = false

  private constructor(addon: NativeAddon, handle: NativeHandle, regions: NativeRegions) {
    this.#addon = addon
    this.#handle = handle
    this.slab = regions.slab
    this.backend = regions.backend
    const onBusy = (busy: boolean): void => this.#count(busy)
    const portEntries = { submission: 64, completion: 64 }
    const rings = new RingPair(regions.rings, portEntries, () => addon.kick(handle))
    this.requests = new RequestRing(rings, 0, rings.completionEntries, onBusy)
    const digestEntries = { submission: 32, completion: 128 }
    this.digests = regions.digestRings.map((region, worker) => {
      const pair = new RingPair(region, digestEntries, () => addon.kickDigest(handle, worker))
      return new RequestRing(pair, 0, pair.completionEntries, onBusy)
    })
    // process.exit() ends the process without the environment's clean-up: the reactors must not outlive main().
    this.#onExit = () => addon.closeNow(handle)
    process.on('exit', this.#onExit)
  }

  static async open(addon: NativeAddon, options: NativeOptions, log: Logger): Promise<DataPlanePort> {
    const onLog = (level: number, text: string): void => {
      if (level === 0) log.debug({}, text)
      else if (level === 1) log.info({}, text)
      else if (level === 2) log.warn({}, text)
      else log.error({}, text)
    }
    // The bell may ring before the regions are there.
    let onDoorbell = (): void => {}
    const [handle, opening] = addon.open(options, () => onDoorbell(), onLog)
    try {
      const port = new DataPlanePort(addon, handle, await opening)
      onDoorbell = port.#onDoorbell
      port.#onDoorbell()
      return port
    } catch (reason) {
      throw fromNative(reason)
    }
  }

  /** Resolves with what `read` makes of the completion, which must be read at once: its ring slot is used again. */
  request<T>(
    write: RingRequest['write'],
    read: (words: Int32Array, bytes: Uint8Array, first: number) => T,
    what: string,
  ): Promise<T> {
    return new Promise((resolve, reject) => {
      this.requests.submit({
        write,
        complete(words, bytes, first) {
          const status = words[first + 2] ?? 0
          if (status === 0) resolve(read(words, bytes, first))
          else reject(statusError(status, what, words[first + 12]))
        },
        fail: reject,
      })
    })
  }

  /** Weight, reservation, limit and burst of each class, one after the other. */
  setPlan(numbers: Float64Array): void {
    if (!this.#closed) this.#addon.setPlan(this.#handle, numbers)
  }

  #count(busy: boolean): void {
    this.#busyRings += busy ? 1 : -1
    // Only requests under way keep the process alive, as with any other I/O of Node.
    if (this.#busyRings === (busy ? 1 : 0)) this.#addon.setReferenced(this.#handle, busy)
  }

  readonly #onDoorbell = (): void => {
    if (this.slab.byteLength === 0) return
    let more = this.requests.drain()
    for (const ring of this.digests) more = ring.drain() || more
    if (more && !this.#turnScheduled) {
      this.#turnScheduled = true
      setImmediate(() => {
        this.#turnScheduled = false
        this.#onDoorbell()
      })
    }
  }

  /** Waits for what is under way, then gives everything back; views of the slab are empty afterwards. */
  async close(): Promise<void> {
    if (this.#closed) return
    this.#closed = true
    await Promise.all([this.requests, ...this.digests].map((ring) => ring.close()))
    try {
      await this.#addon.close(this.#handle)
    } catch (reason) {
      throw fromNative(reason)
    } finally {
      process.off('exit', this.#onExit)
    }
  }
}

function fromNative(reason: unknown): StorageError {
  const code = reason instanceof Error && 'code' in reason ? reason.code : undefined
  const known = statusNames.find((name) => name === code)
  // The data plane answers CONFLICT for a directory that another process has open.
  if (known === 'CONFLICT') return new StorageError('ALREADY_OPEN', String(reason), { cause: reason })
  return StorageError.from(reason, known === undefined || known === 'OK' ? 'INTERNAL' : known)
}
