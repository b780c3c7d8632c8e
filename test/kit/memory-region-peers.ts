import { setMaxListeners } from 'node:events'
import { linkSignals } from '../../core/catalog/replicated/linked-signal.ts'
import type { Clock } from '../../core/contract/clock.ts'
import { StorageError } from '../../core/contract/errors.ts'
import type { NoticeBoard } from '../../core/contract/notice-board.ts'
import type { PeerHandlers, PeerRequestOptions, RegionPeers } from '../../core/contract/region-peers.ts'
import { maxMessageBytes } from '../../core/control/region-peers/service.ts'

export interface MemoryRegionOptions {
  readonly clock: Clock
  /** One way, for each message: requests overtake each other when it varies; `send` keeps its order. */
  readonly delayMs?: () => number
  /** A message of `send` is dropped, as when the other side does not keep up. */
  readonly drops?: () => boolean
  /** There is no link now over which notices could be read. */
  readonly hidesNotices?: () => boolean
}

/** The network between the nodes of a region, in memory, with what can happen to it. */
export class MemoryRegion {
  readonly options: MemoryRegionOptions
  private readonly nodes = new Map<string, MemoryRegionPeers>()
  /** `from to`: nothing gets from one to the other. */
  private readonly silent = new Set<string>()
  private readonly broken = new Set<string>()

  constructor(options: MemoryRegionOptions) {
    this.options = options
  }

  /** The node is there from now on; another one of the same name has gone. */
  join(name: string): MemoryRegionPeers {
    this.nodes.get(name)?.leave()
    const node = new MemoryRegionPeers(this, name)
    this.nodes.set(name, node)
    for (const other of this.nodes.values())
      if (this.isConnected(name, other.name)) this.tell(name, other.name, true)
    return node
  }

  remove(node: MemoryRegionPeers): void {
    if (this.nodes.get(node.name) !== node) return
    this.nodes.delete(node.name)
    for (const other of this.nodes.values()) other.changed(node.name, false)
  }

  find(name: string): MemoryRegionPeers | undefined {
    return this.nodes.get(name)
  }

  connectedTo(name: string): readonly string[] {
    return [...this.nodes.keys()].filter((other) => this.isConnected(name, other)).sort()
  }

  isConnected(left: string, right: string): boolean {
    return (
      left !== right && this.nodes.has(left) && this.nodes.has(right) && !this.broken.has(pairOf(left, right))
    )
  }

  /** The connection is cut, and both sides see it. */
  cut(left: string, right: string): void {
    if (!this.isConnected(left, right)) {
      this.broken.add(pairOf(left, right))
      return
    }
    this.broken.add(pairOf(left, right))
    this.tell(left, right, false)
  }

  /** Messages in one direction vanish, and nobody sees why. */
  silence(from: string, to: string): void {
    this.silent.add(`${from} ${to}`)
  }

  isSilent(from: string, to: string): boolean {
    return this.silent.has(`${from} ${to}`)
  }

  heal(): void {
    this.silent.clear()
    const pairs = [...this.broken].map((pair) => pair.split(' '))
    this.broken.clear()
    for (const [left = '', right = ''] of pairs)
      if (this.isConnected(left, right)) this.tell(left, right, true)
  }

  private tell(left: string, right: string, isConnected: boolean): void {
    this.nodes.get(left)?.changed(right, isConnected)
    this.nodes.get(right)?.changed(left, isConnected)
  }
}

const pairOf = (left: string, right: string): string =>
  left < right ? `${left} ${right}` : `${right} ${left}`

export class MemoryRegionPeers implements RegionPeers, NoticeBoard {
  readonly name: string
  private readonly region: MemoryRegion
  private readonly handlers = new Map<string, PeerHandlers>()
  private readonly listeners = new Set<(peer: string, isConnected: boolean) => void>()
  /** Ends with the connection to a peer. */
  private readonly connections = new Map<string, AbortController>()
  private readonly sent = new Map<string, Promise<void>>()
  private isGone = false
  private posted: Uint8Array | undefined

  constructor(region: MemoryRegion, name: string) {
    this.region = region
    this.name = name
  }

  connected(): readonly string[] {
    return this.isGone ? [] : this.region.connectedTo(this.name)
  }

  send(to: string, topic: string, message: Uint8Array): void {
    const { clock, delayMs, drops } = this.region.options
    if (this.isGone || !this.region.isConnected(this.name, to) || drops?.() === true) return
    const bytes = message.slice()
    const target = this.region.find(to)
    const arrives = clock.sleep(delayMs?.() ?? 0)
    // In order: behind what was sent before.
    const delivered = Promise.all([this.sent.get(to), arrives]).then(() => {
      if (this.isGone || target !== this.region.find(to)) return
      if (this.region.isSilent(this.name, to) || !this.region.isConnected(this.name, to)) return
      try {
        target?.handlers.get(topic)?.message?.(this.name, bytes)
      } catch {
        // A handler that fails does no harm to whoever sent, nor to what comes next.
      }
    })
    this.sent.set(to, delivered)
  }

