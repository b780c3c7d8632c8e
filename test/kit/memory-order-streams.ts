import type { Clock } from '../../core/contract/clock.ts'
import { StorageError } from '../../core/contract/errors.ts'
import type { OrderStream, OrderStreams, StreamRecord } from '../../core/contract/order-stream.ts'

export interface MemoryStreamServersOptions {
  /** Without it answers come in the same turn. */
  readonly clock?: Clock
  /** One way between a client and the servers. */
  readonly delayMs?: () => number
  readonly maxRecordBytes?: number
}

/** What one client's connection does to it. */
export interface MemoryStreamFaults {
  /** Nothing gets through: calls are UNAVAILABLE, tails end with it. */
  isDown: boolean
  /** The record is taken, and the answer is lost. */
  dropsAnswer: () => boolean
  /** The record is taken twice, as when a client library repeats itself. */
  duplicates: () => boolean
}

interface Stored {
  first: number
  readonly records: Uint8Array[]
  readonly wake: Set<() => void>
  isGone: boolean
}

/**
 * Servers that order records, in memory: obeys the contract of `OrderStreams` until it is told to break it. What servers without
 * synchronous disks do in a power loss can be done to it: records at the end vanish and their sequences are given again (consumers
 * that were further do not notice), records change, streams disappear.
 */
export class MemoryStreamServers {
  private readonly streams = new Map<string, Stored>()
  private readonly options: MemoryStreamServersOptions
  private readonly clients = new Set<MemoryOrderStreams>()

  constructor(options: MemoryStreamServersOptions = {}) {
    this.options = options
  }

  /** A client with a connection of its own. */
  client(): MemoryOrderStreams {
    const client = new MemoryOrderStreams(this, this.options.maxRecordBytes ?? 1024 * 1024)
    this.clients.add(client)
    return client
  }

  get names(): readonly string[] {
    return [...this.streams.keys()].sort()
  }

  /** Records kept of a stream. */
  recordsOf(name: string): readonly Uint8Array[] {
    return this.streams.get(name)?.records ?? []
  }

  /** Forgets the last `count` records, as if they had never been acknowledged. */
  loseSuffix(name: string, count: number): void {
    const stored = this.streams.get(name)
    if (stored !== undefined) stored.records.length = Math.max(0, stored.records.length - count)
  }

  /** Puts other bytes in the place of a record that was acknowledged. */
  alter(name: string, sequence: number, bytes: Uint8Array): void {
    const stored = this.streams.get(name)
    const index = sequence - (stored?.first ?? 0)
    if (stored !== undefined && index >= 0 && index < stored.records.length) stored.records[index] = bytes
  }

  /** The stream is gone, without anybody having removed it. */
  loseStream(name: string): void {
    this.drop(name)
  }

  async delay(signal?: AbortSignal): Promise<void> {
    const { clock, delayMs } = this.options
    if (clock === undefined) await undefined
    else {
      try {
        await clock.sleep(delayMs?.() ?? 0, signal)
      } catch (cause) {
        throw new StorageError('CANCELLED', 'the call was cancelled', { cause })
      }
    }
    if (signal?.aborted === true) throw new StorageError('CANCELLED', 'the call was cancelled')
  }

  find(name: string): Stored {
    const stored = this.streams.get(name)
    if (stored === undefined) throw new StorageError('STREAM_NOT_FOUND', `there is no stream ${name}`)
    return stored
  }

  make(name: string): void {
    if (this.streams.has(name)) throw new StorageError('CONFLICT', `there is a stream ${name}`)
    this.streams.set(name, { first: 1, records: [], wake: new Set(), isGone: false })
  }

  drop(name: string): boolean {
    const stored = this.streams.get(name)
    if (stored === undefined) return false
    stored.isGone = true
    this.streams.delete(name)
    for (const wake of [...stored.wake]) wake()
    return true
  }

  /** Tails of connections that have gone down notice. */
  wakeAll(): void {
    for (const stored of this.streams.values()) for (const wake of [...stored.wake]) wake()
  }
}

export class MemoryOrderStreams implements OrderStreams {
  readonly maxRecordBytes: number
  readonly faults: MemoryStreamFaults = { isDown: false, dropsAnswer: () => false, duplicates: () => false }
  private readonly servers: MemoryStreamServers
  private isClosed = false
  /** Calls wait, and nothing comes, until it is over. */
  private hanging: Promise<void> | undefined
  private goOn: () => void = () => undefined

  constructor(servers: MemoryStreamServers, maxRecordBytes: number) {
    this.servers = servers
    this.maxRecordBytes = maxRecordBytes
  }

  setDown(isDown: boolean): void {
    this.faults.isDown = isDown
    this.servers.wakeAll()
  }

