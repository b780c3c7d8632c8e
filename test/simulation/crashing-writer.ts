import type { TableWriter } from '../../core/catalog/tables.ts'

/** The process dies here. */
export class Crash extends Error {}

/** The state machine wraps what comes out of the middle of an entry. */
export function isCrash(error: unknown): boolean {
  return error instanceof Crash || (error instanceof Error && isCrash(error.cause))
}

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
