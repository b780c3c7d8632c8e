import type { Clock } from '../../core/contract/clock.ts'
import { StorageError } from '../../core/contract/errors.ts'
import type { ByteStream, StreamListener, StreamNetwork } from '../../core/protocol/rpc/byte-stream.ts'
import type { Random } from './random.ts'

export interface MemoryPath {
  /** One way. */
  readonly delayMs: number
  /** Added evenly from 0 to this. */
  readonly jitterMs: number
  /** Share of writes that are lost once and come after `retransmitMs`, as over TCP. */
  readonly loss: number
  readonly retransmitMs: number
}

export interface MemoryNetworkOptions {
  readonly clock: Clock
  readonly random: Random
  readonly path?: Partial<MemoryPath>
  /** What a direction holds before its writer must wait. */
  readonly bufferBytes?: number
}

const defaultPath: MemoryPath = { delayMs: 0, jitterMs: 0, loss: 0, retransmitMs: 200 }

/** Connections within this process, over paths that delay, lose, stall and break when a test says so. */
export class MemoryNetwork implements StreamNetwork {
  readonly #options: MemoryNetworkOptions
  readonly #listeners = new Map<string, (stream: ByteStream) => void>()
  readonly #connections = new Set<Connection>()
  #path: MemoryPath
  #isCut = false
  #healed: (() => void)[] = []
  #made = 0

  constructor(options: MemoryNetworkOptions) {
    this.#options = options
    this.#path = { ...defaultPath, ...options.path }
  }

  get connectionCount(): number {
    return this.#connections.size
  }

  /** From now on, for connections that there are and for new ones. */
  setPath(path: Partial<MemoryPath>): void {
    this.#path = { ...this.#path, ...path }
  }

  /** Nothing arrives any more and nobody is told, as when a cable is pulled. */
  cut(): void {
    this.#isCut = true
  }

  /** What was on its way when the path was cut arrives now. */
  heal(): void {
    this.#isCut = false
    const healed = this.#healed
    this.#healed = []
    for (const go of healed) go()
  }

  /** Every connection breaks at once, as when the process of the other side is killed. */
  reset(): void {
    for (const connection of [...this.#connections]) connection.reset()
  }

  async listen(address: string, onConnection: (stream: ByteStream) => void): Promise<StreamListener> {
    const bound = address.endsWith(':0') ? `${address.slice(0, -1)}${++this.#made}` : address
    if (bound === '') throw new StorageError('INVALID_ARGUMENT', 'an address is not empty')
    if (this.#listeners.has(bound)) throw new StorageError('UNAVAILABLE', `${bound} is in use`)
    this.#listeners.set(bound, onConnection)
    return {
      address: bound,
      close: async () => {
        this.#listeners.delete(bound)
      },
    }
  }

  async connect(address: string, signal: AbortSignal): Promise<ByteStream> {
    signal.throwIfAborted()
    await this.#travel(signal)
    const onConnection = this.#listeners.get(address)
    if (onConnection === undefined) throw new StorageError('PEER_UNREACHABLE', `nobody listens at ${address}`)
    const connection = new Connection(this.#options, {
      delayMs: () => this.#delayMs(),
      whenOpen: () => this.#whenOpen(),
      onEnd: () => this.#connections.delete(connection),
    })
    this.#connections.add(connection)
    onConnection(connection.server)
    return connection.client
  }

  async #travel(signal: AbortSignal): Promise<void> {
    const aborted = new Promise<never>((_, reject) =>
      signal.addEventListener('abort', () => reject(signal.reason), { once: true }),
    )
    aborted.catch(() => undefined)
    const open = this.#whenOpen()
    if (open !== undefined) await Promise.race([open, aborted])
    const delayMs = this.#delayMs() * 2
    if (delayMs > 0) await this.#options.clock.sleep(delayMs, signal)
  }

  #whenOpen(): Promise<void> | undefined {
    return this.#isCut ? new Promise((resolve) => this.#healed.push(resolve)) : undefined
  }

