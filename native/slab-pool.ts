import type { ChunkBuffer } from '../core/contract/chunk-store.ts'
import { StorageError } from '../core/contract/errors.ts'
import { maxChunkBytes } from '../core/contract/ids.ts'

const smallestBytes = 4096
/** 4 KiB << 10 = 4 MiB: the classes are the powers of two between the page and the largest chunk. */
const largestOrder = 10
const blockBytes = smallestBytes << largestOrder

/** A slice of the slab. Where it begins there (`bytes.byteOffset`) is the number that crosses to native code. */
export interface SlabBuffer extends ChunkBuffer {
  readonly bytes: Buffer
  readonly released: boolean
  /** Shortens `bytes` to `byteLength` bytes from `from`; the slice itself stays whole. */
  narrow(from: number, byteLength: number): this
}

interface Waiter {
  readonly order: number
  readonly byteLength: number
  readonly resolve: (buffer: SlabBuffer) => void
  readonly reject: (reason: StorageError) => void
  readonly unlisten: () => void
}

export interface SlabPoolOptions {
  /** The memory that is handed out; its length is rounded down to a multiple of 4 MiB and must hold one. */
  readonly slab: ArrayBuffer
  /** Only so much of it, from its start. */
  readonly byteLength?: number
  /**
   * Told of buffers that were collected without a release; without it no watch is kept. The slice stays taken: a view
   * of it may be alive still, and handing it out again would mix two bodies.
   */
  readonly onLeak?: (byteLength: number) => void
}

/**
 * Hands out page-aligned slices of one slab by the buddy system (Knowlton, 1965): powers of two from 4 KiB to 4 MiB,
 * split on demand, joined again on release, lowest address first so that large runs stay whole.
 *
 * Waiting is strictly first come, first served and nobody overtakes, small requests included. That is what rules out
 * starvation by fragmentation: while the first waiter waits nothing new is handed out, so every release only joins
 * free memory together, and once the present holders have released, a whole 4 MiB block is free. A holder that
 * waits for a second buffer before it releases its first can still block itself, as with any bounded pool.
 */
export class SlabPool {
  readonly totalBytes: number
  readonly #slab: ArrayBuffer
  /** Bitmaps of free slices, one per order; slice i of order k covers bytes [i << (12 + k), (i + 1) << (12 + k)). */
  readonly #free: Uint32Array[] = []
  /** How many bits are set in each bitmap, so that an empty order costs one comparison. */
  readonly #freeCount: number[] = []
  /** No free slice of that order lies in a word before this one. */
  readonly #firstWord: number[] = []
  /** A set keeps the order of arrival and lets an abort leave from the middle at once. */
  readonly #waiters = new Set<Waiter>()
  #usedBytes = 0
  #closed = false
  readonly #leaks: FinalizationRegistry<number> | undefined

  constructor(options: SlabPoolOptions) {
    const blocks = Math.floor((options.byteLength ?? options.slab.byteLength) / blockBytes)
    if (blocks < 1) throw new StorageError('INVALID_CONFIG', 'the buffer pool needs at least 4 MiB')
    this.totalBytes = blocks * blockBytes
    this.#slab = options.slab
    for (let order = 0; order <= largestOrder; order++) {
      const slices = blocks << (largestOrder - order)
      this.#free.push(new Uint32Array(Math.ceil(slices / 32)))
      this.#freeCount.push(0)
      this.#firstWord.push(0)
    }
    for (let block = 0; block < blocks; block++) this.#markFree(largestOrder, block)
    const { onLeak } = options
    this.#leaks = onLeak && new FinalizationRegistry(onLeak)
  }

  get usedBytes(): number {
    return this.#usedBytes
  }

  get waiting(): number {
    return this.#waiters.size
  }

