import { StorageError } from '../../contract/errors.ts'
import type { BucketRecord, ObjectRecord } from '../../contract/object-model.ts'
import { bytesSource, openBody } from './body-reader.ts'
import { invalidArgument, noSuchBucket, noSuchKey } from './errors.ts'
import type { BodySource, Gateway, OperationContext, S3Request } from './operation.ts'
import { copySourceConditions, evaluate, preconditionFailed } from './preconditions.ts'
import type { ByteRange } from './range.ts'
import { decodePathPart, isBucketName } from './target.ts'
import { formatVersionId, parseVersionId } from './version-id.ts'

/** What x-amz-copy-source names: for CopyObject and UploadPartCopy. */
export interface CopySource {
  readonly bucket: BucketRecord
  readonly record: ObjectRecord
  /** As it was named; undefined: whatever is current. */
  readonly versionId: string | undefined
}

/** For routing, before a presigned query's headers are adopted: a copy, not an upload of nothing. */
export function isCopy(request: S3Request): boolean {
  return request.headers['x-amz-copy-source'] !== undefined || request.query.has('x-amz-copy-source')
}

/** At an edge the source may be at its hub only: it is here, as it is now, when this resolves. As `resolveCopySource`; UNAVAILABLE. */
export async function fetchCopySource(context: OperationContext): Promise<void> {
  const { request, gateway } = context
  if (gateway.replication === undefined) return
  const { bucketName, key, versionId } = parseCopySource(request.header('x-amz-copy-source') ?? '')
  const bucket = gateway.catalog.bucket(bucketName)
  if (bucket?.replicated !== true) return
  context.authorize(versionId === undefined ? 's3:GetObject' : 's3:GetObjectVersion', bucket, key, versionId)
  const version = versionId === undefined ? undefined : parseVersionId(versionId)
  if (versionId !== undefined && version === undefined) return
  await gateway.replication.edge.look(bucket.id, key, version, true, request.signal)
}

/**
 * Resolves, authorizes and checks the source of a copy. Its body must be opened (`copyBody`) before the next await.
 * INVALID_ARGUMENT, NO_SUCH_BUCKET, NO_SUCH_KEY, NO_SUCH_VERSION, ACCESS_DENIED, PRECONDITION_FAILED.
 */
export function resolveCopySource(context: OperationContext): CopySource {
  const { request, gateway } = context
  const { bucketName, key, versionId } = parseCopySource(request.header('x-amz-copy-source') ?? '')
  const bucket = gateway.catalog.bucket(bucketName)
  if (bucket === undefined) throw noSuchBucket(bucketName)
  context.authorize(versionId === undefined ? 's3:GetObject' : 's3:GetObjectVersion', bucket, key, versionId)
  const version = versionId === undefined ? undefined : parseVersionId(versionId)
  if (versionId !== undefined && version === undefined) {
    throw invalidArgument('Invalid version id specified', 'versionId', versionId)
  }
  const record = gateway.catalog.object(bucket.id, key, version)
  if (record === undefined) {
    if (version === undefined) throw noSuchKey(key)
    throw new StorageError('NO_SUCH_VERSION', 'The specified version does not exist.', {
      details: { Key: key, VersionId: formatVersionId(version) },
    })
  }
  if (record.deleteMarker) {
    if (version === undefined) throw noSuchKey(key)
    throw new StorageError(
      'INVALID_REQUEST',
      'The source of a copy request may not specifically refer to a delete marker by version id.',
    )
  }
  const expectedOwner = request.header('x-amz-source-expected-bucket-owner')
  if (expectedOwner !== undefined && expectedOwner !== bucket.owner) {
    throw new StorageError('ACCESS_DENIED', 'Access Denied')
  }
  const conditions = copySourceConditions(request)
  if (conditions !== undefined) {
    const outcome = evaluate(conditions, record)
    if (outcome !== 'met') throw preconditionFailed(`x-amz-copy-source-${outcome.failed}`)
  }
  return { bucket, record, versionId }
}

/** The bytes of (a range of) the source, pinned; read, and stored again, in the class of the request. */
export function copyBody(
  gateway: Gateway,
  record: ObjectRecord,
  qosClass: number | undefined,
  range?: ByteRange,
): BodySource & { discard(): void } {
  const body = openBody(gateway, record.layout, range?.start ?? 0, range?.length ?? record.byteLength)
  if (body instanceof Uint8Array) return bytesSource(body)
  body.qosClass = qosClass
  return body
}

/** `[/]bucket/key[?versionId=...]`, percent-encoded. INVALID_ARGUMENT. */
export function parseCopySource(header: string): {
  bucketName: string
  key: string
  versionId: string | undefined
} {
  const bad = (): StorageError =>
    invalidArgument(
      'Copy Source must mention the source bucket and key: sourcebucket/sourcekey',
      'x-amz-copy-source',
      header,
    )
  const mark = header.indexOf('?')
  const query = mark < 0 ? undefined : header.slice(mark + 1)
  let versionId: string | undefined
  if (query !== undefined) {
    const match = /^versionId=([^&]*)$/.exec(query)
    if (match?.[1] === undefined) throw bad()
    versionId = decoded(match[1], bad)
  }
  const path = (mark < 0 ? header : header.slice(0, mark)).replace(/^(?:\/|%2F)/i, '')
  const text = decoded(path, bad)
  const slash = text.indexOf('/')
  const bucketName = text.slice(0, Math.max(slash, 0))
  const key = text.slice(slash + 1)
  if (slash < 1 || key === '' || !isBucketName(bucketName)) throw bad()
  return { bucketName, key, versionId }
}

function decoded(text: string, bad: () => StorageError): string {
  try {
    return decodePathPart(text)
  } catch {
    throw bad()
  }
}
