import { createHash, createHmac } from 'node:crypto'
import { amzDate, signingKey, signRequest } from './s3-client.ts'

/**
 * Bodies of the form STREAMING-AWS4-HMAC-SHA256-PAYLOAD, written by hand so that each part of one can be wrong.
 * https://docs.aws.amazon.com/AmazonS3/latest/API/sigv4-streaming.html
 */
export interface ChunkedRequest {
  readonly headers: Record<string, string>
  /** Framed chunks, the last one (of zero bytes) included. */
  readonly chunks: Buffer[]
}

export interface ChunkedInput {
  readonly method: string
  readonly target: string
  readonly host: string
  readonly accessKey: string
  readonly secretKey: string
  readonly pieces: readonly Uint8Array[]
  /** x-amz-decoded-content-length, when it is to differ from the truth. */
  readonly decodedLength?: number
  /** Content-Length, when it is to differ from the truth. */
  readonly contentLength?: number
}

export function signChunked(input: ChunkedInput): ChunkedRequest {
  const time = new Date()
  const timestamp = amzDate(time)
  const scope = `${timestamp.slice(0, 8)}/us-east-1/s3/aws4_request`
  const total = input.pieces.reduce((sum, piece) => sum + piece.byteLength, 0)
  const frame = (length: number): number =>
    length.toString(16).length + ';chunk-signature='.length + 64 + 4 + length
  const framed = [...input.pieces.map((piece) => piece.byteLength), 0].reduce((sum, n) => sum + frame(n), 0)
  const headers = signRequest({
    method: input.method,
    target: input.target,
    headers: {
      host: input.host,
      'content-encoding': 'aws-chunked',
      'content-length': `${input.contentLength ?? framed}`,
      'x-amz-decoded-content-length': `${input.decodedLength ?? total}`,
    },
    accessKey: input.accessKey,
    secretKey: input.secretKey,
    payload: 'STREAMING-AWS4-HMAC-SHA256-PAYLOAD',
    time,
  })
  const key = signingKey(input.secretKey, scope)
  let previous = /Signature=([0-9a-f]{64})/.exec(headers['authorization'] ?? '')?.[1] ?? ''
  const chunks = [...input.pieces, new Uint8Array(0)].map((piece) => {
    const text = [
      'AWS4-HMAC-SHA256-PAYLOAD',
      timestamp,
      scope,
      previous,
      createHash('sha256').update('').digest('hex'),
      createHash('sha256').update(piece).digest('hex'),
    ].join('\n')
    previous = createHmac('sha256', key).update(text).digest('hex')
    const size = piece.byteLength.toString(16)
    return Buffer.concat([Buffer.from(`${size};chunk-signature=${previous}\r\n`), piece, Buffer.from('\r\n')])
  })
  return { headers, chunks }
}

/** Request line and headers as bytes. */
export function requestHead(
  method: string,
  target: string,
  headers: Readonly<Record<string, string>>,
): string {
  const lines = Object.entries(headers).map(([name, value]) => `${name}: ${value}\r\n`)
  return `${method} ${target} HTTP/1.1\r\n${lines.join('')}\r\n`
}
