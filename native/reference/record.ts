import { chunkIdBytes, maxChunkBytes } from '../../core/contract/ids.ts'
import { combineCrc32c, crc32c } from '../crc.ts'

/**
 * The bytes of the reference store's log files (little-endian).
 *
 * A file begins with a 64-byte header: magic "PNDOREF1", format version u32, file number u32, store id (16 random
 * bytes, the same in every file of a store), sequence of its first record u64, zeros, CRC-32C of bytes 0..59 at 60.
 *
 * Records follow, each aligned to 8 bytes:
 * | at | what |
 * |---|---|
 * | 0 | magic u32 |
 * | 4 | kind u8: 1 put, 2 delete, 3 mark; then 3 zero bytes |
 * | 8 | sequence u64: one more than the record's before it, over all files |
 * | 16 | durable sequence u64: every record up to it had been made durable when this one was written |
 * | 24 | chunk id |
 * | 40 | payload length u32 |
 * | 44 | CRC-32C of the payload u32 |
 * | 48 | CRC-32C of the block table u32 (0 when there is none) |
 * | 52 | file number u32 |
 * | 56 | this record's own offset in the file u32 |
 * | 60 | CRC-32C of bytes 0..59, seeded with the store id u32 |
 * | 64 | block table: payloads over 64 KiB have the CRC-32C of each 64 KiB block, u32 each |
 * | .. | payload, then zeros to a multiple of 8 |
 *
 * Store id, file number and offset in the checked header keep bytes of a chunk (say, a backup of another store) from
 * being taken for a record when the log is searched behind a damaged place.
 */

export const headerBytes = 64
export const fileHeaderBytes = 64
export const blockBytes = 64 * 1024
export const alignment = 8
const recordMagic = 0x43_52_44_50
const formatVersion = 1
const fileMagic = Buffer.from('PNDOREF1', 'latin1')

export type RecordKind = 'put' | 'delete' | 'mark'
const kinds: readonly (RecordKind | undefined)[] = [undefined, 'put', 'delete', 'mark']

export interface RecordHeader {
  readonly kind: RecordKind
  readonly sequence: number
  readonly durableSequence: number
  readonly id: Uint8Array
  readonly byteLength: number
  readonly crc: number
  readonly tableCrc: number
  readonly fileNumber: number
  readonly offset: number
}

export interface FileHeader {
  readonly fileNumber: number
  readonly storeId: Uint8Array
  readonly firstSequence: number
}

export function blockCount(byteLength: number): number {
  return byteLength <= blockBytes ? 0 : Math.ceil(byteLength / blockBytes)
}

export function payloadOffset(byteLength: number): number {
  return headerBytes + 4 * blockCount(byteLength)
}

/** Bytes that a record takes in the log, padding included. */
export function recordBytes(byteLength: number): number {
  return Math.ceil((payloadOffset(byteLength) + byteLength) / alignment) * alignment
}

export function encodeFileHeader(header: FileHeader): Buffer {
  const bytes = Buffer.alloc(fileHeaderBytes)
  fileMagic.copy(bytes)
  bytes.writeUInt32LE(formatVersion, 8)
  bytes.writeUInt32LE(header.fileNumber, 12)
  bytes.set(header.storeId, 16)
  bytes.writeBigUInt64LE(BigInt(header.firstSequence), 32)
  bytes.writeUInt32LE(crc32c(bytes.subarray(0, 60)), 60)
  return bytes
}

/** Null when the bytes are damaged; 'unsupported' when they are sound but of a format that this version cannot read. */
export function decodeFileHeader(bytes: Buffer): FileHeader | 'unsupported' | null {
  if (bytes.length < fileHeaderBytes || !bytes.subarray(0, 8).equals(fileMagic)) return null
  if (bytes.readUInt32LE(60) !== crc32c(bytes.subarray(0, 60))) return null
  if (bytes.readUInt32LE(8) !== formatVersion) return 'unsupported'
  return {
    fileNumber: bytes.readUInt32LE(12),
    storeId: Uint8Array.from(bytes.subarray(16, 32)),
    firstSequence: Number(bytes.readBigUInt64LE(32)),
  }
}

/** Header and block table as one buffer. */
export function encodeRecord(header: RecordHeader, blockCrcs: Uint32Array, storeSeed: number): Buffer {
  const bytes = Buffer.alloc(headerBytes + 4 * blockCrcs.length)
  bytes.writeUInt32LE(recordMagic, 0)
  bytes.writeUInt8(kinds.indexOf(header.kind), 4)
  bytes.writeBigUInt64LE(BigInt(header.sequence), 8)
  bytes.writeBigUInt64LE(BigInt(header.durableSequence), 16)
  bytes.set(header.id, 24)
  bytes.writeUInt32LE(header.byteLength, 40)
  bytes.writeUInt32LE(header.crc, 44)
  for (const [index, crc] of blockCrcs.entries()) bytes.writeUInt32LE(crc, headerBytes + 4 * index)
  bytes.writeUInt32LE(blockCrcs.length === 0 ? 0 : crc32c(bytes.subarray(headerBytes)), 48)
  bytes.writeUInt32LE(header.fileNumber, 52)
  bytes.writeUInt32LE(header.offset, 56)
  bytes.writeUInt32LE(crc32c(bytes.subarray(0, 60), storeSeed), 60)
  return bytes
}

/** Whether the bytes at `at` begin like a record; cheap, and to be confirmed by decodeRecord. */
export function startsRecord(bytes: Buffer, at: number): boolean {
  return bytes.readUInt32LE(at) === recordMagic
}

/** The header at the start of `bytes`, which is at `offset` of file `fileNumber`; null when it is not one. */
export function decodeRecord(
  bytes: Buffer,
  place: { readonly fileNumber: number; readonly offset: number; readonly storeSeed: number },
): RecordHeader | null {
  if (bytes.length < headerBytes || bytes.readUInt32LE(0) !== recordMagic) return null
  if (bytes.readUInt32LE(60) !== crc32c(bytes.subarray(0, 60), place.storeSeed)) return null
  const kind = kinds[bytes.readUInt8(4)]
  const byteLength = bytes.readUInt32LE(40)
  const fileNumber = bytes.readUInt32LE(52)
  const offset = bytes.readUInt32LE(56)
  if (!kind || byteLength > maxChunkBytes) return null
  if (fileNumber !== place.fileNumber || offset !== place.offset) return null
  return {
    kind,
    sequence: Number(bytes.readBigUInt64LE(8)),
    durableSequence: Number(bytes.readBigUInt64LE(16)),
    id: Uint8Array.from(bytes.subarray(24, 24 + chunkIdBytes)),
    byteLength,
    crc: bytes.readUInt32LE(44),
    tableCrc: bytes.readUInt32LE(48),
    fileNumber,
    offset,
  }
}

export interface PayloadChecks {
  readonly crc: number
  /** One per 64 KiB block; empty for payloads of one block. */
  readonly blockCrcs: Uint32Array
}

const noBlocks = new Uint32Array()

export function checkPayload(payload: Uint8Array): PayloadChecks {
  if (payload.length <= blockBytes) return { crc: crc32c(payload), blockCrcs: noBlocks }
  const blockCrcs = new Uint32Array(blockCount(payload.length))
  let crc = 0
  for (let index = 0; index < blockCrcs.length; index++) {
    const block = payload.subarray(index * blockBytes, (index + 1) * blockBytes)
    const blockCrc = crc32c(block)
    blockCrcs[index] = blockCrc
    crc = combineCrc32c(crc, blockCrc, block.length)
  }
  return { crc, blockCrcs }
}
