import { type ErrorCode, StorageError } from '../core/contract/errors.ts'
import type { ChunkId } from '../core/contract/ids.ts'
import { type DataPlanePort, portOps, statusCode } from './data-plane-port.ts'
import type { PeerPage, PeerPages } from './peer-pages.ts'
import type { SlabPool } from './slab-pool.ts'

/** What is asked of a peer, or of the data plane about peers: PeerSqEntry in native/include/pando/peer_layout.h. */
export interface PeerAsk {
  readonly op: number
  readonly peer?: number
  readonly qosClass?: number
  readonly length?: number
  readonly id?: ChunkId
  readonly slabOffset?: number
  readonly chunkOffset?: number
  readonly deadlineUs?: number
  readonly trace?: Uint8Array
  readonly signal?: AbortSignal
}

export interface PeerAnswer {
  readonly length: number
  readonly value: number
  readonly chunkLength: number
  readonly crc32c: number
  /** Where a listing goes on; the beginning of a notice. */
  readonly id: Uint8Array
}

/** An error that still has to be put in words: the page of a session may say more than its code. */
export class PeerFault extends Error {
  readonly code: ErrorCode
  readonly value: number
  constructor(code: ErrorCode, value: number) {
    super(code)
    this.code = code
    this.value = value
  }
}

/** The way from a native store to other nodes: its port, its memory, and who uses them. */
export class PeerDoor {
  readonly port: DataPlanePort
  readonly pool: SlabPool
  readonly #pages: PeerPages
  readonly #open = new Set<() => Promise<void>>()
  #closed = false

  constructor(port: DataPlanePort, pool: SlabPool, pages: PeerPages) {
    this.port = port
    this.pool = pool
    this.#pages = pages
  }

  /** CLOSED, OVERLOADED. */
  takePage(): PeerPage {
    if (this.#closed) throw new StorageError('CLOSED', 'the chunk store is closed')
    const page = this.#pages.take()
    if (!page) throw new StorageError('OVERLOADED', 'too many sessions and listeners are open')
    return page
  }

  /** All of them or none. CLOSED, OVERLOADED. */
  takePages(count: number): readonly PeerPage[] {
    const pages: PeerPage[] = []
    try {
      while (pages.length < count) pages.push(this.takePage())
      return pages
    } catch (error) {
      for (const page of pages) this.givePage(page)
      throw error
    }
  }

  givePage(page: PeerPage): void {
    this.#pages.give(page)
  }

  /**
   * `close` ends a session or listener at once; the store's end calls it. What opened while the door was being closed is closed
   * here and now: the port waits until each session has ended.
   */
  register(close: () => Promise<void>): () => void {
    this.#open.add(close)
    // The caller of `close` is told when it fails; nobody is here.
    if (this.#closed) close().catch(() => undefined)
    return () => this.#open.delete(close)
  }

  /** Rejects with PeerFault. */
  ask(asked: PeerAsk): Promise<PeerAnswer> {
    const { signal } = asked
    return new Promise((resolve, reject) => {
      let token = -1
      const cancel = (): void => {
        if (token >= 0) this.#cancel(token, () => token < 0)
      }
      signal?.addEventListener('abort', cancel, { once: true })
      this.port.requests.submit({
        write: (words, bytes, first) => {
          token = words[first] ?? 0
          words[first + 2] = asked.op | ((asked.qosClass ?? 0) << 8)
          words[first + 3] = asked.length ?? 0
          if (asked.id) bytes.set(asked.id, first * 4 + 16)
          words[first + 8] = asked.slabOffset ?? 0
          words[first + 9] = asked.peer ?? 0
          words[first + 10] = asked.chunkOffset ?? 0
          // Aborted while it waited for a place in the ring: then it need not even be sent.
          words[first + 11] = signal?.aborted ? 1 : (asked.deadlineUs ?? 0)
          if (asked.trace) bytes.set(asked.trace, first * 4 + 48)
        },
        complete: (words, bytes, first) => {
          // Somebody else's from now on.
          token = -1
          signal?.removeEventListener('abort', cancel)
          const value = (words[first + 4] ?? 0) >>> 0
          const code = statusCode(words[first + 2] ?? 0)
          if (code !== undefined) return reject(new PeerFault(code, value))
          resolve({
            length: words[first + 3] ?? 0,
            value,
            chunkLength: words[first + 7] ?? 0,
            crc32c: words[first + 6] ?? 0,
            id: bytes.slice(first * 4 + 32, first * 4 + 48),
          })
        },
        fail: (reason) => {
          signal?.removeEventListener('abort', cancel)
          reject(reason)
        },
      })
    })
  }

  /**
   * What it ends is known by its token alone. A cancellation that waits for a place in the ring is dropped once its request was
   * answered: the token may be that of another one by then.
   */
  #cancel(token: number, isMoot: () => boolean): void {
    this.port.requests.submit({
      write(words, _bytes, first) {
        words[first + 2] = portOps.peerCancel
        words[first + 4] = token
      },
      // Its own answer tells nothing: the request that it ends does.
      complete: () => undefined,
      fail: () => undefined,
      isMoot,
    })
  }

  async close(): Promise<void> {
    this.#closed = true
    await Promise.all([...this.#open].map((close) => close()))
  }
}

const doors = new WeakMap<object, PeerDoor>()

export function setPeerDoor(store: object, door: PeerDoor): void {
  doors.set(store, door)
}

/** INVALID_ARGUMENT for anything but a native store. */
export function peerDoorOf(store: object): PeerDoor {
  const door = doors.get(store)
  if (door) return door
  throw new StorageError('INVALID_ARGUMENT', 'a native transport needs a native chunk store')
}
