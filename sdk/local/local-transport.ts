import { join } from 'node:path'
import { type ClientEnvironment, webEnvironment } from '../client/environment.ts'
import { invalidArgument } from '../client/errors.ts'
import type { HttpAnswer } from '../client/http-answer.ts'
import { type HttpFetch, nodeFetch } from '../client/node-http.ts'
import type { Transport, Way } from '../client/transport.ts'
import { SharedAnswer } from './shared-answer.ts'
import { bodyLengthHeader, SharedMemory, slabHeader } from './shared-memory.ts'

export interface LocalTransportOptions {
  /** `s3.local.directory` of the node's configuration, as this process sees it. */
  readonly directory: string
  /** The endpoint that is the node. Default: a loopback address with the port that the node says it has. */
  readonly origin?: string
  /** Told when requests take another way than before. Default: a warning of the process when they go over HTTP. */
  readonly onChange?: (taken: WayTaken) => void
  /** For tests. */
  readonly environment?: Pick<ClientEnvironment, 'monotonic' | 'after'>
}

/** How requests go. */
export type WayTaken =
  | { readonly way: 'local'; readonly sharedMemory: boolean }
  | { readonly way: 'http'; readonly reason: string }

/** Until a node that did not answer is asked again. */
const restMs = 1000
const probeMs = 1000
/** Until memory that was not to be had is asked for again. */
const memoryRestMs = 10_000
/** Bodies below go faster through the socket. */
const leastBytes = 64 * 1024

/** The way to a node on this machine. Where there is none, requests go over HTTP, and it says so. */
export function localTransport(options: LocalTransportOptions): LocalTransport {
  return new LocalTransport(options)
}

/** See `localTransport`. */
export class LocalTransport implements Transport {
  readonly #options: LocalTransportOptions
  readonly #environment: Pick<ClientEnvironment, 'monotonic' | 'after'>
  readonly #socketPath: string
  readonly #origin: string | undefined
  readonly #send: HttpFetch
  readonly #way: Way
  /** The node's; undefined: it has not been reached, or not any more. */
  #port: number | undefined
  #probe: Promise<void> | undefined
  #restsUntilMs = 0
  #memory: SharedMemory | undefined
  /** A request is asking for memory, or it is being taken. */
  #isAsking = false
  #memoryRestsUntilMs = 0
  #taken: WayTaken | undefined
  #isClosed = false

  constructor(options: LocalTransportOptions) {
    this.#options = options
    this.#environment = options.environment ?? webEnvironment
    this.#socketPath = join(options.directory, 's3.sock')
    if (options.origin !== undefined && !URL.canParse(options.origin))
      throw invalidArgument(`origin is no URL: ${options.origin}`)
    this.#origin = options.origin === undefined ? undefined : new URL(options.origin).origin
    const send = nodeFetch(this.#socketPath)
    if (send === undefined) throw invalidArgument('the local transport needs Node 20.16 or newer')
    this.#send = send
    this.#way = {
      // Nobody is on the way who could change a body. Documents have no checksum of their own, and servers want something of them.
      protects: (headers = {}) => Object.keys(headers).some((name) => name.startsWith('x-amz-checksum-')),
      fetch: (url, init) => this.#fetch(url, init),
    }
  }

  /** How the last request went; undefined: there was none. */
  get taken(): WayTaken | undefined {
    return this.#taken
  }

  way(origin: string): Way | undefined | Promise<Way | undefined> {
    if (this.#port !== undefined) return this.#wayTo(origin, this.#port)
    if (this.#isClosed || this.#environment.monotonic() < this.#restsUntilMs) return undefined
    this.#probe ??= this.#reach().finally(() => {
      this.#probe = undefined
    })
    return this.#probe.then(() => (this.#port === undefined ? undefined : this.#wayTo(origin, this.#port)))
  }

  /** Gives the shared memory back; later requests go over HTTP. */
  close(): void {
    this.#isClosed = true
    this.#port = undefined
    this.#memory?.close()
    this.#memory = undefined
  }