  /** As `acquire` where nobody need wait, else undefined. */
  acquireNow(byteLength: number): SlabBuffer | undefined {
    if (this.#closed || this.waiting > 0 || byteLength > maxChunkBytes) return undefined
    const order = orderFor(byteLength)
    const offset = this.#take(order)
    return offset < 0 ? undefined : this.#wrap(offset, order, byteLength)
  }

  /** A slice of at least `byteLength` bytes whose `bytes` is exactly that long. Waits its turn. */
  acquire(byteLength: number, signal?: AbortSignal): Promise<SlabBuffer> {
    if (!Number.isInteger(byteLength) || byteLength < 0 || byteLength > maxChunkBytes) {
      return Promise.reject(
        new StorageError('INVALID_ARGUMENT', `a buffer has 0 to ${maxChunkBytes} bytes, not ${byteLength}`),
      )
    }
    if (this.#closed) return Promise.reject(new StorageError('CLOSED', 'the buffer pool is closed'))
    if (signal?.aborted) return Promise.reject(cancelled(signal))
    const order = orderFor(byteLength)
    if (this.waiting === 0) {
      const offset = this.#take(order)
      if (offset >= 0) return Promise.resolve(this.#wrap(offset, order, byteLength))
    }
    return new Promise((resolve, reject) => {
      const onAbort = (): void => {
        if (!this.#waiters.delete(waiter)) return
        if (signal) reject(cancelled(signal))
        // It may have been the large request that held up smaller ones behind it.
        this.#serve()
      }
      const unlisten = (): void => signal?.removeEventListener('abort', onAbort)
      const waiter: Waiter = { order, byteLength, resolve, reject, unlisten }
      this.#waiters.add(waiter)
      signal?.addEventListener('abort', onAbort, { once: true })
    })
  }

  /** At once or not at all: null when the pool cannot serve it now or somebody already waits. */
  tryAcquire(byteLength: number): SlabBuffer | null {
    if (this.#closed || this.waiting > 0) return null
    const order = orderFor(byteLength)
    const offset = this.#take(order)
    return offset < 0 ? null : this.#wrap(offset, order, byteLength)
  }

  /** Rejects everybody who waits. Buffers that are out may still be released. */
  close(): void {
    this.#closed = true
    for (const waiter of this.#waiters) {
      waiter.unlisten()
      waiter.reject(new StorageError('CLOSED', 'the buffer pool was closed while a request waited for it'))
    }
    this.#waiters.clear()
  }

  #wrap(offset: number, order: number, byteLength: number): SlabBuffer {
    const buffer = new Slice(Buffer.from(this.#slab, offset, byteLength), () => {
      this.#leaks?.unregister(buffer)
      this.#giveBack(offset, order)
    })
    this.#leaks?.register(buffer, smallestBytes << order, buffer)
    return buffer
  }

  #giveBack(offset: number, order: number): void {
    this.#usedBytes -= smallestBytes << order
    let at = order
    let slice = offset / (smallestBytes << order)
    while (at < largestOrder && this.#isFree(at, slice ^ 1)) {
      this.#markUsed(at, slice ^ 1)
      slice >>>= 1
      at++
    }
    this.#markFree(at, slice)
    this.#serve()
  }

  #serve(): void {
    for (const waiter of this.#waiters) {
      const offset = this.#take(waiter.order)
      if (offset < 0) return
      this.#waiters.delete(waiter)
      waiter.unlisten()
      waiter.resolve(this.#wrap(offset, waiter.order, waiter.byteLength))
    }
  }

  /** Offset of a slice of the order, or -1. */
  #take(order: number): number {
    let from = order
    while (from <= largestOrder && this.#freeCount[from] === 0) from++
    if (from > largestOrder) return -1
    let slice = this.#firstFree(from)
    this.#markUsed(from, slice)
    while (from > order) {
      from--
      slice *= 2
      this.#markFree(from, slice + 1)
    }
    this.#usedBytes += smallestBytes << order
    return slice * (smallestBytes << order)
  }

  #firstFree(order: number): number {
    const words = this.#free[order] ?? new Uint32Array()
    for (let word = this.#firstWord[order] ?? 0; word < words.length; word++) {
      const bits = words[word] ?? 0
      if (bits === 0) continue
      this.#firstWord[order] = word
      return word * 32 + (31 - Math.clz32(bits & -bits))
    }
    throw new Error('the slab pool counts free slices that it does not have')
  }

  #isFree(order: number, slice: number): boolean {
    const word = this.#free[order]?.[slice >>> 5] ?? 0
    return ((word >>> (slice & 31)) & 1) === 1
  }

  #markFree(order: number, slice: number): void {
    const words = this.#free[order] ?? new Uint32Array()
    const word = slice >>> 5
    words[word] = (words[word] ?? 0) | (1 << (slice & 31))
    this.#freeCount[order] = (this.#freeCount[order] ?? 0) + 1
    if (word < (this.#firstWord[order] ?? 0)) this.#firstWord[order] = word
  }

  #markUsed(order: number, slice: number): void {
    const words = this.#free[order] ?? new Uint32Array()
    words[slice >>> 5] = (words[slice >>> 5] ?? 0) & ~(1 << (slice & 31))
    this.#freeCount[order] = (this.#freeCount[order] ?? 0) - 1
  }
}

class Slice implements SlabBuffer {
  bytes: Buffer
  #giveBack: (() => void) | undefined

  constructor(bytes: Buffer, giveBack: () => void) {
    this.bytes = bytes
    this.#giveBack = giveBack
  }

  get released(): boolean {
    return this.#giveBack === undefined
  }

  narrow(from: number, byteLength: number): this {
    this.bytes = this.bytes.subarray(from, from + byteLength)
    return this
  }

  release(): void {
    const giveBack = this.#giveBack
    // Twice is a bug that would hand one slice to two bodies: stop here, loudly.
    if (!giveBack) throw new Error('a chunk buffer was released twice')
    this.#giveBack = undefined
    giveBack()
  }
}

function orderFor(byteLength: number): number {
  const pages = Math.max(1, Math.ceil(byteLength / smallestBytes))
  return 32 - Math.clz32(pages - 1)
}

function cancelled(signal: AbortSignal): StorageError {
  return new StorageError('CANCELLED', 'the wait for a buffer was cancelled', { cause: signal.reason })
}
