import type { TableWriter } from '../../core/catalog/tables.ts'
import type { ErrorCode } from '../../core/contract/errors.ts'

/** The process dies here. */
export class Crash extends Error {}

/** The state machine wraps what comes out of the middle of an entry. */
export function isCrash(error: unknown): boolean {
  return error instanceof Crash || (error instanceof Error && isCrash(error.cause))
}

const weather: readonly ErrorCode[] = [
  'PEER_UNREACHABLE',
  'PROTOCOL_ERROR',
  'CONFLICT',
  'STALE_EPOCH',
  'NO_SUCH_REPLICATION',
  // Who has left, or whom not everybody knows to be back.
  'NO_SUCH_BUCKET',
  'ACCESS_DENIED',
]

/** What a region may answer another at any time: nothing is broken by it. */
export const isWeather = (code: ErrorCode): boolean => weather.includes(code)

/** Passes `writes` writes through and crashes at the next. */
export function failAfter(writer: TableWriter, writes: number): TableWriter {
  let left = writes
  const spend = (): void => {
    if (--left < 0) throw new Crash()
  }
  return {
    get: (key) => writer.get(key),
    rows: (start, end) => writer.rows(start, end),
    put(key, value) {
      spend()
      writer.put(key, value)
    },
    remove(key) {
      spend()
      writer.remove(key)
    },
  }
}
