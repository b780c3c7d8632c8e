import { createHash, createHmac } from 'node:crypto'
import { Agent, request as httpRequest, type IncomingHttpHeaders, type IncomingMessage } from 'node:http'
import type { Readable } from 'node:stream'
import { pipeline } from 'node:stream/promises'

/**
 * A bare S3 client for tests: Signature V4 written from the specification and independent of the product's, no retries, no
 * checks of its own. What it sends and what came back is all there is.
 * https://docs.aws.amazon.com/AmazonS3/latest/API/sig-v4-header-based-auth.html
 */
export interface S3Client {
  /** Sends one request and reads the whole answer. Rejects only when the connection fails. */
  send(request: S3ClientRequest): Promise<S3Reply>
  /** The same, but hands the answer's body over as a stream, which the caller must read to its end or destroy. */
  stream(request: S3ClientRequest): Promise<{ reply: Omit<S3Reply, 'body' | 'code'>; body: IncomingMessage }>
  /** Closes the kept connections. */
  close(): void
}

export interface S3ClientOptions {
  readonly endpoint: string
  readonly accessKey: string
  readonly secretKey: string
  readonly region?: string
  /** Connections kept and used at once; default 16. */
  readonly connections?: number
  /** For `send`: rejects when the whole answer is not there by then. Default: it waits. */
  readonly timeoutMs?: number
}

export interface S3ClientRequest {
  readonly method: string
  readonly bucket?: string
  readonly key?: string
  readonly query?: Readonly<Record<string, string>>
  readonly headers?: Readonly<Record<string, string>>
  readonly body?: Uint8Array | string
  /** A streamed body and its length; instead of `body`. */
  readonly source?: { readonly stream: Readable; readonly byteLength: number }
  /** Sent without a signature. */
  readonly anonymous?: boolean
  readonly signal?: AbortSignal
}

export interface S3Reply {
  readonly status: number
  readonly headers: IncomingHttpHeaders
  readonly body: Buffer
  /** `Code` of the error document; empty when there is none. */
  readonly code: string
}

export function openS3Client(options: S3ClientOptions): S3Client {
  const { hostname, port, host } = new URL(options.endpoint)
  const agent = new Agent({ keepAlive: true, maxSockets: options.connections ?? 16 })

  const stream: S3Client['stream'] = async (request) => {
    const target = requestTarget(request)
    const byteLength = request.source?.byteLength ?? Buffer.byteLength(request.body ?? '')
    const plain: Record<string, string> = { ...request.headers, host }
    if (request.method === 'PUT' || request.method === 'POST' || byteLength > 0) {
      plain['content-length'] = `${byteLength}`
    }
    const headers = request.anonymous
      ? plain
      : signRequest({ ...options, ...request, target, headers: plain })
    const message = await new Promise<IncomingMessage>((resolve, reject) => {
      const sent = httpRequest(
        {
          ...{ agent, hostname, port, method: request.method, path: target, headers },
          ...(request.signal === undefined ? {} : { signal: request.signal }),
        },
        resolve,
      )
      sent.once('error', reject)
      if (request.source) pipeline(request.source.stream, sent).catch(reject)
      else sent.end(request.body)
    })
    return { reply: { status: message.statusCode ?? 0, headers: message.headers }, body: message }
  }

  return {
    stream,
    async send(request) {
      const { timeoutMs } = options
      const bounds = [request.signal, timeoutMs === undefined ? undefined : AbortSignal.timeout(timeoutMs)]
      const signals = bounds.filter((signal) => signal !== undefined)
      const { reply, body } = await stream(
        signals.length === 0 ? request : { ...request, signal: AbortSignal.any(signals) },
      )
      const pieces: Buffer[] = []
      for await (const piece of body) pieces.push(piece as Buffer)
      if (!body.complete) throw new Error('the answer was cut')
      const bytes = Buffer.concat(pieces)
      const code =
        reply.status >= 400 ? (/<Code>([^<]*)<\/Code>/.exec(bytes.toString('utf8'))?.[1] ?? '') : ''
      return { ...reply, body: bytes, code }
    },
    close: () => agent.destroy(),
  }
}

