import type { ApiRequest } from './api-request.ts'
import { fromUtf8 } from './encoding.ts'
import { invalidArgument } from './errors.ts'
import type { AnswerHeaders } from './http-answer.ts'
import { type ByteReader, collect, isDecodedByFetch, ResumingReader } from './object-body.ts'
import { type ObjectInfo, objectInfo, quoted, requiredHeader } from './object-headers.ts'
import { type CallOptions, whole } from './options.ts'
import { ParallelReader } from './parallel-reader.ts'
import type { Sender } from './sender.ts'

export interface ReadConditions {
  /** A version of a bucket that has versions. */
  readonly versionId?: string
  /** Only if the object has this etag: `PreconditionFailed` otherwise. */
  readonly ifMatch?: string
  /** Only if the object has another etag: `NotModified` otherwise. */
  readonly ifNoneMatch?: string
}

export interface GetOptions extends CallOptions, ReadConditions {
  /** Bytes `start` to `end` (both included; without `end`: to the object's end), or the `last` so many. */
  readonly range?: { readonly start: number; readonly end?: number } | { readonly last: number }
  /** Reads this many ranges at the same time, 1 to 64. Worth it over long or lossy ways. Default 1; not with `range`. */
  readonly parallel?: number
  /** Bytes of each of those ranges. Default 8 MiB. */
  readonly partSize?: number
  /** False: what arrives is not compared with the object's checksum. */
  readonly verify?: boolean
}

/** Up to here a body is read at once. */
const smallBytes = 1024 * 1024

/**
 * An object that has been found, its bytes still to be read: by one of `body`, `arrayBuffer()`, `bytes()`, `text()` and
 * `json()`, once. An object whose bytes are not wanted is ended with `cancel()`.
 */
export class PandoObject {
  readonly info: ObjectInfo
  /** Of the bytes that `body` brings: differs from `info.size` when a range was asked for. */
  readonly contentLength: number
  /** Which bytes these are, both included; undefined: all. */
  readonly range: { readonly start: number; readonly end: number } | undefined
  readonly #reader: ByteReader
  #used = false

  constructor(info: ObjectInfo, reader: ByteReader, start: number, end: number) {
    this.info = info
    this.#reader = reader
    this.contentLength = end - start
    if (end - start !== info.size) this.range = { start, end: end - 1 }
  }

  get size(): number {
    return this.info.size
  }

  get etag(): string {
    return this.info.etag
  }

  get versionId(): string | undefined {
    return this.info.versionId
  }

  get contentType(): string {
    return this.info.contentType
  }

  get metadata(): Readonly<Record<string, string>> {
    return this.info.metadata
  }

  /** The bytes as a stream. It fails at its end when they are not those that were stored. */
  get body(): ReadableStream<Uint8Array> {
    const reader = this.#take()
    return new ReadableStream<Uint8Array>(
      {
        async pull(controller) {
          const piece = await reader.next()
          if (piece === undefined) controller.close()
          else controller.enqueue(piece)
        },
        cancel() {
          reader.cancel()
        },
      },
      { highWaterMark: 0 },
    )
  }

  /** All bytes, in a buffer of their own. */
  async bytes(): Promise<Uint8Array> {
    const reader = this.#take()
    if (this.contentLength <= smallBytes && reader instanceof ResumingReader) return reader.whole()
    return collect(reader, this.contentLength)
  }

  async arrayBuffer(): Promise<ArrayBuffer> {
    const bytes = await this.bytes()
    const { buffer } = bytes
    if (buffer instanceof ArrayBuffer && buffer.byteLength === bytes.length) return buffer
    return bytes.slice().buffer as ArrayBuffer
  }

  /** As UTF-8. */
  async text(): Promise<string> {
    return fromUtf8(await this.bytes())
  }

  /** Parsed, and not checked: what it is, the application has to find out. */
  async json(): Promise<unknown> {
    return JSON.parse(await this.text())
  }

