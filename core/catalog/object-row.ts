import type { ErasureScheme } from '../contract/erasure.ts'
import { StorageError } from '../contract/errors.ts'
import type {
  Checksum,
  ChecksumAlgorithm,
  Extent,
  Layout,
  ObjectAttributes,
  ObjectRecord,
  ObjectSummary,
  PartSummary,
} from '../contract/object-model.ts'
import { bytesOf, pack, unpack } from './encoding.ts'
import { versionIdBytes, versionTimeMs } from './hybrid-time.ts'

/**
 * The row of one object version: a fixed header that a listing decodes by itself, then msgpack of the rest.
 *
 *   0  format version (1)
 *   1  flags
 *   2  storage class: index into `storageClasses`, or 255: in the rest
 *   3  checksum: algorithm (low 4 bits, 0: none), type (bit 4: composite)
 *   4  parts in the ETag's suffix, u16
 *   6  length of the owner's name that follows the header (0: `root`)
 *   7  -
 *   8  byte length, u64
 *  16  version id; its first 6 bytes are the modification time
 *  32  MD5 of the ETag
 *  48  owner, then the rest
 */
const formatVersion = 1
const headerBytes = 48
const flag = { isNull: 1, deleteMarker: 2, etagInRest: 4 } as const
export const maxOwnerBytes = 255

const storageClasses = [
  'STANDARD',
  'REDUCED_REDUNDANCY',
  'STANDARD_IA',
  'ONEZONE_IA',
  'INTELLIGENT_TIERING',
  'GLACIER',
  'DEEP_ARCHIVE',
  'GLACIER_IR',
  'EXPRESS_ONEZONE',
] as const
const storageClassInRest = 255
const checksumAlgorithms: readonly ChecksumAlgorithm[] = ['CRC32', 'CRC32C', 'CRC64NVME', 'SHA1', 'SHA256']
const plainEtag = /^[0-9a-f]{32}(?:-([1-9][0-9]{0,4}))?$/

/** A record and what the catalog keeps beside it for its own use. */
export interface StoredObject extends ObjectRecord {
  /** The upload that made it: a repeated complete-upload is answered from here. */
  readonly uploadId?: string
  /** In a replicated bucket: time and region of the last change of tags or access list (10 bytes). */
  readonly changed?: Uint8Array
}

/** The last number: `schemeCode`, where it is not 0. */
type PackedLayout = null | Uint8Array | readonly (readonly [Uint8Array, number, number, number?])[]

/** 0: copies; else k - 1 in the upper four bits and m in the lower. On disk. */
export const schemeCode = (scheme: ErasureScheme | undefined): number =>
  scheme === undefined ? 0 : ((scheme.dataFragments - 1) << 4) | scheme.parityFragments

export const schemeOf = (code: number): { readonly erasure?: ErasureScheme } =>
  code === 0 ? {} : { erasure: { dataFragments: (code >>> 4) + 1, parityFragments: code & 15 } }

export function packLayout(layout: Layout): PackedLayout {
  if (layout.kind === 'empty') return null
  if (layout.kind === 'inline') return layout.writeId
  return layout.extents.map(({ writeId, chunkBytes, byteLength, erasure }) =>
    erasure === undefined
      ? ([writeId, chunkBytes, byteLength] as const)
      : ([writeId, chunkBytes, byteLength, schemeCode(erasure)] as const),
  )
}

export function unpackLayout(packed: PackedLayout): Layout {
  if (packed === null) return { kind: 'empty' }
  if (packed instanceof Uint8Array) return { kind: 'inline', writeId: bytesOf(packed) }
  return {
    kind: 'chunks',
    extents: packed.map(
      ([writeId, chunkBytes, byteLength, code = 0]): Extent => ({
        writeId: bytesOf(writeId),
        chunkBytes,
        byteLength,
        ...schemeOf(code),
      }),
    ),
  }
}

interface Rest {
  /** Etag, when it is not a plain MD5. */
  e?: string
  /** Storage class without a code. */
  s?: string
  /** Checksum value. */
  c?: string
  /** Content type. */
  t?: string
  h?: Readonly<Record<string, string>>
  m?: Readonly<Record<string, string>>
  g?: Readonly<Record<string, string>>
  a?: string
  l?: PackedLayout
  p?: readonly (readonly [number, number, string?])[]
  u?: string
  /** Changed. */
  n?: Uint8Array
}

const isEmpty = (record: Readonly<Record<string, string>>): boolean => {
  for (const _ in record) return false
  return true
}

