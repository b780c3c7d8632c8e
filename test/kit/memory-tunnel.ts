import type { Clock } from '../../core/contract/clock.ts'
import { StorageError } from '../../core/contract/errors.ts'
import type {
  RegionIdentity,
  TunnelBackend,
  TunnelCloseInfo,
  TunnelCredentials,
  TunnelRead,
  TunnelSession,
  TunnelStream,
} from '../../core/contract/tunnel.ts'

/**
 * Tunnels within this process over a clock of the test's choice: paths delay, stall and break, streams lose their ends, and all
 * of it is the same for the same seed.
 */
export interface MemoryTunnelOptions {
  readonly clock: Clock
  /** One way. */
  readonly delayMs?: number
  /** What a direction of a stream holds before its writer must wait. */
  readonly bufferBytes?: number
  /** Streams of one side that may be open at once. */
  readonly maxStreams?: number
}

interface Path {
  readonly clock: Clock
  delayMs(): number
  /** Resolves when what was sent now may arrive; undefined: at once. */
  whenOpen(): Promise<void> | undefined
  readonly bufferBytes: number
  readonly maxStreams: number
}

/** A session that hears nothing for so long is lost, as in every back end. */
const silenceMs = 3_000

const cancelled = (reason = 'given up'): StorageError => new StorageError('CANCELLED', reason)

/** One direction of a stream. */
class Pipe {
  readonly #path: Path
  #arrived: Uint8Array[] = []
  #held = 0
  #isEnding = false
  #isEnded = false
  #failure: StorageError | undefined
  #travelling: Promise<void> = Promise.resolve()
  #wake: () => void = () => undefined
  #roomy: () => void = () => undefined
  readonly #onEnd: () => void

  constructor(path: Path, onEnd: () => void) {
    this.#path = path
    this.#onEnd = onEnd
  }

  get isEnded(): boolean {
    return this.#failure !== undefined || (this.#isEnded && this.#arrived.length === 0)
  }

