import type { BytePace } from '../../contract/admission.ts'
import type { Catalog, OutboxPlace } from '../../contract/catalog.ts'
import type { ChunkStore } from '../../contract/chunk-store.ts'
import type { Environment } from '../../contract/clock.ts'
import type { EdgeLook, EdgeReads } from '../../contract/edge.ts'
import type { ErasureScheme } from '../../contract/erasure.ts'
import type { ErrorCode, StorageError } from '../../contract/errors.ts'
import type { GroupRecord } from '../../contract/failover.ts'
import type { Logger } from '../../contract/logger.ts'
import type {
  AccountId,
  BucketRecord,
  Checksum,
  ChecksumAlgorithm,
  Layout,
} from '../../contract/object-model.ts'
import type { ReplicationAdministration } from '../../contract/replication-admin.ts'
import type { OutboxTraces, Span } from '../../contract/trace.ts'
import type { ReplicaAcks } from '../../contract/transport.ts'
import type { WriteRegistry } from '../../contract/write-registry.ts'
import type { DocumentRoom } from './document-budget.ts'
import type { TagSet } from './tag-set.ts'

/**
 * The shape of the gateway: a request is parsed, routed to an operation, authenticated, authorized and handled; the
 * handler returns a response value, and only the edge (`server.ts`) touches the socket.
 */

/** Who asks. Anonymous requests have neither account nor key. */
export type Identity =
  | { readonly kind: 'anonymous' }
  | {
      readonly kind: 'key'
      readonly account: AccountId
      readonly accessKeyId: string
      readonly root: boolean
    }

export interface S3Request {
  /** Also the x-amz-request-id of the answer. */
  readonly id: string
  readonly method: string
  /** Path and query exactly as received: what a signature covers. */
  readonly rawTarget: string
  /** Decoded; the first value of each name. */
  readonly query: ReadonlyMap<string, string>
  /** Lower-case names, as node:http joins them. */
  readonly headers: Readonly<Record<string, string | string[] | undefined>>
  /** One header's value; values of a repeated header joined by `, `. */
  header(name: string): string | undefined
  readonly bucketName: string | undefined
  /** The bucket is named by the host, and not by the path. */
  readonly virtualHost: boolean
  readonly key: string | undefined
  readonly remoteAddress: string
  readonly secure: boolean
  /** The request was authenticated by query parameters. */
  readonly presigned: boolean
  readonly body: RequestBody
  /** Aborted when the client goes away or is cut for being too slow. */
  readonly signal: AbortSignal
}

/**
 * Takes one piece of a body. The bytes are the source's again when it returns (or when the promise that it returns
 * settles): keep a copy, not the view. A promise holds the source back.
 */
export type PieceSink = (piece: Uint8Array) => undefined | Promise<void>

/** Bytes that arrive from somewhere: a socket, or the chunk store (copies). Can be pumped once. */
export interface BodySource {
  /** Bytes of payload to come; undefined: not known before the end. */
  readonly declaredBytes: number | undefined
  /** Hex SHA-256 that the signature promises for the payload: `storeBody` and `text` verify it; `pump` does not. */
  readonly payloadSha256?: string | undefined
  /** How fast the bytes may come: asked before memory for them is taken. Absent: as fast as they do. */
  readonly pace?: BytePace | undefined
  /** Class of service of what is stored of it; absent: the first one. */
  readonly qosClass?: number | undefined
  /**
   * Pushes every piece into the sink and resolves after the last; rejects with the sink's error or the precise
   * StorageError (INCOMPLETE_BODY, SIGNATURE_DOES_NOT_MATCH for a chunk, CANCELLED, TIMEOUT).
   */
  pump(sink: PieceSink): Promise<void>
  /** Instead of `pump`, of a body that is at hand and whose length is declared: its next bytes, as many as there is room for. */
  readInto?(target: Uint8Array): Promise<void>
}

/** The payload of a request: aws-chunked framing removed, its chunk signatures verified on the way. */
export interface RequestBody extends BodySource {
  /**
   * The whole payload as text, for documents: MAX_MESSAGE_LENGTH_EXCEEDED beyond `limitBytes`; payload hash, Content-MD5
   * and x-amz-checksum-* headers verified. Where the checksums are of an `object`, and not of the document, they are left alone.
   */
  text(limitBytes: number, checksumsOf?: 'document' | 'object'): Promise<string>
  /**
   * Room in the memory that all documents share, for who keeps bytes of a body that come before it is known whether its sender may do anything.
   * `cut` is called when they have to go; the pump rejects with that reason then. Its opener closes it.
   */
  room(cut: (reason: StorageError) => void): Promise<DocumentRoom>
  /** Trailing headers (x-amz-checksum-*), lower-case names; complete once the pump has ended. */
  trailers(): ReadonlyMap<string, string>
}

