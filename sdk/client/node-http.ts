import type { AnswerBody, AnswerHeaders, AnswerReader, HttpAnswer } from './http-answer.ts'

/**
 * Requests over Node's own HTTP. fetch is there too, but copies each body that it sends, and hands on what comes through two
 * layers of web streams: a quarter of the processor time of a large upload or download, and four parts more memory.
 *
 * Node's modules are asked for at run time and never imported, so that a bundle for browsers has none of them. The shapes below
 * are what is used of them.
 */

type Listener = (...args: never[]) => void

interface Emitter {
  on(event: string, listener: Listener): unknown
}
interface Incoming extends Emitter {
  readonly statusCode: number
  readonly rawHeaders: readonly string[]
  readonly complete: boolean
  pause(): void
  resume(): void
  destroy(error?: Error): void
  pipe(target: Decoder): Decoder
}
interface Decoder extends Emitter {
  pause(): void
  resume(): void
  pipe(target: Decoder): Decoder
  destroy(error?: Error): void
}
interface Outgoing extends Emitter {
  end(body?: Uint8Array): void
  destroy(error?: Error): void
}
interface HttpModule {
  readonly Agent: new (options: object) => object
  request(url: string, options: object): Outgoing
}
interface ZlibModule {
  readonly constants: { readonly Z_SYNC_FLUSH: number; readonly BROTLI_OPERATION_FLUSH: number }
  createGunzip(options: object): Decoder
  createInflate(options: object): Decoder
  createBrotliDecompress(options: object): Decoder
}
interface NodeProcess {
  getBuiltinModule?(id: string): unknown
  readonly versions?: { readonly node?: string }
}

export type HttpFetch = (url: string, init: RequestInit) => Promise<HttpAnswer>

/** How long a connection that nobody uses is kept: shorter than servers keep it, so that none is used that has just been closed. */
const idleMs = 4000
/** Bytes of a body that wait for their reader; a connection that brings more is stopped. */
const waitingBytes = 1024 * 1024

/**
 * Undefined where there is no Node, or one without `process.getBuiltinModule` (before 20.16): fetch does the work there. `socketPath`: of a
 * unix socket that all requests go to, whatever their URL names.
 */
export function nodeFetch(socketPath?: string): HttpFetch | undefined {
  const { process } = globalThis as { process?: NodeProcess }
  // Others that have the question (Bun, Deno) have a fetch that is better than their `node:http`.
  if (process?.versions?.node === undefined || 'Bun' in globalThis || 'Deno' in globalThis) return undefined
  const builtin = process.getBuiltinModule?.bind(process)
  if (builtin === undefined) return undefined
  // Of each scheme when the first request needs it: `node:https` brings all of TLS.
  const doors = new Map<string, { readonly module: HttpModule; readonly agent: object }>()
  const door = (scheme: 'node:http' | 'node:https'): { module: HttpModule; agent: object } => {
    let found = doors.get(scheme)
    if (found === undefined) {
      const module = builtin(scheme) as HttpModule
      const agent = new module.Agent({ keepAlive: true, timeout: idleMs, scheduling: 'lifo', noDelay: true })
      found = { module, agent }
      doors.set(scheme, found)
    }
    return found
  }
  return (url, init) =>
    new Promise((resolve, reject) => {
      const { module, agent } = door(url.startsWith('https:') ? 'node:https' : 'node:http')
      const { signal } = init
      const headers = init.headers as Record<string, string>
      const body = init.body as Uint8Array | undefined
      // Whatever header errors Node throws here are the caller's TypeError.
      const request = module.request(url, {
        agent,
        socketPath,
        method: init.method,
        headers: body === undefined ? headers : { ...headers, 'content-length': body.length },
      })
      let answer: NodeAnswer | undefined
      const fail = (error: Error): void => {
        signal?.removeEventListener('abort', onAbort)
        if (answer === undefined) reject(failureOf(error))
        else answer.fail(error)
      }
      const onAbort = (): void => {
        const reason = signal?.reason instanceof Error ? signal.reason : new Error('aborted')
        // Told first: what `destroy` makes of it would be a connection that broke.
        answer?.drop()
        fail(reason)
        request.destroy(reason)
      }
      if (signal?.aborted === true) {
        request.on('error', () => {})
        onAbort()
        return
      }
      signal?.addEventListener('abort', onAbort, { once: true })
      request.on('error', fail)
      request.on('response', (message: Incoming) => {
        answer = new NodeAnswer(message, () => signal?.removeEventListener('abort', onAbort), builtin)
        resolve(answer)
      })
      request.end(body)
    })
}

/** As fetch tells it: the reason of the connection is the cause. */
const failureOf = (error: Error): Error =>
  error.name === 'AbortError' ? error : new Error('the request failed', { cause: error })

