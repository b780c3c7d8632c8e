import { timingSafeEqual } from 'node:crypto'
import { StorageError } from '../../../contract/errors.ts'
import { invalidArgument } from '../errors.ts'
import type { Credentials, Gateway, Identity } from '../operation.ts'
import {
  canonicalHeaders,
  canonicalPath,
  canonicalQuery,
  encodedQuery,
  repeatedHeaders,
} from './canonical.ts'
import { credentialsOf } from './known-key.ts'
import { createSigningKeyCache, hmacSha256, sha256Hex } from './signing-key.ts'
import { isPresignedV2, verifyPresignedV2 } from './sigv2.ts'
import { parseSigningTime, type SigningTime } from './timestamp.ts'

/** AWS Signature Version 4: the Authorization header and presigned queries, with every payload form; URLs of version 2. */

export const unsignedPayload = 'UNSIGNED-PAYLOAD'

/** How the payload is protected; decides how the body is decoded and verified. */
export type PayloadProtection =
  | { readonly kind: 'unsigned' }
  /** Lower-case hex SHA-256 of the payload. */
  | { readonly kind: 'hash'; readonly sha256: string }
  /** aws-chunked without signatures, checksum in the trailer. */
  | { readonly kind: 'unsigned-chunks' }
  | { readonly kind: 'signed-chunks'; readonly trailer: boolean; readonly chain: SignatureChain }

/** What chunk signatures are computed from: each covers its predecessor. */
export interface SignatureChain {
  readonly key: Buffer
  readonly time: string
  readonly scope: string
  readonly seed: string
}

export interface Authentication {
  readonly identity: Identity
  /** What its signature was proved by; undefined: it has none. */
  readonly credentials: Credentials | undefined
  readonly presigned: boolean
  readonly payload: PayloadProtection
}

/** What of a request is signed. */
export interface SignedRequest {
  readonly method: string
  readonly rawPath: string
  /** With the bucket in front, also where that was the host's name. */
  readonly resourcePath: string
  readonly rawQuery: string
  readonly query: ReadonlyMap<string, string>
  readonly headers: Readonly<Record<string, string | string[] | undefined>>
  readonly rawHeaders: readonly string[]
}

export type Authenticator = (request: SignedRequest) => Authentication

const algorithm = 'AWS4-HMAC-SHA256'
const maxSkewMs = 15 * 60_000
const maxExpirySeconds = 7 * 24 * 3600

const anonymous: Authentication = {
  identity: { kind: 'anonymous' },
  credentials: undefined,
  presigned: false,
  payload: { kind: 'unsigned' },
}

interface Claim {
  readonly accessKeyId: string
  readonly date: string
  readonly region: string
  readonly scope: string
  readonly signedHeaders: string
  readonly signature: string
}

