import type { Clock } from '../../contract/clock.ts'
import { StorageError } from '../../contract/errors.ts'
import type { StreamRecord } from '../../contract/order-stream.ts'
import type { RecordGathering } from './gathering.ts'

type Next = IteratorResult<readonly StreamRecord[]>

const enough = new StorageError('CANCELLED', 'it is not waited for any longer')

/**
 * What the stream gives, with what follows soon where that is worth a wait. Whoever leaves it must end the stream's own wait by its
 * signal.
 */
export async function* gatherRecords(
  source: AsyncIterable<readonly StreamRecord[]>,
  gathering: RecordGathering,
  clock: Clock,
): AsyncGenerator<readonly StreamRecord[]> {
  const batches = source[Symbol.asyncIterator]()
  let next: Promise<Next> | undefined
  const take = (): Promise<Next> => {
    next ??= batches.next()
    return next
  }
  try {
    for (;;) {
      const first = await take()
      next = undefined
      if (first.done === true) return
      let records = first.value
      const wait = gathering.wait(records.length)
      if (wait !== undefined) {
        const alone = records.length
        const stop = new AbortController()
        const late = clock.sleep(wait.ms, stop.signal).then(
          () => undefined,
          () => undefined,
        )
        while (records.length < wait.records) {
          const more: Next | undefined = await Promise.race([take(), late])
          if (more === undefined || more.done === true) break
          next = undefined
          records = [...records, ...more.value]
        }
        stop.abort(enough)
        gathering.noteWaited(records.length > alone)
      }
      yield records
    }
  } finally {
    // Behind a wait that is under way it would not come back before that ends; its failure is nobody's any more.
    next?.catch(() => undefined)
    batches.return?.()?.catch(() => undefined)
  }
}