  #wayTo(origin: string, port: number): Way | undefined {
    const given = this.#origin
    const isIt = given === undefined ? isLoopbackPort(origin, port) : given === origin
    if (isIt) {
      this.#tell({ way: 'local', sharedMemory: this.#memory !== undefined })
      return this.#way
    }
    if (this.#taken === undefined) {
      const name = given ?? `port ${port} of this machine`
      this.#tell({ way: 'http', reason: `${origin} is not the node of ${this.#options.directory} (${name})` })
    }
    return undefined
  }

  async #reach(): Promise<void> {
    const ender = new AbortController()
    const cancel = this.#environment.after(probeMs, () => ender.abort())
    try {
      const answer = await this.#send('http://localhost/-/node', {
        method: 'GET',
        headers: {},
        signal: ender.signal,
      })
      const told: unknown = JSON.parse(await answer.text())
      const port = typeof told === 'object' && told !== null && 'port' in told ? told.port : undefined
      if (typeof port !== 'number') throw new Error('what answers is no node')
      if (!this.#isClosed) this.#port = port
    } catch (error) {
      this.#lost(error)
    } finally {
      cancel()
    }
  }

  #lost(error: unknown): void {
    this.#port = undefined
    this.#restsUntilMs = this.#environment.monotonic() + restMs
    const { cause, message } = error as Error
    const reason = cause instanceof Error ? cause.message : message
    this.#tell({ way: 'http', reason: `no node answers at ${this.#socketPath} (${reason})` })
  }

  #tell(taken: WayTaken): void {
    const before = this.#taken
    this.#taken = taken
    const isSame =
      before?.way === taken.way &&
      (taken.way === 'http' || before.way === 'http' || before.sharedMemory === taken.sharedMemory)
    if (isSame) return
    const { onChange } = this.#options
    if (onChange !== undefined) onChange(taken)
    else if (taken.way === 'http')
      process.emitWarning(`requests go over HTTP: ${taken.reason}`, 'PandoLocalTransport')
  }

  async #fetch(url: string, init: RequestInit): Promise<HttpAnswer> {
    try {
      return await this.#exchange(url, init)
    } catch (error) {
      // Nobody listens any more: the next attempt goes another way.
      if (isClosedDoor(error)) this.#lost(error)
      throw error
    }
  }

  async #exchange(url: string, init: RequestInit): Promise<HttpAnswer> {
    const memory = this.#usableMemory()
    const headers: Record<string, string> = { ...(init.headers as Record<string, string>) }
    const target = url.startsWith('https:') ? `http:${url.slice(6)}` : url
    // What TLS has as its own port is none of plain HTTP's.
    if (target !== url) headers['host'] = new URL(url).host
    const body = init.body as Uint8Array | undefined
    const id = memory?.nextId() ?? 0
    let blocks: readonly number[] | undefined
    const asks = memory === undefined && this.#mayAsk()
    if (asks) {
      this.#isAsking = true
      headers[slabHeader] = 'new'
    } else if (memory === undefined) {
      // Through the socket.
    } else if (body === undefined) {
      if (init.method === 'GET') headers[slabHeader] = `${memory.name} ${id}`
    } else if (body.length >= leastBytes) {
      blocks = await this.#lay(memory, body)
      if (blocks !== undefined)
        headers[slabHeader] = `${memory.name} ${id} ${body.length} ${blocks.join(' ')}`
    }
    const sent = blocks === undefined ? init : { ...init, body: nothing }
    let answer: HttpAnswer
    try {
      answer = await this.#send(target, { ...sent, headers })
    } catch (error) {
      // What was never sent nobody reads: with too many blocks retired the memory would be given up, under requests that use it.
      if (blocks !== undefined && isClosedDoor(error)) memory?.give(blocks)
      else if (blocks !== undefined) memory?.retire(blocks)
      if (asks) this.#isAsking = false
      throw error
    }
    if (blocks !== undefined) memory?.give(blocks)
    if (asks) this.#attach(answer.headers.get(slabHeader))
    else if (memory !== undefined && answer.headers.get(bodyLengthHeader) !== null)
      return new SharedAnswer(answer, memory, id, init.signal ?? undefined)
    return answer
  }

  /** Where the body is in shared memory; undefined: it has no room there now. */
  async #lay(memory: SharedMemory, body: Uint8Array): Promise<readonly number[] | undefined> {
    const blocks = memory.take(body.length)
    if (blocks === undefined) return undefined
    try {
      await memory.write(body, blocks)
      return blocks
    } catch {
      // The machine has no more of it, or the node has gone: the request finds out.
      memory.close()
      return undefined
    }
  }

  #usableMemory(): SharedMemory | undefined {
    if (this.#memory?.isClosed === true) this.#memory = undefined
    return this.#memory
  }

  #mayAsk(): boolean {
    return !this.#isAsking && !this.#isClosed && this.#environment.monotonic() >= this.#memoryRestsUntilMs
  }

  /** Takes what is offered; bodies go through the socket meanwhile, and when there is nothing. */
  #attach(offer: string | null): void {
    const settle = (memory?: SharedMemory): void => {
      this.#isAsking = false
      this.#memoryRestsUntilMs = memory === undefined ? this.#environment.monotonic() + memoryRestMs : 0
      if (this.#isClosed) memory?.close()
      else this.#memory = memory
    }
    if (offer === null) settle()
    else SharedMemory.attach(this.#options.directory, this.#socketPath, offer).then(settle, () => settle())
  }
}

const nothing = new Uint8Array(0)

/** Nobody listens at the socket: the request did not leave this process. */
function isClosedDoor(error: unknown): boolean {
  const { cause } = error as { cause?: { code?: string } }
  return cause?.code === 'ECONNREFUSED' || cause?.code === 'ENOENT'
}

function isLoopbackPort(origin: string, port: number): boolean {
  const { hostname, port: given, protocol } = new URL(origin)
  const asked = given === '' ? (protocol === 'https:' ? 443 : 80) : Number(given)
  return asked === port && /^(localhost|127\.\d+\.\d+\.\d+|\[::1\])$/.test(hostname)
}