  async write(bytes: Uint8Array): Promise<void> {
    if (this.#failure !== undefined) throw this.#failure
    if (this.#isEnding) throw new StorageError('CLOSED', 'this direction was closed')
    if (bytes.length === 0) return
    const copy = Uint8Array.from(bytes)
    this.#held += copy.length
    this.#deliver(() => this.#arrived.push(copy))
    while (this.#held > this.#path.bufferBytes) {
      await new Promise<void>((resolve) => {
        this.#roomy = resolve
      })
      if (this.#failure !== undefined) throw this.#failure
    }
  }

  async close(): Promise<void> {
    if (this.#failure !== undefined) throw this.#failure
    if (this.#isEnding) return
    this.#isEnding = true
    this.#deliver(() => {
      this.#isEnded = true
      if (this.#arrived.length === 0) this.#onEnd()
    })
  }

  async read(): Promise<TunnelRead> {
    for (;;) {
      if (this.#failure !== undefined) throw this.#failure
      const value = this.#arrived.shift()
      if (value !== undefined) {
        this.#held -= value.length
        this.#roomy()
        if (this.isEnded) this.#onEnd()
        return { done: false, value }
      }
      if (this.#isEnded) return { done: true, value: undefined }
      await new Promise<void>((resolve) => {
        this.#wake = resolve
      })
    }
  }

  fail(error: StorageError): void {
    if (this.#failure !== undefined || (this.#isEnded && this.#arrived.length === 0)) return
    this.#failure = error
    this.#arrived = []
    this.#wake()
    this.#roomy()
    this.#onEnd()
  }

  /** What a back end may do with a lost stream: the reader sees an end. */
  truncate(): void {
    this.#isEnding = true
    this.#isEnded = true
    this.#wake()
    this.#roomy()
  }

  #deliver(arrive: () => void): void {
    const delayMs = this.#path.delayMs()
    const trip = delayMs > 0 ? this.#path.clock.sleep(delayMs) : undefined
    this.#travelling = this.#travelling.then(async () => {
      if (trip !== undefined) await trip
      const open = this.#path.whenOpen()
      if (open !== undefined) await open
      arrive()
      this.#wake()
    })
  }
}

class StreamPair {
  readonly near: TunnelStream
  readonly far: TunnelStream
  readonly forth: Pipe
  readonly back: Pipe
  constructor(path: Path, onEnd: () => void) {
    const ended = (): void => {
      if (this.forth.isEnded && this.back.isEnded) onEnd()
    }
    this.forth = new Pipe(path, ended)
    this.back = new Pipe(path, ended)
    this.near = streamOf(this.back, this.forth)
    this.far = streamOf(this.forth, this.back)
  }

  fail(error: StorageError): void {
    this.forth.fail(error)
    this.back.fail(error)
  }
}

const streamOf = (incoming: Pipe, outgoing: Pipe): TunnelStream => ({
  readable: {
    read: () => incoming.read(),
    async cancel(reason) {
      incoming.fail(cancelled(reason))
    },
  },
  writable: {
    write: (bytes) => outgoing.write(bytes),
    close: () => outgoing.close(),
    async abort(reason) {
      outgoing.fail(cancelled(reason))
    },
  },
})

class Side implements TunnelSession {
  readonly backend = 'memory'
  readonly peer: RegionIdentity
  readonly isDialed: boolean
  readonly closed: Promise<TunnelCloseInfo>
  readonly #path: Path
  readonly #streams = new Set<StreamPair>()
  readonly #arrived: TunnelStream[] = []
  #end: TunnelCloseInfo | undefined
  #settle: (info: TunnelCloseInfo) => void = () => undefined
  #wake: () => void = () => undefined
  #roomy: (() => void)[] = []
  other: Side | undefined

  constructor(path: Path, peer: RegionIdentity, isDialed: boolean) {
    this.#path = path
    this.peer = peer
    this.isDialed = isDialed
    this.closed = new Promise((resolve) => {
      this.#settle = resolve
    })
  }

  async createBidirectionalStream(signal?: AbortSignal): Promise<TunnelStream> {
    signal?.throwIfAborted()
    while (this.#streams.size >= this.#path.maxStreams && this.#end === undefined) {
      await new Promise<void>((resolve, reject) => {
        this.#roomy.push(resolve)
        signal?.addEventListener('abort', () => reject(signal.reason), { once: true })
      })
    }
    if (this.#end !== undefined) throw lost(this.#end)
    const pair = new StreamPair(this.#path, () => {
      this.#streams.delete(pair)
      for (const go of this.#roomy.splice(0)) go()
    })
    this.#streams.add(pair)
    const { writable } = pair.near
    // As a real one: the other side hears of a stream with its first bytes, its end, or its loss.
    let isTold = false
    const tell = (): void => {
      if (isTold) return
      isTold = true
      this.other?.arrive(pair.far)
    }
    return {
      readable: pair.near.readable,
      writable: {
        write(bytes) {
          tell()
          return writable.write(bytes)
        },
        close() {
          tell()
          return writable.close()
        },
        abort: (reason) => writable.abort(reason),
      },
    }
  }

  get incomingBidirectionalStreams(): AsyncIterable<TunnelStream> {
    return this.#incoming()
  }

  async *#incoming(): AsyncGenerator<TunnelStream> {
    for (;;) {
      const stream = this.#arrived.shift()
      if (stream !== undefined) yield stream
      else if (this.#end !== undefined) return
      else
        await new Promise<void>((resolve) => {
          this.#wake = resolve
        })
    }
  }

  arrive(stream: TunnelStream): void {
    this.#arrived.push(stream)
    this.#wake()
  }

  close({ closeCode = 'goodbye', reason = '' }: Parameters<TunnelSession['close']>[0] = {}): void {
    this.finish({ closeCode, reason, by: 'here' })
    this.other?.finish({ closeCode, reason, by: 'peer' })
  }

  finish(info: TunnelCloseInfo): void {
    if (this.#end !== undefined) return
    this.#end = info
    for (const pair of [...this.#streams]) pair.fail(lost(info))
    for (const go of this.#roomy.splice(0)) go()
    this.#wake()
    this.#settle(info)
  }

  /** Both sides, as when the path breaks. */
  break(): void {
    const info = { closeCode: 'lost', reason: 'the path broke', by: 'path' } as const
    this.finish(info)
    this.other?.finish(info)
  }

  /** Streams of both sides. */
  truncate(): void {
    for (const { forth, back } of [this, this.other].flatMap((side) =>
      side === undefined ? [] : [...side.#streams],
    )) {
      forth.truncate()
      back.truncate()
    }
  }

  stats() {
    return {
      rttMs: this.#path.delayMs() * 2,
      bytesSent: 0,
      bytesReceived: 0,
      openStreams: this.#streams.size,
    }
  }
}

const lost = ({ reason }: TunnelCloseInfo): StorageError =>
  new StorageError('PEER_UNREACHABLE', `the tunnel has ended: ${reason === '' ? 'goodbye' : reason}`)

interface Listening {
  admit(publicKey: string): RegionIdentity | 'guest' | undefined
  readonly credentials: () => TunnelCredentials
  onSession(session: TunnelSession): void
}

/** Ways between the regions of a test. */
export class MemoryTunnels {
  readonly #options: MemoryTunnelOptions
  readonly #listeners = new Map<number, Listening>()
  readonly #live = new Set<{ readonly ends: readonly [string, string]; readonly dialed: Side }>()
  #cut = new Map<string, (() => void)[]>()
  #delayMs: number
  #ports = 0

  constructor(options: MemoryTunnelOptions) {
    this.#options = options
    this.#delayMs = options.delayMs ?? 0
  }

  setDelay(delayMs: number): void {
    this.#delayMs = delayMs
  }

  /** Nothing gets through between two ends any more and nobody is told; after three seconds their sessions are lost. */
  cut(a: string, b: string): void {
    const key = keyOf(a, b)
    if (this.#cut.has(key)) return
    this.#cut.set(key, [])
    void this.#options.clock.sleep(silenceMs).then(() => {
      if (this.#cut.has(key)) this.reset(a, b)
    })
  }

  heal(a: string, b: string): void {
    const waiting = this.#cut.get(keyOf(a, b)) ?? []
    this.#cut.delete(keyOf(a, b))
    for (const go of waiting) go()
  }

  isCut(a: string, b: string): boolean {
    return this.#cut.has(keyOf(a, b))
  }

  /** Sessions between two ends break at once. */
  reset(a: string, b: string): void {
    for (const live of [...this.#live]) if (keyOf(...live.ends) === keyOf(a, b)) live.dialed.break()
  }

  /** All sessions of one end break, as when its process is killed. */
  kill(end: string): void {
    for (const live of [...this.#live]) if (live.ends.includes(end)) live.dialed.break()
  }

  /** Streams that are open end as if they were complete, whatever was still to come: see T30. */
  truncate(a: string, b: string): void {
    for (const live of [...this.#live]) if (keyOf(...live.ends) === keyOf(a, b)) live.dialed.truncate()
  }

  /** A session of two ends, without anybody listening. */
  connect(a: RegionIdentity, b: RegionIdentity): readonly [TunnelSession, TunnelSession] {
    return this.#join([a.publicKey, b.publicKey], b, a)
  }

  /** The back end of one region: dialing proves its key, as the network's other ends trust this class not to lie. */
  backend(): TunnelBackend {
    return {
      name: 'memory',
      listen: async ({ address, admit, credentials, onSession }) => {
        const port = address.port === 0 ? ++this.#ports : address.port
        if (this.#listeners.has(port)) throw new StorageError('UNAVAILABLE', `${port} is in use`)
        const listening = { admit, credentials, onSession }
        this.#listeners.set(port, listening)
        return {
          port,
          close: async () => {
            if (this.#listeners.get(port) === listening) this.#listeners.delete(port)
          },
        }
      },
      dial: async ({ address, credentials, expect, signal }) => {
        signal.throwIfAborted()
        const there = this.#listeners.get(address.port)
        if (there === undefined) throw new StorageError('PEER_UNREACHABLE', 'nobody listens there')
        const { publicKey } = there.credentials()
        const ends = [credentials.publicKey, publicKey] as const
        await this.#travel(ends, signal)
        if (!expect.publicKeys.includes(publicKey)) {
          throw new StorageError('PEER_REFUSED', 'the key shown is not that of the region')
        }
        const admitted = there.admit(credentials.publicKey)
        if (admitted === undefined) {
          throw new StorageError('PEER_REFUSED', 'the region does not know our key')
        }
        const peer =
          admitted === 'guest' ? { regionId: -1, publicKey: credentials.publicKey } : { ...admitted }
        const [near, far] = this.#join(ends, { regionId: expect.regionId, publicKey }, peer)
        there.onSession(far)
        return near
      },
    }
  }

  #join(
    ends: readonly [string, string],
    seenByNear: RegionIdentity,
    seenByFar: RegionIdentity,
  ): readonly [Side, Side] {
    const path: Path = {
      clock: this.#options.clock,
      delayMs: () => this.#delayMs,
      whenOpen: () => this.#whenOpen(...ends),
      bufferBytes: this.#options.bufferBytes ?? 256 * 1024,
      maxStreams: this.#options.maxStreams ?? 1024,
    }
    const near = new Side(path, seenByNear, true)
    const far = new Side(path, seenByFar, false)
    near.other = far
    far.other = near
    const live = { ends, dialed: near }
    this.#live.add(live)
    void near.closed.then(() => this.#live.delete(live))
    return [near, far]
  }

  async #travel([a, b]: readonly [string, string], signal: AbortSignal): Promise<void> {
    const open = this.#whenOpen(a, b)
    if (open !== undefined) {
      await Promise.race([
        open,
        new Promise<never>((_, reject) =>
          signal.addEventListener('abort', () => reject(signal.reason), { once: true }),
        ),
      ])
    }
    if (this.#delayMs > 0) await this.#options.clock.sleep(this.#delayMs * 2, signal)
  }

  #whenOpen(a: string, b: string): Promise<void> | undefined {
    const waiting = this.#cut.get(keyOf(a, b))
    return waiting === undefined ? undefined : new Promise((resolve) => waiting.push(resolve))
  }
}

const keyOf = (a: string, b: string): string => [a, b].toSorted().join(' ')
