import { createHmac, timingSafeEqual } from 'node:crypto'
import { StorageError } from '../../../contract/errors.ts'
import { isSubresource } from '../route.ts'
import { queryPairs } from '../target.ts'
import { canonicalPath } from './canonical.ts'
import type { SignedRequest } from './sigv4.ts'

/**
 * URLs presigned with Signature Version 2, which boto3 (and all that is built on it) and `s3cmd signurl` make unless they
 * are told otherwise. https://docs.aws.amazon.com/AmazonS3/latest/API/RESTAuthentication.html
 *
 * The Authorization header of version 2 is not served: no client sends it unasked.
 *
 * What is signed is decoded text, in which a separator in a name or a value looks like one between two of them. So nothing is
 * taken whose text could be read in another way: a signature would be good for another request, too.
 */

/** Parameters that the signature covers: the documented ones and those that boto3 adds. */
const signedParameters: ReadonlySet<string> = new Set(
  (
    'accelerate acl analytics cors defaultObjectAcl delete inventory lifecycle location logging metrics notification ' +
    'object-lock partNumber policy replication requestPayment response-cache-control response-content-disposition ' +
    'response-content-encoding response-content-language response-content-type response-expires restore select ' +
    'select-type storageClass tagging torrent uploadId uploads versionId versioning versions website'
  ).split(' '),
)

export function isPresignedV2(query: ReadonlyMap<string, string>): boolean {
  return query.has('AWSAccessKeyId') && query.has('Signature')
}

/** Throws unless the URL was signed with the secret and holds now. ACCESS_DENIED, SIGNATURE_DOES_NOT_MATCH, INVALID_REQUEST. */
export function verifyPresignedV2(request: SignedRequest, secretKey: string, nowMs: number): void {
  const { query } = request
  const expires = query.get('Expires') ?? ''
  if (!/^\d{1,12}$/.test(expires)) {
    throw new StorageError(
      'ACCESS_DENIED',
      'Query-string authentication requires the Signature, Expires and AWSAccessKeyId parameters',
    )
  }
  if (nowMs > Number(expires) * 1000) {
    throw new StorageError('ACCESS_DENIED', 'Request has expired', {
      details: {
        Expires: new Date(Number(expires) * 1000).toISOString(),
        ServerTime: new Date(nowMs).toISOString(),
      },
    })
  }
  const pairs = queryPairs(request.rawQuery)
  refuseUncovered(pairs)
  const given = Buffer.from(query.get('Signature') ?? '', 'base64')
  const headers = amzHeaders(request, pairs)
  const covered = coveredQuery(pairs)
  const stringToSign = (path: string): string =>
    `${request.method}\n${headerText(request, 'content-md5')}\n${headerText(request, 'content-type')}\n${expires}\n` +
    `${headers}${path}${covered}`
  const matches = (path: string): boolean => {
    const expected = createHmac('sha1', secretKey).update(stringToSign(path)).digest()
    return given.length === expected.length && timingSafeEqual(expected, given)
  }
  const path = request.resourcePath
  if (matches(path)) return
  // A bucket alone is signed by boto3 with a slash behind it, whether it is sent or not.
  if (/^\/[^/]+$/.test(path) && matches(`${path}/`)) return
  // Clients differ in what they escape on the wire but not in what they sign.
  const canonical = canonicalPath(path)
  if (canonical !== path && matches(canonical)) return
  throw mismatch({
    AWSAccessKeyId: query.get('AWSAccessKeyId') ?? '',
    StringToSign: stringToSign(path),
    SignatureProvided: query.get('Signature') ?? '',
  })
}

/**
 * The signature says nothing of other parameters: one that selects another operation could be added to a URL by whoever
 * bears it.
 */
function refuseUncovered(pairs: readonly (readonly [string, string])[]): void {
  for (const [name] of pairs) {
    // Two forms of one listing, with one right.
    if (name === 'list-type' || signedParameters.has(name)) continue
    if (!isSubresource(name) && !name.startsWith('X-Amz-')) continue
    throw new StorageError(
      'INVALID_REQUEST',
      `Signature Version 2 does not cover the parameter ${name}. Please use AWS4-HMAC-SHA256.`,
    )
  }
}

function headerText(request: SignedRequest, name: string): string {
  const value = request.headers[name]
  return withoutSpace(typeof value === 'string' ? value : (value?.join(',') ?? ''))
}

/** As around the value of a header: any other space belongs to it, and would be stored. */
export function withoutSpace(value: string): string {
  let start = 0
  let end = value.length
  while (start < end && isSpace(value.charCodeAt(start))) start++
  while (start < end && isSpace(value.charCodeAt(end - 1))) end--
  return value.slice(start, end)
}

const isSpace = (code: number): boolean => code === 32 || code === 9

/** RFC 9110 5.6.2, lower case. */
const amzName = /^x-amz-[a-z0-9!#$%&'*+.^_`|~-]+$/
// biome-ignore lint/suspicious/noControlCharactersInRegex: no header has them
const controls = /[\u0000-\u0008\u000a-\u001f\u007f]/

/**
 * Also those that stand in the query, which are taken for headers. Every line is one header: INVALID_REQUEST for what none can be, and
 * for one that comes twice in the query, where only the first would count.
 */
function amzHeaders(request: SignedRequest, pairs: readonly (readonly [string, string])[]): string {
  const values = new Map<string, string>()
  for (const [name, value] of pairs) {
    if (!name.startsWith('x-amz-')) continue
    if (!amzName.test(name) || controls.test(value) || values.has(name)) throw ambiguous(name)
    values.set(name, withoutSpace(value))
  }
  for (const name in request.headers) {
    if (!name.startsWith('x-amz-')) continue
    const value = headerText(request, name)
    const queried = values.get(name)
    // Said twice, it is one header; said in two ways, it is not what was signed, for only one of them would count.
    if (queried !== undefined && queried !== value) throw mismatch()
    values.set(name, value)
  }
  const names = [...values.keys()].sort()
  return names.map((name) => `${name}:${values.get(name)}\n`).join('')
}

/** INVALID_REQUEST for a value in which another parameter could be read. */
function coveredQuery(pairs: readonly (readonly [string, string])[]): string {
  const covered = pairs.filter(([name]) => signedParameters.has(name))
  if (covered.length === 0) return ''
  for (const [name, value] of covered) if (holdsParameter(value)) throw ambiguous(name)
  covered.sort(([a], [b]) => (a < b ? -1 : a > b ? 1 : 0))
  return `?${covered.map(([name, value]) => (value === '' ? name : `${name}=${value}`)).join('&')}`
}

/** An ampersand and the name of a covered parameter behind it. Before any other text it can only be part of the value. */
function holdsParameter(value: string): boolean {
  if (!value.includes('&')) return false
  const [, ...behind] = value.split('&')
  return behind.some((part) => signedParameters.has(part.split('=', 1)[0] ?? ''))
}

const mismatch = (details: Record<string, string> = {}): StorageError =>
  new StorageError(
    'SIGNATURE_DOES_NOT_MATCH',
    'The request signature we calculated does not match the signature you provided. Check your key and signing method.',
    { details },
  )

const ambiguous = (name: string): StorageError =>
  new StorageError(
    'INVALID_REQUEST',
    `Signature Version 2 cannot tell the parameter ${JSON.stringify(name.slice(0, 64))} from several ones. Please use AWS4-HMAC-SHA256.`,
  )
