import type { ChunkId } from '../../core/contract/ids.ts'
import type { LogSegment } from './log-segment.ts'

/** Where a chunk is, and what its bytes must look like. */
export interface ChunkLocation {
  readonly segment: LogSegment
  /** Of its record in the segment. */
  readonly offset: number
  readonly byteLength: number
  readonly crc: number
  readonly tableCrc: number
}

/** Ids as strings of one character a byte: they hash fast and sort like the bytes. */
export function keyOf(id: ChunkId): string {
  return Buffer.from(id.buffer, id.byteOffset, id.byteLength).toString('latin1')
}

export function idOf(key: string): Uint8Array {
  return Uint8Array.from(Buffer.from(key, 'latin1'))
}

/**
 * All chunks in memory, in one map for each value of the id's first two bytes (the placement group), so that listing
 * sorts a few hundred ids at a time and not all of them. About 250 bytes a chunk.
 */
export class ChunkIndex {
  readonly #groups = new Map<number, Map<string, ChunkLocation>>()
  #size = 0
  #liveBytes = 0

  get size(): number {
    return this.#size
  }

  /** Payload bytes. */
  get liveBytes(): number {
    return this.#liveBytes
  }

  get approximateBytes(): number {
    return this.#size * 250
  }

  get(key: string): ChunkLocation | undefined {
    return this.#groups.get(groupOf(key))?.get(key)
  }

  set(key: string, location: ChunkLocation): void {
    let group = this.#groups.get(groupOf(key))
    if (!group) {
      group = new Map()
      this.#groups.set(groupOf(key), group)
    }
    this.delete(key)
    group.set(key, location)
    this.#size++
    this.#liveBytes += location.byteLength
    location.segment.addLive(location.byteLength)
  }

  delete(key: string): boolean {
    const group = this.#groups.get(groupOf(key))
    const location = group?.get(key)
    if (!group || !location) return false
    group.delete(key)
    this.#size--
    this.#liveBytes -= location.byteLength
    location.segment.removeLive(location.byteLength)
    return true
  }

  /** Up to `limit` entries behind `after`, ascending. */
  page(after: string | null, limit: number): [string, ChunkLocation][] {
    const result: [string, ChunkLocation][] = []
    for (let group = after === null ? 0 : groupOf(after); group <= 0xffff && result.length < limit; group++) {
      const entries = this.#groups.get(group)
      if (!entries || entries.size === 0) continue
      const keys = after === null ? [...entries.keys()] : [...entries.keys()].filter((key) => key > after)
      keys.sort()
      for (const key of keys.slice(0, limit - result.length)) {
        const location = entries.get(key)
        if (location) result.push([key, location])
      }
    }
    return result
  }
}

function groupOf(key: string): number {
  return (key.charCodeAt(0) << 8) | key.charCodeAt(1)
}
