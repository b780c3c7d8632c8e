import type { Duplex } from 'node:stream'
import type { Clock } from '../../../core/contract/clock.ts'
import { StorageError } from '../../../core/contract/errors.ts'
import {
  type RegionIdentity,
  type TunnelBackendName,
  type TunnelCloseCode,
  type TunnelCloseInfo,
  type TunnelSession,
  type TunnelStats,
  type TunnelStream,
  tunnelCloseCodes,
} from '../../../core/contract/tunnel.ts'
import { ClassOrder, isBody } from '../class-order.ts'
import {
  broken,
  FrameDecoder,
  type FrameType,
  frame,
  frameHeader,
  frameType,
  maxDataBytes,
  muxVersion,
  numberFrame,
  reasonBytes,
  reasonOf,
} from './frames.ts'
import { MuxStream, type StreamHost } from './mux-stream.ts'
import { defaultMuxLimits, endError, type MuxLimits } from './session-terms.ts'
import { StreamPlaces } from './stream-places.ts'

export interface MuxSessionOptions {
  /**
   * Authenticated and encrypted by who made it; the session is its owner from now on. When it calls back from a write it looks at the
   * bytes no more.
   */
  readonly socket: Duplex
  readonly peer: RegionIdentity
  readonly backend: TunnelBackendName
  readonly isDialed: boolean
  readonly clock: Clock
  readonly limits?: MuxLimits
}

/** An eighth of the session's credit at most is kept for what is small and waited for. */
const mostReservedBytes = 1024 * 1024
/** Bytes that wait in the socket before more are cut into frames. */
const maxSocketBytes = 512 * 1024
const tickMs = 500
/** Ticks without a byte after which the other side is taken for dead: a standstill of our own counts as one. */
const silentTicks = 6
const pingTicks = 2

/** Streams over one connection. `opened` resolves when the other side has said hello; until then nothing else of it is taken. */
export class MuxSession implements TunnelSession, StreamHost {
  readonly peer: RegionIdentity
  readonly backend: TunnelBackendName
  readonly isDialed: boolean
  readonly closed: Promise<TunnelCloseInfo>
  readonly opened: Promise<void>
  readonly #socket: Duplex
  readonly #clock: Clock
  readonly #limits: MuxLimits
  readonly #streams = new Map<number, MuxStream>()
  readonly #stopped = new AbortController()

  #nextOwn: number
  #nextOther: number
  readonly #places = new StreamPlaces()
  /** Since the beginning. */
  #allowedOther: number
  #toldOther: number
  #otherStreamBytes = 0
  #openCount = 0

  #sendCredit = 0
  /** Of the credit, what is for everything but bodies. */
  #reservedCredit = 0
  #receiveWindow: number
  #owedCredit = 0

  #control: Buffer[] = []
  #pong: Buffer | undefined
  #credits = new Set<MuxStream>()
  /** Streams that have something to send. */
  readonly #ready = new ClassOrder<MuxStream>()
  #isScheduled = false
  #isBlocked = false

  #arrived: MuxStream[] = []
  #wakeIncoming: () => void = () => undefined
  #isOpened = false
  #settleOpened: (error?: StorageError) => void = () => undefined
  #settleClosed: (info: TunnelCloseInfo) => void = () => undefined
  #end: TunnelCloseInfo | undefined

  #rttMs: number | undefined
  #bytesSent = 0
  #bytesReceived = 0
  #isHeard = true

