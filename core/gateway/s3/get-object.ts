import { StorageError } from '../../contract/errors.ts'
import type { BucketRecord, ObjectRecord } from '../../contract/object-model.ts'
import { openBody } from './body-reader.ts'
import { checksumHeader } from './checksum.ts'
import { errorResponse, invalidArgument, noSuchKey } from './errors.ts'
import { checksumHeaders, httpDate, objectHeaders, overrideHeaders } from './object-headers.ts'
import type { Operation, OperationContext, S3Request, S3Response } from './operation.ts'
import {
  evaluate,
  parseEntityTags,
  parseHttpDate,
  preconditionFailed,
  readConditions,
} from './preconditions.ts'
import { type ByteRange, parseRange } from './range.ts'
import { replicationStatus } from './replication-operations.ts'
import { bucketOf, keyOf, shownVersion, versionOf } from './resources.ts'
import { formatVersionId } from './version-id.ts'

export const getObject: Operation = {
  name: 'GetObject',
  action: readAction,
  async handle(context) {
    return readObject(context, true)
  },
}

export const headObject: Operation = {
  name: 'HeadObject',
  action: readAction,
  async handle(context) {
    return readObject(context, false)
  },
}

function readAction(request: S3Request): string {
  return request.query.has('versionId') ? 's3:GetObjectVersion' : 's3:GetObject'
}

/** Without an await between the catalog read and the pin of the body: see `openBody`. */
function readObject(context: OperationContext, withBody: boolean): S3Response {
  const { request, gateway } = context
  const bucket = bucketOf(context)
  const key = keyOf(context)
  const version = versionOf(context)
  const record = context.look?.record ?? gateway.catalog.object(bucket.id, key, version)
  if (record === undefined) {
    if (version !== undefined) {
      throw new StorageError('NO_SUCH_VERSION', 'The specified version does not exist.', {
        details: { Key: key, VersionId: formatVersionId(version) },
      })
    }
    // Nothing is there, and no marker either: tools ask for the difference.
    return errorResponse(noSuchKey(key), request, { 'x-amz-delete-marker': 'false' })
  }
  if (record.deleteMarker) return answerDeleteMarker(context, bucket, record, version !== undefined)
  refuseCustomerKeys(request)

  const conditions = readConditions(request)
  if (conditions !== undefined) {
    const outcome = evaluate(conditions, record)
    if (outcome !== 'met') {
      if (!outcome.notModified) throw preconditionFailed(outcome.failed)
      return { status: 304, headers: unmodifiedHeaders(bucket, record) }
    }
  }

  const headers = objectHeaders(bucket, record)
  const replicated = replicationStatus(gateway, bucket, record)
  if (replicated !== undefined) headers['x-amz-replication-status'] = replicated
  const part = partOf(request, record)
  const header = rangeHeader(request, record)
  if (part !== undefined && header !== undefined) {
    throw new StorageError(
      'INVALID_REQUEST',
      'Cannot specify both Range header and partNumber query parameter',
    )
  }
  const range = part ?? parseRange(header, record.byteLength)
  if (part?.count !== undefined) headers['x-amz-mp-parts-count'] = part.count
  if (record.checksum !== undefined && request.headers['x-amz-checksum-mode'] === 'ENABLED') {
    if (part?.checksum !== undefined) {
      headers[checksumHeader(record.checksum.algorithm)] = part.checksum
      headers['x-amz-checksum-type'] = record.checksum.type
    } else if (range === undefined || range.length === record.byteLength) {
      Object.assign(headers, checksumHeaders(record.checksum))
    }
  }
  overrideHeaders(request, context.identity.kind === 'anonymous', headers)

  let status = 200
  let start = 0
  let length = record.byteLength
  if (range !== undefined) {
    start = range.start
    length = range.length
  }
  // A part without bytes is no range: Content-Range has no words for it.
  if (range !== undefined && length > 0) {
    status = 206
    headers['content-range'] = `bytes ${start}-${start + length - 1}/${record.byteLength}`
  }
  if (!withBody) {
    headers['content-length'] = length
    return { status, headers }
  }
  return { status, headers, body: openBody(gateway, record.layout, start, length) }
}

function answerDeleteMarker(
  context: OperationContext,
  bucket: BucketRecord,
  record: ObjectRecord,
  named: boolean,
): S3Response {
  const error = named
    ? new StorageError('METHOD_NOT_ALLOWED', 'The specified method is not allowed against this resource.', {
        details: { Method: context.request.method, ResourceType: 'DeleteMarker' },
      })
    : noSuchKey(record.key)
  const version = shownVersion(bucket, record)
  return errorResponse(error, context.request, {
    'x-amz-delete-marker': 'true',
    ...(version === undefined ? {} : { 'x-amz-version-id': version }),
    ...(named ? { allow: 'DELETE', 'last-modified': httpDate(record.modifiedMs) } : {}),
  })
}

/** RFC 9110 15.4.5: what a cache needs to go on with its copy. */
function unmodifiedHeaders(bucket: BucketRecord, record: ObjectRecord): Record<string, string> {
  const version = shownVersion(bucket, record)
  const headers: Record<string, string> = {
    etag: `"${record.etag}"`,
    'last-modified': httpDate(record.modifiedMs),
  }
  if (version !== undefined) headers['x-amz-version-id'] = version
  for (const name of ['cache-control', 'expires']) {
    const value = record.attributes.systemHeaders[name]
    if (value !== undefined) headers[name] = value
  }
  return headers
}

/** If-Range (RFC 9110 13.1.5): another entity than the one that the client has a part of is sent whole. */
function rangeHeader(request: S3Request, record: ObjectRecord): string | undefined {
  const { range } = request.headers
  const ifRange = request.headers['if-range']
  if (typeof range !== 'string' || typeof ifRange !== 'string') return range as string | undefined
  const date = ifRange.includes('"') ? undefined : parseHttpDate(ifRange)
  const same =
    date === undefined
      ? parseEntityTags(ifRange).includes(record.etag)
      : Math.floor(record.modifiedMs / 1000) === Math.floor(date / 1000)
  return same ? range : undefined
}

interface PartRange extends ByteRange {
  readonly count: number | undefined
  readonly checksum: string | undefined
}

/** `partNumber` of the query; a simple object is its own part 1. INVALID_ARGUMENT, INVALID_PART. */
function partOf(request: S3Request, record: ObjectRecord): PartRange | undefined {
  if (request.query.size === 0) return undefined
  const text = request.query.get('partNumber')
  if (text === undefined) return undefined
  const number = /^\d{1,5}$/.test(text) ? Number(text) : 0
  if (number < 1 || number > 10_000) {
    throw invalidArgument('Part number must be an integer between 1 and 10000, inclusive', 'partNumber', text)
  }
  const { parts } = record
  if (parts === undefined) {
    if (number !== 1) throw noSuchPart()
    return { start: 0, length: record.byteLength, count: undefined, checksum: record.checksum?.value }
  }
  let start = 0
  for (const part of parts) {
    if (part.number === number) {
      return { start, length: part.byteLength, count: parts.length, checksum: part.checksum }
    }
    start += part.byteLength
  }
  throw noSuchPart()
}

const noSuchPart = (): StorageError =>
  new StorageError('INVALID_PART', 'The requested partnumber is not satisfiable')

/** Nothing is encrypted with a customer's key, so a read that brings one has the wrong object. */
function refuseCustomerKeys(request: S3Request): void {
  if (request.headers['x-amz-server-side-encryption-customer-algorithm'] !== undefined) {
    throw new StorageError('INVALID_REQUEST', 'The encryption parameters are not applicable to this object.')
  }
}
