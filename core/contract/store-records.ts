import type { ChunkInfo, ChunkStoreGauges } from './chunk-store.ts'
import { type ChunkId, chunkIdBytes } from './ids.ts'

/** Records that stores hand out, locally or to another node: native/include/pando/port_layout.h. */

export const listRecordBytes = 32
/** StoreStats: 32 words of 64 bits. */
export const storeStatsBytes = 256
const segmentBytes = 64 * 1024 * 1024

/** Fields of StoreStats that are used here, by position. */
const words = {
  chunks: 0,
  chunkBytes: 1,
  deviceBytes: 2,
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

export function encodeListRecord(bytes: Buffer, index: number, { id, byteLength, crc32c }: ChunkInfo): void {
  const at = index * listRecordBytes
  bytes.set(id, at)
  bytes.writeUInt32LE(byteLength, at + 16)
  bytes.writeUInt32LE(crc32c, at + 20)
}

export function decodeListRecord(bytes: Buffer, index: number): ChunkInfo {
  const at = index * listRecordBytes
  return {
    id: Uint8Array.from(bytes.subarray(at, at + chunkIdBytes)),
    byteLength: bytes.readUInt32LE(at + 16),
    crc32c: bytes.readUInt32LE(at + 20),
  }
}

export function encodeStoreStats(gauges: ChunkStoreGauges): Buffer {
  const bytes = Buffer.alloc(storeStatsBytes)
  const put = (word: number, value: number): void => {
    bytes.writeBigUInt64LE(BigInt(Math.max(0, Math.floor(value))), word * 8)
  }
  put(words.chunks, gauges.chunkCount)
  put(words.chunkBytes, gauges.liveBytes)
  put(words.deviceBytes, gauges.liveBytes)
  put(words.capacityBytes, gauges.capacityBytes)
  put(words.segmentsUsed, Math.ceil((gauges.liveBytes + gauges.staleBytes) / segmentBytes))
  put(words.indexBytes, gauges.indexBytes)
  put(words.cacheBytes, gauges.cacheBytes)
  put(words.cacheHits, gauges.cacheHits)
  put(words.cacheMisses, gauges.cacheMisses)
  put(words.offline, gauges.online ? 0 : 1)
  put(words.damagedChunks, gauges.corruptChunks)
  return bytes
}

/** The pool is its owner's own business: its two gauges are 0. */
export function decodeStoreStats(bytes: Buffer): ChunkStoreGauges {
  const word = (name: keyof typeof words): number => Number(bytes.readBigUInt64LE(words[name] * 8))
  return {
    chunkCount: word('chunks'),
    liveBytes: word('chunkBytes'),
    staleBytes: Math.max(0, word('segmentsUsed') * segmentBytes - word('deviceBytes')),
    capacityBytes: word('capacityBytes'),
    freeBytes: Math.max(0, word('capacityBytes') - word('deviceBytes')),
    indexBytes: word('indexBytes'),
    cacheBytes: word('cacheBytes'),
    cacheHits: word('cacheHits'),
    cacheMisses: word('cacheMisses'),
    poolUsedBytes: 0,
    poolBytes: 0,
    corruptChunks: word('damagedChunks') + word('lostBatches'),
    online: word('offline') === 0,
  }
}

/** The smallest id greater than this one; null behind the greatest. */
export function nextChunkId(id: ChunkId): ChunkId | null {
  const next = Uint8Array.from(id)
  for (let at = next.length - 1; at >= 0; at--) {
    next[at] = ((next[at] ?? 0) + 1) & 0xff
    if (next[at] !== 0) return next
  }
  return null
}
