import type { ChunkStoreGauges } from '../../contract/chunk-store.ts'
import { statBytes } from './frame.ts'

/** The answer to STAT: `StoreStats` of native/include/pando/port_layout.h, 32 words of 64 bits. */

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
const segmentBytes = 64 * 1024 * 1024

export function encodeGauges(gauges: ChunkStoreGauges): Buffer {
  const bytes = Buffer.alloc(statBytes)
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

/** The pool is the peer's own business: its two gauges are 0. */
export function decodeGauges(bytes: Buffer): ChunkStoreGauges {
  const word = (index: number): number => Number(bytes.readBigUInt64LE(index * 8))
  const deviceBytes = word(words.deviceBytes)
  const capacityBytes = word(words.capacityBytes)
  return {
    chunkCount: word(words.chunks),
    liveBytes: word(words.chunkBytes),
    staleBytes: Math.max(0, word(words.segmentsUsed) * segmentBytes - deviceBytes),
    capacityBytes,
    freeBytes: Math.max(0, capacityBytes - deviceBytes),
    indexBytes: word(words.indexBytes),
    cacheBytes: word(words.cacheBytes),
    cacheHits: word(words.cacheHits),
    cacheMisses: word(words.cacheMisses),
    poolUsedBytes: 0,
    poolBytes: 0,
    corruptChunks: word(words.damagedChunks) + word(words.lostBatches),
    online: word(words.offline) === 0,
  }
}
