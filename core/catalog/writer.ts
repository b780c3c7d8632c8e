import { Worker } from 'node:worker_threads'
import type { Clock } from '../contract/clock.ts'
import { isErrorCode, StorageError } from '../contract/errors.ts'
import type { Position } from '../contract/ordered-log.ts'
import { isRoomScarce } from './device-room.ts'
import {
  type FromWriter,
  joinBytes,
  splitBytes,
  type ToWriter,
  type WriterSettings,
} from './writer-protocol.ts'

export interface WriterLimits {
  /** Entries that may wait for their commit; OVERLOADED beyond. */
  readonly maxPendingEntries: number
  readonly maxPendingBytes: number
}

export interface Acknowledged {
  readonly position: Position
  readonly answer: Uint8Array
}

interface Pending {
  readonly byteLength: number
  resolve(acknowledged: Acknowledged): void
  reject(error: StorageError): void
}

/** What the owner of a writer hears of it. */
export interface WriterEvents {
  /** For every commit, before the promises of its entries are resolved. */
  onCommit(position: Position): void
  /** Once, when the writer ends by itself. */
  onFailure(error: StorageError): void
  /** Why changes are refused (the device is full); undefined: one was taken again. */
  onWait?(reason: string | undefined): void
}

/** One thread from its beginning to its end. */
interface Thread {
  readonly worker: Worker
  /** The position of the newest durable entry; rejects when the thread ends before it is ready. */
  readonly ready: Promise<Position>
  readonly ended: Promise<void>
}

/** Between two threads on a full device: each costs tens of milliseconds. */
const startAgainMs = 500

/**
 * The catalog's side of the writer's thread. Entries go over in the order of `append` and are answered in that order, each once
 * durable. When the thread dies, everything pending and everything later is rejected: nothing waits for ever. On a full device what
 * did not fit is refused: it was one transaction, so nothing of it has happened. LMDB's state in memory may no longer be trusted, so
 * that thread has ended, and another one takes what fits.
 */
export class Writer {
  private thread: Thread
  private readonly settings: WriterSettings
  private readonly limits: WriterLimits
  private readonly clock: Clock
  private readonly events: WriterEvents
  /** Answered from the front. */
  private pending: Pending[] = []
  private answered = 0
  private pendingBytes = 0
  /** Not yet sent. */
  private batch: Uint8Array[] = []
  private scheduled = false
  private readonly trims = new Map<number, Pick<Pending, 'reject'> & { resolve(): void }>()
  private lastTrim = 0
  private failure: StorageError | undefined
  /** Of the newest entry that was answered. */
  private position: Position = 0
  /** Set while there is no thread that could take anything. */
  private refusal: StorageError | undefined
  private isWaiting = false
  private restarting: Promise<void> = Promise.resolve()
  private readonly closing = new AbortController()

  private constructor(settings: WriterSettings, limits: WriterLimits, clock: Clock, events: WriterEvents) {
    this.settings = settings
    this.limits = limits
    this.clock = clock
    this.events = events
    this.thread = this.launch()
  }

  /** UNAVAILABLE when the thread does not start. */
  static async open(
    settings: WriterSettings,
    limits: WriterLimits,
    clock: Clock,
    events: WriterEvents,
  ): Promise<Writer> {
    const writer = new Writer(settings, limits, clock, events)
    writer.position = await writer.thread.ready
    return writer
  }

  get pendingEntries(): number {
    return this.pending.length - this.answered
  }

  append(entry: Uint8Array): Promise<Acknowledged> {
    const refused = this.failure ?? this.refusal
    if (refused !== undefined) return Promise.reject(refused)
    const { limits } = this
    if (
      this.pendingEntries >= limits.maxPendingEntries ||
      this.pendingBytes + entry.length > limits.maxPendingBytes
    ) {
      return Promise.reject(new StorageError('OVERLOADED', 'too many changes wait for the catalog'))
    }
    return new Promise((resolve, reject) => {
      const idle = this.pendingEntries === 0
      this.pending.push({ byteLength: entry.length, resolve, reject })
      this.pendingBytes += entry.length
      this.batch.push(entry)
      if (this.scheduled) return
      this.scheduled = true
      // While a commit runs nothing is lost by waiting for the turn's other callers; an idle writer is asked at once.
      if (idle) queueMicrotask(() => this.flush())
      else setImmediate(() => this.flush())
    })
  }

  trim(before: Position): Promise<void> {
    const refused = this.failure ?? this.refusal
    if (refused !== undefined) return Promise.reject(refused)
    const number = ++this.lastTrim
    return new Promise((resolve, reject) => {
      this.trims.set(number, { resolve, reject })
      this.flush()
      this.send({ type: 'trim', number, before })
    })
  }

  /** Everything appended before is answered first. */
  async close(): Promise<void> {
    this.closing.abort()
    await this.restarting
    if (this.failure === undefined && this.refusal === undefined) {
      this.flush()
      this.send({ type: 'close' })
    }
    await this.thread.ended
  }