/** Throws the StorageError that S3 answers; anonymous when the request claims no identity. */
export function createAuthenticator(
  gateway: Pick<Gateway, 'credentials' | 'environment' | 'config'>,
): Authenticator {
  const signingKeys = createSigningKeyCache()
  const { clock } = gateway.environment

  function authenticateHeader(request: SignedRequest, authorization: string): Authentication {
    const claim = parseAuthorization(authorization)
    checkRegion(claim, 'AUTHORIZATION_HEADER_MALFORMED')
    const credentials = credentialsOf(gateway, claim.accessKeyId)
    const time = headerTime(request)
    checkSkew(time, clock.now())
    if (claim.date !== time.iso.slice(0, 8)) {
      throw malformedHeader(
        `Invalid credential date "${claim.date}". This date is not the same as X-Amz-Date.`,
      )
    }
    const payloadHash = single(request.headers['x-amz-content-sha256'])
    if (payloadHash === undefined) {
      throw new StorageError(
        'INVALID_REQUEST',
        'Missing required header for this request: x-amz-content-sha256',
      )
    }
    const key = signingKeys(claim.accessKeyId, credentials.secretKey, claim.date, claim.region)
    verify(request, claim, key, time, payloadHash, undefined)
    return {
      identity: identityOf(claim, credentials),
      credentials,
      presigned: false,
      payload: protectionOf(payloadHash, { key, time: time.iso, scope: claim.scope, seed: claim.signature }),
    }
  }

  function authenticateQuery(request: SignedRequest): Authentication {
    const { query } = request
    const parameter = (name: string): string => {
      const value = query.get(name)
      if (value === undefined) {
        throw queryError(
          'Query-string authentication version 4 requires the X-Amz-Algorithm, X-Amz-Credential, X-Amz-Signature, X-Amz-Date, X-Amz-SignedHeaders, and X-Amz-Expires parameters.',
        )
      }
      return value
    }
    if (parameter('X-Amz-Algorithm') !== algorithm) {
      throw queryError(`X-Amz-Algorithm only supports "${algorithm}"`)
    }
    const signature = parameter('X-Amz-Signature')
    const signedHeaders = parameter('X-Amz-SignedHeaders').toLowerCase()
    const claim = parseCredential(parameter('X-Amz-Credential'), signedHeaders, signature, queryError)
    const time = parseSigningTime(parameter('X-Amz-Date'))
    if (time === undefined || query.get('X-Amz-Date') !== time.iso) {
      throw queryError("X-Amz-Date must be in the ISO8601 Long Format \"yyyyMMdd'T'HHmmss'Z'\"")
    }
    const expires = expirySeconds(parameter('X-Amz-Expires'))
    checkRegion(claim, 'AUTHORIZATION_QUERY_ERROR')
    if (claim.date !== time.iso.slice(0, 8)) {
      throw queryError(
        `Invalid credential date "${claim.date}". This date is not the same as X-Amz-Date: "${time.iso.slice(0, 8)}".`,
      )
    }
    const now = clock.now()
    if (time.ms > now + maxSkewMs) throw new StorageError('ACCESS_DENIED', 'Request is not valid yet')
    if (now > time.ms + expires * 1000) {
      throw new StorageError('ACCESS_DENIED', 'Request has expired', {
        details: {
          'X-Amz-Expires': String(expires),
          Expires: new Date(time.ms + expires * 1000).toISOString(),
          ServerTime: new Date(now).toISOString(),
        },
      })
    }
    const credentials = credentialsOf(gateway, claim.accessKeyId)
    const payloadHash =
      single(request.headers['x-amz-content-sha256']) ?? query.get('X-Amz-Content-Sha256') ?? unsignedPayload
    const key = signingKeys(claim.accessKeyId, credentials.secretKey, claim.date, claim.region)
    verify(request, claim, key, time, payloadHash, 'X-Amz-Signature')
    return {
      identity: identityOf(claim, credentials),
      credentials,
      presigned: true,
      payload: protectionOf(payloadHash, { key, time: time.iso, scope: claim.scope, seed: claim.signature }),
    }
  }

  function authenticateQueryV2(request: SignedRequest): Authentication {
    const claim = { accessKeyId: request.query.get('AWSAccessKeyId') ?? '' }
    const credentials = credentialsOf(gateway, claim.accessKeyId)
    verifyPresignedV2(request, credentials.secretKey, clock.now())
    // Signed as a header, it may stand in the query as well: it must not lose its meaning there.
    const payloadHash =
      single(request.headers['x-amz-content-sha256']) ??
      request.query.get('x-amz-content-sha256') ??
      unsignedPayload
    return {
      identity: identityOf(claim, credentials),
      credentials,
      presigned: true,
      payload: protectionOf(payloadHash, undefined),
    }
  }

  function checkRegion(
    claim: Claim,
    code: 'AUTHORIZATION_HEADER_MALFORMED' | 'AUTHORIZATION_QUERY_ERROR',
  ): void {
    const expected = gateway.config.region
    if (claim.region === expected) return
    const place =
      code === 'AUTHORIZATION_HEADER_MALFORMED'
        ? 'The authorization header is malformed'
        : 'Error parsing the X-Amz-Credential parameter'
    // SDKs read the Region element and try again with it.
    throw new StorageError(code, `${place}; the region '${claim.region}' is wrong; expecting '${expected}'`, {
      details: { Region: expected },
    })
  }

  return (request) => {
    const authorization = request.headers['authorization']
    const queried = request.query.size > 0 && isQueryAuthentication(request.query)
    if (typeof authorization === 'string' && authorization !== '') {
      if (queried) {
        throw invalidArgument(
          'Only one auth mechanism allowed; only the X-Amz-Algorithm query parameter, Signature query string parameter or the Authorization header should be specified',
          'Authorization',
          authorization.slice(0, authorization.indexOf(' ') + 1).trimEnd(),
        )
      }
      return authenticateHeader(request, authorization)
    }
    if (!queried) return withoutIdentity(request)
    return isPresignedV2(request.query) ? authenticateQueryV2(request) : authenticateQuery(request)
  }
}

/** An anonymous client may still send a checksum trailer or a payload hash. */
function withoutIdentity(request: SignedRequest): Authentication {
  const payloadHash = single(request.headers['x-amz-content-sha256'])
  if (payloadHash === undefined) return anonymous
  return { ...anonymous, payload: protectionOf(payloadHash, undefined) }
}