  /** The servers stand still, and the connection does not end. */
  setHanging(isHanging: boolean): void {
    this.goOn()
    this.hanging = isHanging
      ? new Promise((resolve) => {
          this.goOn = resolve
        })
      : undefined
  }

  /** While the servers stand still; rejects when the signal aborts. */
  private async wait(signal: AbortSignal | undefined): Promise<void> {
    while (this.hanging !== undefined) {
      const { hanging } = this
      await new Promise<void>((resolve, reject) => {
        const onAbort = (): void => reject(new StorageError('CANCELLED', 'the call was cancelled'))
        signal?.addEventListener('abort', onAbort, { once: true })
        hanging.then(() => {
          signal?.removeEventListener('abort', onAbort)
          resolve()
        })
        if (signal?.aborted === true) onAbort()
      })
    }
  }

  async open(name: string, signal?: AbortSignal): Promise<OrderStream> {
    await this.ask(signal, () => this.servers.find(name))
    return this.streamOf(name)
  }

  async create(name: string, signal?: AbortSignal): Promise<OrderStream> {
    await this.ask(signal, () => this.servers.make(name))
    return this.streamOf(name)
  }

  remove(name: string, signal?: AbortSignal): Promise<boolean> {
    return this.ask(signal, () => this.servers.drop(name))
  }

  names(prefix: string, signal?: AbortSignal): Promise<readonly string[]> {
    return this.ask(signal, () => this.servers.names.filter((name) => name.startsWith(prefix)))
  }

  async close(): Promise<void> {
    this.isClosed = true
    this.servers.wakeAll()
  }

  private check(): void {
    if (this.isClosed) throw new StorageError('CLOSED', 'the connection is closed')
    if (this.faults.isDown) throw new StorageError('UNAVAILABLE', 'the servers cannot be reached')
  }

  /** There, done, and back. */
  private async ask<T>(signal: AbortSignal | undefined, work: () => T): Promise<T> {
    this.check()
    await this.servers.delay(signal)
    if (this.hanging !== undefined) await this.wait(signal)
    this.check()
    const result = work()
    await this.servers.delay(signal)
    this.check()
    return result
  }

  private streamOf(name: string): OrderStream {
    return {
      name,
      publish: (record, signal) => this.publish(name, record, signal),
      tail: (after, signal) => this.tail(name, after, signal),
      state: (signal) =>
        this.ask(signal, () => {
          const { first, records } = this.servers.find(name)
          return { first, last: first + records.length - 1 }
        }),
      trim: (before, signal) =>
        this.ask(signal, () => {
          const stored = this.servers.find(name)
          const count = Math.min(Math.max(0, before - stored.first), stored.records.length)
          stored.records.splice(0, count)
          stored.first += count
        }),
    }
  }

  private async publish(name: string, record: Uint8Array, signal?: AbortSignal): Promise<number> {
    if (record.length > this.maxRecordBytes) {
      throw new StorageError('INVALID_ARGUMENT', `a record has at most ${this.maxRecordBytes} bytes`)
    }
    const bytes = record.slice()
    const sequence = await this.ask(signal, () => {
      const stored = this.servers.find(name)
      stored.records.push(bytes)
      const taken = stored.first + stored.records.length - 1
      if (this.faults.duplicates()) stored.records.push(bytes)
      for (const wake of [...stored.wake]) wake()
      return taken
    })
    if (this.faults.dropsAnswer()) throw new StorageError('UNAVAILABLE', 'the answer was lost')
    return sequence
  }

  private async *tail(
    name: string,
    after: number,
    signal: AbortSignal,
  ): AsyncGenerator<readonly StreamRecord[]> {
    let last = after
    try {
      while (!signal.aborted) {
        await this.servers.delay(signal)
        if (this.hanging !== undefined) await this.wait(signal)
        this.check()
        const stored = this.servers.find(name)
        if (stored.first > last + 1) {
          throw new StorageError('LOG_TRIMMED', `record ${last + 1} is not kept any more`)
        }
        const batch = stored.records
          .slice(last + 1 - stored.first)
          .map((bytes, index): StreamRecord => ({ sequence: last + 1 + index, bytes: bytes.slice() }))
        if (batch.length > 0) {
          last += batch.length
          yield batch
        } else await recordsBehind(stored, signal)
      }
    } catch (reason) {
      if (!signal.aborted) throw reason
    }
  }
}

function recordsBehind(stored: Stored, signal: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    const wake = (): void => {
      stored.wake.delete(wake)
      signal.removeEventListener('abort', wake)
      resolve()
    }
    stored.wake.add(wake)
    signal.addEventListener('abort', wake)
    if (signal.aborted || stored.isGone) wake()
  })
}