/** Before the first write, where others come before that of the row. INVALID_ARGUMENT: no row can hold it. */
export function checkObjectRow({ owner, byteLength }: Pick<StoredObject, 'owner' | 'byteLength'>): void {
  if (byteLength >= 2 ** 48) throw new StorageError('INVALID_ARGUMENT', 'an object has less than 256 TiB')
  if (Buffer.byteLength(owner, 'utf8') > maxOwnerBytes) {
    throw new StorageError('INVALID_ARGUMENT', `an account id has at most ${maxOwnerBytes} bytes`)
  }
}

/** INVALID_ARGUMENT. */
export function encodeObjectRow(object: StoredObject): Uint8Array {
  const { attributes, checksum } = object
  checkObjectRow(object)
  const owner = object.owner === 'root' ? undefined : Buffer.from(object.owner, 'utf8')
  const rest: Rest = {}
  const plain = plainEtag.exec(object.etag)
  const etagParts = Number(plain?.[1] ?? 0)
  const etagFits = plain !== null && etagParts <= 0xffff
  if (!etagFits && object.etag !== '') rest.e = object.etag
  const storageClass = (storageClasses as readonly string[]).indexOf(attributes.storageClass)
  if (storageClass < 0) rest.s = attributes.storageClass
  if (checksum !== undefined) rest.c = checksum.value
  if (attributes.contentType !== '') rest.t = attributes.contentType
  if (!isEmpty(attributes.systemHeaders)) rest.h = attributes.systemHeaders
  if (!isEmpty(attributes.userMetadata)) rest.m = attributes.userMetadata
  if (!isEmpty(attributes.tags)) rest.g = attributes.tags
  if (attributes.acl !== undefined) rest.a = attributes.acl
  if (object.layout.kind !== 'empty') rest.l = packLayout(object.layout)
  if (object.parts !== undefined) {
    rest.p = object.parts.map((part) =>
      part.checksum === undefined
        ? ([part.number, part.byteLength] as const)
        : ([part.number, part.byteLength, part.checksum] as const),
    )
  }
  if (object.uploadId !== undefined) rest.u = object.uploadId
  if (object.changed !== undefined) rest.n = object.changed
  const packed = pack(rest)

  const ownerBytes = owner?.length ?? 0
  const row = Buffer.alloc(headerBytes + ownerBytes + packed.length)
  row[0] = formatVersion
  row[1] =
    (object.isNull ? flag.isNull : 0) |
    (object.deleteMarker ? flag.deleteMarker : 0) |
    (etagFits ? 0 : flag.etagInRest)
  row[2] = storageClass < 0 ? storageClassInRest : storageClass
  row[3] =
    checksum === undefined
      ? 0
      : (checksumAlgorithms.indexOf(checksum.algorithm) + 1) | (checksum.type === 'COMPOSITE' ? 16 : 0)
  if (etagFits) {
    row.writeUInt16BE(etagParts, 4)
    row.write(object.etag.slice(0, 32), 32, 'hex')
  }
  row[6] = ownerBytes
  row.writeUIntBE(object.byteLength, 10, 6)
  row.set(object.versionId, 16)
  if (owner !== undefined) row.set(owner, headerBytes)
  row.set(packed, headerBytes + ownerBytes)
  return row
}

/** Formats of software to come. Any other number is damage, which is the error of its key and must not end the node. */
const laterFormats = 6

/** UNSUPPORTED_FORMAT of a later format; CATALOG_CORRUPT of one that never was. */
function checkFormat(row: Uint8Array): void {
  const [format = 0] = row
  if (format === formatVersion) return
  const isLater = format > formatVersion && format <= formatVersion + laterFormats
  throw new StorageError(
    isLater ? 'UNSUPPORTED_FORMAT' : 'CATALOG_CORRUPT',
    `object row of format ${format}; this version reads ${formatVersion}`,
  )
}

function ownerOf(row: Buffer): string {
  const length = row[6] ?? 0
  return length === 0 ? 'root' : row.toString('utf8', headerBytes, headerBytes + length)
}

function restOf(row: Buffer, end: number): Rest {
  return unpack(row.subarray(headerBytes + (row[6] ?? 0), end)) as Rest
}

/** By hand: the checks of readUIntBE are a good part of a listing's time. */
function byteLengthOf(row: Uint8Array): number {
  let byteLength = 0
  for (let index = 10; index < 16; index++) byteLength = byteLength * 256 + (row[index] ?? 0)
  return byteLength
}

function etagOf(row: Buffer, rest: () => Rest): string {
  if ((row[1] ?? 0) & flag.etagInRest) return rest().e ?? ''
  const digest = row.toString('hex', 32, 48)
  const parts = ((row[4] ?? 0) << 8) | (row[5] ?? 0)
  return parts === 0 ? digest : `${digest}-${parts}`
}