function isQueryAuthentication(query: ReadonlyMap<string, string>): boolean {
  return (
    isPresignedV2(query) ||
    query.has('X-Amz-Algorithm') ||
    query.has('X-Amz-Signature') ||
    query.has('X-Amz-Credential')
  )
}

function parseAuthorization(authorization: string): Claim {
  const space = authorization.indexOf(' ')
  const scheme = space < 0 ? authorization : authorization.slice(0, space)
  if (scheme !== algorithm) {
    if (scheme === 'AWS' || scheme.startsWith('AWS4-')) throw versionTwo()
    throw invalidArgument('Unsupported Authorization Type', 'Authorization', scheme)
  }
  let credential: string | undefined
  let signedHeaders: string | undefined
  let signature: string | undefined
  for (const part of authorization.slice(space + 1).split(',')) {
    const equals = part.indexOf('=')
    const name = part.slice(0, Math.max(equals, 0)).trim()
    const value = part.slice(equals + 1).trim()
    if (name === 'Credential') credential = value
    else if (name === 'SignedHeaders') signedHeaders = value
    else if (name === 'Signature') signature = value
    else throw malformedHeader(`The authorization component "${part.trim().slice(0, 64)}" is malformed.`)
  }
  if (credential === undefined)
    throw malformedHeader('The authorization header is malformed; missing Credential.')
  if (signedHeaders === undefined) throw malformedHeader('The authorization header requires SignedHeaders.')
  if (signature === undefined) throw malformedHeader('The authorization header requires Signature.')
  return parseCredential(credential, signedHeaders, signature, malformedHeader)
}

function parseCredential(
  credential: string,
  signedHeaders: string,
  signature: string,
  fail: (message: string) => StorageError,
): Claim {
  const parts = credential.split('/')
  // An access key id may contain slashes; the four parts of the scope may not.
  const [date, region, service, terminator] = parts.slice(-4)
  const accessKeyId = parts.slice(0, -4).join('/')
  if (accessKeyId === '' || date === undefined || region === undefined || !/^\d{8}$/.test(date)) {
    throw fail('The Credential is mal-formed; expecting "<YOUR-AKID>/YYYYMMDD/REGION/SERVICE/aws4_request".')
  }
  if (service !== 's3') throw fail(`Incorrect service "${service}". This endpoint belongs to "s3".`)
  if (terminator !== 'aws4_request') {
    throw fail(`Incorrect terminal "${terminator}". This endpoint uses "aws4_request".`)
  }
  return { accessKeyId, date, region, scope: `${date}/${region}/s3/aws4_request`, signedHeaders, signature }
}

function verify(
  request: SignedRequest,
  claim: Claim,
  key: Buffer,
  time: SigningTime,
  payloadHash: string,
  omit: string | undefined,
): void {
  const signedHeaders = claim.signedHeaders.split(';')
  checkSignedHeaders(request.headers, signedHeaders)
  const attempt = (path: string, query: string, repeated?: ReadonlyMap<string, string>): string =>
    `${request.method}\n${path}\n${query}\n${canonicalHeaders(signedHeaders, request.headers, repeated)}\n` +
    `${claim.signedHeaders}\n${payloadHash}`
  const stringToSign = (text: string): string =>
    `${algorithm}\n${time.iso}\n${claim.scope}\n${sha256Hex(text)}`
  const matches = (text: string): boolean => equalHex(hmacSha256(key, stringToSign(text)), claim.signature)
  // Node hands header bytes on as Latin-1. Clients sign the text; most send it as UTF-8, some as Latin-1.
  const matchesBytes = (text: string): boolean =>
    /[\u0080-\u00ff]/.test(text) && matches(Buffer.from(text, 'latin1').toString('utf8'))
  const path = canonicalPath(request.rawPath)
  const quick = encodedQuery(request.rawQuery, omit)
  if (quick !== undefined && matches(attempt(path, quick))) return
  const query = canonicalQuery(request.rawQuery, omit)
  const canonical = attempt(path, query)
  if (query !== quick && matches(canonical)) return
  if (matchesBytes(canonical)) return
  // The same request in its two other honest spellings: a header sent twice, a path signed as it was sent.
  const repeated = repeatedHeaders(request.rawHeaders)
  if (repeated !== undefined && matches(attempt(path, query, repeated))) return
  if (path !== request.rawPath && matches(attempt(request.rawPath, query, repeated))) return
  throw new StorageError(
    'SIGNATURE_DOES_NOT_MATCH',
    'The request signature we calculated does not match the signature you provided. Check your key and signing method.',
    {
      details: {
        AWSAccessKeyId: claim.accessKeyId,
        StringToSign: stringToSign(canonical),
        SignatureProvided: claim.signature,
        CanonicalRequest: canonical,
      },
    },
  )
}

