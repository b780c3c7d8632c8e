import type { Clock } from '../contract/clock.ts'
import { StorageError } from '../contract/errors.ts'
import type { Logger } from '../contract/logger.ts'

/** One piece of work that comes again and again. */
export interface RecurringWork {
  readonly name: string
  readonly intervalMs: number
  /** First run after this; later ones `intervalMs` after the end of the one before. */
  readonly firstDelayMs: number
  run(signal: AbortSignal): Promise<void>
  onFailure?(error: StorageError): void
}

export interface Schedule {
  /** Aborts what runs and waits for it to end. */
  stop(): Promise<void>
}

/** After a failure the next try waits at least so long, doubled each time up to the interval or an hour. */
const minRetryMs = 1_000
const maxRetryMs = 3_600_000

/** Runs each piece of work on its own; two runs of the same never overlap. */
export function startSchedule(work: readonly RecurringWork[], clock: Clock, log: Logger): Schedule {
  const stopping = new AbortController()
  const { signal } = stopping
  const loops = work.map((piece) => loop(piece))
  return {
    async stop() {
      stopping.abort()
      await Promise.all(loops)
    },
  }

  async function loop(piece: RecurringWork): Promise<void> {
    let delayMs = piece.firstDelayMs
    let failures = 0
    for (;;) {
      try {
        await clock.sleep(delayMs, signal)
        await piece.run(signal)
        failures = 0
        delayMs = piece.intervalMs
      } catch (reason) {
        if (signal.aborted) return
        const error = StorageError.from(reason)
        failures++
        delayMs = Math.min(maxRetryMs, Math.max(piece.intervalMs, minRetryMs * 2 ** Math.min(failures, 20)))
        log.warn({ work: piece.name, failures, retryInMs: delayMs, err: error }, 'background work failed')
        piece.onFailure?.(error)
      }
      if (signal.aborted) return
    }
  }
}
