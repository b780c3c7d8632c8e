import type { ChunkBuffer } from '../../contract/chunk-store.ts'
import { type ErrorCode, StorageError } from '../../contract/errors.ts'
import type { Deadline } from './deadlines.ts'
import type { FrameHeader } from './frame.ts'

export interface Answer {
  readonly header: FrameHeader
  /** Of LIST and STAT; a GET's is in the buffer. */
  readonly payload: Buffer
}

export interface CallSpec {
  readonly op: number
  readonly fields: Partial<FrameHeader>
  /** A PUT's bytes; copied when they are sent, so that the caller's buffer is free whenever the call settles. */
  readonly payload?: Uint8Array
  /** Where a GET's answer goes. */
  readonly buffer?: ChunkBuffer
  /** Bytes that the answer may have. */
  readonly answerBytes: number
  readonly creditBytes: number
}

/** One request of a client: settled once, and remembered until its answer has come. */
export class Call {
  readonly spec: CallSpec
  readonly deadline: Deadline
  /** Of the wire; 0 = not sent yet. */
  requestId = 0
  sentAtMs = 0
  #settled = false
  readonly #resolve: (answer: Answer) => void
  readonly #reject: (error: StorageError) => void
  readonly #onSettled: (call: Call) => void
  readonly #signal: AbortSignal | undefined
  readonly #onAbort: () => void

  constructor(
    spec: CallSpec,
    limits: { readonly deadlineAtMs: number; readonly signal: AbortSignal | undefined },
    settle: {
      readonly resolve: (answer: Answer) => void
      readonly reject: (error: StorageError) => void
      readonly onSettled: (call: Call) => void
    },
  ) {
    this.spec = spec
    this.deadline = {
      atMs: limits.deadlineAtMs,
      expire: () => this.fail('DEADLINE_EXCEEDED', 'the peer did not answer in time'),
    }
    this.#resolve = settle.resolve
    this.#reject = settle.reject
    this.#onSettled = settle.onSettled
    this.#signal = limits.signal
    this.#onAbort = () => this.fail('CANCELLED', 'the request was cancelled')
    this.#signal?.addEventListener('abort', this.#onAbort, { once: true })
  }

  get isSettled(): boolean {
    return this.#settled
  }

  answer(answer: Answer): void {
    if (this.#settle()) this.#resolve(answer)
  }

  fail(code: ErrorCode, reason: string, cause?: unknown): void {
    this.failWith(new StorageError(code, reason, cause === undefined ? undefined : { cause }))
  }

  failWith(error: StorageError): void {
    if (this.#settle()) this.#reject(error)
  }

  #settle(): boolean {
    if (this.#settled) return false
    this.#settled = true
    this.#signal?.removeEventListener('abort', this.#onAbort)
    this.#onSettled(this)
    return true
  }
}