  /** The bytes are not wanted. */
  cancel(): void {
    if (!this.#used) this.#take().cancel()
  }

  #take(): ByteReader {
    if (this.#used) throw invalidArgument('the bytes of an object can be read once; get it again')
    this.#used = true
    return this.#reader
  }
}

export function readRequest(
  operation: 'GetObject' | 'HeadObject',
  bucket: string,
  key: string,
  options: CallOptions & ReadConditions,
): ApiRequest {
  return {
    operation,
    method: operation === 'GetObject' ? 'GET' : 'HEAD',
    bucket,
    key,
    ...(options.versionId === undefined ? {} : { query: { versionId: options.versionId } }),
    headers: {
      'x-amz-checksum-mode': 'ENABLED',
      ...(options.ifMatch === undefined ? {} : { 'if-match': quoted(options.ifMatch) }),
      ...(options.ifNoneMatch === undefined ? {} : { 'if-none-match': quoted(options.ifNoneMatch) }),
    },
    answer: operation === 'GetObject' ? 'stream' : 'text',
    hedge: true,
    options,
  }
}

export async function headObject(
  sender: Sender,
  bucket: string,
  key: string,
  options: CallOptions & ReadConditions,
): Promise<ObjectInfo> {
  const { headers, endpoint } = await sender.send(readRequest('HeadObject', bucket, key, options))
  return objectInfo(bucket, key, headers, endpoint)
}

export async function getObject(
  sender: Sender,
  bucket: string,
  key: string,
  options: GetOptions,
): Promise<PandoObject> {
  const parallel = whole('parallel', options.parallel ?? 1, 1, 64)
  if (parallel > 1) {
    if (options.range !== undefined)
      throw invalidArgument('parallel reads are of whole objects, without range')
    return getInRanges(sender, bucket, key, options, parallel)
  }
  const base = readRequest('GetObject', bucket, key, options)
  const request: ApiRequest =
    options.range === undefined
      ? base
      : {
          ...base,
          headers: { ...base.headers, range: rangeHeader(options.range) },
          // A range of an encoded object is of its encoded bytes, which fetch would try to decode. Who does not sign may not ask for that.
          ...(sender.credentials === undefined
            ? {}
            : { query: { ...base.query, 'response-content-encoding': 'identity' } }),
        }
  const answer = await sender.send(request)
  try {
    if (answer.status === 206) requiredHeader(answer.headers, 'content-range', answer.endpoint)
    const info = objectInfo(bucket, key, answer.headers, answer.endpoint)
    const isPart = answer.status === 206 && sender.credentials === undefined
    if (isPart && isDecodedByFetch(info.contentEncoding)) {
      const why = `a range of an object with the content encoding ${info.contentEncoding}`
      throw invalidArgument(`${why} needs a client with credentials`)
    }
    const { start, end } = rangeOfAnswer(answer.headers, info.size)
    const place = { info, start, end, verify: options.verify ?? true }
    // What goes on after a break is asked for by position, whatever range was asked for first.
    return new PandoObject(info, new ResumingReader(sender, request, answer, place), start, end)
  } catch (error) {
    answer.discard()
    throw error
  }
}

async function getInRanges(
  sender: Sender,
  bucket: string,
  key: string,
  options: GetOptions,
  parallel: number,
): Promise<PandoObject> {
  const partSize = whole('partSize', options.partSize ?? 8 * 1024 * 1024, 64 * 1024, 1024 * 1024 * 1024)
  const info = await headObject(sender, bucket, key, options)
  if (info.size <= partSize || isDecodedByFetch(info.contentEncoding)) {
    const { parallel: _, ...single } = options
    return getObject(sender, bucket, key, single)
  }
  const pinned = info.versionId === undefined ? options : { ...options, versionId: info.versionId }
  const request = readRequest('GetObject', bucket, key, pinned)
  const shape = { partSize, parallel, verify: options.verify ?? true }
  return new PandoObject(info, new ParallelReader(sender, request, info, shape), 0, info.size)
}

function rangeHeader(range: NonNullable<GetOptions['range']>): string {
  const most = Number.MAX_SAFE_INTEGER
  if ('last' in range) return `bytes=-${whole('range.last', range.last, 1, most)}`
  const start = whole('range.start', range.start, 0, most)
  return `bytes=${start}-${range.end === undefined ? '' : whole('range.end', range.end, start, most)}`
}

function rangeOfAnswer(headers: AnswerHeaders, size: number): { start: number; end: number } {
  const match = /^bytes (\d+)-(\d+)\//.exec(headers.get('content-range') ?? '')
  return match === null ? { start: 0, end: size } : { start: Number(match[1]), end: Number(match[2]) + 1 }
}
