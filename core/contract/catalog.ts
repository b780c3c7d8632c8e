import { isAccessKind } from './bucket-access.ts'
import type { ClusterMap } from './cluster-map.ts'
import type { ErasureScheme } from './erasure.ts'
import type { StorageError } from './errors.ts'
import type { GroupCommand, GroupReads, GroupResults } from './failover.ts'
import type { FederationRecord } from './federation.ts'
import type { WriteId } from './ids.ts'
import type { LockCommand, LockFence, LockReads, LockResults } from './locks.ts'
import type {
  AccessKeyRecord,
  AccountId,
  BucketConfigKind,
  BucketRecord,
  Checksum,
  Layout,
  ObjectAttributes,
  ObjectRecord,
  ObjectSummary,
  PartRecord,
  UploadRecord,
  VersionId,
  VersioningState,
} from './object-model.ts'
import type { PolicyDeployment, PolicyPackage } from './policy-deployment.ts'
import type { RegionConfigCommand, RegionConfigReads, RegionConfigResults } from './region-config.ts'
import type { ReplicationCommand, ReplicationReads, ReplicationResults } from './replication.ts'
import type { SubmitWatch } from './trace.ts'

/** Less than everything that was acknowledged; see `Catalog.barrier`. */
export type BarrierScope = 'rules' | 'local'

/**
 * The catalog as the gateway sees it: commands in, records out. A command becomes one entry of the ordered log; its
 * preconditions are evaluated when the entry is applied, so that conditional writes are linearizable. `submit` resolves
 * once the entry is durable and applied, and rejects with the StorageError that the state machine answered.
 */
export interface Catalog extends LockReads, RegionConfigReads {
  submit<C extends Command>(command: C, watch?: SubmitWatch): Promise<CommandResult<C>>

  /**
   * Linearizable read point: after it resolves, reads below see every write acknowledged before the call. With `rules` those of buckets,
   * their settings, keys, policies and the map; of objects and uploads perhaps not all: enough for who writes an object unseen. With
   * `local` no other node is asked: what is read below was so once, and may be older than what others have acknowledged by as
   * much as this node is cut off from them, revoked keys and policies included.
   */
  barrier(scope?: BarrierScope): Promise<void>

  /**
   * Another number whenever buckets, their settings, keys, policies or the map that are read below may have changed: whoever has judged by
   * them and waited looks again only then.
   */
  rulesSeen(): number

  // Reads are synchronous, from one consistent snapshot each, and never older than the last acknowledged `submit`.
  bucket(name: string): BucketRecord | undefined
  bucketById(id: number): BucketRecord | undefined
  /** Ascending by name. */
  buckets(after?: string, limit?: number): readonly BucketRecord[]
  bucketConfig(bucketId: number, kind: BucketConfigKind): Uint8Array | undefined

  /** The current version (a delete marker included), or the version named (`null` version: 'null'). */
  object(bucketId: number, key: string, version?: VersionId | 'null'): ObjectRecord | undefined
  inlineBody(writeId: WriteId): Uint8Array | undefined
  listObjects(bucketId: number, query: ListQuery): ObjectListing
  listVersions(bucketId: number, query: ListVersionsQuery): VersionListing

  upload(bucketId: number, key: string, uploadId: string): UploadRecord | undefined
  listUploads(bucketId: number, query: ListUploadsQuery): UploadListing
  /** Parts with numbers greater than `afterNumber`, ascending. */
  parts(
    uploadId: string,
    afterNumber: number,
    limit: number,
  ): { parts: readonly PartRecord[]; truncated: boolean }

  accessKey(accessKeyId: string): AccessKeyRecord | undefined
  accessKeys(): readonly AccessKeyRecord[]

  /** Epoch 0 before the first one. */
  policyDeployment(): PolicyDeployment
  policyPackage(digest: string): PolicyPackage | undefined
  /** Ascending by digest. */
  policyPackages(): readonly PolicyPackageRecord[]

  /** The time given to the newest entry, milliseconds since the Unix epoch: it never goes back, whatever clocks do. */
  lastTimeMs(): number
  /** Whether there has ever been a bucket: without one nothing owns a body, or has owned one. */
  hasHadBuckets(): boolean

  /** Epoch 0 and no nodes before the first one. */
  clusterMap(): ClusterMap

  /** Epoch 0 before the first one. */
  federation(): FederationRecord

  /** Who owns a write: for repair, scrub reports and the orphan scan. */
  writeOwner(writeId: WriteId): WriteOwner | undefined
  /** Writes whose chunks may be freed, ascending by write id (the first begun first), behind `after`. */
  garbage(limit: number, after?: WriteId): readonly GarbageRecord[]
  /** Ascending by write id: everything that must exist in the chunk store (for the full scan). */
  writes(after: WriteId | null, limit: number): readonly WriteOwner[]

