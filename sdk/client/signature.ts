import type { Credentials } from './credentials.ts'
import { base64, encodeUri, hex, utf8 } from './encoding.ts'
import { hmacSha256, sha256 } from './sha256.ts'

/**
 * Signature V4 as S3 has it.
 * https://docs.aws.amazon.com/AmazonS3/latest/API/sig-v4-header-based-auth.html
 */

export const unsignedPayload = 'UNSIGNED-PAYLOAD'
const algorithm = 'AWS4-HMAC-SHA256'

export interface SigningInput {
  readonly method: string
  /** As the URL's parser gives it: with the port unless it is the scheme's own. */
  readonly host: string
  /** Encoded once, slashes plain. */
  readonly path: string
  /** Encoded and sorted by name. */
  readonly query: string
  /** Lower-case names; all of them are signed. */
  readonly headers: Readonly<Record<string, string>>
  /** Hexadecimal SHA-256 of the body, or UNSIGNED-PAYLOAD. */
  readonly payload: string
  readonly credentials: Credentials
  readonly region: string
  readonly timeMs: number
}

/** The headers to send: those given, with date, payload hash, token and `authorization`. `host` is fetch's to send. */
export function signedHeaders(input: SigningInput): Record<string, string> {
  const { credentials } = input
  const time = signingTime(input.timeMs)
  const headers: Record<string, string> = {
    ...input.headers,
    'x-amz-content-sha256': input.payload,
    'x-amz-date': time,
  }
  if (credentials.sessionToken !== undefined) headers['x-amz-security-token'] = credentials.sessionToken
  const names = [...Object.keys(headers), 'host'].sort()
  let lines = ''
  for (const name of names)
    lines += `${name}:${canonicalValue(name === 'host' ? input.host : headers[name])}\n`
  const signed = names.join(';')
  const canonical = `${input.method}\n${input.path}\n${input.query}\n${lines}\n${signed}\n${input.payload}`
  const scope = `${time.slice(0, 8)}/${input.region}/s3/aws4_request`
  const signature = sign(credentials.secretAccessKey, scope, time, canonical)
  headers['authorization'] =
    `${algorithm} Credential=${credentials.accessKeyId}/${scope}, SignedHeaders=${signed}, Signature=${signature}`
  return headers
}

export interface PresignInput extends Omit<SigningInput, 'payload' | 'query'> {
  readonly query: Readonly<Record<string, string>>
  readonly expiresSeconds: number
}

/** The query of a URL that needs no headers but those given, which its bearer must send as they are. */
export function presignedQuery(input: PresignInput): string {
  const { credentials } = input
  const time = signingTime(input.timeMs)
  const scope = `${time.slice(0, 8)}/${input.region}/s3/aws4_request`
  const names = [...Object.keys(input.headers), 'host'].sort()
  const query: Record<string, string> = {
    ...input.query,
    'X-Amz-Algorithm': algorithm,
    'X-Amz-Credential': `${credentials.accessKeyId}/${scope}`,
    'X-Amz-Date': time,
    'X-Amz-Expires': `${input.expiresSeconds}`,
    'X-Amz-SignedHeaders': names.join(';'),
    ...(credentials.sessionToken === undefined ? {} : { 'X-Amz-Security-Token': credentials.sessionToken }),
  }
  const pairs = Object.keys(query).map((name) => `${encodeUri(name)}=${encodeUri(query[name] ?? '')}`)
  const text = pairs.sort().join('&')
  let lines = ''
  for (const name of names)
    lines += `${name}:${canonicalValue(name === 'host' ? input.host : input.headers[name])}\n`
  const canonical = `${input.method}\n${input.path}\n${text}\n${lines}\n${names.join(';')}\n${unsignedPayload}`
  return `${text}&X-Amz-Signature=${sign(credentials.secretAccessKey, scope, time, canonical)}`
}

/** The fields of an HTML form whose policy document says what may be uploaded with it. */
export function postPolicyFields(
  input: Pick<SigningInput, 'credentials' | 'region' | 'timeMs'> & {
    readonly expiresMs: number
    readonly conditions: readonly unknown[]
  },
): Record<string, string> {
  const { credentials } = input
  const time = signingTime(input.timeMs)
  const scope = `${time.slice(0, 8)}/${input.region}/s3/aws4_request`
  const fields: Record<string, string> = {
    'x-amz-algorithm': algorithm,
    'x-amz-credential': `${credentials.accessKeyId}/${scope}`,
    'x-amz-date': time,
    ...(credentials.sessionToken === undefined ? {} : { 'x-amz-security-token': credentials.sessionToken }),
  }
  const document = {
    expiration: new Date(input.expiresMs).toISOString(),
    conditions: [...input.conditions, ...Object.entries(fields).map(([name, value]) => ({ [name]: value }))],
  }
  const policy = base64(utf8(JSON.stringify(document)))
  const signature = signText(credentials.secretAccessKey, scope, policy)
  return { ...fields, policy, 'x-amz-signature': signature }
}

/** `20260131T235959Z`. */
function signingTime(timeMs: number): string {
  // A request per millisecond and more is usual: the text is kept for its second.
  const second = Math.floor(timeMs / 1000)
  if (second !== lastSecond) {
    lastSecond = second
    lastTime = `${new Date(second * 1000).toISOString().replace(/[-:]/g, '').slice(0, 15)}Z`
  }
  return lastTime
}
let lastSecond = Number.NaN
let lastTime = ''

const canonicalValue = (value = ''): string => {
  const trimmed = value.trim()
  return trimmed.includes('  ') ? trimmed.replace(/ {2,}/g, ' ') : trimmed
}

function sign(secretAccessKey: string, scope: string, time: string, canonical: string): string {
  const digest = hex(sha256(bytesOf(canonical)))
  return signText(secretAccessKey, scope, `${algorithm}\n${time}\n${scope}\n${digest}`)
}

/** Header values carry one byte in each character; a canonical request is made of the bytes as they are sent. */
function bytesOf(text: string): Uint8Array {
  // biome-ignore lint/suspicious/noControlCharactersInRegex: ASCII is what is asked for
  if (/^[\u0000-\u007f]*$/.test(text)) return utf8(text)
  return Uint8Array.from(text, (character) => character.charCodeAt(0))
}

export function signText(secretAccessKey: string, scope: string, text: string): string {
  return hex(hmacSha256(signingKey(secretAccessKey, scope), text))
}

/** Keys hold for a day and a region; deriving one costs four HMACs. */
const keys = new Map<string, Uint8Array>()
const maxKeys = 32

function signingKey(secretAccessKey: string, scope: string): Uint8Array {
  const name = `${scope}\n${secretAccessKey}`
  const known = keys.get(name)
  if (known !== undefined) return known
  let key = utf8(`AWS4${secretAccessKey}`)
  for (const part of scope.split('/')) key = hmacSha256(key, part)
  if (keys.size >= maxKeys) keys.clear()
  keys.set(name, key)
  return key
}