export interface S3Response {
  readonly status: number
  readonly headers?: Readonly<Record<string, string | number>>
  /** A string is a document (XML unless content-type says otherwise). A stream is sent with back-pressure. */
  readonly body?: string | Uint8Array | ResponseStream
  /** Of a change: its place in the bucket's outbox, for the client's causal token. */
  readonly place?: OutboxPlace | undefined
  /** Of an error answer: what metrics and logs call it. */
  readonly error?: ErrorCode
}

export interface ResponseStream {
  readonly byteLength: number
  /** Set by the edge before `send`: how fast the bytes may go. */
  pace?: BytePace | undefined
  /** Set with it: the class of service in which the chunks are read. */
  qosClass?: number | undefined
  /**
   * Pushes every piece through `write`, which resolves when the socket has taken the piece (its buffer may be released
   * then) and rejects with CANCELLED when the client has gone. A rejection of `send` cuts the connection: a client
   * never mistakes a broken body for a whole one. Called at most once. `cut` ends the connection: it is called when the client has not
   * taken a piece for long and others wait for its memory; `write` then rejects once the memory is free.
   */
  send(write: (piece: Uint8Array) => Promise<void>, cut?: () => void): Promise<void>
  /** Called instead of `send` when the body is not wanted (HEAD, client gone): frees what the stream holds. */
  discard(): void
}

export interface Operation {
  /** The S3 API name, such as `PutObject`: routing, metrics and logs use it. */
  readonly name: string
  /**
   * The IAM action that authorizes it, such as `s3:PutObject`; a function where the request decides
   * (`s3:GetObjectVersion`); null: any authenticated account (ListBuckets).
   */
  readonly action: string | null | ((request: S3Request) => string)
  /** With `action: null`: strangers may ask too, and the handler judges each resource by itself (DeleteObjects). */
  readonly anonymousAllowed?: boolean
  /** The bucket need not exist (CreateBucket). */
  readonly bucketOptional?: boolean
  /**
   * The edge neither authenticates nor authorizes: the operation does what it needs itself (CORS preflight; POST forms,
   * whose signature is in the form). `identity` is anonymous then.
   */
  readonly selfAuthorized?: boolean
  /**
   * Where the tags that it stores come from; absent: it stores none. `upload`: they are those of the upload that the request names, and
   * open where it is gone, since nothing is stored then. `later`: of its body or its source. Conditions on them are left open then, and it asks
   * `authorize` with them before it stores anything.
   */
  readonly tags?: TagsFrom | ((request: S3Request) => TagsFrom)
  /** It reads no objects itself: whether it may happen is judged by the bucket, and what is there by the catalog when it is done. */
  readonly writesUnseen?: boolean
  /** Of no bucket, and as new as the reads of one: the edge waits for the read point, which shows revoked keys, too. */
  readonly listsBuckets?: boolean
  handle(context: OperationContext): Promise<S3Response>
}

export type TagsFrom = 'header' | 'upload' | 'later'

/** What every handler works with. One per request. */
export interface OperationContext {
  readonly request: S3Request
  readonly identity: Identity
  readonly gateway: Gateway
  /** The bucket named by the request; NO_SUCH_BUCKET is answered before the handler runs unless `bucketOptional`. */
  readonly bucket: BucketRecord | undefined
  /** At an edge, of a request that names an object: what its hub says of it. */
  readonly look?: EdgeLook | undefined
  readonly log: Logger
  /**
   * Throws ACCESS_DENIED unless the identity may do `action` there: for handlers that touch more than one object, or know the tags that they
   * store (none unless told) only now.
   */
  authorize(action: string, bucket: BucketRecord, key?: string, versionId?: string, tags?: TagSet): void
  /** Throws ACCESS_DENIED when the bucket's policy refuses it: what comes with the right that the request was let in by, unless somebody says otherwise. */
  refuseDenied(action: string, bucket: BucketRecord, key?: string, versionId?: string, tags?: TagSet): void
}

/** What the gateway is built from. */
export interface Gateway {
  readonly catalog: Catalog
  readonly chunks: ChunkStore
  readonly writes: WriteRegistry
  readonly environment: Environment
  readonly log: Logger
  readonly config: GatewayConfig
  readonly credentials: CredentialSource
  /** How the chunks of new objects of a storage class are kept; undefined: as copies. Absent: all as copies. */
  readonly erasure?: (storageClass: string) => ErasureScheme | undefined
  /** Of the request that is served with it; absent: it is not traced. */
  readonly trace?: Span
  /** How many copies of a chunk the request waits for; absent: as many as the region's configuration says. */
  readonly acks?: ReplicaAcks
  /** What traced requests write is remembered there for other regions. */
  readonly outboxTraces?: Pick<OutboxTraces, 'expect'>
  /** Other regions; absent: there are none. */
  readonly replication?: GatewayReplication
  /** Failover groups; absent: this node knows of none. */
  readonly failover?: GatewayFailover
}

