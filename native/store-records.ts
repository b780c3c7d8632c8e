import type { ChunkInfo, ChunkStoreGauges } from '../core/contract/chunk-store.ts'
import { type ChunkId, chunkIdBytes } from '../core/contract/ids.ts'

/** Records that stores hand out, locally or over a session: native/include/pando/port_layout.h. */

const segmentBytes = 64 * 1024 * 1024
export const listRecordBytes = 32
export const statsBytes = 256

/** Fields of StoreStats that are used here, by position. */
const statWords = {
  chunks: 0,
  chunkBytes: 1,
  liveBytes: 2,
  capacityBytes: 3,
  segmentsUsed: 7,
  indexBytes: 9,
  cacheBytes: 10,
  cacheHits: 11,
  cacheMisses: 12,
  lostBatches: 26,
  offline: 28,
  damagedChunks: 29,
} as const

export function readListRecord(bytes: Buffer, index: number): ChunkInfo {
  const at = index * listRecordBytes
  return {
    id: Uint8Array.from(bytes.subarray(at, at + chunkIdBytes)),
    byteLength: bytes.readUInt32LE(at + 16),
    crc32c: bytes.readUInt32LE(at + 20),
  }
}

/** All but the pool's. */
export function gaugesOf(bytes: Buffer): Omit<ChunkStoreGauges, 'poolUsedBytes' | 'poolBytes'> {
  const value = (name: keyof typeof statWords): number => Number(bytes.readBigUInt64LE(statWords[name] * 8))
  return {
    chunkCount: value('chunks'),
    liveBytes: value('chunkBytes'),
    staleBytes: Math.max(0, value('segmentsUsed') * segmentBytes - value('liveBytes')),
    capacityBytes: value('capacityBytes'),
    freeBytes: Math.max(0, value('capacityBytes') - value('liveBytes')),
    indexBytes: value('indexBytes'),
    cacheBytes: value('cacheBytes'),
    cacheHits: value('cacheHits'),
    cacheMisses: value('cacheMisses'),
    corruptChunks: value('damagedChunks') + value('lostBatches'),
    online: value('offline') === 0,
  }
}

/** The smallest id greater than this one; null behind the greatest. */
export function successor(id: ChunkId): ChunkId | null {
  const next = Uint8Array.from(id)
  for (let at = next.length - 1; at >= 0; at--) {
    next[at] = ((next[at] ?? 0) + 1) & 0xff
    if (next[at] !== 0) return next
  }
  return null
}