  #delayMs(): number {
    const { random } = this.#options
    const { delayMs, jitterMs, loss, retransmitMs } = this.#path
    const late = loss > 0 && random.next() < loss ? retransmitMs : 0
    return delayMs + (jitterMs > 0 ? random.next() * jitterMs : 0) + late
  }
}

interface PathHooks {
  delayMs(): number
  whenOpen(): Promise<void> | undefined
  onEnd(): void
}

class Connection {
  readonly client: ByteStream
  readonly server: ByteStream
  readonly #forth: Pipe
  readonly #back: Pipe

  constructor(options: MemoryNetworkOptions, hooks: PathHooks) {
    this.#forth = new Pipe(options, hooks)
    this.#back = new Pipe(options, hooks)
    this.client = streamOf(this.#back, this.#forth, hooks.onEnd)
    this.server = streamOf(this.#forth, this.#back, hooks.onEnd)
  }

  reset(): void {
    this.#forth.break()
    this.#back.break()
  }
}

function streamOf(incoming: Pipe, outgoing: Pipe, onEnd: () => void): ByteStream {
  return {
    write: (pieces) => outgoing.write(pieces),
    read: () => incoming.read(),
    end: () => outgoing.end(),
    destroy() {
      // As a kernel closes: what was written still arrives, what comes in is refused.
      incoming.break()
      outgoing.end()
      onEnd()
    },
  }
}

/** One direction. */
class Pipe {
  readonly #options: MemoryNetworkOptions
  readonly #hooks: PathHooks
  readonly #arrived: Uint8Array[] = []
  #heldBytes = 0
  #isEnding = false
  #isEnded = false
  #isBroken = false
  #travelling: Promise<void> = Promise.resolve()
  #lastArrivalMs = 0
  #wake: (() => void) | undefined
  #roomy: (() => void) | undefined

  constructor(options: MemoryNetworkOptions, hooks: PathHooks) {
    this.#options = options
    this.#hooks = hooks
  }

  async write(pieces: readonly Uint8Array[]): Promise<void> {
    if (this.#isBroken || this.#isEnding) throw broken()
    const bytes = Uint8Array.from(Buffer.concat(pieces))
    this.#heldBytes += bytes.length
    this.#deliver(() => this.#arrived.push(bytes))
    while (this.#heldBytes > (this.#options.bufferBytes ?? 256 * 1024)) {
      await new Promise<void>((resolve) => {
        this.#roomy = resolve
      })
      if (this.#isBroken || this.#isEnding) throw broken()
    }
  }

  end(): void {
    if (this.#isEnding) return
    this.#isEnding = true
    this.#roomy?.()
    this.#deliver(() => {
      this.#isEnded = true
    })
  }

  /** In order, each at its time. */
  #deliver(arrive: () => void): void {
    const { clock } = this.#options
    const delayMs = this.#hooks.delayMs()
    this.#lastArrivalMs = Math.max(this.#lastArrivalMs, clock.monotonic() + delayMs)
    const waitMs = this.#lastArrivalMs - clock.monotonic()
    const trip = waitMs > 0 ? clock.sleep(waitMs) : undefined
    this.#travelling = this.#travelling.then(async () => {
      if (trip !== undefined) await trip
      const open = this.#hooks.whenOpen()
      if (open !== undefined) await open
      arrive()
      this.#wake?.()
    })
  }

  async read(): Promise<Uint8Array | undefined> {
    for (;;) {
      if (this.#isBroken) throw broken()
      const bytes = this.#arrived.shift()
      if (bytes !== undefined) {
        this.#heldBytes -= bytes.length
        this.#roomy?.()
        return bytes
      }
      if (this.#isEnded) return undefined
      await new Promise<void>((resolve) => {
        this.#wake = resolve
      })
    }
  }

  break(): void {
    this.#isBroken = true
    this.#wake?.()
    this.#roomy?.()
  }
}

const broken = (): StorageError => new StorageError('PEER_UNREACHABLE', 'the connection was reset')
