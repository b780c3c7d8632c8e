/**
 * The seam between the state machine and what keeps its rows: one ordered map from bytes to bytes, in byte order of the keys.
 * LMDB and memory implement it; listing, reads and the state machine know nothing else.
 */
export interface TableReader {
  /** The row's value, the caller's to keep; undefined when there is none. */
  get(key: Uint8Array): Uint8Array | undefined
  /** A cursor in front of the first row with start <= key < end, which may be longer than any row's key. */
  rows(start: Uint8Array, end: Uint8Array): RowCursor
}

export interface TableWriter extends TableReader {
  put(key: Uint8Array, value: Uint8Array): void
  remove(key: Uint8Array): void
}

/**
 * A moving window over rows, without a copy: key and value point into buffers that the next step of any cursor, and any
 * `get`, of the same tables may overwrite. Writing to the tables while a cursor is open is not allowed. Close it unless
 * `next` has answered false or thrown.
 */
export interface RowCursor {
  /** Moves to the next row; false behind the last one, and the cursor is closed. */
  next(): boolean
  /** Goes on in front of the first row with a key >= `start` (which is never behind the current row). */
  seek(start: Uint8Array): void
  close(): void
  /** The current row's key is keyBytes[keyStart..keyEnd), its value valueBytes[0..valueEnd). */
  readonly keyBytes: Buffer
  readonly keyStart: number
  readonly keyEnd: number
  readonly valueBytes: Buffer
  readonly valueEnd: number
}

export interface Tables {
  /** Reads of the last state committed; no wait. */
  readonly reader: TableReader
  /** Runs `change` in one transaction: all of it becomes durable, or (when it throws) nothing of it happens. */
  transact<T>(change: (writer: TableWriter) => T): T
  /** Bytes that the rows take on disk (or in memory). */
  bytesOnDisk(): number
  close(): Promise<void>
}

export function rowKey(cursor: RowCursor): Uint8Array {
  return Uint8Array.prototype.slice.call(cursor.keyBytes, cursor.keyStart, cursor.keyEnd)
}

export function rowValue(cursor: RowCursor): Uint8Array {
  return Uint8Array.prototype.slice.call(cursor.valueBytes, 0, cursor.valueEnd)
}