  /**
   * The result of the first request with this key, where that is remembered. IDEMPOTENCY_KEY_REUSED. The catalog looks again when the
   * command is applied: this is for requests that could not even be tried a second time.
   */
  firstResult(bucketId: number, idempotency: Idempotency): ResultByType['put-object'] | undefined

  readonly replication: ReplicationReads

  readonly failover: GroupReads

  stats(): CatalogStats
  close(): Promise<void>
}

export interface WriteOwner {
  readonly writeId: WriteId
  readonly bucketId: number
  readonly key: string
  readonly uploadId?: string
  readonly partNumber?: number
  readonly chunkBytes: number
  readonly byteLength: number
  /** As the extent says. */
  readonly erasure?: ErasureScheme
}

/** A policy package without its module. */
export interface PolicyPackageRecord {
  readonly digest: string
  readonly byteLength: number
  readonly pushedMs: number
  /** Of the log's entry that pushed it last: the order of pushes, whatever clocks say. */
  readonly position: number
  /** Public key in hex, when it is signed. Whether the signature is good is not the catalog's to say. */
  readonly signedBy?: string
}

export interface GarbageRecord {
  readonly writeId: WriteId
  readonly chunkBytes: number
  readonly byteLength: number
  /** As the extent said. */
  readonly erasure?: ErasureScheme
}

/** Evaluated against the current version of the key inside the state machine. ETags without quotes. */
export interface Preconditions {
  /** `*`: the key must exist. */
  readonly ifMatch?: '*' | readonly string[]
  /** `*`: the key must not exist. */
  readonly ifNoneMatch?: '*' | readonly string[]
  readonly ifUnmodifiedSinceMs?: number
  readonly ifModifiedSinceMs?: number
  /** Conditional delete extensions (x-amz-if-match-size, x-amz-if-match-last-modified-time). */
  readonly ifMatchSize?: number
  readonly ifMatchModifiedMs?: number
}

/** A body that has been stored (or travels inline) and now becomes visible. */
export interface NewObject {
  readonly byteLength: number
  readonly etag: string
  readonly checksum?: Checksum
  readonly attributes: ObjectAttributes
  readonly layout: Layout
  /** The bytes, when `layout.kind` is `inline`. */
  readonly inline?: Uint8Array
}

export interface DeleteItem {
  readonly key: string
  readonly version?: VersionId | 'null'
  readonly preconditions?: Preconditions
}

export interface DeleteOutcome {
  readonly key: string
  readonly error?: StorageError
  /** The delete made a delete marker, or removed one. */
  readonly deleteMarker: boolean
  /** Of the marker made, or of the version removed. */
  readonly versionId?: VersionId | 'null'
}