  async request(
    to: string,
    topic: string,
    message: Uint8Array,
    options: PeerRequestOptions = {},
  ): Promise<Uint8Array> {
    const { clock } = this.region.options
    const connection = this.connection(to)
    const linked = linkSignals(connection, ...(options.signal === undefined ? [] : [options.signal]))
    const stop = linked.signal
    const late = clock.sleep(options.deadlineMs ?? 2000, stop).then(() => {
      throw new StorageError('DEADLINE_EXCEEDED', `${to} did not answer in time`)
    })
    const work = async (): Promise<Uint8Array> => {
      await this.travel(this.name, to, stop)
      const handler = this.region.find(to)?.handlers.get(topic)?.request
      if (handler === undefined) throw new StorageError('PEER_UNREACHABLE', `${to} serves no ${topic}`)
      let answer: Uint8Array
      try {
        answer = (await handler(this.name, message.slice(), stop)).slice()
      } catch (error) {
        await this.travel(to, this.name, stop)
        throw StorageError.from(error)
      }
      await this.travel(to, this.name, stop)
      return answer
    }
    try {
      return await Promise.race([work(), late])
    } catch (reason) {
      throw this.endOf(reason, to, connection)
    } finally {
      linked.abort()
    }
  }

  post(notice: Uint8Array): void {
    this.posted = notice.slice()
  }

  /** As it is there when the question arrives, whether or not anybody serves there. */
  async read(from: string, deadlineMs: number): Promise<Uint8Array | undefined> {
    if (this.region.options.hidesNotices?.() === true) return undefined
    const connection = this.connection(from)
    const linked = linkSignals(connection)
    const stop = linked.signal
    const late = this.region.options.clock.sleep(deadlineMs, stop).then(() => {
      throw new StorageError('DEADLINE_EXCEEDED', `${from} did not answer in time`)
    })
    const work = async (): Promise<Uint8Array | undefined> => {
      await this.travel(this.name, from, stop)
      const notice = this.region.find(from)?.posted
      await this.travel(from, this.name, stop)
      return notice
    }
    try {
      return await Promise.race([work(), late])
    } catch (reason) {
      throw this.endOf(reason, from, connection)
    } finally {
      linked.abort()
    }
  }

  async *stream(
    to: string,
    topic: string,
    message: Uint8Array,
    signal: AbortSignal,
  ): AsyncGenerator<Uint8Array> {
    const connection = this.connection(to)
    const linked = linkSignals(connection, signal)
    const stop = linked.signal
    try {
      await this.travel(this.name, to, stop)
      const handler = this.region.find(to)?.handlers.get(topic)?.stream
      if (handler === undefined) throw new StorageError('PEER_UNREACHABLE', `${to} serves no ${topic}`)
      for await (const piece of handler(this.name, message.slice(), stop)) {
        // As between processes: a larger one ends the stream there.
        if (piece.length > maxMessageBytes)
          throw new StorageError('INTERNAL', `a piece of ${piece.length} bytes of ${topic}`)
        const bytes = piece.slice()
        await this.travel(to, this.name, stop)
        yield bytes
      }
      stop.throwIfAborted()
    } catch (reason) {
      throw this.endOf(reason, to, connection)
    } finally {
      linked.abort()
    }
  }

  serve(topic: string, handlers: PeerHandlers): () => void {
    if (this.handlers.has(topic)) throw new StorageError('CONFLICT', `${topic} is served already`)
    this.handlers.set(topic, handlers)
    return () => {
      if (this.handlers.get(topic) === handlers) this.handlers.delete(topic)
    }
  }

  onChange(listener: (peer: string, isConnected: boolean) => void): () => void {
    this.listeners.add(listener)
    return () => this.listeners.delete(listener)
  }

  /** The node is gone: the others see their connections end. */
  leave(): void {
    if (this.isGone) return
    this.isGone = true
    for (const connection of this.connections.values()) connection.abort()
    this.region.remove(this)
  }

  /** The region's side: a connection has come or gone. */
  changed(peer: string, isConnected: boolean): void {
    if (!isConnected) {
      this.connections.get(peer)?.abort()
      this.connections.delete(peer)
      this.sent.delete(peer)
    }
    for (const listener of [...this.listeners]) listener(peer, isConnected)
  }

  private connection(to: string): AbortSignal {
    if (this.isGone || !this.region.isConnected(this.name, to)) {
      throw new StorageError('PEER_UNREACHABLE', `${to} is not connected`)
    }
    const known = this.connections.get(to) ?? new AbortController()
    setMaxListeners(0, known.signal)
    this.connections.set(to, known)
    return known.signal
  }

  /** A message that gets lost never arrives: only the connection's end or a deadline tells. */
  private async travel(from: string, to: string, stop: AbortSignal): Promise<void> {
    const { clock, delayMs } = this.region.options
    await clock.sleep(delayMs?.() ?? 0, stop)
    if (!this.region.isSilent(from, to)) return
    await new Promise((_, reject) => {
      stop.addEventListener('abort', () => reject(stop.reason), { once: true })
    })
  }

  private endOf(reason: unknown, to: string, connection: AbortSignal): StorageError {
    if (connection.aborted) return new StorageError('PEER_UNREACHABLE', `the connection to ${to} broke`)
    return StorageError.from(reason)
  }
}