class NodeAnswer implements HttpAnswer, AnswerHeaders, AnswerBody, AnswerReader {
  readonly status: number
  readonly #message: Incoming
  readonly #release: () => void
  readonly #raw: readonly string[]
  readonly #pieces: Uint8Array[] = []
  #source: Incoming | Decoder
  #waitingBytes = 0
  #paused = false
  #ended = false
  #failure: Error | undefined
  #wake: (() => void) | undefined

  constructor(message: Incoming, release: () => void, builtin: (id: string) => unknown) {
    this.status = message.statusCode
    this.#message = message
    this.#release = release
    this.#raw = message.rawHeaders
    this.#source = decoded(message, this.get('content-encoding'), builtin)
    this.#source.on('data', (piece: Uint8Array) => {
      this.#pieces.push(piece)
      this.#waitingBytes += piece.length
      if (this.#waitingBytes >= waitingBytes && !this.#paused) {
        this.#paused = true
        this.#source.pause()
      }
      this.#wake?.()
    })
    this.#source.on('end', () => {
      this.#ended = true
      this.#release()
      this.#wake?.()
    })
    const onError = (error: Error): void => this.fail(error)
    this.#source.on('error', onError)
    if (this.#source !== message) message.on('error', onError)
    message.on('close', () => {
      if (!message.complete) this.fail(new Error('the connection was closed in the middle of an answer'))
    })
  }

  get headers(): AnswerHeaders {
    return this
  }

  get body(): AnswerBody {
    return this
  }

  get(name: string): string | null {
    const raw = this.#raw
    let found: string | null = null
    for (let at = 0; at < raw.length; at += 2) {
      const own = raw[at] ?? ''
      if (own.length !== name.length || own.toLowerCase() !== name) continue
      const value = raw[at + 1] ?? ''
      found = found === null ? value : `${found}, ${value}`
    }
    return found
  }

  forEach(visit: (value: string, name: string) => void): void {
    const raw = this.#raw
    const seen = new Set<string>()
    for (let at = 0; at < raw.length; at += 2) {
      const name = (raw[at] ?? '').toLowerCase()
      if (seen.has(name)) continue
      seen.add(name)
      visit(this.get(name) ?? '', name)
    }
  }

  getReader(): AnswerReader {
    return this
  }

  /** What has come and was not read is not wanted. */
  drop(): void {
    this.#pieces.length = 0
  }

  fail(error: Error): void {
    if (this.#ended || this.#failure !== undefined) return
    this.#failure = failureOf(error)
    this.#release()
    this.#wake?.()
  }

  async read(): Promise<{ done: boolean; value?: Uint8Array | undefined }> {
    for (;;) {
      const value = this.#pieces.shift()
      if (value !== undefined) {
        this.#waitingBytes -= value.length
        if (this.#paused && this.#waitingBytes <= waitingBytes / 2) {
          this.#paused = false
          this.#source.resume()
        }
        return { done: false, value }
      }
      if (this.#failure !== undefined) throw this.#failure
      if (this.#ended) return { done: true, value: undefined }
      await new Promise<void>((resolve) => {
        this.#wake = resolve
      })
      this.#wake = undefined
    }
  }

  async cancel(): Promise<void> {
    this.#ended = true
    this.#release()
    this.#message.destroy()
  }

  async arrayBuffer(): Promise<ArrayBuffer> {
    return (await this.#whole()).buffer
  }

  async text(): Promise<string> {
    return new TextDecoder().decode(await this.#whole())
  }

  /** All of it, in memory of its own. */
  async #whole(): Promise<Uint8Array<ArrayBuffer>> {
    const pieces: Uint8Array[] = []
    let length = 0
    for (;;) {
      const { value } = await this.read()
      if (value === undefined) break
      pieces.push(value)
      length += value.length
    }
    const whole = new Uint8Array(length)
    let at = 0
    for (const piece of pieces) {
      whole.set(piece, at)
      at += piece.length
    }
    return whole
  }
}

/** Takes content encodings off, as fetch does; one that is not known leaves the body as it is. */
function decoded(
  message: Incoming,
  encoding: string | null,
  builtin: (id: string) => unknown,
): Incoming | Decoder {
  if (encoding === null || encoding === 'identity') return message
  const names = encoding.split(',').map((name) => name.trim().toLowerCase())
  if (!names.every((name) => /^(x-gzip|gzip|deflate|br)$/.test(name))) return message
  const zlib = builtin('node:zlib') as ZlibModule
  const { Z_SYNC_FLUSH, BROTLI_OPERATION_FLUSH } = zlib.constants
  let source: Incoming | Decoder = message
  for (const name of names.reverse()) {
    const decoder =
      name === 'br'
        ? zlib.createBrotliDecompress({ flush: BROTLI_OPERATION_FLUSH, finishFlush: BROTLI_OPERATION_FLUSH })
        : name === 'deflate'
          ? zlib.createInflate({ flush: Z_SYNC_FLUSH, finishFlush: Z_SYNC_FLUSH })
          : zlib.createGunzip({ flush: Z_SYNC_FLUSH, finishFlush: Z_SYNC_FLUSH })
    source = source.pipe(decoder)
  }
  return source
}
