import type { Catalog } from '../../contract/catalog.ts'
import type { ChunkStore } from '../../contract/chunk-store.ts'
import type { Environment } from '../../contract/clock.ts'
import type { Logger } from '../../contract/logger.ts'
import type {
  AccountId,
  BucketRecord,
  Checksum,
  ChecksumAlgorithm,
  Layout,
} from '../../contract/object-model.ts'
import type { WriteRegistry } from '../../contract/write-registry.ts'

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
  readonly bucketName: string | undefined
  readonly key: string | undefined
  readonly remoteAddress: string
  readonly secure: boolean
  readonly body: RequestBody
  /** Aborted when the client goes away or the request's deadline passes. */
  readonly signal: AbortSignal
}

export interface RequestBody {
  /** Bytes of payload declared (x-amz-decoded-content-length or Content-Length); undefined when neither was sent. */
  readonly declaredBytes: number | undefined
  /**
   * The payload: aws-chunked framing removed, chunk signatures and the declared payload hash verified before the
   * iteration ends. Throws the precise StorageError (INCOMPLETE_BODY, SIGNATURE_DOES_NOT_MATCH, ...). Once only.
   */
  stream(): AsyncIterable<Uint8Array>
  /** The whole payload as text, for documents; MAX_MESSAGE_LENGTH_EXCEEDED beyond `limitBytes`. */
  text(limitBytes: number): Promise<string>
  /** Trailing headers (x-amz-checksum-*), complete once the stream has ended. */
  trailers(): ReadonlyMap<string, string>
}

export interface S3Response {
  readonly status: number
  readonly headers?: Readonly<Record<string, string | number>>
  /** A string is a document (XML unless content-type says otherwise). A stream is sent with back-pressure. */
  readonly body?: string | Uint8Array | ResponseStream
}

export interface ResponseStream {
  readonly byteLength: number
  /**
   * Pushes every piece through `write`, which resolves when the socket has taken the piece (its buffer may be released
   * then). Rejects when the client has gone.
   */
  send(write: (piece: Uint8Array) => Promise<void>): Promise<void>
}

export interface Operation {
  /** The S3 API name, such as `PutObject`: routing, metrics and logs use it. */
  readonly name: string
  /** The IAM action that authorizes it, such as `s3:PutObject`; null: any authenticated account (ListBuckets). */
  readonly action: string | null
  /** The bucket need not exist (CreateBucket). */
  readonly bucketOptional?: boolean
  handle(context: OperationContext): Promise<S3Response>
}

/** What every handler works with. One per request. */
export interface OperationContext {
  readonly request: S3Request
  readonly identity: Identity
  readonly gateway: Gateway
  /** The bucket named by the request; NO_SUCH_BUCKET is answered before the handler runs unless `bucketOptional`. */
  readonly bucket: BucketRecord | undefined
  readonly log: Logger
  /** Throws ACCESS_DENIED unless the identity may do `action` there: for handlers that touch more than one object. */
  authorize(action: string, bucket: BucketRecord, key?: string, versionId?: string): void
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
  /** To be called once: `committed` when an entry that names the layout was acknowledged, else the bytes are freed. */
  settle(outcome: 'committed' | 'abandoned'): Promise<void>
}

export interface StoreBodyOptions {
  /** Content-MD5, raw 16 bytes; BAD_DIGEST on mismatch. */
  readonly contentMd5?: Uint8Array
  /** The checksum to compute and keep. */
  readonly checksumAlgorithm?: ChecksumAlgorithm
  /** Base64; verified: BAD_DIGEST on mismatch. A function when it arrives as a trailer: asked after the last byte. */
  readonly expectedChecksum?: string | (() => string | undefined)
}

/** `body-writer.ts`: streams a body into chunks (or inline), with digests, bounded memory and verification. */
export type StoreBody = (
  gateway: Gateway,
  source: AsyncIterable<Uint8Array>,
  declaredBytes: number | undefined,
  options: StoreBodyOptions,
  signal: AbortSignal,
) => Promise<StoredBody>
