import { fromUtf8 } from './encoding.ts'
import { invalidAnswer, PandoError } from './errors.ts'
import type { HttpAnswer } from './http-answer.ts'
import { judge, parseRetryAfter } from './retry.ts'
import { parseXml } from './xml.ts'

/** From what fetch gives to errors and documents. */

/** A page of a listing is under 2 MiB; nothing that is read as text is longer than this. */
export const maxDocumentBytes = 16 * 1024 * 1024
const maxErrorBytes = 64 * 1024

/** The whole body. Throws InvalidAnswer when it is longer than `limitBytes`. */
export async function readText(response: HttpAnswer, limitBytes: number): Promise<string> {
  if (response.body === null) return ''
  const declared = response.headers.get('content-length')
  if (declared === '0') return ''
  // Most documents are short and say so.
  if (declared !== null && Number(declared) <= 65_536 && response.headers.get('content-encoding') === null)
    return response.text()
  const reader = response.body.getReader()
  const pieces: Uint8Array[] = []
  let length = 0
  for (;;) {
    const { value } = await reader.read()
    if (value === undefined) break
    length += value.length
    if (length > limitBytes) {
      await reader.cancel()
      throw invalidAnswer('the answer is too long')
    }
    pieces.push(value)
  }
  return fromUtf8(joined(pieces, length))
}

export function joined(pieces: readonly Uint8Array[], length: number): Uint8Array {
  const [only] = pieces
  if (pieces.length === 1 && only !== undefined) return only
  const whole = new Uint8Array(length)
  let at = 0
  for (const piece of pieces) {
    whole.set(piece, at)
    at += piece.length
  }
  return whole
}

/** Codes of answers that have no body (HEAD) or no document (a proxy's). */
const codeOfStatus: Readonly<Record<number, string>> = {
  301: 'PermanentRedirect',
  304: 'NotModified',
  307: 'TemporaryRedirect',
  400: 'BadRequest',
  403: 'AccessDenied',
  404: 'NotFound',
  405: 'MethodNotAllowed',
  409: 'Conflict',
  412: 'PreconditionFailed',
  416: 'InvalidRange',
  429: 'TooManyRequests',
  500: 'InternalError',
  501: 'NotImplemented',
  503: 'ServiceUnavailable',
}

export async function errorOfAnswer(
  request: { readonly operation: string; readonly method: string; readonly key?: string },
  response: HttpAnswer,
  endpoint: string,
  nowMs: number,
): Promise<PandoError> {
  const { status, headers } = response
  const text = request.method === 'HEAD' ? '' : await readText(response, maxErrorBytes).catch(() => '')
  const details: Record<string, string> = {}
  // A page of a proxy is no error document.
  if (text.includes('<Error')) {
    try {
      for (const { name, text: value } of parseXml(text).children) details[name] = value
    } catch {
      // What is not XML says nothing; the status does.
    }
  }
  // The answer to a HEAD has no document: that the signature names another region is said by this header alone.
  const region = headers.get('x-amz-bucket-region')
  if (request.method === 'HEAD' && status === 400 && region !== null)
    Object.assign(details, { Code: 'AuthorizationHeaderMalformed', Region: region })
  const { Code, Message, RequestId, ...more } = details
  const code = Code ?? codeOfStatus[status] ?? `Http${status}`
  const requestId = RequestId ?? headers.get('x-amz-request-id') ?? undefined
  const retryAfterMs = parseRetryAfter(headers.get('retry-after'), nowMs)
  const date = headers.get('date')
  return new PandoError(code, `${Message ?? `HTTP status ${status}`} (${request.operation})`, {
    ...judge(status, code, more),
    status,
    endpoint,
    details: date === null ? more : { Date: date, ...more },
    ...(requestId === undefined ? {} : { requestId }),
    ...(retryAfterMs === undefined ? {} : { retryAfterMs }),
  })
}

/** Errors of Node's sockets after which the request certainly reached nobody. */
const neverSent = new Set([
  'ECONNREFUSED',
  'ENOTFOUND',
  'EAI_AGAIN',
  'EHOSTUNREACH',
  'ENETUNREACH',
  // A unix socket that is not there.
  'ENOENT',
  'UND_ERR_CONNECT_TIMEOUT',
])
/** What fetch says of requests that it refuses to send at all. */
const wrongRequest =
  /invalid (header|method|url|character)|valid http token|unescaped|is not a valid|bytestring|forbidden/i

/** What fetch rejects with, or (`isLocal`) the way of a transport. */
export function errorOfFailure(reason: unknown, endpoint: string, isLocal = false): PandoError {
  if (reason instanceof PandoError) return reason
  const cause =
    reason instanceof Error ? (reason.cause as { code?: unknown; message?: unknown } | undefined) : undefined
  const code = typeof cause?.code === 'string' ? cause.code : ''
  const message = reason instanceof Error ? reason.message : String(reason)
  const why = [message, code === '' && typeof cause?.message === 'string' ? cause.message : code].filter(
    (part) => part !== '',
  )
  if (reason instanceof TypeError && cause === undefined && wrongRequest.test(message)) {
    return new PandoError('InvalidArgument', message, { cause: reason, endpoint })
  }
  // Says nothing of the gateway, which may be there by another way.
  const isUnsent = neverSent.has(code)
  const name = isLocal && isUnsent ? 'LocalUnavailable' : 'NetworkError'
  return new PandoError(name, `${endpoint}: ${why.join(', ')}`, {
    cause: reason,
    endpoint,
    retryable: true,
    ambiguous: !isUnsent,
  })
}
