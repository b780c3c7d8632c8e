import type { IncomingMessage } from 'node:http'
import type { TLSSocket } from 'node:tls'
import { StorageError } from '../../contract/errors.ts'
import { withoutSpace } from './authenticate/sigv2.ts'
import { isChecksumOfNothing } from './checksum.ts'
import type { LocalDoor } from './local/local-door.ts'
import type { RequestBody, S3Request } from './operation.ts'
import { parseQuery, parseTarget, type Target } from './target.ts'

/** What is known of an application on this machine. */
export interface LocalEdge {
  readonly door: LocalDoor
  /** As at the node's port: nobody can listen to a unix socket, and a policy that asks for TLS means that. */
  readonly secure: boolean
}

/** One request as the handlers see it, over node's message. Cheap to make: everything that can be lazy is. */
export class EdgeRequest implements S3Request {
  readonly id: string
  readonly method: string
  readonly rawTarget: string
  readonly target: Target
  readonly query: ReadonlyMap<string, string>
  readonly headers: IncomingMessage['headers']
  presigned = false
  readonly #message: IncomingMessage
  readonly #local: LocalEdge | undefined
  #body: RequestBody | undefined
  #abort: AbortController | undefined
  #gone = false

  /** INVALID_URI, KEY_TOO_LONG. */
  constructor(
    id: string,
    message: IncomingMessage,
    domains: readonly string[],
    local: LocalEdge | undefined,
  ) {
    this.#local = local
    this.id = id
    this.#message = message
    this.method = message.method ?? ''
    this.rawTarget = message.url ?? ''
    this.headers = message.headers
    this.target = parseTarget(this.rawTarget, this.headers.host, domains)
    this.query = parseQuery(this.target.rawQuery)
  }

  get bucketName(): string | undefined {
    return this.target.bucketName
  }

  get virtualHost(): boolean {
    return this.target.resourcePath !== this.target.rawPath
  }

  get key(): string | undefined {
    return this.target.key
  }

  get rawPath(): string {
    return this.target.rawPath
  }

  get resourcePath(): string {
    return this.target.resourcePath
  }

  get rawQuery(): string {
    return this.target.rawQuery
  }

  get rawHeaders(): readonly string[] {
    return this.#message.rawHeaders
  }

  get remoteAddress(): string {
    if (this.#local !== undefined) return '127.0.0.1'
    const address = this.#message.socket.remoteAddress ?? ''
    return address.startsWith('::ffff:') ? address.slice(7) : address
  }

  get secure(): boolean {
    return this.#local?.secure ?? (this.#message.socket as Partial<TLSSocket>).encrypted === true
  }

  /**
   * Presigning SDKs move x-amz-* headers into the query; signed there, they count as headers. A checksum there holds whatever
   * header the bearer of the URL sends; but not the checksum of nothing, which is what an SDK puts there that presigns
   * without knowing the body.
   */
  adoptQueryHeaders(): void {
    this.presigned = true
    for (const [name, value] of this.query) {
      if (!name.startsWith('x-amz-') || name === 'x-amz-sdk-checksum-algorithm') continue
      if (!name.startsWith('x-amz-checksum-')) this.headers[name] ??= withoutSpace(value)
      else if (!isChecksumOfNothing(name, value)) this.headers[name] = value
    }
  }

  header(name: string): string | undefined {
    const value = this.headers[name]
    return typeof value === 'string' || value === undefined ? value : value.join(', ')
  }

  get body(): RequestBody {
    // The edge sets it after authentication and before any handler runs.
    if (this.#body === undefined) throw new TypeError('the body is known only after authentication')
    return this.#body
  }

  set body(body: RequestBody) {
    this.#body = body
  }

  get signal(): AbortSignal {
    if (this.#abort === undefined) {
      this.#abort = new AbortController()
      if (this.#gone) this.#abort.abort(clientGone())
    }
    return this.#abort.signal
  }

  /** The client went away, or was cut. */
  abandon(): void {
    this.#gone = true
    this.#abort?.abort(clientGone())
  }
}

const clientGone = (): StorageError => new StorageError('CANCELLED', 'the client went away')