export type Command =
  | {
      readonly type: 'create-bucket'
      readonly name: string
      readonly owner: AccountId
      readonly configs?: Readonly<Partial<Record<BucketConfigKind, Uint8Array>>>
    }
  /**
   * BUCKET_NOT_EMPTY while a version or delete marker is left. Uploads in progress are aborted, as S3 does, a bounded number
   * with each entry: answers `deleted: false` when more are left, and is to be sent again.
   */
  | { readonly type: 'delete-bucket'; readonly name: string }
  | {
      readonly type: 'set-versioning'
      readonly bucketId: number
      /** Of the bucket's failover group, where it has one: STALE_EPOCH when it is another by the time of the commit. */
      readonly groupEpoch?: number
      readonly state: Exclude<VersioningState, 'off'>
    }
  | {
      readonly type: 'set-bucket-config'
      readonly bucketId: number
      readonly groupEpoch?: number
      readonly kind: BucketConfigKind
      /** null removes it. */
      readonly value: Uint8Array | null
    }
  | {
      readonly type: 'put-object'
      readonly bucketId: number
      readonly groupEpoch?: number
      readonly key: string
      readonly owner: AccountId
      readonly object: NewObject
      readonly preconditions?: Preconditions
      /** IDEMPOTENCY_KEY_REUSED when its key is that of another request. */
      readonly idempotency?: Idempotency
    }
  | {
      readonly type: 'delete-objects'
      readonly bucketId: number
      readonly groupEpoch?: number
      readonly items: readonly DeleteItem[]
      readonly owner: AccountId
      readonly idempotency?: Idempotency
    }
  | {
      readonly type: 'set-object-tags'
      readonly bucketId: number
      readonly groupEpoch?: number
      readonly key: string
      readonly version?: VersionId | 'null'
      /** The id of the version that was judged, also where it is shown as `null`. CONFLICT when another one is there, or none. */
      readonly expected?: VersionId
      readonly tags: Readonly<Record<string, string>>
    }
  | {
      readonly type: 'set-object-acl'
      readonly bucketId: number
      readonly groupEpoch?: number
      readonly key: string
      readonly version?: VersionId | 'null'
      readonly expected?: VersionId
      readonly acl: string
    }
  | {
      readonly type: 'create-upload'
      readonly bucketId: number
      readonly groupEpoch?: number
      readonly key: string
      readonly owner: AccountId
      readonly initiator: AccountId
      readonly attributes: ObjectAttributes
      readonly checksum?: Pick<Checksum, 'algorithm' | 'type'>
    }
  | {
      readonly type: 'put-part'
      readonly bucketId: number
      readonly groupEpoch?: number
      readonly key: string
      readonly uploadId: string
      readonly number: number
      readonly byteLength: number
      readonly etag: string
      readonly checksum?: string
      /** `chunks` or `empty`: parts are joined without touching their bytes, so none is inline. */
      readonly layout: Layout
    }
  /** The gateway has checked the parts' sizes and order against the snapshot and computed etag and checksum; the state
   *  machine checks again that exactly these parts (number and etag) are there: INVALID_PART otherwise. */
  | {
      readonly type: 'complete-upload'
      readonly bucketId: number
      readonly groupEpoch?: number
      readonly key: string
      readonly uploadId: string
      readonly parts: readonly { readonly number: number; readonly etag: string }[]
      readonly etag: string
      readonly checksum?: Checksum
      readonly preconditions?: Preconditions
      readonly idempotency?: Idempotency
    }
  | {
      readonly type: 'abort-upload'
      readonly bucketId: number
      readonly key: string
      readonly uploadId: string
    }
  /** The chunks of these garbage rows are gone from the store. CONFLICT when the lock under which that was done is another's now. */
  | { readonly type: 'collected'; readonly writeIds: readonly WriteId[]; readonly fence?: LockFence }
  /** CONFLICT when the id is that of another region's key. */
  | { readonly type: 'put-access-key'; readonly record: AccessKeyRecord }
  /** INVALID_ARGUMENT for a key of another region: that one vouches for it. */
  | { readonly type: 'set-access-key-enabled'; readonly accessKeyId: string; readonly enabled: boolean }
  /** In which other regions a key of this one is known: joined ones. INVALID_ARGUMENT for one of the root account, or of another region. */
  | { readonly type: 'share-access-key'; readonly accessKeyId: string; readonly regions: readonly number[] }
  /**
   * All keys of another region that are known here from now on; those of it that are not named are gone. ACCESS_DENIED unless keys
   * of that region are accepted. Ids that are taken by others here are answered as `refused`.
   */
  | { readonly type: 'take-access-keys'; readonly home: number; readonly keys: readonly AccessKeyRecord[] }
  /**
   * Keeps a module under its SHA-256 (BAD_DIGEST when it is another's); again is the same. Packages that no deployment names
   * are kept as long as they are among the last 16 pushed.
   */
  | { readonly type: 'put-policy-package'; readonly digest: string; readonly content: PolicyPackage }
  /**
   * What serves from this entry on. CONFLICT unless its epoch follows the one in force; POLICY_NOT_FOUND when it names a digest
   * that is not here.
   */
  | { readonly type: 'deploy-policies'; readonly deployment: PolicyDeployment }
  /**
   * Who is in the region from this entry on. CONFLICT unless its epoch follows the one in force; INVALID_ARGUMENT when it would
   * change more than one voter, or leave none.
   */
  | { readonly type: 'set-cluster-map'; readonly map: ClusterMap }
  /**
   * The region goes on from here, and may have forgotten entries that it had confirmed: every outbox gets another id, and in the failover groups that
   * it knows it neither votes nor leads any more.
   */
  | { readonly type: 'recover-region' }
  /** With whom the region is joined from this entry on. CONFLICT unless its epoch follows the one in force. */
  | { readonly type: 'set-federation'; readonly record: FederationRecord }
  | RegionConfigCommand
  | LockCommand
  | ReplicationCommand
  | GroupCommand

/** Changes that clients ask for, which only a region makes that may write the bucket; the rest is the region's own housekeeping. */
const clientWrites = new Set([
  'set-versioning',
  'set-bucket-config',
  'put-object',
  'delete-objects',
  'set-object-tags',
  'set-object-acl',
  'create-upload',
  'put-part',
  'complete-upload',
] as const satisfies readonly Command['type'][])

type TypeOf<S> = S extends ReadonlySet<infer T> ? T : never
export type ClientWrite = Extract<Command, { type: TypeOf<typeof clientWrites> }>

/** Documents of a bucket that are no part of what is replicated are each region's own. */
export const isClientWrite = (command: Command): command is ClientWrite =>
  (clientWrites as ReadonlySet<Command['type']>).has(command.type) &&
  (command.type !== 'set-bucket-config' || isAccessKind(command.kind))

