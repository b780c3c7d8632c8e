import type { ChunkBuffer, ChunkInfo, ChunkStore, ChunkStoreStats } from '../../core/contract/chunk-store.ts'
import type { Clock } from '../../core/contract/clock.ts'
import { StorageError } from '../../core/contract/errors.ts'
import type { ChunkId } from '../../core/contract/ids.ts'
import { crc32c } from '../../native/crc.ts'
import { recomputeFragments } from '../../native/reference/erasure.ts'

export interface MemoryStore extends ChunkStore {
  /** Buffers handed out and not released. */
  readonly held: number
  /** Of any operation, from now on. */
  delayMs: number
  /**
   * Its bytes have changed on the disk. Until a read or a scrub has found that out the chunk is there, and a put of it writes nothing; from
   * then on it is not, and a put replaces it.
   */
  damage(id: ChunkId): void
  isSound(id: ChunkId): boolean
  /** Executed, by id in hex: how often the store was asked to put it. */
  readonly puts: ReadonlyMap<string, number>
}

const hex = (id: Uint8Array): string => Buffer.from(id).toString('hex')

/** A chunk store of a Map, on a clock that a simulation moves: the laws of puts and gets, nothing durable, no bound. */
export function createMemoryStore(clock: Clock): MemoryStore {
  const chunks = new Map<string, Uint8Array>()
  const damaged = new Set<string>()
  /** Of these, found. */
  const found = new Set<string>()
  const puts = new Map<string, number>()
  /** Ascending: a session asks for the record of each chunk that it gives. */
  const names: string[] = []
  /** Where a name is among them, or would be. */
  const placeOf = (name: string): number => {
    let [low, high] = [0, names.length]
    while (low < high) {
      const middle = (low + high) >>> 1
      if ((names[middle] ?? '') < name) low = middle + 1
      else high = middle
    }
    return low
  }
  let held = 0
  const acquire = (byteLength: number): ChunkBuffer => {
    let isReleased = false
    held++
    return {
      bytes: new Uint8Array(byteLength),
      release() {
        if (isReleased) throw new Error('a buffer was released twice')
        isReleased = true
        held--
      },
    }
  }
  const wait = async (): Promise<void> => {
    if (store.delayMs > 0) await clock.sleep(store.delayMs)
  }
  const missing = (): never => {
    throw new Error('not part of this store')
  }
  const store: MemoryStore = {
    kind: 'reference',
    delayMs: 0,
    puts,
    get held() {
      return held
    },
    damage(id) {
      damaged.add(hex(id))
    },
    isSound: (id) => chunks.has(hex(id)) && !damaged.has(hex(id)),
    acquire: async (byteLength, signal) => {
      signal?.throwIfAborted()
      return acquire(byteLength)
    },
    async put(id, buffer, byteLength) {
      const bytes = Uint8Array.from(buffer.bytes.subarray(0, byteLength))
      await wait()
      const name = hex(id)
      puts.set(name, (puts.get(name) ?? 0) + 1)
      const before = chunks.get(name)
      if (before !== undefined && !found.has(name) && Buffer.compare(before, bytes) !== 0) {
        throw new StorageError('CONFLICT', 'the chunk exists with other content')
      }
      if (before === undefined) names.splice(placeOf(name), 0, name)
      chunks.set(name, bytes)
      if (found.delete(name)) damaged.delete(name)
    },
    async get(id: ChunkId, offset, length) {
      await wait()
      const bytes = chunks.get(hex(id))
      if (bytes === undefined) throw new StorageError('CHUNK_NOT_FOUND', 'there is no such chunk')
      if (damaged.has(hex(id))) {
        found.add(hex(id))
        throw new StorageError('CORRUPT_CHUNK', 'its bytes are not those that were put')
      }
      if (offset > bytes.length) throw new StorageError('INVALID_ARGUMENT', 'behind the end')
      const part = bytes.subarray(offset, offset + length)
      const buffer = acquire(part.length)
      buffer.bytes.set(part)
      return buffer
    },
    async has(id) {
      await wait()
      return chunks.has(hex(id)) && !found.has(hex(id))
    },
    async delete(id) {
      await wait()
      const name = hex(id)
      damaged.delete(name)
      found.delete(name)
      if (!chunks.delete(name)) return false
      names.splice(placeOf(name), 1)
      return true
    },
    async list(after, limit) {
      const from = after === null ? 0 : placeOf(`${hex(after)}0`)
      return names.slice(from, from + limit).map((name): ChunkInfo => {
        const bytes = chunks.get(name) ?? new Uint8Array(0)
        return {
          id: Uint8Array.from(Buffer.from(name, 'hex')),
          byteLength: bytes.length,
          crc32c: crc32c(bytes),
        }
      })
    },
    recompute: async (code) => recomputeFragments(code),
    async *scrub() {
      await wait()
      for (const name of [...damaged]) {
        found.add(name)
        yield {
          id: Uint8Array.from(Buffer.from(name, 'hex')),
          problem: 'corrupt-payload' as const,
          detail: '',
        }
      }
    },
    digest: missing,
    digestNow: missing,
    async stats(): Promise<ChunkStoreStats> {
      const liveBytes = [...chunks.values()].reduce((sum, { length }) => sum + length, 0)
      return {
        backend: 'memory',
        chunkCount: chunks.size,
        liveBytes,
        staleBytes: 0,
        capacityBytes: liveBytes,
        freeBytes: 0,
        indexBytes: 0,
        cacheBytes: 0,
        cacheHits: 0,
        cacheMisses: 0,
        poolUsedBytes: 0,
        poolBytes: 0,
        corruptChunks: 0,
        online: true,
      }
    },
    close: async () => undefined,
  }
  return store
}
