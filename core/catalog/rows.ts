import { decodeBase32Hex, encodeBase32Hex } from '../contract/base32hex.ts'
import type { GarbageRecord, WriteOwner } from '../contract/catalog.ts'
import { writeIdBytes } from '../contract/ids.ts'
import type {
  AccessKeyRecord,
  BucketConfigKind,
  BucketRecord,
  PartRecord,
  UploadRecord,
} from '../contract/object-model.ts'
import { bytesOf, pack, unpack } from './encoding.ts'
import { packLayout, schemeCode, schemeOf, unpackLayout } from './object-row.ts'

/** HLC (8) | random (12): later uploads of a key sort behind earlier ones, and nobody guesses one. */
export const uploadIdBytes = 20

export const encodeBucketRow = (bucket: BucketRecord): Uint8Array => pack(bucket)
export const decodeBucketRow = (row: Uint8Array): BucketRecord => unpack(row) as BucketRecord

const configKinds: readonly BucketConfigKind[] = [
  'acl',
  'policy',
  'cors',
  'tagging',
  'ownership',
  'public-access-block',
  'request-payment',
  'replication',
]
/** The kind's byte in row keys: its place in the list, which only ever grows at the end. */
export function configCode(kind: BucketConfigKind): number {
  const code = configKinds.indexOf(kind)
  if (code < 0) throw new RangeError(`unknown bucket configuration ${kind}`)
  return code
}

export const encodeUploadRow = (upload: UploadRecord): Uint8Array => pack(upload)
export const decodeUploadRow = (row: Uint8Array): UploadRecord => unpack(row) as UploadRecord

export const showUploadId = (uploadId: Uint8Array): string => encodeBase32Hex(uploadId)
/** undefined: no upload ever had this id. */
export const parseUploadId = (text: string): Uint8Array | undefined => decodeBase32Hex(text, uploadIdBytes)

export function encodePartRow(part: PartRecord): Uint8Array {
  const fields: unknown[] = [
    part.number,
    part.modifiedMs,
    part.byteLength,
    part.etag,
    packLayout(part.layout),
  ]
  if (part.checksum !== undefined) fields.push(part.checksum)
  return pack(fields)
}

export function decodePartRow(row: Uint8Array): PartRecord {
  const [number, modifiedMs, byteLength, etag, layout, checksum] = unpack(row) as [
    number,
    number,
    number,
    string,
    Parameters<typeof unpackLayout>[0],
    string?,
  ]
  const part = { number, modifiedMs, byteLength, etag, layout: unpackLayout(layout) }
  return checksum === undefined ? part : { ...part, checksum }
}

/** schemeCode u8 | chunkBytes u24 | byteLength u48 | bucketId u32 | part number u16 (0: no upload) | [upload id] | key. */
export function encodeWriteRow(owner: WriteOwner): Uint8Array {
  const key = Buffer.from(owner.key, 'utf8')
  const uploadId = owner.uploadId === undefined ? undefined : parseUploadId(owner.uploadId)
  const row = Buffer.alloc(16 + (uploadId?.length ?? 0) + key.length)
  row.writeUInt32BE(owner.chunkBytes, 0)
  row[0] = schemeCode(owner.erasure)
  row.writeUIntBE(owner.byteLength, 4, 6)
  row.writeUInt32BE(owner.bucketId, 10)
  if (uploadId !== undefined) {
    row.writeUInt16BE(owner.partNumber ?? 0, 14)
    row.set(uploadId, 16)
  }
  row.set(key, 16 + (uploadId?.length ?? 0))
  return row
}

export function decodeWriteRow(writeId: Uint8Array, bytes: Uint8Array): WriteOwner {
  const row = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.length)
  const partNumber = row.readUInt16BE(14)
  const keyAt = partNumber === 0 ? 16 : 16 + uploadIdBytes
  const owner = {
    writeId: bytesOf(writeId.subarray(0, writeIdBytes)),
    bucketId: row.readUInt32BE(10),
    key: row.toString('utf8', keyAt),
    chunkBytes: row.readUIntBE(1, 3),
    byteLength: row.readUIntBE(4, 6),
    ...schemeOf(row[0] ?? 0),
  }
  if (partNumber === 0) return owner
  return { ...owner, uploadId: showUploadId(row.subarray(16, keyAt)), partNumber }
}

export function encodeGarbageRow(garbage: GarbageRecord): Uint8Array {
  const row = Buffer.alloc(10)
  row.writeUInt32BE(garbage.chunkBytes, 0)
  row[0] = schemeCode(garbage.erasure)
  row.writeUIntBE(garbage.byteLength, 4, 6)
  return row
}

export function decodeGarbageRow(writeId: Uint8Array, bytes: Uint8Array): GarbageRecord {
  const row = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.length)
  return {
    writeId: bytesOf(writeId.subarray(0, writeIdBytes)),
    chunkBytes: row.readUIntBE(1, 3),
    byteLength: row.readUIntBE(4, 6),
    ...schemeOf(row[0] ?? 0),
  }
}

export const encodeAccessKeyRow = (record: AccessKeyRecord): Uint8Array => pack(record)
export function decodeAccessKeyRow(row: Uint8Array): AccessKeyRecord {
  const record = unpack(row) as AccessKeyRecord
  return { ...record, sealedSecret: bytesOf(record.sealedSecret) }
}
