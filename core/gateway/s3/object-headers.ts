import { StorageError } from '../../contract/errors.ts'
import type { BucketRecord, Checksum, ObjectAttributes, ObjectRecord } from '../../contract/object-model.ts'
import { checksumHeader } from './checksum.ts'
import { notImplemented } from './errors.ts'
import type { S3Request } from './operation.ts'
import { shownVersion } from './resources.ts'
import { parseTaggingHeader, tagRecord } from './tag-set.ts'

/** Between the headers of requests and answers and what an object record keeps. */

/** Bytes of names (without prefix) and values of user metadata. */
const maxUserMetadataBytes = 2048
const metadataPrefix = 'x-amz-meta-'

const systemHeaderNames = [
  'cache-control',
  'content-disposition',
  'content-encoding',
  'content-language',
  'expires',
  'x-amz-website-redirect-location',
] as const

/** Classes whose objects can be read at once. They are labels; a region of several nodes may keep some of them as fragments. */
export const storageClasses: ReadonlySet<string> = new Set([
  'STANDARD',
  'REDUCED_REDUNDANCY',
  'STANDARD_IA',
  'ONEZONE_IA',
  'INTELLIGENT_TIERING',
])

const defaultContentType = 'binary/octet-stream'

const none: Readonly<Record<string, string>> = Object.freeze({})

/**
 * The attributes that a request gives a new object. METADATA_TOO_LARGE, INVALID_STORAGE_CLASS, INVALID_TAG,
 * NOT_IMPLEMENTED for encryption. The ACL is judged elsewhere (`newObjectOwnership`).
 */
export function newObjectAttributes(request: S3Request, acl: string | undefined): ObjectAttributes {
  const { headers } = request
  refuseUnsupportedHeaders(request)
  let systemHeaders: Record<string, string> | undefined
  let userMetadata: Record<string, string> | undefined
  let metadataBytes = 0
  for (const name of systemHeaderNames) {
    const value = headers[name]
    if (typeof value !== 'string') continue
    const kept = name === 'content-encoding' ? withoutChunkedEncoding(value) : value
    if (kept !== '') {
      systemHeaders ??= {}
      systemHeaders[name] = kept
    }
  }
  for (const name in headers) {
    if (!name.startsWith(metadataPrefix)) continue
    const value = request.header(name) ?? ''
    metadataBytes += name.length - metadataPrefix.length + value.length
    // A null prototype: a header named x-amz-meta-__proto__ is metadata like any other.
    userMetadata ??= Object.create(null) as Record<string, string>
    userMetadata[name.slice(metadataPrefix.length)] = value
  }
  if (metadataBytes > maxUserMetadataBytes) {
    throw new StorageError(
      'METADATA_TOO_LARGE',
      'Your metadata headers exceed the maximum allowed metadata size',
      {
        details: { Size: String(metadataBytes), MaxSizeAllowed: String(maxUserMetadataBytes) },
      },
    )
  }
  const storageClass = request.header('x-amz-storage-class') ?? 'STANDARD'
  if (!storageClasses.has(storageClass)) {
    throw new StorageError('INVALID_STORAGE_CLASS', 'The storage class you specified is not valid', {
      details: { StorageClassRequested: storageClass },
    })
  }
  const tagging = request.header('x-amz-tagging')
  const attributes: ObjectAttributes = {
    contentType: headers['content-type'] === undefined ? defaultContentType : String(headers['content-type']),
    systemHeaders: systemHeaders ?? none,
    userMetadata: userMetadata ?? none,
    storageClass,
    tags: tagging === undefined ? none : tagRecord(parseTaggingHeader(tagging)),
  }
  return acl === undefined ? attributes : { ...attributes, acl }
}

/** Functions that would change what is stored: pretending would leave data in the clear or deletable. */
export function refuseUnsupportedHeaders(request: S3Request): void {
  for (const name in request.headers) {
    if (!name.startsWith('x-amz-')) continue
    if (name.startsWith('x-amz-server-side-encryption') || name.startsWith('x-amz-copy-source-server-side')) {
      throw notImplemented(name)
    }
    if (name.startsWith('x-amz-object-lock-')) {
      throw new StorageError('INVALID_REQUEST', 'Bucket is missing Object Lock Configuration')
    }
    if (name === 'x-amz-write-offset-bytes') throw notImplemented(name)
  }
}

