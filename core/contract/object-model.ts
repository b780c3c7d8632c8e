import type { DigestAlgorithm } from './chunk-store.ts'
import type { ErasureScheme } from './erasure.ts'
import type { WriteId } from './ids.ts'

/** Owner of buckets and objects: the account. The root account's id is `root`. */
export type AccountId = string

export interface BucketRecord {
  readonly name: string
  /** Grows with every creation in the region; a bucket made again under an old name has another id. */
  readonly id: number
  readonly owner: AccountId
  readonly createdMs: number
  readonly versioning: VersioningState
  /** It has a replication rule. */
  readonly replicated?: boolean
  /** It keeps what a failover set aside of the bucket with this id. */
  readonly lostOf?: number
}

export type VersioningState = 'off' | 'enabled' | 'suspended'

/** Per-bucket documents that the catalog stores and the gateway interprets; one blob each. */
export type BucketConfigKind =
  | 'acl'
  | 'policy'
  | 'cors'
  | 'tagging'
  | 'ownership'
  | 'public-access-block'
  | 'request-payment'
  | 'replication'

/** 16 bytes: HLC (8, big-endian) | region (2) | random (6). Greater is newer. Shown base32hex, or `null`. */
export type VersionId = Uint8Array

/** Where the bytes of an object are. */
export type Layout =
  | { readonly kind: 'empty' }
  /** In the catalog itself, under the write id; at most `inlineBytes` of the config. */
  | { readonly kind: 'inline'; readonly writeId: WriteId }
  /** In the chunk store; one extent a simple object, one a part for a multipart object, in order. */
  | { readonly kind: 'chunks'; readonly extents: readonly Extent[] }

/** The chunks `chunkId(writeId, 0..)`: all of `chunkBytes` but the last. */
export interface Extent {
  readonly writeId: WriteId
  readonly chunkBytes: number
  readonly byteLength: number
  /** Its chunks are kept as fragments: `chunkBytes` is so many whole pages for each data fragment. Absent: as copies. */
  readonly erasure?: ErasureScheme
}

export type ChecksumAlgorithm = 'CRC32' | 'CRC32C' | 'CRC64NVME' | 'SHA1' | 'SHA256'

export const checksumDigest: Readonly<Record<ChecksumAlgorithm, DigestAlgorithm>> = {
  CRC32: 'crc32',
  CRC32C: 'crc32c',
  CRC64NVME: 'crc64nvme',
  SHA1: 'sha1',
  SHA256: 'sha256',
}

export interface Checksum {
  readonly algorithm: ChecksumAlgorithm
  readonly type: 'FULL_OBJECT' | 'COMPOSITE'
  /** Base64; a composite checksum ends in `-<parts>`. */
  readonly value: string
}

/** What a client says about an object beside its bytes. */
export interface ObjectAttributes {
  readonly contentType: string
  /** Cache-Control, Content-Disposition, Content-Encoding, Content-Language, Expires and the website redirect,
   *  lower-case names, as sent. */
  readonly systemHeaders: Readonly<Record<string, string>>
  /** x-amz-meta-*, names without the prefix, lower case. */
  readonly userMetadata: Readonly<Record<string, string>>
  readonly storageClass: string
  readonly tags: Readonly<Record<string, string>>
  /** Serialized access control list (the gateway's JSON form); absent: private to the owner. */
  readonly acl?: string
}

/** One part of a multipart object, kept so that parts can be read and listed afterwards. */
export interface PartSummary {
  readonly number: number
  readonly byteLength: number
  readonly checksum?: string
}

/** One version of an object, or a delete marker. */
export interface ObjectRecord {
  readonly key: string
  readonly versionId: VersionId
  /** Written while versioning was off or suspended: shown as version `null`. */
  readonly isNull: boolean
  readonly deleteMarker: boolean
  readonly owner: AccountId
  readonly modifiedMs: number
  readonly byteLength: number
  /** Without quotes: hex MD5, or `<hex>-<parts>`. Empty for delete markers. */
  readonly etag: string
  readonly checksum?: Checksum
  readonly attributes: ObjectAttributes
  readonly layout: Layout
  readonly parts?: readonly PartSummary[]
}

/** What a listing needs of an object; decoded without reading the rest of the record. Read its fields, do not spread it: some
 *  are computed when asked for. */
export interface ObjectSummary {
  readonly key: string
  readonly versionId: VersionId
  readonly isNull: boolean
  readonly isLatest: boolean
  readonly deleteMarker: boolean
  readonly owner: AccountId
  readonly modifiedMs: number
  readonly byteLength: number
  readonly etag: string
  readonly storageClass: string
  readonly checksum?: Pick<Checksum, 'algorithm' | 'type'>
}

export interface UploadRecord {
  /** Base32hex, unguessable; what clients see. */
  readonly uploadId: string
  readonly bucketId: number
  readonly key: string
  readonly owner: AccountId
  readonly initiator: AccountId
  readonly createdMs: number
  readonly attributes: ObjectAttributes
  readonly checksum?: Pick<Checksum, 'algorithm' | 'type'>
}

export interface PartRecord {
  readonly number: number
  readonly modifiedMs: number
  readonly byteLength: number
  /** Hex MD5. */
  readonly etag: string
  readonly checksum?: string
  /** Always in the chunk store, or empty. */
  readonly layout: Layout
}

export interface AccessKeyRecord {
  readonly accessKeyId: string
  /** Sealed by the node's key (AES-256-GCM): the catalog never holds a readable secret. */
  readonly sealedSecret: Uint8Array
  readonly account: AccountId
  readonly name: string
  readonly enabled: boolean
  readonly createdMs: number
  /** The region that made it and vouches for it; absent: this one. */
  readonly home?: number
  /** Other regions that know it, ascending; only where it was made. */
  readonly regions?: readonly number[]
}