  constructor({ socket, peer, backend, isDialed, clock, limits = defaultMuxLimits }: MuxSessionOptions) {
    this.peer = peer
    this.backend = backend
    this.isDialed = isDialed
    this.#socket = socket
    this.#clock = clock
    this.#limits = limits
    this.#nextOwn = isDialed ? 1 : 2
    this.#nextOther = isDialed ? 2 : 1
    this.#allowedOther = limits.streams
    this.#toldOther = limits.streams
    this.#receiveWindow = limits.sessionBytes
    this.closed = new Promise((resolve) => {
      this.#settleClosed = resolve
    })
    this.opened = new Promise((resolve, reject) => {
      this.#settleOpened = (error) => (error === undefined ? resolve() : reject(error))
    })
    this.opened.catch(() => undefined)

    const hello = Buffer.alloc(13)
    hello[0] = muxVersion
    hello.writeUInt32BE(limits.streamBytes, 1)
    hello.writeUInt32BE(limits.sessionBytes, 5)
    hello.writeUInt32BE(limits.streams, 9)
    this.#control.push(frame(frameType.hello, 0, hello))

    const decoder = new FrameDecoder({
      onData: (id, bytes) => this.#onData(id, bytes),
      onFrame: (type, id, payload) => this.#onFrame(type, id, payload),
    })
    socket.on('data', (bytes: Buffer) => {
      if (this.#end !== undefined) return
      this.#bytesReceived += bytes.length
      this.#isHeard = true
      try {
        decoder.push(bytes)
      } catch (reason) {
        const error = StorageError.from(reason)
        this.close({ closeCode: 'protocol', reason: error.reason })
      }
    })
    socket.on('drain', () => {
      this.#isBlocked = false
      this.#schedule()
    })
    socket.on('error', (error: Error) => this.#lose(error.message))
    socket.on('end', () => this.#lose('the other side has ended the connection'))
    socket.on('close', () => this.#lose('the connection was closed'))
    this.#schedule()
    void this.#beat()
  }

  async createBidirectionalStream(signal?: AbortSignal): Promise<TunnelStream> {
    signal?.throwIfAborted()
    await this.#places.take(signal)
    if (this.#end !== undefined) throw endError(this.#end)
    this.#openCount++
    return new MuxStream(this, 0, this.#limits.streamBytes, this.#otherStreamBytes)
  }

  get incomingBidirectionalStreams(): AsyncIterable<TunnelStream> {
    return this.#incoming()
  }

  async *#incoming(): AsyncGenerator<TunnelStream> {
    for (;;) {
      const stream = this.#arrived.shift()
      if (stream !== undefined) yield stream
      else if (this.#end !== undefined) return
      else {
        await new Promise<void>((resolve) => {
          this.#wakeIncoming = resolve
        })
      }
    }
  }

  close({
    closeCode = 'goodbye',
    reason = '',
  }: {
    readonly closeCode?: TunnelCloseCode
    readonly reason?: string
  } = {}): void {
    if (this.#end !== undefined) return
    const payload = Buffer.concat([Buffer.of(tunnelCloseCodes[closeCode]), reasonBytes(reason)])
    this.#socket.write(frame(frameType.close, 0, payload))
    this.#socket.end()
    // A peer that takes nothing does not keep the socket.
    this.#clock.sleep(tickMs).then(
      () => this.#socket.destroy(),
      () => this.#socket.destroy(),
    )
    this.#finish({ closeCode, reason, by: 'here' })
  }

  stats(): TunnelStats {
    return {
      rttMs: this.#rttMs,
      bytesSent: this.#bytesSent,
      bytesReceived: this.#bytesReceived,
      openStreams: this.#openCount,
    }
  }

  // What streams ask for.

  ready(stream: MuxStream): void {
    if (stream.isReady || this.#end !== undefined) return
    stream.isReady = true
    this.#ready.push(stream.linkClass, stream)
    this.#schedule()
  }

  control(stream: MuxStream, type: typeof frameType.abort | typeof frameType.stop, reason: string): void {
    if (this.#end !== undefined) return
    this.#control.push(frame(type, stream.id, reasonBytes(reason)))
    this.#schedule()
  }

  consumed(stream: MuxStream, byteLength: number): void {
    if (this.#end !== undefined) return
    stream.owedCredit += byteLength
    this.#owedCredit += byteLength
    const { streamBytes, sessionBytes } = this.#limits
    if (stream.owedCredit >= streamBytes / 4) this.#credits.add(stream)
    if (this.#credits.size > 0 || this.#owedCredit >= sessionBytes / 4) this.#schedule()
  }

  finished(stream: MuxStream): void {
    this.#openCount--
    this.#credits.delete(stream)
    if (stream.id === 0) {
      // Never heard of: its place is free again.
      this.#places.giveBack()
      return
    }
    this.#streams.delete(stream.id)
    if (this.#isOwn(stream.id)) return
    this.#allowedOther++
    this.#schedule()
  }

  #isOwn(id: number): boolean {
    return id % 2 === this.#nextOwn % 2
  }

  // What comes in.

  #onData(id: number, bytes: Uint8Array): void {
    if (this.#end !== undefined) return
    if (bytes.length > this.#receiveWindow) throw broken('more bytes than the session has credit for')
    const stream = this.#streamOf(id, true)
    this.#receiveWindow -= bytes.length
    stream?.receive(bytes)
  }

  #onFrame(type: FrameType, id: number, payload: Buffer): void {
    if (this.#end !== undefined) return
    if (!this.#isOpened && type !== frameType.hello && type !== frameType.close) {
      throw broken('it does not begin with hello')
    }
    switch (type) {
      case frameType.hello:
        this.#onHello(payload)
        break
      case frameType.end:
        this.#streamOf(id, true)?.completed()
        break
      case frameType.abort:
        this.#streamOf(id, true)?.aborted(reasonOf(payload))
        break
      case frameType.stop:
        this.#streamOf(id, false)?.stopped(reasonOf(payload))
        break
      case frameType.credit:
        this.#onCredit(id, payload.readUInt32BE(0))
        break
      case frameType.streams:
        this.#onStreams(payload.readUInt32BE(0))
        break
      case frameType.ping:
        this.#pong = frame(frameType.pong, 0, payload)
        this.#schedule()
        break
      case frameType.pong:
        this.#onPong(payload.readDoubleBE(0))
        break
      case frameType.close:
        this.#onClose(payload)
        break
      case frameType.data:
        break
    }
  }

  #onHello(payload: Buffer): void {
    if (this.#isOpened) throw broken('a second hello')
    if (payload[0] !== muxVersion) throw broken(`version ${payload[0]} where ${muxVersion} is spoken`)
    this.#otherStreamBytes = payload.readUInt32BE(1)
    this.#sendCredit = payload.readUInt32BE(5)
    this.#reservedCredit = Math.min(mostReservedBytes, this.#sendCredit >>> 3)
    this.#isOpened = true
    this.#places.allow(payload.readUInt32BE(9))
    this.#settleOpened()
  }

  #onCredit(id: number, byteLength: number): void {
    if (id !== 0) {
      this.#streamOf(id, false)?.credit(byteLength)
      return
    }
    this.#sendCredit += byteLength
    if (this.#sendCredit > 0x7fff_ffff) throw broken('more credit than can be')
    this.#schedule()
  }

  #onStreams(allowed: number): void {
    if (allowed < this.#places.allowed) throw broken('streams that were allowed are taken back')
    this.#places.allow(allowed)
  }

  #onPong(sentMs: number): void {
    const rttMs = this.#clock.monotonic() - sentMs
    // Whatever else comes is not ours.
    if (rttMs >= 0 && rttMs < 600_000) this.#rttMs = rttMs
  }

  #onClose(payload: Buffer): void {
    const code = payload[0]
    const found = Object.entries(tunnelCloseCodes).find(([, number]) => number === code)
    const closeCode = (found?.[0] ?? 'goodbye') as TunnelCloseCode
    this.#socket.end()
    this.#finish({ closeCode, reason: reasonOf(payload.subarray(1)), by: 'peer' })
    this.#socket.destroy()
  }

  /** undefined: one that has ended here already. */
  #streamOf(id: number, mayBegin: boolean): MuxStream | undefined {
    if (!this.#isOpened) throw broken('it does not begin with hello')
    const known = this.#streams.get(id)
    if (known !== undefined) return known
    if (this.#isOwn(id)) {
      if (id >= this.#nextOwn) throw broken(`stream ${id} was never opened`)
      return undefined
    }
    if (id < this.#nextOther) return undefined
    if (!mayBegin || id !== this.#nextOther) throw broken(`stream ${id} where ${this.#nextOther} is next`)
    // Ids go up in twos, from 1 or 2.
    if (Math.ceil(id / 2) > this.#toldOther) throw broken('more streams than were allowed')
    this.#nextOther += 2
    this.#openCount++
    const stream = new MuxStream(this, id, this.#limits.streamBytes, this.#otherStreamBytes)
    this.#streams.set(id, stream)
    this.#arrived.push(stream)
    this.#wakeIncoming()
    return stream
  }

  // What goes out.

  /** Once for all that happens in this turn. */
  #schedule(): void {
    if (this.#isScheduled || this.#isBlocked || this.#end !== undefined) return
    this.#isScheduled = true
    queueMicrotask(() => {
      this.#isScheduled = false
      if (this.#end === undefined) this.#flush()
    })
  }

  #flush(): void {
    this.#socket.cork()
    this.#grantCredit()
    for (const bytes of this.#control.splice(0)) this.#put(bytes)
    if (this.#pong !== undefined) this.#put(this.#pong)
    this.#pong = undefined
    const withoutCredit: MuxStream[] = []
    while (this.#ready.size > 0) {
      if (this.#socket.writableLength >= maxSocketBytes) {
        this.#isBlocked = true
        break
      }
      const stream = this.#ready.next()
      if (stream === undefined) break
      stream.isReady = false
      // Others may have an end to send, which needs no credit.
      if (!this.#sendSome(stream)) withoutCredit.push(stream)
      else if (stream.canSend) this.ready(stream)
    }
    for (const stream of withoutCredit.toReversed()) {
      stream.isReady = true
      this.#ready.putBack(stream.linkClass, stream)
    }
    this.#socket.uncork()
  }

  /** One frame of a stream, so that each has its turn. False when the session has no credit. */
  #sendSome(stream: MuxStream): boolean {
    if (!stream.canSend) return true
    // An end needs no credit; `canSend` with nothing but an end is found out by taking it.
    // Bodies that nobody reads at the other side must not keep a lease from it.
    const credit = this.#sendCredit - (isBody(stream.linkClass) ? this.#reservedCredit : 0)
    const taken = stream.take(Math.min(maxDataBytes, credit))
    if (taken === undefined) return true
    if (taken === 'full') return false
    const isFirst = stream.id === 0
    if (isFirst) {
      stream.id = this.#nextOwn
      this.#nextOwn += 2
      this.#streams.set(stream.id, stream)
    }
    if (taken === 'end') this.#put(frame(frameType.end, stream.id))
    else {
      const { bytes, sent } = taken
      this.#sendCredit -= bytes.length
      this.#ready.charge(stream.linkClass, bytes.length)
      this.#put(frameHeader(frameType.data, stream.id, bytes.length))
      this.#put(bytes, sent)
    }
    if (isFirst && stream.wantsStop) this.#put(frame(frameType.stop, stream.id))
    return true
  }

  #grantCredit(): void {
    for (const stream of this.#credits) {
      if (stream.id === 0) continue
      this.#put(numberFrame(frameType.credit, stream.id, stream.owedCredit))
      stream.receiveWindow += stream.owedCredit
      stream.owedCredit = 0
    }
    this.#credits.clear()
    if (this.#owedCredit >= this.#limits.sessionBytes / 4) {
      this.#put(numberFrame(frameType.credit, 0, this.#owedCredit))
      this.#receiveWindow += this.#owedCredit
      this.#owedCredit = 0
    }
    if (this.#allowedOther > this.#toldOther) {
      this.#put(numberFrame(frameType.streams, 0, this.#allowedOther))
      this.#toldOther = this.#allowedOther
    }
  }

  /** `sent` is called also when the socket is gone before. */
  #put(bytes: Uint8Array, sent?: () => void): void {
    this.#bytesSent += bytes.length
    this.#socket.write(bytes, sent)
  }

  /** Probes the other side, and ends the session when nothing comes from there any more. */
  async #beat(): Promise<void> {
    const { signal } = this.#stopped
    let silent = 0
    for (let tick = 0; ; tick++) {
      try {
        await this.#clock.sleep(tickMs, signal)
      } catch {
        return
      }
      silent = this.#isHeard ? 0 : silent + 1
      this.#isHeard = false
      if (silent >= silentTicks) {
        this.#lose('nothing came from the other side for three seconds')
        return
      }
      if (tick % pingTicks === 0 && this.#isOpened) {
        const payload = Buffer.alloc(8)
        payload.writeDoubleBE(this.#clock.monotonic())
        // Into the socket at once, behind what waits there: that is what is measured. While it takes nothing, one is enough.
        if (!this.#isBlocked) this.#put(frame(frameType.ping, 0, payload))
      }
    }
  }

  // Ends.

  #lose(reason: string): void {
    if (this.#end !== undefined) return
    this.#finish({ closeCode: 'lost', reason, by: 'path' })
    this.#socket.destroy()
  }

  #finish(info: TunnelCloseInfo): void {
    this.#end = info
    this.#stopped.abort()
    const error = endError(info)
    this.#settleOpened(error)
    const streams = new Set([...this.#streams.values(), ...this.#ready.clear()])
    this.#streams.clear()
    this.#control = []
    this.#credits.clear()
    for (const stream of streams) stream.lost(error)
    this.#places.close()
    this.#wakeIncoming()
    this.#settleClosed(info)
  }
}
