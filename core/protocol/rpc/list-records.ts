import type { ChunkInfo } from '../../contract/chunk-store.ts'
import { StorageError } from '../../contract/errors.ts'
import { type ChunkId, chunkIdBytes } from '../../contract/ids.ts'
import { listRecordBytes } from './frame.ts'

/** Where a list begins on the wire (inclusive); null behind the greatest id. */
export function listFrom(after: ChunkId | null): ChunkId | null {
  const from = new Uint8Array(chunkIdBytes)
  if (after === null) return from
  from.set(after)
  for (let at = from.length - 1; at >= 0; at--) {
    from[at] = ((from[at] ?? 0) + 1) & 0xff
    if (from[at] !== 0) return from
  }
  return null
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
  for (const [index, { id, byteLength, crc32c }] of chunks.entries()) {
    const at = index * listRecordBytes
    bytes.set(id, at)
    bytes.writeUInt32LE(byteLength, at + 16)
    bytes.writeUInt32LE(crc32c, at + 20)
  }
  return bytes
}

/** PROTOCOL_ERROR when it is no whole number of records. */
export function decodeList(bytes: Buffer): readonly ChunkInfo[] {
  if (bytes.length % listRecordBytes !== 0) {
    throw new StorageError('PROTOCOL_ERROR', 'a list of a wrong length')
  }
  return Array.from({ length: bytes.length / listRecordBytes }, (_, index): ChunkInfo => {
    const at = index * listRecordBytes
    return {
      id: Uint8Array.from(bytes.subarray(at, at + chunkIdBytes)),
      byteLength: bytes.readUInt32LE(at + 16),
      crc32c: bytes.readUInt32LE(at + 20),
    }
  })
}
