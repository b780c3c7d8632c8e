/**
 * One error class and one closed table of codes. The gateway, gRPC, the CLI and the C++ enum speak these codes;
 * `test/unit/contract/errors.test.ts` holds table, types and documentation in step.
 */

interface ErrorTraits {
  /** HTTP status of the S3 answer. */
  readonly http: number
  /** `Code` element of the S3 error document. */
  readonly s3: string
  /** gRPC status name (grpc.status key). */
  readonly grpc: string
  /** Whether the same request may succeed when sent again unchanged. */
  readonly retryable: boolean
}

const row = (http: number, s3: string, grpc: string, retryable = false): ErrorTraits => ({
  http,
  s3,
  grpc,
  retryable,
})

export const errorCodes = {
  // General
  INTERNAL: row(500, 'InternalError', 'INTERNAL', true),
  INVALID_ARGUMENT: row(400, 'InvalidArgument', 'INVALID_ARGUMENT'),
  INVALID_REQUEST: row(400, 'InvalidRequest', 'INVALID_ARGUMENT'),
  BAD_REQUEST: row(400, 'BadRequest', 'INVALID_ARGUMENT'),
  NOT_IMPLEMENTED: row(501, 'NotImplemented', 'UNIMPLEMENTED'),
  METHOD_NOT_ALLOWED: row(405, 'MethodNotAllowed', 'UNIMPLEMENTED'),
  UNAVAILABLE: row(503, 'ServiceUnavailable', 'UNAVAILABLE', true),
  SLOW_DOWN: row(503, 'SlowDown', 'RESOURCE_EXHAUSTED', true),
  TIMEOUT: row(400, 'RequestTimeout', 'DEADLINE_EXCEEDED', true),
  CANCELLED: row(499, 'ClientClosedRequest', 'CANCELLED', true),
  CLOSED: row(503, 'ServiceUnavailable', 'UNAVAILABLE', true),
  OVERLOADED: row(503, 'SlowDown', 'RESOURCE_EXHAUSTED', true),

  // Authentication and authorization
  ACCESS_DENIED: row(403, 'AccessDenied', 'PERMISSION_DENIED'),
  /** A CORS preflight that no rule allows. */
  ACCESS_FORBIDDEN: row(403, 'AccessForbidden', 'PERMISSION_DENIED'),
  UNAUTHENTICATED: row(403, 'AccessDenied', 'UNAUTHENTICATED'),
  INVALID_ACCESS_KEY_ID: row(403, 'InvalidAccessKeyId', 'UNAUTHENTICATED'),
  SIGNATURE_DOES_NOT_MATCH: row(403, 'SignatureDoesNotMatch', 'UNAUTHENTICATED'),
  REQUEST_TIME_TOO_SKEWED: row(403, 'RequestTimeTooSkewed', 'UNAUTHENTICATED'),
  EXPIRED_TOKEN: row(400, 'ExpiredToken', 'UNAUTHENTICATED'),
  AUTHORIZATION_HEADER_MALFORMED: row(400, 'AuthorizationHeaderMalformed', 'INVALID_ARGUMENT'),
  AUTHORIZATION_QUERY_ERROR: row(400, 'AuthorizationQueryParametersError', 'INVALID_ARGUMENT'),

  // Names and request shape
  INVALID_BUCKET_NAME: row(400, 'InvalidBucketName', 'INVALID_ARGUMENT'),
  INVALID_URI: row(400, 'InvalidURI', 'INVALID_ARGUMENT'),
  KEY_TOO_LONG: row(400, 'KeyTooLongError', 'INVALID_ARGUMENT'),
  METADATA_TOO_LARGE: row(400, 'MetadataTooLarge', 'INVALID_ARGUMENT'),
  REQUEST_HEADERS_TOO_LARGE: row(400, 'RequestHeaderSectionTooLarge', 'INVALID_ARGUMENT'),
  MALFORMED_XML: row(400, 'MalformedXML', 'INVALID_ARGUMENT'),
  MALFORMED_TRAILER: row(400, 'MalformedTrailerError', 'INVALID_ARGUMENT'),
  MALFORMED_POLICY: row(400, 'MalformedPolicy', 'INVALID_ARGUMENT'),
  MALFORMED_POST_REQUEST: row(400, 'MalformedPOSTRequest', 'INVALID_ARGUMENT'),
  MALFORMED_ACL: row(400, 'MalformedACLError', 'INVALID_ARGUMENT'),
  INVALID_POLICY_DOCUMENT: row(400, 'InvalidPolicyDocument', 'INVALID_ARGUMENT'),
  INVALID_TAG: row(400, 'InvalidTag', 'INVALID_ARGUMENT'),
  INVALID_LOCATION_CONSTRAINT: row(400, 'InvalidLocationConstraint', 'INVALID_ARGUMENT'),
  MISSING_CONTENT_LENGTH: row(411, 'MissingContentLength', 'INVALID_ARGUMENT'),
  INCOMPLETE_BODY: row(400, 'IncompleteBody', 'INVALID_ARGUMENT'),
  ENTITY_TOO_LARGE: row(400, 'EntityTooLarge', 'INVALID_ARGUMENT'),
  ENTITY_TOO_SMALL: row(400, 'EntityTooSmall', 'INVALID_ARGUMENT'),
  MAX_MESSAGE_LENGTH_EXCEEDED: row(400, 'MaxMessageLengthExceeded', 'INVALID_ARGUMENT'),
  BAD_DIGEST: row(400, 'BadDigest', 'INVALID_ARGUMENT'),
  INVALID_DIGEST: row(400, 'InvalidDigest', 'INVALID_ARGUMENT'),
  CONTENT_SHA256_MISMATCH: row(400, 'XAmzContentSHA256Mismatch', 'INVALID_ARGUMENT'),
  INVALID_RANGE: row(416, 'InvalidRange', 'OUT_OF_RANGE'),
  INVALID_STORAGE_CLASS: row(400, 'InvalidStorageClass', 'INVALID_ARGUMENT'),
  UNRESOLVABLE_GRANT_BY_EMAIL: row(400, 'UnresolvableGrantByEmailAddress', 'INVALID_ARGUMENT'),

  // State
  NO_SUCH_BUCKET: row(404, 'NoSuchBucket', 'NOT_FOUND'),
  NO_SUCH_KEY: row(404, 'NoSuchKey', 'NOT_FOUND'),
  NO_SUCH_VERSION: row(404, 'NoSuchVersion', 'NOT_FOUND'),
  NO_SUCH_UPLOAD: row(404, 'NoSuchUpload', 'NOT_FOUND'),
  NO_SUCH_BUCKET_POLICY: row(404, 'NoSuchBucketPolicy', 'NOT_FOUND'),
  NO_SUCH_TAG_SET: row(404, 'NoSuchTagSet', 'NOT_FOUND'),
  NO_SUCH_CORS_CONFIGURATION: row(404, 'NoSuchCORSConfiguration', 'NOT_FOUND'),
  NO_SUCH_PUBLIC_ACCESS_BLOCK: row(404, 'NoSuchPublicAccessBlockConfiguration', 'NOT_FOUND'),
  NO_SUCH_OWNERSHIP_CONTROLS: row(404, 'OwnershipControlsNotFoundError', 'NOT_FOUND'),
  NO_SUCH_ACCESS_KEY: row(404, 'NoSuchEntity', 'NOT_FOUND'),
  NO_SUCH_CONFIGURATION: row(404, 'NoSuchConfiguration', 'NOT_FOUND'),
  NO_SUCH_LIFECYCLE: row(404, 'NoSuchLifecycleConfiguration', 'NOT_FOUND'),
  NO_SUCH_WEBSITE: row(404, 'NoSuchWebsiteConfiguration', 'NOT_FOUND'),
  NO_SUCH_ENCRYPTION: row(404, 'ServerSideEncryptionConfigurationNotFoundError', 'NOT_FOUND'),
  NO_SUCH_REPLICATION: row(404, 'ReplicationConfigurationNotFoundError', 'NOT_FOUND'),
  NO_SUCH_OBJECT_LOCK: row(404, 'ObjectLockConfigurationNotFoundError', 'NOT_FOUND'),
  BUCKET_ALREADY_EXISTS: row(409, 'BucketAlreadyExists', 'ALREADY_EXISTS'),
  BUCKET_ALREADY_OWNED_BY_YOU: row(409, 'BucketAlreadyOwnedByYou', 'ALREADY_EXISTS'),
  BUCKET_NOT_EMPTY: row(409, 'BucketNotEmpty', 'FAILED_PRECONDITION'),
  TOO_MANY_BUCKETS: row(400, 'TooManyBuckets', 'RESOURCE_EXHAUSTED'),
  INVALID_BUCKET_STATE: row(409, 'InvalidBucketState', 'FAILED_PRECONDITION'),
  PRECONDITION_FAILED: row(412, 'PreconditionFailed', 'FAILED_PRECONDITION'),
  NOT_MODIFIED: row(304, 'NotModified', 'FAILED_PRECONDITION'),
  /** The idempotency key was used for another request. */
  IDEMPOTENCY_KEY_REUSED: row(422, 'IdempotencyKeyReused', 'INVALID_ARGUMENT'),
  CONDITIONAL_CONFLICT: row(409, 'ConditionalRequestConflict', 'ABORTED', true),
  INVALID_PART: row(400, 'InvalidPart', 'INVALID_ARGUMENT'),
  INVALID_PART_ORDER: row(400, 'InvalidPartOrder', 'INVALID_ARGUMENT'),
  ACL_NOT_SUPPORTED: row(400, 'AccessControlListNotSupported', 'FAILED_PRECONDITION'),
  INVALID_BUCKET_ACL_WITH_OWNERSHIP: row(400, 'InvalidBucketAclWithObjectOwnership', 'FAILED_PRECONDITION'),

  // Catalog and log
  LOG_TRIMMED: row(503, 'ServiceUnavailable', 'OUT_OF_RANGE', true),
  CATALOG_CORRUPT: row(500, 'InternalError', 'DATA_LOSS'),
  /** The servers that order the region's log answer, and have no such stream. */
  STREAM_NOT_FOUND: row(503, 'ServiceUnavailable', 'NOT_FOUND', true),
  CLOCK_SKEW: row(503, 'ServiceUnavailable', 'FAILED_PRECONDITION', true),

  // Chunk store and devices (these names are in the C++ enum too)
  CHUNK_NOT_FOUND: row(500, 'InternalError', 'NOT_FOUND'),
  CONFLICT: row(409, 'OperationAborted', 'ABORTED', true),
  CORRUPT_CHUNK: row(500, 'InternalError', 'DATA_LOSS'),
  INSUFFICIENT_STORAGE: row(507, 'InsufficientStorage', 'RESOURCE_EXHAUSTED', true),
  DEVICE_OFFLINE: row(503, 'ServiceUnavailable', 'UNAVAILABLE', true),
  IO_ERROR: row(500, 'InternalError', 'INTERNAL', true),
  UNSUPPORTED_FORMAT: row(500, 'InternalError', 'FAILED_PRECONDITION'),
  ALREADY_OPEN: row(503, 'ServiceUnavailable', 'FAILED_PRECONDITION'),

  // Links between nodes (these names are in the C++ enum too)
  /** Nobody there, or the session ended under the request: whether the peer did the work is not known. */
  PEER_UNREACHABLE: row(503, 'ServiceUnavailable', 'UNAVAILABLE', true),
  /** The handshake failed: another key, region, node or protocol version. */
  PEER_REFUSED: row(503, 'ServiceUnavailable', 'FAILED_PRECONDITION'),
  /** The peer broke the protocol, or what it sent was damaged on the way. */
  PROTOCOL_ERROR: row(500, 'InternalError', 'INTERNAL', true),
  /** A node did not answer another in time. (TIMEOUT is a client that was too slow.) */
  DEADLINE_EXCEEDED: row(503, 'ServiceUnavailable', 'DEADLINE_EXCEEDED', true),
  /** The peer was chosen by a cluster map older than the last move of the chunk: nothing was done. */
  STALE_MAP: row(503, 'ServiceUnavailable', 'ABORTED', true),

  // Policies
  /** A module, its signature or its configuration was not let in; the message says at which stage and why. */
  POLICY_REFUSED: row(400, 'InvalidArgument', 'FAILED_PRECONDITION'),
  POLICY_NOT_FOUND: row(404, 'NoSuchConfiguration', 'NOT_FOUND'),
  /** It failed while it served, and waits out its time. */
  POLICY_QUARANTINED: row(409, 'OperationAborted', 'FAILED_PRECONDITION', true),

  // Federation
  /** Clients write this bucket in another region; `details` name it. */
  NOT_PRIMARY: row(409, 'InvalidBucketState', 'FAILED_PRECONDITION'),
  /** The region that made the change had lost the right to make it. */
  STALE_EPOCH: row(409, 'OperationAborted', 'ABORTED'),
  /** A region has not got yet what the causal token of a request names. */
  REPLICA_BEHIND: row(503, 'ReplicaBehind', 'UNAVAILABLE', true),
  /** The write is stored and durable here; that another region has it, which was asked for, is not known yet. */
  REPLICATION_PENDING: row(503, 'ReplicationPending', 'UNAVAILABLE', true),
  /** What a causal token names was acknowledged and is gone: a failover has left it out. */
  WRITE_LOST: row(409, 'WriteLost', 'DATA_LOSS'),

  // Configuration
  INVALID_CONFIG: row(400, 'InvalidArgument', 'INVALID_ARGUMENT'),
} as const satisfies Record<string, ErrorTraits>

