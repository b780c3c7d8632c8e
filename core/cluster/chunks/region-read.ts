import type { ChunkBuffer } from '../../contract/chunk-store.ts'
import type { Clock } from '../../contract/clock.ts'
import { StorageError } from '../../contract/errors.ts'
import type { CopyFailure } from './replica-errors.ts'

export interface CopyReader {
  readonly node: string
  readonly read: (signal: AbortSignal) => Promise<ChunkBuffer>
  /** How long it may take before the next one is asked too. */
  readonly hedgeAfterMs: number
}

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

/** Reasons of our own: without one, each abort makes an error with a stack that nobody reads. */
const otherAnswered = new StorageError('CANCELLED', 'another copy has answered')
const notNeeded = new StorageError('CANCELLED', 'it is not needed any more')

/**
 * Reads of chunks that are at several nodes. One timer watches all of them: hardly any read is as late as to be asked for again, so none
 * has a timer of its own.
 */
export class CopyReads {
  readonly #clock: Clock
  readonly #hedges = new Set<Hedge>()
  #timer: { readonly dueMs: number; readonly control: AbortController } | undefined

  constructor(clock: Clock) {
    this.#clock = clock
  }

  /**
   * From the first copy; from the next one too when that takes long, and at once when it failed. The first sound answer wins, the
   * others are cancelled and give their memory back. Never rejects; ends early only by the signal or when the request is malformed.
   */
  read(readers: CopyReaders, signal: AbortSignal | undefined): Promise<ReadOutcome> {
    return new Promise((resolve) => {
      const abort = new AbortController()
      const failures: CopyFailure[] = []
      let running = 0
      let next = 0
      let isSettled = false
      let hedge: Hedge | undefined
      const onAbort = (): void => abort.abort(signal?.reason)
      const settle = (outcome: ReadOutcome): void => {
        isSettled = true
        if (hedge !== undefined) this.#hedges.delete(hedge)
        signal?.removeEventListener('abort', onAbort)
        if (running > 0) abort.abort(otherAnswered)
        resolve(outcome)
      }
      const start = (): void => {
        const reader = readers.at(next++)
        if (reader === undefined) return
        running++
        const isLast = next >= readers.length
        reader.read(abort.signal).then(
          (buffer) => {
            running--
            if (isSettled) buffer.release()
            else settle({ buffer, node: reader.node, failures, hedged: failures.length < next - 1 })
          },
          (reason: unknown) => {
            running--
            if (isSettled) return
            const error = StorageError.from(reason)
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
      signal?.addEventListener('abort', onAbort, { once: true })
      if (readers.length === 0) settle({ buffer: undefined, failures })
      else start()
    })
  }

  /** Whoever still reads is not hedged any more. */
  close(): void {
    this.#hedges.clear()
    this.#timer?.control.abort(notNeeded)
    this.#timer = undefined
  }

  #after(delayMs: number, start: () => void): Hedge {
    const hedge = { dueMs: this.#clock.monotonic() + delayMs, start }
    this.#hedges.add(hedge)
    this.#arm(hedge.dueMs)
    return hedge
  }

  #arm(dueMs: number): void {
    if (this.#timer !== undefined) {
      if (this.#timer.dueMs <= dueMs) return
      this.#timer.control.abort(notNeeded)
    }
    const timer = { dueMs, control: new AbortController() }
    this.#timer = timer
    this.#clock.sleep(Math.max(0, dueMs - this.#clock.monotonic()), timer.control.signal).then(
      () => {
        if (this.#timer === timer) this.#expire()
      },
      () => undefined,
    )
  }

  /** A timer that nobody waits for any more ends here. */
  #expire(): void {
    this.#timer = undefined
    const nowMs = this.#clock.monotonic()
    let nextMs = Number.POSITIVE_INFINITY
    const due: Hedge[] = []
    for (const hedge of this.#hedges) {
      if (hedge.dueMs <= nowMs) due.push(hedge)
      else nextMs = Math.min(nextMs, hedge.dueMs)
    }
    if (nextMs < Number.POSITIVE_INFINITY) this.#arm(nextMs)
    for (const hedge of due) if (this.#hedges.delete(hedge)) hedge.start()
  }
}