  private launch(): Thread {
    const worker = new Worker(new URL('./writer-thread.js', import.meta.url), { workerData: this.settings })
    const isCurrent = (): boolean => this.thread === undefined || this.thread.worker === worker
    let markReady = (_position: Position): void => {}
    let refuse = (_error: StorageError): void => {}
    const ready = new Promise<Position>((resolve, reject) => {
      markReady = resolve
      refuse = reject
    })
    ready.catch(() => undefined)
    const fail = (error: StorageError): void => {
      refuse(error)
      // One that has been given up has nothing more to say, and of one that is to take over its beginning tells.
      if (isCurrent() && this.refusal === undefined) this.fail(error)
    }
    worker.on('message', (message: FromWriter) => {
      if (message.type === 'ready') markReady(message.position)
      else if (message.type === 'failed') {
        const error = failureOf(message)
        const isWhole = message.position !== undefined && message.position === this.position
        if (isWhole && isCurrent()) this.startAgain(error)
        else fail(new StorageError('UNAVAILABLE', `the writer of the catalog failed: ${error.message}`))
      } else this.receive(message)
    })
    worker.on('error', (error) => fail(StorageError.from(error, 'UNAVAILABLE')))
    const ended = new Promise<void>((resolve) => {
      worker.on('exit', () => {
        fail(new StorageError('UNAVAILABLE', 'the writer of the catalog has ended'))
        resolve()
      })
    })
    return { worker, ready, ended }
  }

  /** Refuses all that waits, and has another thread take what comes. */
  private startAgain(reason: StorageError): void {
    this.refusal = reason
    if (!this.isWaiting) this.events.onWait?.(reason.reason)
    this.isWaiting = true
    this.rejectAll(reason)
    const begin = async (): Promise<void> => {
      await this.thread.ended
      while (!this.closing.signal.aborted && this.failure === undefined) {
        await this.clock.sleep(startAgainMs, this.closing.signal).catch(() => undefined)
        if (this.closing.signal.aborted) return
        const next = this.launch()
        this.thread = next
        let position: Position
        try {
          position = await next.ready
        } catch (error) {
          await next.ended
          if (!isRoomScarce(this.settings.directory)) this.fail(StorageError.from(error, 'UNAVAILABLE'))
          continue
        }
        if (position !== this.position) {
          this.fail(
            new StorageError(
              'CATALOG_CORRUPT',
              `the rows are at ${position} after a change of those at ${this.position} that failed`,
            ),
          )
        }
        this.refusal = undefined
        return
      }
    }
    this.restarting = begin()
  }

  private send(message: ToWriter, transfer: ArrayBuffer[] = []): void {
    this.thread.worker.postMessage(message, transfer)
  }

  private flush(): void {
    this.scheduled = false
    if (this.batch.length === 0) return
    const entries = joinBytes(this.batch)
    this.batch = []
    this.send({ type: 'append', entries }, [entries])
  }

  private receive(message: Exclude<FromWriter, { type: 'ready' | 'failed' }>): void {
    switch (message.type) {
      case 'applied': {
        this.position = message.position
        if (this.isWaiting) this.events.onWait?.(undefined)
        this.isWaiting = false
        this.events.onCommit(message.position)
        const answers = splitBytes(message.answers)
        const first = message.position - answers.length + 1
        for (const [index, answer] of answers.entries()) {
          this.settle((pending) => pending.resolve({ position: first + index, answer }))
        }
        break
      }
      case 'refused': {
        const error = new StorageError(isErrorCode(message.code) ? message.code : 'INTERNAL', message.reason)
        for (let index = 0; index < message.count; index++) this.settle((pending) => pending.reject(error))
        break
      }
      case 'trimmed':
        this.trims.get(message.number)?.resolve()
        this.trims.delete(message.number)
        break
    }
  }

  private settle(how: (pending: Pending) => void): void {
    const pending = this.pending[this.answered++]
    if (pending === undefined) throw new Error('the writer answered more than it was asked')
    this.pendingBytes -= pending.byteLength
    // Compacts now and then, so that answering from the front costs no shift each.
    if (this.answered === this.pending.length || this.answered >= 1024) {
      this.pending = this.pending.slice(this.answered)
      this.answered = 0
    }
    how(pending)
  }

  private rejectAll(error: StorageError): void {
    const waiting = this.pending.slice(this.answered)
    this.pending = []
    this.answered = 0
    this.pendingBytes = 0
    this.batch = []
    for (const pending of waiting) pending.reject(error)
    for (const trim of this.trims.values()) trim.reject(error)
    this.trims.clear()
  }

  private fail(error: StorageError): void {
    if (this.failure !== undefined) return
    this.failure = error
    this.rejectAll(error)
    this.events.onFailure(error)
  }
}

const failureOf = ({ code, reason }: Extract<FromWriter, { type: 'failed' }>): StorageError =>
  new StorageError(isErrorCode(code) ? code : 'INTERNAL', reason)