export type ErrorCode = keyof typeof errorCodes

export interface StorageErrorOptions extends ErrorOptions {
  /** Elements for the S3 error document beside Code and Message (for example `ArgumentName`). Never a secret. */
  readonly details?: Readonly<Record<string, string>>
  /** With SLOW_DOWN and the like: when it is worth asking again. */
  readonly retryAfterMs?: number
}

export class StorageError extends Error {
  override readonly name = 'StorageError'
  readonly code: ErrorCode
  /** The message without the code in front: what a client is shown. */
  readonly reason: string
  readonly details: Readonly<Record<string, string>>
  /** When it is worth asking again; undefined: not known. */
  readonly retryAfterMs: number | undefined

  constructor(code: ErrorCode, reason: string, options?: StorageErrorOptions) {
    super(`${code}: ${reason}`, options)
    this.code = code
    this.reason = reason
    this.details = options?.details ?? {}
    this.retryAfterMs = options?.retryAfterMs
  }

  get retryable(): boolean {
    return errorCodes[this.code].retryable
  }

  /** The one door foreign errors come through; the original stays in `cause`. */
  static from(reason: unknown, code: ErrorCode = 'INTERNAL'): StorageError {
    if (reason instanceof StorageError) return reason
    if (reason instanceof Error && reason.name === 'AbortError') {
      return new StorageError('CANCELLED', 'the operation was cancelled', { cause: reason })
    }
    const systemCode = reason instanceof Error && 'code' in reason ? reason.code : undefined
    if (systemCode === 'ENOSPC' || systemCode === 'EDQUOT') {
      return new StorageError('INSUFFICIENT_STORAGE', 'the device has no space left', { cause: reason })
    }
    const text = reason instanceof Error ? reason.message : String(reason)
    return new StorageError(code, text, { cause: reason })
  }
}

export function isErrorCode(value: string): value is ErrorCode {
  return Object.hasOwn(errorCodes, value)
}