/** What requests need of the federation. */
export interface GatewayReplication extends Pick<ReplicationAdministration, 'replicate' | 'stop'> {
  /** Of this region. */
  readonly regionId: number
  /** Regions that this one is joined with. */
  regions(): Promise<readonly { readonly regionId: number; readonly name: string }[]>
  /** How long a write to the bucket is held back now, milliseconds: its copies are further behind than its rule allows. */
  holdBackMs(bucketId: number): number
  /** Reads of buckets that this region is an edge of. */
  readonly edge: EdgeReads
  /** Why the bucket takes no such write now: this region is an edge, and keeps as much for its hub as it may. */
  refusal(bucketId: number, addedBytes: number): StorageError | undefined
}

/** What clients are told of failover. */
export interface GatewayFailover {
  /** Who writes a bucket, as far as this region knows; undefined: it is in no group. */
  primaryOf(bucketId: number): BucketPrimary | undefined
  /**
   * Resolves when what was written to the bucket before may be acknowledged once more, as a write is. `stored` is called when another region
   * has to be waited for. UNAVAILABLE, REPLICATION_PENDING, NOT_PRIMARY.
   */
  confirm(bucketId: number, stored?: () => void): Promise<void>
  groups(): readonly GroupTopology[]
}

export interface BucketPrimary {
  /** Grows with every change of the primary. */
  readonly epoch: number
  /** Region id. */
  readonly primary: number
  /** URLs of its gateways; empty: not known. */
  readonly endpoints: readonly string[]
}

export interface GroupTopology extends Pick<GroupRecord, 'name' | 'epoch' | 'primary' | 'buckets'> {
  readonly regions: readonly { readonly region: number; readonly endpoints: readonly string[] }[]
}

export interface GatewayConfig {
  /** Region name in signatures and LocationConstraint, such as `us-east-1`. */
  readonly region: string
  /** Virtual-host style is served below these domains (`bucket.<domain>`). */
  readonly domains: readonly string[]
  /** Bodies up to this many bytes live in the catalog. */
  readonly inlineBytes: number
  /** Bytes of a chunk, at most maxChunkBytes. */
  readonly chunkBytes: number
  /** Bytes that may be in flight for one request (read-ahead and write-behind). */
  readonly windowBytes: number
  /** A client that sends or takes nothing for so long is cut. */
  readonly idleTimeoutMs: number
  readonly maxConnections: number
}

export interface Credentials {
  readonly account: AccountId
  readonly secretKey: string
  readonly root: boolean
}

export interface CredentialSource {
  /** Undefined: no such key; 'disabled': it exists and must not be used. */
  lookup(accessKeyId: string): Credentials | 'disabled' | undefined
}

/** A body that has been stored durably and not yet made visible. */
export interface StoredBody {
  readonly byteLength: number
  /** Hex MD5. */
  readonly md5: string
  readonly checksum: Checksum | undefined
  readonly layout: Layout
  readonly inline: Uint8Array | undefined
  /**
   * To be called once (best by `commitBody` of body-writer.ts): `committed` when an entry that names the layout was
   * acknowledged; `abandoned` when it certainly never will be: the bytes are freed; `unknown` when a submit failed
   * without an answer: the orphan collector finds out.
   */
  settle(outcome: 'committed' | 'abandoned' | 'unknown'): Promise<void>
}

export interface StoreBodyOptions {
  /** STANDARD unless told: how its chunks are kept. */
  readonly storageClass?: string
  /** Content-MD5, raw 16 bytes; BAD_DIGEST on mismatch. */
  readonly contentMd5?: Uint8Array
  /** The checksum to compute and keep. */
  readonly checksumAlgorithm?: ChecksumAlgorithm
  /** Base64; verified: BAD_DIGEST on mismatch. A function when it arrives as a trailer: asked after the last byte. */
  readonly expectedChecksum?: string | (() => string | undefined)
}

/**
 * `body-writer.ts`: streams a body into chunks (or inline), with digests, bounded memory and verification. A rejection
 * has freed everything. INCOMPLETE_BODY when the source ends early or runs over, BAD_DIGEST, CONTENT_SHA256_MISMATCH,
 * ENTITY_TOO_LARGE over 5 GiB.
 */
export type StoreBody = (
  gateway: Gateway,
  source: BodySource,
  options: StoreBodyOptions,
  signal: AbortSignal | undefined,
) => Promise<StoredBody>
