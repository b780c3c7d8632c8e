import type { ChunkInfo } from '../../contract/chunk-store.ts'
import { StorageError } from '../../contract/errors.ts'
import { type ChunkId, chunkIdBytes } from '../../contract/ids.ts'
import {
  decodeListRecord,
  encodeListRecord,
  listRecordBytes,
  nextChunkId,
} from '../../contract/store-records.ts'

/** Where a list begins on the wire (inclusive); null behind the greatest id. */
export function listFrom(after: ChunkId | null): ChunkId | null {
  return after === null ? new Uint8Array(chunkIdBytes) : nextChunkId(after)
}

/** What `ChunkStore.list` must be asked for to begin with `from`; null from the beginning. */
export function listAfter(from: ChunkId): ChunkId | null {
  const after = Uint8Array.from(from)
  for (let at = after.length - 1; at >= 0; at--) {
    const byte = after[at] ?? 0
    after[at] = (byte - 1) & 0xff
    if (byte !== 0) return after
  }
  return null
}

export function encodeList(chunks: readonly ChunkInfo[]): Buffer {
  const bytes = Buffer.alloc(chunks.length * listRecordBytes)
  for (const [index, chunk] of chunks.entries()) encodeListRecord(bytes, index, chunk)
  return bytes
}

/** PROTOCOL_ERROR when it is no whole number of records. */
export function decodeList(bytes: Buffer): readonly ChunkInfo[] {
  if (bytes.length % listRecordBytes !== 0) {
    throw new StorageError('PROTOCOL_ERROR', 'a list of a wrong length')
  }
  return Array.from({ length: bytes.length / listRecordBytes }, (_, index) => decodeListRecord(bytes, index))
}
