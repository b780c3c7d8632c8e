import type { Clock } from '../contract/clock.ts'
import { progressIntervalMs } from '../control/jobs.ts'
import type { JobProgress, JobUpdate } from '../control/messages.ts'

/**
 * The updates of `source`, and in between, while it works in silence, how far it is. Ends the source when the reader ends.
 */
export async function* withProgress<T>(
  source: AsyncIterable<T>,
  clock: Clock,
  progress: () => JobProgress,
  toUpdate: (item: T) => JobUpdate,
): AsyncGenerator<JobUpdate> {
  const iterator = source[Symbol.asyncIterator]()
  try {
    let next = iterator.next()
    // Of a reader that leaves while it is pending nobody waits for it any more.
    next.catch(() => undefined)
    for (;;) {
      const timer = new AbortController()
      const late = clock.sleep(progressIntervalMs, timer.signal).then(
        () => 'late' as const,
        () => 'late' as const,
      )
      const result = await Promise.race([next, late])
      timer.abort()
      if (result === 'late') {
        yield { progress: progress() }
        continue
      }
      if (result.done === true) return
      yield toUpdate(result.value)
      next = iterator.next()
      next.catch(() => undefined)
    }
  } finally {
    // Not awaited: it resolves only after the pending `next`, which the signal of the job ends.
    iterator.return?.()?.then(undefined, () => undefined)
  }
}
