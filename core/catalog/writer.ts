import { Worker } from 'node:worker_threads'
import { isErrorCode, StorageError } from '../contract/errors.ts'
import type { Position } from '../contract/ordered-log.ts'
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

/**
 * The catalog's side of the writer's thread. Entries go over in the order of `append` and are answered in that order, each once
 * durable. When the thread dies, everything pending and everything later is rejected: nothing waits for ever.
 */
export class Writer {
  private readonly worker: Worker
  private readonly limits: WriterLimits
  private readonly onCommit: (position: Position) => void
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
  private readonly ended: Promise<void>

  private constructor(
    worker: Worker,
    limits: WriterLimits,
    onCommit: (position: Position) => void,
    onReady: () => void,
    onFailure: (error: StorageError) => void,
  ) {
    this.worker = worker
    this.limits = limits
    this.onCommit = onCommit
    worker.on('message', (message: FromWriter) => {
      if (message.type === 'ready') onReady()
      else this.receive(message, onFailure)
    })
    worker.on('error', (error) => this.fail(StorageError.from(error, 'UNAVAILABLE'), onFailure))
    this.ended = new Promise((resolve) => {
      worker.on('exit', () => {
        this.fail(new StorageError('UNAVAILABLE', 'the writer of the catalog has ended'), onFailure)
        resolve()
      })
    })
  }

  /**
   * @param onCommit called for every commit before the promises of its entries are resolved
   * @param onFailure called once, when the writer ends by itself
   */
  static async open(
    settings: WriterSettings,
    limits: WriterLimits,
    onCommit: (position: Position) => void,
    onFailure: (error: StorageError) => void,
  ): Promise<Writer> {
    const worker = new Worker(new URL('./writer-thread.js', import.meta.url), { workerData: settings })
    let ready = (): void => {}
    let refuse = (_error: StorageError): void => {}
    const started = new Promise<void>((resolve, reject) => {
      ready = resolve
      refuse = reject
    })
    const writer = new Writer(worker, limits, onCommit, ready, (error) => {
      refuse(error)
      onFailure(error)
    })
    await started
    return writer
  }

  get pendingEntries(): number {
    return this.pending.length - this.answered
  }

  append(entry: Uint8Array): Promise<Acknowledged> {
    if (this.failure !== undefined) return Promise.reject(this.failure)
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
    if (this.failure !== undefined) return Promise.reject(this.failure)
    const number = ++this.lastTrim
    return new Promise((resolve, reject) => {
      this.trims.set(number, { resolve, reject })
      this.flush()
      this.send({ type: 'trim', number, before })
    })
  }

  /** Everything appended before is answered first. */
  async close(): Promise<void> {
    if (this.failure === undefined) {
      this.flush()
      this.send({ type: 'close' })
    }
    await this.ended
  }

  private send(message: ToWriter, transfer: ArrayBuffer[] = []): void {
    this.worker.postMessage(message, transfer)
  }

  private flush(): void {
    this.scheduled = false
    if (this.batch.length === 0) return
    const entries = joinBytes(this.batch)
    this.batch = []
    this.send({ type: 'append', entries }, [entries])
  }

  private receive(
    message: Exclude<FromWriter, { type: 'ready' }>,
    onFailure: (error: StorageError) => void,
  ): void {
    switch (message.type) {
      case 'applied': {
        this.onCommit(message.position)
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
      case 'failed':
        this.fail(
          new StorageError(
            'UNAVAILABLE',
            `the writer of the catalog failed: ${message.code}: ${message.reason}`,
          ),
          onFailure,
        )
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

  private fail(error: StorageError, onFailure: (error: StorageError) => void): void {
    if (this.failure !== undefined) return
    this.failure = error
    const waiting = this.pending.slice(this.answered)
    this.pending = []
    this.answered = 0
    this.pendingBytes = 0
    this.batch = []
    for (const pending of waiting) pending.reject(error)
    for (const trim of this.trims.values()) trim.reject(error)
    this.trims.clear()
    onFailure(error)
  }
}
