import type { IncomingMessage, ServerResponse } from 'node:http'
import type { TLSSocket } from 'node:tls'
import type { Clock } from '../contract/clock.ts'
import { type ErrorCode, errorCodes, StorageError } from '../contract/errors.ts'

/**
 * What every answer of the console says to the browser: nothing is loaded, run or asked from anywhere but here, nothing
 * is framed, and nothing is guessed about what an answer is.
 */
export const securityHeaders: Readonly<Record<string, string>> = {
  'content-security-policy':
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; manifest-src 'self'; " +
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'; trusted-types 'none'",
  'cross-origin-opener-policy': 'same-origin',
  'cross-origin-resource-policy': 'same-origin',
  'permissions-policy': 'camera=(), microphone=(), geolocation=(), payment=(), usb=()',
  'referrer-policy': 'no-referrer',
  'x-content-type-options': 'nosniff',
  'x-frame-options': 'DENY',
}

/** A page of another origin cannot send it without asking first, and is never allowed to. */
export const consoleHeader = 'x-pando-console'

export const isSecure = (message: IncomingMessage): boolean =>
  (message.socket as Partial<TLSSocket>).encrypted === true

export const isLoopbackPeer = ({ socket }: IncomingMessage): boolean => {
  const address = socket.remoteAddress ?? ''
  return address === '::1' || address.startsWith('127.') || address.startsWith('::ffff:127.')
}

/** Cookies do not know ports: nodes on one machine must not log each other out. */
export function cookieName(message: IncomingMessage): string {
  const name = `pando-${message.socket.localPort ?? 0}`
  return isSecure(message) ? `__Host-${name}` : name
}

export function tokenOf(message: IncomingMessage): string | undefined {
  const name = `${cookieName(message)}=`
  for (const part of (message.headers.cookie ?? '').split(';')) {
    const pair = part.trim()
    if (pair.startsWith(name)) return pair.slice(name.length)
  }
  return undefined
}

export function sessionCookie(message: IncomingMessage, token: string | undefined): string {
  const secure = isSecure(message) ? '; Secure' : ''
  const end = token === undefined ? '; Max-Age=0' : ''
  return `${cookieName(message)}=${token ?? ''}; Path=/; HttpOnly; SameSite=Strict${secure}${end}`
}

/**
 * Refuses what a page of another origin may have sent: a browser says where a request comes from, and sends no header
 * of ours across origins unless we allow it. ACCESS_DENIED.
 */
export function checkOrigin(message: IncomingMessage, isNavigation = false): void {
  const { origin, host } = message.headers
  const site = message.headers['sec-fetch-site']
  if (!isNavigation && message.headers[consoleHeader] !== '1') {
    throw new StorageError('ACCESS_DENIED', `the header ${consoleHeader}: 1 is missing`)
  }
  if (origin !== undefined && (host === undefined || hostOf(origin) !== host.toLowerCase())) {
    throw new StorageError('ACCESS_DENIED', 'the request comes from a page of another origin')
  }
  if (site !== undefined && site !== 'same-origin' && !(site === 'none' && isNavigation)) {
    throw new StorageError('ACCESS_DENIED', 'the request comes from a page of another site')
  }
}

/**
 * Refuses a page that asks in the name of another key than the session's (`x-pando-console-key`): one cookie serves all pages of a browser,
 * and another of them may have logged in anew. UNAUTHENTICATED.
 */
export function checkMeant(message: IncomingMessage, session: { readonly accessKeyId: string }): void {
  const meant = message.headers['x-pando-console-key'] ?? session.accessKeyId
  if (meant !== session.accessKeyId)
    throw new StorageError('UNAUTHENTICATED', 'another access key has logged in with this browser')
}

function hostOf(origin: string): string | undefined {
  const match = /^https?:\/\/([^/?#]+)$/.exec(origin.toLowerCase())
  return match?.[1]
}

/** A body of a call is small: whoever takes longer for it holds a connection for nothing. */
const bodyMs = 20_000

/** The whole body as JSON. ENTITY_TOO_LARGE, INVALID_ARGUMENT; the connection of a body that does not end in time is cut. */
export async function readJson(message: IncomingMessage, maxBytes: number, clock: Clock): Promise<unknown> {
  const type = (message.headers['content-type'] ?? '').split(';', 1)[0]?.trim().toLowerCase()
  if (type !== 'application/json') {
    throw new StorageError('INVALID_ARGUMENT', 'content-type: application/json is expected')
  }
  if (Number(message.headers['content-length'] ?? 0) > maxBytes) throw tooLarge(maxBytes)
  const timer = new AbortController()
  clock.sleep(bodyMs, timer.signal).then(
    () => message.socket.destroy(),
    () => undefined,
  )
  const pieces: Buffer[] = []
  try {
    let length = 0
    // Not an iteration, which would destroy the connection under the answer that says why.
    await new Promise<void>((resolve, reject) => {
      message.on('data', (piece: Buffer) => {
        length += piece.length
        if (length <= maxBytes) pieces.push(piece)
        else reject(tooLarge(maxBytes))
      })
      message.once('end', resolve)
      message.once('close', () => reject(new StorageError('CANCELLED', 'the caller went away')))
      message.once('error', reject)
    })
  } finally {
    timer.abort()
    message.pause()
  }
  try {
    return JSON.parse(Buffer.concat(pieces).toString('utf8'))
  } catch (error) {
    throw new StorageError('INVALID_ARGUMENT', 'the body is not JSON', { cause: error })
  }
}

const tooLarge = (maxBytes: number): StorageError =>
  new StorageError('ENTITY_TOO_LARGE', `the body is longer than ${maxBytes} bytes`)

export function sendJson(response: ServerResponse, status: number, value: unknown): void {
  const text = `${JSON.stringify(value, base64OfBytes)}\n`
  response.writeHead(status, {
    ...securityHeaders,
    'content-type': 'application/json',
    'content-length': Buffer.byteLength(text),
    'cache-control': 'no-store',
  })
  response.end(text)
}

/** Buffers have a way of their own into JSON, which nobody wants to read. */
export function base64OfBytes(_key: string, value: unknown): unknown {
  if (typeof value !== 'object' || value === null) return value
  const { type, data } = value as { readonly type?: unknown; readonly data?: unknown }
  return type === 'Buffer' && Array.isArray(data) ? Buffer.from(data as number[]).toString('base64') : value
}

export const statusOf = (code: ErrorCode): number =>
  code === 'UNAUTHENTICATED'
    ? 401
    : code === 'OVERLOADED'
      ? 429
      : code === 'ENTITY_TOO_LARGE'
        ? 413
        : errorCodes[code].http

export function sendError(response: ServerResponse, error: StorageError): void {
  const { code, reason, retryable, retryAfterMs } = error
  if (retryAfterMs !== undefined) response.setHeader('retry-after', Math.ceil(retryAfterMs / 1000))
  // What was sent and is not read would be taken for the next request.
  if (!response.req.complete) response.setHeader('connection', 'close')
  const said = code === 'INTERNAL' ? 'an internal error: the log of the node tells it' : reason
  sendJson(response, statusOf(code), { error: { code, message: said, retryable } })
}
