import type { Clock } from '../../../core/contract/clock.ts'
import { StorageError } from '../../../core/contract/errors.ts'
import {
  type RegionIdentity,
  type TunnelCloseCode,
  type TunnelCloseInfo,
  type TunnelSession,
  type TunnelStats,
  type TunnelStream,
  tunnelCloseCodes,
} from '../../../core/contract/tunnel.ts'
import { broken, reasonBytes, reasonOf } from '../mux/frames.ts'
import { endError } from '../mux/session-terms.ts'
import type { QuicConnection, QuicNativeStream } from './quic-module.ts'
import { QuicStream } from './quic-stream.ts'

export interface QuicSessionOptions {
  readonly connection: QuicConnection
  readonly peer: RegionIdentity
  readonly isDialed: boolean
  readonly clock: Clock
}

const version = 1
/** What was said last has so long to leave before the connection is torn down. */
const goodbyeMs = 100
const maxControlBytes = 512

/**
 * A session over one QUIC connection. Its first stream is for the session: the side that dialed says the version, the other one
 * answers with it or with a close; a close is code (1 B) behind a zero, and a reason.
 */
export class QuicSession implements TunnelSession {
  readonly backend = 'quic'
  readonly peer: RegionIdentity
  readonly isDialed: boolean
  readonly closed: Promise<TunnelCloseInfo>
  readonly #connection: QuicConnection
  readonly #clock: Clock
  readonly #streams = new Set<QuicStream>()
  #control: QuicNativeStream | undefined
  #end: TunnelCloseInfo | undefined
  #settle: (info: TunnelCloseInfo) => void = () => undefined
  #stats = { bytesSent: 0, bytesReceived: 0, loss: 0 }

  constructor({ connection, peer, isDialed, clock }: QuicSessionOptions) {
    this.#connection = connection
    this.peer = peer
    this.isDialed = isDialed
    this.#clock = clock
    this.closed = new Promise((resolve) => {
      this.#settle = resolve
    })
    const lost = (): void =>
      this.#finish({ closeCode: 'lost', reason: 'the connection was lost', by: 'path' })
    // What the other side said last may still be on its way to whoever reads it.
    connection.closed().then(
      () => setImmediate(lost),
      () => setImmediate(lost),
    )
  }

  /** Of the side that dialed: resolves when the other one has let it in. */
  async ask(): Promise<void> {
    this.#control = await this.#connection.outboundStream()
    await this.#control.write(Buffer.of(version))
    await this.#hear(this.#control)
    if (this.#end !== undefined) throw endError(this.#end)
    void this.#listen(this.#control)
  }

  /** Of the other side. Who is not admitted is heard, so that it hears why; whoever made the session closes it then. */
  async answer(isAdmitted: boolean): Promise<void> {
    this.#control = await this.#connection.inboundStream()
    await this.#hear(this.#control)
    if (this.#end !== undefined) throw endError(this.#end)
    if (!isAdmitted) return
    await this.#control.write(Buffer.of(version))
    void this.#listen(this.#control)
  }

  async createBidirectionalStream(signal?: AbortSignal): Promise<TunnelStream> {
    signal?.throwIfAborted()
    if (this.#end !== undefined) throw endError(this.#end)
    try {
      const stream = this.#hold(await this.#connection.outboundStream())
      if (signal?.aborted === true) {
        await Promise.all([stream.writable.abort(), stream.readable.cancel()])
        signal.throwIfAborted()
      }
      return stream
    } catch (reason) {
      signal?.throwIfAborted()
      throw this.#end === undefined ? StorageError.from(reason, 'PEER_UNREACHABLE') : endError(this.#end)
    }
  }

  get incomingBidirectionalStreams(): AsyncIterable<TunnelStream> {
    return this.#incoming()
  }

  async *#incoming(): AsyncGenerator<TunnelStream> {
    while (this.#end === undefined) {
      let native: QuicNativeStream
      try {
        native = await this.#connection.inboundStream()
      } catch {
        return
      }
      yield this.#hold(native)
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
    const bytes = Buffer.concat([Buffer.of(0, tunnelCloseCodes[closeCode]), reasonBytes(reason)])
    const said = this.#control?.write(bytes) ?? Promise.resolve()
    said.catch(() => undefined)
    this.#finish({ closeCode, reason, by: 'here' })
  }

  stats(): TunnelStats {
    if (this.#end === undefined) {
      const { udpTxBytes, udpRxBytes, pathLostPackets, pathSentPackets } = this.#connection.stats()
      const loss = Number(pathLostPackets) / Math.max(1, Number(pathSentPackets))
      this.#stats = { bytesSent: Number(udpTxBytes), bytesReceived: Number(udpRxBytes), loss }
    }
    const rttMs = this.#end === undefined ? this.#connection.rtt() : undefined
    return { ...this.#stats, rttMs, openStreams: this.#streams.size }
  }

  #hold(native: QuicNativeStream): QuicStream {
    const stream = new QuicStream(native, () => this.#streams.delete(stream))
    this.#streams.add(stream)
    if (this.#end !== undefined) stream.lost(endError(this.#end))
    return stream
  }

  /** One thing that the other side says of the session. */
  async #hear(control: QuicNativeStream): Promise<void> {
    let bytes: Uint8Array | null
    try {
      bytes = await control.read(maxControlBytes)
    } catch {
      bytes = null
    }
    if (bytes === null) {
      this.#finish({ closeCode: 'lost', reason: 'the connection was lost', by: 'path' })
    } else if (bytes[0] === 0) {
      const found = Object.entries(tunnelCloseCodes).find(([, number]) => number === bytes[1])
      const closeCode = (found?.[0] ?? 'goodbye') as TunnelCloseCode
      this.#finish({ closeCode, reason: reasonOf(bytes.subarray(2)), by: 'peer' })
    } else if (bytes[0] !== version || bytes.length > 1) {
      const { reason } = broken('another version, or no tunnel')
      this.close({ closeCode: 'protocol', reason })
    }
  }

  async #listen(control: QuicNativeStream): Promise<void> {
    while (this.#end === undefined) {
      await this.#hear(control)
      if (this.#end === undefined)
        this.close({ closeCode: 'protocol', reason: broken('a second hello').reason })
    }
  }

  #finish(info: TunnelCloseInfo): void {
    if (this.#end !== undefined) return
    this.stats()
    this.#end = info
    const error = endError(info)
    for (const stream of this.#streams) stream.lost(error)
    const tearDown = (): void => {
      this.#connection.abort()
      this.#streams.clear()
    }
    this.#clock.sleep(goodbyeMs).then(tearDown, tearDown)
    this.#settle(info)
  }
}