/** Every byte but the unreserved ones is written %XX; `/` stays in paths. */
export function encodeUri(text: string, keepSlash = false): string {
  const encoded = encodeURIComponent(text).replace(
    /[!'()*]/g,
    (character) => `%${character.charCodeAt(0).toString(16).toUpperCase()}`,
  )
  return keepSlash ? encoded.replaceAll('%2F', '/') : encoded
}

/** Path and query as sent. */
export function requestTarget({
  bucket,
  key,
  query = {},
}: Pick<S3ClientRequest, 'bucket' | 'key' | 'query'>): string {
  const path = `/${bucket ?? ''}${key === undefined ? '' : `/${encodeUri(key, true)}`}`
  const pairs = Object.entries(query)
    .map(([name, value]) => [encodeUri(name), encodeUri(value)] as const)
    .sort(([a], [b]) => (a < b ? -1 : 1))
  return pairs.length === 0 ? path : `${path}?${pairs.map(([name, value]) => `${name}=${value}`).join('&')}`
}

export interface SigningInput {
  readonly method: string
  /** Path and query exactly as sent. */
  readonly target: string
  /** `host` among them. All are signed. */
  readonly headers: Readonly<Record<string, string>>
  readonly accessKey: string
  readonly secretKey: string
  readonly region?: string
  /** x-amz-content-sha256; default UNSIGNED-PAYLOAD. */
  readonly payload?: string
  readonly time?: Date
}

/** The headers with x-amz-date, x-amz-content-sha256 and Authorization added. */
export function signRequest(input: SigningInput): Record<string, string> {
  const timestamp = amzDate(input.time ?? new Date())
  const payload = input.payload ?? 'UNSIGNED-PAYLOAD'
  const headers: Record<string, string> = {
    ...input.headers,
    'x-amz-date': timestamp,
    'x-amz-content-sha256': payload,
  }
  const names = Object.keys(headers).map((name) => name.toLowerCase())
  const signed = names.toSorted().join(';')
  const scope = `${timestamp.slice(0, 8)}/${input.region ?? 'us-east-1'}/s3/aws4_request`
  const canonical = canonicalRequest(input.method, input.target, headers, payload)
  const signature = sign(input.secretKey, scope, timestamp, canonical)
  headers['authorization'] =
    `AWS4-HMAC-SHA256 Credential=${input.accessKey}/${scope}, SignedHeaders=${signed}, Signature=${signature}`
  return headers
}

/** A presigned path and query for `GET`, `PUT` and so on; only `host` is signed. */
export function presignTarget(
  input: Omit<SigningInput, 'headers' | 'payload'> & {
    readonly host: string
    readonly expiresSeconds: number
  },
): string {
  const timestamp = amzDate(input.time ?? new Date())
  const scope = `${timestamp.slice(0, 8)}/${input.region ?? 'us-east-1'}/s3/aws4_request`
  const [path = '/', query = ''] = input.target.split('?')
  const pairs = [
    ...query.split('&').filter((pair) => pair !== ''),
    'X-Amz-Algorithm=AWS4-HMAC-SHA256',
    `X-Amz-Credential=${encodeUri(`${input.accessKey}/${scope}`)}`,
    `X-Amz-Date=${timestamp}`,
    `X-Amz-Expires=${input.expiresSeconds}`,
    'X-Amz-SignedHeaders=host',
  ].sort()
  const target = `${path}?${pairs.join('&')}`
  const canonical = canonicalRequest(input.method, target, { host: input.host }, 'UNSIGNED-PAYLOAD')
  return `${target}&X-Amz-Signature=${sign(input.secretKey, scope, timestamp, canonical)}`
}

/** `20260131T235959Z`. */
export function amzDate(time: Date): string {
  return `${time.toISOString().replace(/[-:]/g, '').slice(0, 15)}Z`
}

function canonicalRequest(
  method: string,
  target: string,
  headers: Readonly<Record<string, string>>,
  payload: string,
): string {
  const [path = '/', query = ''] = target.split('?')
  const pairs = query === '' ? [] : query.split('&').map((pair) => (pair.includes('=') ? pair : `${pair}=`))
  const lines = Object.entries(headers)
    .map(([name, value]) => [name.toLowerCase(), value.trim().replace(/ +/g, ' ')] as const)
    .sort(([a], [b]) => (a < b ? -1 : 1))
  return [
    method,
    path,
    pairs.sort().join('&'),
    ...lines.map(([name, value]) => `${name}:${value}`),
    '',
    lines.map(([name]) => name).join(';'),
    payload,
  ].join('\n')
}

export function signingKey(secretKey: string, scope: string): Buffer {
  let key: Buffer = Buffer.from(`AWS4${secretKey}`)
  for (const part of scope.split('/')) key = createHmac('sha256', key).update(part).digest()
  return key
}

function sign(secretKey: string, scope: string, timestamp: string, canonical: string): string {
  const digest = createHash('sha256').update(canonical).digest('hex')
  const text = `AWS4-HMAC-SHA256\n${timestamp}\n${scope}\n${digest}`
  return createHmac('sha256', signingKey(secretKey, scope)).update(text).digest('hex')
}
