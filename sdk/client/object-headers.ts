import { type ChecksumAlgorithm, checksumAlgorithms, checksumHeader } from './crc.ts'
import { encodeUri, headerText, headerValue } from './encoding.ts'
import type { PooledEndpoint } from './endpoints.ts'
import { invalidAnswer, invalidArgument } from './errors.ts'
import type { AnswerHeaders } from './http-answer.ts'

/** What is kept beside the bytes of an object. */
export interface ObjectAttributes {
  /** Default: the type of a Blob or File, else `binary/octet-stream`. */
  readonly contentType?: string
  readonly cacheControl?: string
  readonly contentDisposition?: string
  readonly contentEncoding?: string
  readonly contentLanguage?: string
  /** The application's own: names in lower case, values any text; 2 KiB in all. */
  readonly metadata?: Readonly<Record<string, string>>
  /** At most ten. */
  readonly tags?: Readonly<Record<string, string>>
  readonly storageClass?: string
}

/** What is known of an object without its bytes. */
export interface ObjectInfo {
  readonly bucket: string
  readonly key: string
  /** Bytes of the whole object. */
  readonly size: number
  /** Without quotes. */
  readonly etag: string
  /** Of a bucket with versions. */
  readonly versionId: string | undefined
  readonly lastModified: Date
  readonly contentType: string
  readonly cacheControl: string | undefined
  readonly contentDisposition: string | undefined
  readonly contentEncoding: string | undefined
  readonly contentLanguage: string | undefined
  readonly storageClass: string
  readonly metadata: Readonly<Record<string, string>>
  readonly tagCount: number
  /** Of the whole object, if the server keeps one that this client can check. */
  readonly checksum: { readonly algorithm: ChecksumAlgorithm; readonly value: string } | undefined
}

/** Conditions of a write; the server decides them in the order of all writes. */
export interface WriteConditions {
  /** Only over the object that has this etag. */
  readonly ifMatch?: string
  /** `*`: only if there is no object yet. */
  readonly ifNoneMatch?: string
}

const headerOfAttribute = {
  contentType: 'content-type',
  cacheControl: 'cache-control',
  contentDisposition: 'content-disposition',
  contentEncoding: 'content-encoding',
  contentLanguage: 'content-language',
  storageClass: 'x-amz-storage-class',
} as const

/** Throws InvalidArgument for what no header can carry. */
export function attributeHeaders(attributes: ObjectAttributes): Record<string, string> {
  const headers: Record<string, string> = {}
  for (const [name, header] of Object.entries(headerOfAttribute)) {
    const value = attributes[name as keyof typeof headerOfAttribute]
    if (value !== undefined) headers[header] = sendable(name, value)
  }
  for (const [name, value] of Object.entries(attributes.metadata ?? {})) {
    if (!/^[!#$%&'*+\-.^_`|~0-9a-z]+$/.test(name))
      throw invalidArgument(`a name of metadata has lower-case letters, digits and - . _ only: ${name}`)
    headers[`x-amz-meta-${name}`] = sendable(`metadata.${name}`, value)
  }
  const tags = Object.entries(attributes.tags ?? {})
  if (tags.length > 0) {
    headers['x-amz-tagging'] = tags.map(([name, value]) => `${encodeUri(name)}=${encodeUri(value)}`).join('&')
  }
  return headers
}

export function conditionHeaders({ ifMatch, ifNoneMatch }: WriteConditions): Record<string, string> {
  return {
    ...(ifMatch === undefined ? {} : { 'if-match': quoted(ifMatch) }),
    ...(ifNoneMatch === undefined ? {} : { 'if-none-match': quoted(ifNoneMatch) }),
  }
}

export const quoted = (etag: string): string => (etag === '*' || etag.startsWith('"') ? etag : `"${etag}"`)
export const unquoted = (etag: string): string => etag.trim().replace(/^(?:W\/)?"(.*)"$/, '$1')

function sendable(name: string, value: string): string {
  // biome-ignore lint/suspicious/noControlCharactersInRegex: exactly these would end a header
  if (/[\u0000-\u001f\u007f]/.test(value)) throw invalidArgument(`${name} contains control characters`)
  // fetch and the server take spaces at the ends away, which a signature and an application would notice.
  if (value !== value.trim()) throw invalidArgument(`${name} begins or ends with a space`)
  return headerValue(value)
}

/** Throws InvalidAnswer when the object's headers are not there, as for a page that CORS does not show them to. */
export function objectInfo(
  bucket: string,
  key: string,
  headers: AnswerHeaders,
  endpoint: PooledEndpoint,
): ObjectInfo {
  const etag = requiredHeader(headers, 'etag', endpoint)
  const range = headers.get('content-range')
  const total = range === null ? headers.get('content-length') : (/\/(\d+)$/.exec(range)?.[1] ?? null)
  if (total === null || !/^\d{1,16}$/.test(total)) {
    throw invalidAnswer(
      `the answer has no ${range === null ? 'Content-Length' : 'length in Content-Range'}`,
      endpoint.origin,
    )
  }
  const metadata: Record<string, string> = Object.create(null)
  headers.forEach((value, name) => {
    if (name.startsWith('x-amz-meta-')) metadata[name.slice('x-amz-meta-'.length)] = headerText(value)
  })
  const text = (name: string): string | undefined => {
    const value = headers.get(name)
    return value === null ? undefined : headerText(value)
  }
  return {
    bucket,
    key,
    size: Number(total),
    etag: unquoted(etag),
    versionId: text('x-amz-version-id'),
    lastModified: new Date(headers.get('last-modified') ?? Number.NaN),
    contentType: text('content-type') ?? '',
    cacheControl: text('cache-control'),
    contentDisposition: text('content-disposition'),
    // What ranges are asked for with, and no encoding at all.
    contentEncoding: text('content-encoding') === 'identity' ? undefined : text('content-encoding'),
    contentLanguage: text('content-language'),
    storageClass: text('x-amz-storage-class') ?? 'STANDARD',
    metadata,
    tagCount: Number(headers.get('x-amz-tagging-count') ?? 0),
    checksum: wholeChecksum(headers),
  }
}

export function requiredHeader(headers: AnswerHeaders, name: string, endpoint: PooledEndpoint): string {
  const value = headers.get(name)
  if (value !== null) return value
  throw invalidAnswer(
    `the answer has no ${name} header; in a browser, the bucket's CORS rules must expose it (sdk/README.md)`,
    endpoint.origin,
  )
}

/** Checksums of parts (`value-count`) are not of the whole object. */
function wholeChecksum(headers: AnswerHeaders): ObjectInfo['checksum'] {
  if (headers.get('x-amz-checksum-type') === 'COMPOSITE') return undefined
  for (const algorithm of checksumAlgorithms) {
    const value = headers.get(checksumHeader(algorithm))
    if (value !== null && !value.includes('-')) return { algorithm, value }
  }
  return undefined
}
