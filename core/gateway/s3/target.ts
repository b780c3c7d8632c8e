import { StorageError } from '../../contract/errors.ts'

/**
 * The request target, parsed by hand: `URL` normalises dot segments and double slashes, which are legal in keys, and is slow.
 * Keys are only names here, never paths of anything.
 */
export interface Target {
  /** As received, without the query; what the signature's canonical path is made from. */
  readonly rawPath: string
  /** The same with the bucket in front, also where that was the host's name: what Signature V2 covers. */
  readonly resourcePath: string
  /** As received, without the question mark. */
  readonly rawQuery: string
  readonly bucketName: string | undefined
  readonly key: string | undefined
}

/** Bytes of UTF-8 in the longest key. */
const maxKeyBytes = 1024

const invalidUri = (): StorageError => new StorageError('INVALID_URI', "Couldn't parse the specified URI.")

/** INVALID_URI, KEY_TOO_LONG. `host` is the Host header; `domains` those below which buckets are host names. */
export function parseTarget(rawTarget: string, host: string | undefined, domains: readonly string[]): Target {
  let target = rawTarget
  if (target.charCodeAt(0) !== 47) {
    // Absolute form, which proxies send (RFC 9112 3.2.2); node:http hands it on as it is.
    const authority = /^https?:\/\/[^/?#]*/i.exec(target)
    if (authority === null) throw invalidUri()
    target = target.slice(authority[0].length)
    if (target.charCodeAt(0) !== 47) target = `/${target}`
  }
  const mark = target.indexOf('?')
  const rawPath = mark < 0 ? target : target.slice(0, mark)
  const rawQuery = mark < 0 ? '' : target.slice(mark + 1)

  const virtual = domains.length === 0 ? undefined : bucketOfHost(host, domains)
  const resourcePath = virtual === undefined ? rawPath : `/${virtual}${rawPath}`
  let bucketName: string | undefined
  let rawKey: string
  if (virtual !== undefined) {
    bucketName = virtual
    rawKey = rawPath.slice(1)
  } else {
    const slash = rawPath.indexOf('/', 1)
    const rawBucket = slash < 0 ? rawPath.slice(1) : rawPath.slice(1, slash)
    if (rawPath.length > 1) bucketName = decodePathPart(rawBucket)
    rawKey = slash < 0 ? '' : rawPath.slice(slash + 1)
  }
  if (rawKey === '') return { rawPath, resourcePath, rawQuery, bucketName, key: undefined }
  const key = decodePathPart(rawKey)
  if (key.length * 3 > maxKeyBytes && Buffer.byteLength(key) > maxKeyBytes) {
    throw new StorageError('KEY_TOO_LONG', 'Your key is too long', {
      details: { Size: String(Buffer.byteLength(key)), MaxSizeAllowed: String(maxKeyBytes) },
    })
  }
  return { rawPath, resourcePath, rawQuery, bucketName, key }
}

const plainPath = /^[A-Za-z0-9\-._~/!$&'()*+,;=:@]*$/

/** Percent-decodes; a plus sign in a path is a plus sign. INVALID_URI for a bad escape or bytes that are not UTF-8. */
export function decodePathPart(raw: string): string {
  if (plainPath.test(raw)) return raw
  try {
    // Bytes over 0x7f that were sent unescaped arrive as Latin-1.
    return decodeURIComponent(escapeHighBytes(raw))
  } catch {
    throw invalidUri()
  }
}

function escapeHighBytes(raw: string): string {
  return raw.replace(/[\u0080-\u00ff]/g, (character) => `%${character.charCodeAt(0).toString(16)}`)
}

/** The bucket of a virtual-host style request, undefined for a path-style one. */
function bucketOfHost(host: string | undefined, domains: readonly string[]): string | undefined {
  if (host === undefined) return undefined
  const name = host.replace(/:\d*$/, '').toLowerCase()
  for (const domain of domains) {
    if (name.length > domain.length + 1 && name.endsWith(domain)) {
      if (name.charCodeAt(name.length - domain.length - 1) === 46) return name.slice(0, -domain.length - 1)
    }
  }
  return undefined
}

const noQuery: ReadonlyMap<string, string> = new Map()

/**
 * Decoded parameters, the first value of each name. A plus sign is a space, as in S3. INVALID_URI for a bad escape.
 */
export function parseQuery(rawQuery: string): ReadonlyMap<string, string> {
  if (rawQuery === '') return noQuery
  const query = new Map<string, string>()
  let start = 0
  while (start <= rawQuery.length) {
    let end = rawQuery.indexOf('&', start)
    if (end < 0) end = rawQuery.length
    if (end > start) {
      const equals = rawQuery.indexOf('=', start)
      const nameEnd = equals < 0 || equals > end ? end : equals
      const name = decodeQueryPart(rawQuery.slice(start, nameEnd))
      if (!query.has(name))
        query.set(name, nameEnd === end ? '' : decodeQueryPart(rawQuery.slice(nameEnd + 1, end)))
    }
    start = end + 1
  }
  return query
}

/** All parameters in order of arrival, decoded. */
export function queryPairs(rawQuery: string): [name: string, value: string][] {
  const pairs: [string, string][] = []
  for (const part of rawQuery.split('&')) {
    if (part === '') continue
    const equals = part.indexOf('=')
    const name = equals < 0 ? part : part.slice(0, equals)
    pairs.push([decodeQueryPart(name), equals < 0 ? '' : decodeQueryPart(part.slice(equals + 1))])
  }
  return pairs
}

const plainQuery = /^[A-Za-z0-9\-._~/]*$/

function decodeQueryPart(raw: string): string {
  return plainQuery.test(raw) ? raw : decodePathPart(raw.replaceAll('+', ' '))
}

/** What `isBucketName` asks for, to be told to people. */
export const bucketNameRule =
  '3 to 63 of a-z, 0-9, dots and hyphens, beginning and ending with a letter or digit; dots stand alone, ' +
  'and it is no IP address, does not begin with xn-- and does not end with -s3alias'

/** As in Amazon S3. */
export function isBucketName(name: string): boolean {
  return (
    /^[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]$/.test(name) &&
    !name.includes('..') &&
    !name.includes('.-') &&
    !name.includes('-.') &&
    !/^\d+\.\d+\.\d+\.\d+$/.test(name) &&
    !name.startsWith('xn--') &&
    !name.endsWith('-s3alias')
  )
}