function checksumKindOf(code: number): Pick<Checksum, 'algorithm' | 'type'> | undefined {
  const algorithm = checksumAlgorithms[(code & 15) - 1]
  return algorithm === undefined ? undefined : { algorithm, type: code & 16 ? 'COMPOSITE' : 'FULL_OBJECT' }
}

export const isDeleteMarkerRow = (row: Uint8Array): boolean => ((row[1] ?? 0) & flag.deleteMarker) !== 0
export const isNullRow = (row: Uint8Array): boolean => ((row[1] ?? 0) & flag.isNull) !== 0
export const rowVersionId = (row: Uint8Array): Uint8Array =>
  new Uint8Array(row.subarray(16, 16 + versionIdBytes))

export function decodeObjectRow(key: string, bytes: Uint8Array): StoredObject {
  checkFormat(bytes)
  const row = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.length)
  const rest = restOf(row, row.length)
  const checksum = checksumKindOf(row[3] ?? 0)
  const attributes: ObjectAttributes = {
    contentType: rest.t ?? '',
    systemHeaders: rest.h ?? {},
    userMetadata: rest.m ?? {},
    storageClass: storageClasses[row[2] ?? 0] ?? rest.s ?? 'STANDARD',
    tags: rest.g ?? {},
    ...(rest.a === undefined ? {} : { acl: rest.a }),
  }
  return {
    key,
    versionId: rowVersionId(row),
    isNull: isNullRow(row),
    deleteMarker: isDeleteMarkerRow(row),
    owner: ownerOf(row),
    modifiedMs: versionTimeMs(row, 16),
    byteLength: byteLengthOf(row),
    etag: etagOf(row, () => rest),
    attributes,
    layout: unpackLayout(rest.l ?? null),
    ...(checksum === undefined ? {} : { checksum: { ...checksum, value: rest.c ?? '' } }),
    ...(rest.p === undefined
      ? {}
      : {
          parts: rest.p.map(
            ([number, byteLength, value]): PartSummary =>
              value === undefined ? { number, byteLength } : { number, byteLength, checksum: value },
          ),
        }),
    ...(rest.u === undefined ? {} : { uploadId: rest.u }),
    ...(rest.n === undefined ? {} : { changed: bytesOf(rest.n) }),
  }
}

/**
 * What a listing shows of a row. The version id is copied out of the page's slab when somebody asks for it: a listing of
 * current objects, the hot one, asks for none, and a typed array costs more than all the rest of the row.
 */
class ListedObject implements ObjectSummary {
  readonly key: string
  readonly isNull: boolean
  readonly isLatest: boolean
  readonly deleteMarker: boolean
  readonly owner: string
  readonly modifiedMs: number
  readonly byteLength: number
  readonly etag: string
  readonly storageClass: string
  declare readonly checksum?: Pick<Checksum, 'algorithm' | 'type'>
  readonly #slab: Uint8Array
  readonly #at: number

  constructor(key: string, row: Buffer, end: number, isLatest: boolean, slab: Uint8Array, at: number) {
    const flags = row[1] ?? 0
    const checksumCode = row[3] ?? 0
    this.key = key
    this.isNull = (flags & flag.isNull) !== 0
    this.isLatest = isLatest
    this.deleteMarker = (flags & flag.deleteMarker) !== 0
    this.owner = ownerOf(row)
    this.modifiedMs = versionTimeMs(row, 16)
    this.byteLength = byteLengthOf(row)
    this.etag = etagOf(row, () => restOf(row, end))
    this.storageClass = storageClasses[row[2] ?? 0] ?? restOf(row, end).s ?? 'STANDARD'
    if (checksumCode !== 0) {
      const checksum = checksumKindOf(checksumCode)
      if (checksum !== undefined) this.checksum = checksum
    }
    this.#slab = slab
    this.#at = at
    for (let index = 0; index < versionIdBytes; index++) slab[at + index] = row[16 + index] ?? 0
  }

  get versionId(): Uint8Array {
    return this.#slab.slice(this.#at, this.#at + versionIdBytes)
  }
}

const slabRows = 128

/** Decodes the headers of one page's rows out of a cursor's window: `row` is read now and not kept. */
export class RowSummarizer {
  private slab = new Uint8Array(0)
  private used = 0

  summarize(key: string, row: Buffer, end: number, isLatest: boolean): ObjectSummary {
    checkFormat(row)
    if (this.used === this.slab.length) {
      this.slab = new Uint8Array(slabRows * versionIdBytes)
      this.used = 0
    }
    const at = this.used
    this.used += versionIdBytes
    return new ListedObject(key, row, end, isLatest, this.slab, at)
  }
}
