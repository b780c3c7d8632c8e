import type { Idempotency, OutboxPlace } from '../contract/catalog.ts'
import { StorageError } from '../contract/errors.ts'
import type { BucketRecord } from '../contract/object-model.ts'
import type { Entry } from './entry.ts'
import { type HybridTime, nextHybridTime } from './hybrid-time.ts'
import { bucketKey, table } from './keys.ts'
import type { CatalogMeta } from './meta.ts'
import { decodeBucketRow } from './rows.ts'
import type { RowCursor, TableWriter } from './tables.ts'

/**
 * What applying one entry may touch. It watches for the one mistake that would break atomicity: answering an error after a
 * row has been written.
 */
export class ApplyContext implements TableWriter {
  readonly entry: Entry
  readonly meta: CatalogMeta
  /** A row was written since `beginStep`. */
  wrote = false
  /** Of the last entry that was written to an outbox which has an order of its own. */
  place: OutboxPlace | undefined
  /** Of the request that the change is made for: other regions are told of it with the version. */
  idempotency: Idempotency | undefined
  private readonly writer: TableWriter

  constructor(writer: TableWriter, meta: CatalogMeta, entry: Entry) {
    this.writer = writer
    this.meta = meta
    this.entry = entry
  }

  /** The time of the next change: greater than every time before it in the log. */
  tick(): HybridTime {
    this.meta.time = nextHybridTime(this.meta.time, this.entry.nowMs)
    return this.meta.time
  }

  get(key: Uint8Array): Uint8Array | undefined {
    return this.writer.get(key)
  }

  rows(start: Uint8Array, end: Uint8Array): RowCursor {
    return this.writer.rows(start, end)
  }

  put(key: Uint8Array, value: Uint8Array): void {
    this.wrote = true
    this.writer.put(key, value)
  }

  remove(key: Uint8Array): void {
    this.wrote = true
    this.writer.remove(key)
  }

  bucket(bucketId: number): BucketRecord {
    const row = this.get(bucketKey(table.bucketById, bucketId))
    if (row === undefined) throw new StorageError('NO_SUCH_BUCKET', 'the bucket does not exist')
    return decodeBucketRow(row)
  }

  /**
   * Runs checks and writes of one unit that fails as a whole: a StorageError before its first write is its answer and leaves
   * everything as it was. After a write it is a bug, and the whole batch must be undone. UNSUPPORTED_FORMAT is no answer: this software does
   * not know what it is about, and one that does answers something else.
   */
  unit<T>(change: () => T): T | StorageError {
    this.wrote = false
    try {
      return change()
    } catch (error) {
      if (error instanceof StorageError && error.code === 'UNSUPPORTED_FORMAT') throw error
      if (error instanceof StorageError && !this.wrote) return error
      if (!this.wrote) throw error
      throw new Error('applying an entry failed after it had written', { cause: error })
    }
  }
}
