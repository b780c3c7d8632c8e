import type { ChunkBuffer } from '../../contract/chunk-store.ts'
import type { Clock } from '../../contract/clock.ts'
import { DueTimer } from '../../contract/due-timer.ts'
import { StorageError } from '../../contract/errors.ts'
import { type CopyFailure, copyError } from './replica-errors.ts'

interface AnyCopyReader {
  readonly node: string
  /** How long it may take before the next one is asked too. */
  readonly hedgeAfterMs: number
}

/** Of our own copy. Nothing is won by cancelling it when another one has answered: its device cannot be stopped. */
interface OwnCopyReader extends AnyCopyReader {
  readonly isHere: true
  readonly read: (signal: AbortSignal | undefined) => Promise<ChunkBuffer>
}

interface OtherCopyReader extends AnyCopyReader {
  readonly isHere?: false
  readonly read: (signal: AbortSignal) => Promise<ChunkBuffer>
}

export type CopyReader = OwnCopyReader | OtherCopyReader

export type ReadOutcome =
  | {
      readonly buffer: ChunkBuffer
      readonly node: string
      readonly failures: readonly CopyFailure[]
      readonly hedged: boolean
    }
  | { readonly buffer: undefined; readonly failures: readonly CopyFailure[] }

/** In the order in which they are asked. An array is one. */
export interface CopyReaders {
  readonly length: number
  at(index: number): CopyReader | undefined
}

interface Hedge {
  readonly dueMs: number
  readonly start: () => void
}

/** A reason of our own: without one, each abort makes an error with a stack that nobody reads. */
const otherAnswered = new StorageError('CANCELLED', 'another copy has answered')

/**
 * Reads of chunks that are at several nodes. One timer watches all of them: hardly any read is as late as to be asked for again, so none
 * has a timer of its own.
 */
export class CopyReads {
  readonly #self: string
  readonly #clock: Clock
  readonly #hedges = new Set<Hedge>()
  readonly #timer: DueTimer

  constructor(self: string, clock: Clock) {
    this.#self = self
    this.#clock = clock
    this.#timer = new DueTimer(clock, () => this.#expire())
  }

  /**
   * From the first copy; from the next one too when that takes long, and at once when it failed. The first sound answer wins, the
   * others are cancelled and give their memory back. Never rejects; ends early only by the signal, when our own store is closed, or when
   * the request is malformed.
   */
  read(readers: CopyReaders, signal: AbortSignal | undefined): Promise<ReadOutcome> {
    return new Promise((resolve) => {
      // Only whoever asks another node needs one, and most reads ask nobody.
      let abort: AbortController | undefined
      const failures: CopyFailure[] = []
      let running = 0
      let next = 0
      let isSettled = false
      let hedge: Hedge | undefined
      const onAbort = (): void => abort?.abort(signal?.reason)
      const ask = (reader: CopyReader): Promise<ChunkBuffer> => {
        if (reader.isHere === true) return reader.read(signal)
        if (abort === undefined) {
          abort = new AbortController()
          if (signal?.aborted === true) abort.abort(signal.reason)
          else signal?.addEventListener('abort', onAbort, { once: true })
        }
        return reader.read(abort.signal)
      }
      const settle = (outcome: ReadOutcome): void => {
        isSettled = true
        if (hedge !== undefined) this.#hedges.delete(hedge)
        if (abort !== undefined) {
          signal?.removeEventListener('abort', onAbort)
          if (running > 0) abort.abort(otherAnswered)
        }
        resolve(outcome)
      }
      const start = (): void => {
        const reader = readers.at(next++)
        if (reader === undefined) return
        running++
        const isLast = next >= readers.length
        ask(reader).then(
          (buffer) => {
            running--
            if (isSettled) buffer.release()
            else settle({ buffer, node: reader.node, failures, hedged: failures.length < next - 1 })
          },
          (reason: unknown) => {
            running--
            if (isSettled) return
            const error = copyError(this.#self, reader.node, reason)
            failures.push({ node: reader.node, error })
            const isOver =
              error.code === 'INVALID_ARGUMENT' || error.code === 'CLOSED' || signal?.aborted === true
            if (isOver || (running === 0 && next >= readers.length)) settle({ buffer: undefined, failures })
            else if (running === 0) start()
          },
        )
        if (hedge !== undefined) this.#hedges.delete(hedge)
        hedge = isLast ? undefined : this.#after(reader.hedgeAfterMs, start)
      }
      if (signal?.aborted === true) {
        const error = new StorageError('CANCELLED', 'the read was cancelled')
        return resolve({ buffer: undefined, failures: [{ node: '', error }] })
      }
      if (readers.length === 0) settle({ buffer: undefined, failures })
      else start()
    })
  }

  /** Whoever still reads is not hedged any more. */
  close(): void {
    this.#hedges.clear()
    this.#timer.close()
  }

  #after(delayMs: number, start: () => void): Hedge {
    const hedge = { dueMs: this.#clock.monotonic() + delayMs, start }
    this.#hedges.add(hedge)
    this.#timer.arm(hedge.dueMs)
    return hedge
  }

  #expire(): void {
    const nowMs = this.#clock.monotonic()
    let nextMs = Number.POSITIVE_INFINITY
    const due: Hedge[] = []
    for (const hedge of this.#hedges) {
      if (hedge.dueMs <= nowMs) due.push(hedge)
      else nextMs = Math.min(nextMs, hedge.dueMs)
    }
    if (nextMs < Number.POSITIVE_INFINITY) this.#timer.arm(nextMs)
    for (const hedge of due) if (this.#hedges.delete(hedge)) hedge.start()
  }
}