/** Host and every x-amz-* header must be signed, or a stranger could add them to a captured request. */
function checkSignedHeaders(
  headers: Readonly<Record<string, string | string[] | undefined>>,
  signedHeaders: readonly string[],
): void {
  let unsigned: string | undefined
  if (!signedHeaders.includes('host')) unsigned = 'host'
  for (const name in headers) {
    if (name.startsWith('x-amz-') && !signedHeaders.includes(name)) {
      unsigned = unsigned === undefined ? name : `${unsigned}, ${name}`
    }
  }
  if (unsigned !== undefined) {
    throw new StorageError(
      'ACCESS_DENIED',
      'There were headers present in the request which were not signed',
      {
        details: { HeadersNotSigned: unsigned },
      },
    )
  }
}

function headerTime(request: SignedRequest): SigningTime {
  const text = single(request.headers['x-amz-date']) ?? single(request.headers['date'])
  const time = text === undefined ? undefined : parseSigningTime(text)
  if (time === undefined) {
    throw new StorageError('ACCESS_DENIED', 'AWS authentication requires a valid Date or x-amz-date header')
  }
  return time
}

function checkSkew(time: SigningTime, nowMs: number): void {
  if (Math.abs(nowMs - time.ms) <= maxSkewMs) return
  throw new StorageError(
    'REQUEST_TIME_TOO_SKEWED',
    'The difference between the request time and the current time is too large.',
    {
      details: {
        RequestTime: time.iso,
        ServerTime: new Date(nowMs).toISOString(),
        MaxAllowedSkewMilliseconds: String(maxSkewMs),
      },
    },
  )
}

function expirySeconds(text: string): number {
  if (!/^-?\d{1,15}$/.test(text)) throw queryError('X-Amz-Expires should be a number')
  const seconds = Number(text)
  // Out of range is a refusal, not a malformed request: s3-tests asks for 403.
  if (seconds < 0) throw new StorageError('ACCESS_DENIED', 'X-Amz-Expires must be non-negative')
  if (seconds > maxExpirySeconds) {
    throw new StorageError(
      'ACCESS_DENIED',
      `X-Amz-Expires must be less than a week (in seconds); that is, the given X-Amz-Expires must be less than ${maxExpirySeconds} seconds`,
    )
  }
  return seconds
}

function protectionOf(payloadHash: string, chain: SignatureChain | undefined): PayloadProtection {
  switch (payloadHash) {
    case unsignedPayload:
      return { kind: 'unsigned' }
    case 'STREAMING-UNSIGNED-PAYLOAD-TRAILER':
      return { kind: 'unsigned-chunks' }
    case 'STREAMING-AWS4-HMAC-SHA256-PAYLOAD':
    case 'STREAMING-AWS4-HMAC-SHA256-PAYLOAD-TRAILER':
      if (chain !== undefined)
        return { kind: 'signed-chunks', trailer: payloadHash.endsWith('-TRAILER'), chain }
      break
    default:
      if (/^[0-9a-fA-F]{64}$/.test(payloadHash)) return { kind: 'hash', sha256: payloadHash.toLowerCase() }
  }
  throw invalidArgument(
    'x-amz-content-sha256 must be UNSIGNED-PAYLOAD, STREAMING-UNSIGNED-PAYLOAD-TRAILER, STREAMING-AWS4-HMAC-SHA256-PAYLOAD, STREAMING-AWS4-HMAC-SHA256-PAYLOAD-TRAILER or a valid sha256 value.',
    'x-amz-content-sha256',
    payloadHash,
  )
}

function identityOf(claim: Pick<Claim, 'accessKeyId'>, credentials: Credentials): Identity {
  return {
    kind: 'key',
    account: credentials.account,
    accessKeyId: claim.accessKeyId,
    root: credentials.root,
  }
}

/** Constant time. The text may be anything a client sent. */
export function equalHex(expected: Buffer, text: string): boolean {
  if (text.length !== expected.length * 2) return false
  const given = Buffer.from(text, 'hex')
  return given.length === expected.length && timingSafeEqual(expected, given)
}

const single = (value: string | string[] | undefined): string | undefined =>
  typeof value === 'string' ? value : value?.[0]

const malformedHeader = (message: string): StorageError =>
  new StorageError('AUTHORIZATION_HEADER_MALFORMED', message)

const queryError = (message: string): StorageError => new StorageError('AUTHORIZATION_QUERY_ERROR', message)

const versionTwo = (): StorageError =>
  new StorageError(
    'INVALID_REQUEST',
    'The authorization mechanism you have provided is not supported. Please use AWS4-HMAC-SHA256.',
  )
