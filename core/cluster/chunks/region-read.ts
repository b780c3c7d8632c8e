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

/**
 * Reads from the first copy; from the next one too when that takes long, and at once when it failed. The first sound answer wins, the
 * others are cancelled and give their memory back. Never rejects; ends early only by the signal or when the request is malformed.
 */
export function readCopies(
  readers: readonly CopyReader[],
  clock: Clock,
  signal: AbortSignal | undefined,
): Promise<ReadOutcome> {
  return new Promise((resolve) => {
    const abort = new AbortController()
    const failures: CopyFailure[] = []
    let running = 0
    let next = 0
    let isSettled = false
    let timer: AbortController | undefined
    const onAbort = (): void => abort.abort(signal?.reason)
    const settle = (outcome: ReadOutcome): void => {
      isSettled = true
      timer?.abort()
      signal?.removeEventListener('abort', onAbort)
      if (running > 0) abort.abort()
      resolve(outcome)
    }
    const start = (): void => {
      const reader = readers[next++]
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
      timer?.abort()
      if (isLast) return
      const armed = new AbortController()
      timer = armed
      clock.sleep(reader.hedgeAfterMs, armed.signal).then(
        () => {
          if (!isSettled && timer === armed) start()
        },
        () => undefined,
      )
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