/** `aws-chunked` is how the body travelled, not what the object is. */
function withoutChunkedEncoding(value: string): string {
  if (!value.includes('aws-chunked')) return value
  return value
    .split(',')
    .map((part) => part.trim())
    .filter((part) => part !== 'aws-chunked' && part !== '')
    .join(',')
}

/** The headers of an object for GET and HEAD; lengths and ranges are the caller's. */
export function objectHeaders(bucket: BucketRecord, record: ObjectRecord): Record<string, string | number> {
  const { attributes } = record
  const headers: Record<string, string | number> = {
    'last-modified': httpDate(record.modifiedMs),
    etag: `"${record.etag}"`,
    'accept-ranges': 'bytes',
    'content-type': sendableValue(attributes.contentType),
  }
  const version = shownVersion(bucket, record)
  if (version !== undefined) headers['x-amz-version-id'] = version
  for (const name in attributes.systemHeaders) {
    headers[name] = sendableValue(attributes.systemHeaders[name] ?? '')
  }
  for (const name in attributes.userMetadata) {
    // Forms and replication can bring names that no header has; the rest of the object is still to be read.
    if (token.test(name)) headers[metadataPrefix + name] = sendableValue(attributes.userMetadata[name] ?? '')
  }
  if (attributes.storageClass !== 'STANDARD') headers['x-amz-storage-class'] = attributes.storageClass
  let tags = 0
  for (const _ in attributes.tags) tags += 1
  if (tags > 0) headers['x-amz-tagging-count'] = tags
  return headers
}

export function checksumHeaders(checksum: Checksum): Record<string, string> {
  return { [checksumHeader(checksum.algorithm)]: checksum.value, 'x-amz-checksum-type': checksum.type }
}

const overrides: readonly (readonly [parameter: string, header: string])[] = [
  ['response-content-type', 'content-type'],
  ['response-content-language', 'content-language'],
  ['response-expires', 'expires'],
  ['response-cache-control', 'cache-control'],
  ['response-content-disposition', 'content-disposition'],
  ['response-content-encoding', 'content-encoding'],
]

/** Applies `response-*` parameters. INVALID_REQUEST for anonymous requests, whose links anybody could alter. */
export function overrideHeaders(
  request: S3Request,
  anonymous: boolean,
  headers: Record<string, string | number>,
): void {
  if (request.query.size === 0) return
  for (const [parameter, header] of overrides) {
    const value = request.query.get(parameter)
    if (value === undefined) continue
    if (anonymous) {
      throw new StorageError(
        'INVALID_REQUEST',
        'Request specific response headers cannot be used for anonymous GET requests.',
      )
    }
    headers[header] = headerText(value)
  }
}

/** RFC 9110 5.6.2. */
const token = /^[!#$%&'*+\-.^_`|~0-9A-Za-z]+$/
const sendable = /^[\t\u0020-\u007e\u0080-\u00ff]*$/

/** Text as a header value: bytes are UTF-8, node takes one character for one byte. Controls, which would split the head, go. */
export function headerText(value: string): string {
  // biome-ignore lint/suspicious/noControlCharactersInRegex: exactly these must not get into a header
  return Buffer.from(value.replace(/[\u0000-\u001f\u007f]/g, ' ')).toString('latin1')
}

/** A value that came in as a header is one already; any other is made one. */
const sendableValue = (value: string): string => (sendable.test(value) ? value : headerText(value))

let cachedSecond = Number.NaN
let cachedDate = ''

/** RFC 9110 IMF-fixdate. Objects written together are read together, so the last one is kept. */
export function httpDate(ms: number): string {
  const second = Math.floor(ms / 1000)
  if (second !== cachedSecond) {
    cachedSecond = second
    cachedDate = new Date(second * 1000).toUTCString()
  }
  return cachedDate
}