/** Of a change of a replicated bucket. */
export interface WritePlace {
  /** Of its last entry in the bucket's outbox; absent: it has none, or (at an edge) no place there yet. */
  readonly place?: OutboxPlace
}

/** Makes a change that is asked for again one change, with one answer. */
export interface Idempotency {
  /** Whose keys these are: 8 bytes, of a SHA-256 of the access key. */
  readonly scope: Uint8Array
  /** 16 bytes, of a SHA-256 of the client's key. */
  readonly key: Uint8Array
  /** 16 bytes, of a SHA-256 of what was asked for. */
  readonly request: Uint8Array
}

/** Of a version that travels: whose request made it, so that a retry which comes to another region after a failover is known there. */
export interface MadeOnce {
  readonly idempotency?: Idempotency
}

/** First answers are kept for so long, and so many of an access key: the oldest go. */
export const idempotencyLimits = {
  windowMs: 24 * 3_600_000,
  answers: 16_384,
  keyChars: 255,
  scopeBytes: 8,
  keyBytes: 16,
} as const

/** Of an object that was made: beside the command's result, what the first request was told. */
export interface FirstAnswer {
  readonly etag?: string
  readonly checksum?: Checksum
}

export interface Repeatable {
  /** There: the change was made by an earlier request with the same idempotency key, and nothing now. */
  readonly first?: FirstAnswer
}

export interface OutboxPlace {
  readonly lsn: number
  /** Of the bucket's rule when the entry was written. */
  readonly epoch: number
}

interface ResultByType extends ReplicationResults, GroupResults, LockResults, RegionConfigResults {
  'create-bucket': BucketRecord
  'delete-bucket': { readonly deleted: boolean }
  'set-versioning': WritePlace
  'set-bucket-config': Record<string, never>
  /** versionId is 'null' for unversioned and suspended buckets. */
  'put-object': Repeatable &
    WritePlace & { readonly versionId: VersionId | 'null'; readonly modifiedMs: number }
  'delete-objects': Repeatable & WritePlace & { readonly outcomes: readonly DeleteOutcome[] }
  'set-object-tags': WritePlace & { readonly versionId: VersionId | 'null' }
  'set-object-acl': WritePlace & { readonly versionId: VersionId | 'null' }
  'create-upload': { readonly uploadId: string }
  'put-part': { readonly modifiedMs: number }
  'complete-upload': Repeatable &
    WritePlace & { readonly versionId: VersionId | 'null'; readonly modifiedMs: number }
  'abort-upload': Record<string, never>
  collected: Record<string, never>
  'put-access-key': Record<string, never>
  'set-access-key-enabled': Record<string, never>
  'share-access-key': Record<string, never>
  'take-access-keys': { readonly refused: readonly string[] }
  'put-policy-package': Record<string, never>
  'deploy-policies': Record<string, never>
  'set-cluster-map': Record<string, never>
  'recover-region': Record<string, never>
  'set-federation': Record<string, never>
}

export type CommandResult<C extends Command> = ResultByType[C['type']]

export interface ListQuery {
  readonly prefix: string
  readonly delimiter: string
  /** Keys strictly greater (and, where it is a common prefix, everything below that prefix is passed over too). */
  readonly after: string
  /** At most; 0 answers an empty, untruncated page. */
  readonly limit: number
}

export interface ObjectListing {
  readonly objects: readonly ObjectSummary[]
  /** Ascending; counted with the objects against the limit. */
  readonly commonPrefixes: readonly string[]
  readonly truncated: boolean
  /** The last key or common prefix of the page, when truncated: the next `after`. */
  readonly next?: string
}

export interface ListVersionsQuery extends Omit<ListQuery, 'after'> {
  readonly keyMarker: string
  /**
   * With a keyMarker: go on behind this version of it, which need not be there any more. A `null` that is gone has no place: all versions
   * of the key come, also those of the page before.
   */
  readonly versionMarker?: VersionId | 'null'
}

export interface VersionListing {
  /** By key ascending, newest first within a key. */
  readonly versions: readonly ObjectSummary[]
  readonly commonPrefixes: readonly string[]
  readonly truncated: boolean
  readonly nextKeyMarker?: string
  readonly nextVersionMarker?: VersionId | 'null'
}

export interface ListUploadsQuery extends Omit<ListQuery, 'after'> {
  readonly keyMarker: string
  readonly uploadIdMarker?: string
}

export interface UploadListing {
  /** By key ascending, then by creation. */
  readonly uploads: readonly UploadRecord[]
  readonly commonPrefixes: readonly string[]
  readonly truncated: boolean
  readonly nextKeyMarker?: string
  readonly nextUploadIdMarker?: string
}

export interface CatalogStats {
  readonly buckets: number
  readonly objects: number
  readonly versions: number
  readonly uploads: number
  readonly liveBytes: number
  readonly garbageWrites: number
  readonly position: number
  readonly bytesOnDisk: number
}
