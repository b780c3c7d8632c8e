import { statSync } from 'node:fs'
import { join } from 'node:path'
import { type Database, open, type RootDatabase } from 'lmdb'
import { StorageError } from '../contract/errors.ts'
import { maxRowKeyBytes, rowBound } from './keys.ts'
import type { RowCursor, TableReader, Tables, TableWriter } from './tables.ts'

export interface LmdbTablesOptions {
  /** Holds data.mdb and lock.mdb; made when missing. */
  readonly directory: string
}

/** Address space only: the file grows as rows come. */
const mapSizeBytes = 1024 ** 4

/** lmdb-js hands keys and values to these while a cursor steps; they note where the bytes are instead of copying them. */
interface Window {
  keyBytes: Buffer
  keyStart: number
  keyEnd: number
  valueBytes: Buffer
  valueEnd: number
}

/**
 * Rows in LMDB. Commits of `transact` are synchronous and durable: no overlapping sync, no noSync, no noMetaSync, so that
 * LMDB writes the pages, syncs them, writes the meta page and syncs that before it returns.
 * The environment is shared by all threads of the process that open the same directory.
 */
export class LmdbTables implements Tables, TableReader {
  private readonly database: RootDatabase<Uint8Array, Uint8Array>
  private readonly window: Window
  private readonly dataFile: string

  constructor(options: LmdbTablesOptions) {
    const window: Window = {
      keyBytes: Buffer.alloc(0),
      keyStart: 0,
      keyEnd: 0,
      valueBytes: Buffer.alloc(0),
      valueEnd: 0,
    }
    this.window = window
    this.dataFile = join(options.directory, 'data.mdb')
    const settings = {
      path: options.directory,
      noSubdir: false,
      encoding: 'binary',
      overlappingSync: false,
      mapSize: mapSizeBytes,
      maxDbs: 1,
      keyEncoder: {
        writeKey(key: Uint8Array, target: Buffer, position: number): number {
          target.set(key, position)
          return position + key.length
        },
        readKey(source: Buffer, start: number, end: number): undefined {
          window.keyBytes = source
          window.keyStart = start
          window.keyEnd = end
        },
      },
      encoder: {
        encode: (value: Uint8Array): Uint8Array => value,
        decode(bytes: Buffer, length: number): undefined {
          window.valueBytes = bytes
          window.valueEnd = length
        },
      },
    }
    this.database = open(settings as never)
  }

  get reader(): TableReader {
    return this
  }

  get(key: Uint8Array): Uint8Array | undefined {
    if (key.length > maxRowKeyBytes) return undefined
    return this.database.getBinary(key)
  }

  rows(start: Uint8Array, end: Uint8Array): RowCursor {
    return new LmdbCursor(this.database, this.window, start, end)
  }

  /**
   * The state as of the newest commit, for as long as the caller needs it: pages that it refers to are not used again meanwhile.
   * Tables that are read in this way must be read in this way only.
   */
  pin(): PinnedTables {
    const { database } = this
    database.resetReadTxn()
    const transaction = database.useReadTransaction() as PinnedTransaction
    // lmdb-js must not take it for its own next reads, nor keep its cursors.
    database.resetReadTxn()
    const options = { transaction }
    // Its types know no options here.
    const read = database.getBinary.bind(database) as (key: Uint8Array, from: object) => Buffer | undefined
    return {
      get: (key) => (key.length > maxRowKeyBytes ? undefined : read(key, options)),
      rows: (start, end) => new LmdbCursor(database, this.window, start, end, options),
      release: () => transaction.done(),
    }
  }

  /** The next read sees everything that has been committed before this call, by any thread. */
  refresh(): void {
    this.database.resetReadTxn()
  }

  transact<T>(change: (writer: TableWriter) => T): T {
    const { database } = this
    const writer: TableWriter = {
      get: (key) => this.get(key),
      rows: (start, end) => this.rows(start, end),
      put(key, value) {
        if (key.length > maxRowKeyBytes) throw new StorageError('INTERNAL', 'a row key is too long')
        database.putSync(key, value)
      },
      remove(key) {
        database.removeSync(key)
      },
    }
    return database.transactionSync(() => change(writer))
  }

  bytesOnDisk(): number {
    return statSync(this.dataFile).size
  }

  async close(): Promise<void> {
    await this.database.close()
  }
}

/** lmdb-js's transaction, as far as its types leave it out. */
type PinnedTransaction = ReturnType<RootDatabase['useReadTransaction']> & { done(): void }

/** Rows of one moment. Nothing may be read after `release`. */
export interface PinnedTables extends TableReader {
  release(): void
}

type RowIterator = Iterator<unknown> & { return(): unknown }

class LmdbCursor implements RowCursor {
  private readonly database: Database<Uint8Array, Uint8Array>
  private readonly window: Window
  private readonly end: Uint8Array
  private readonly options: { readonly transaction?: PinnedTransaction }
  private rows: RowIterator | undefined
  private start: Uint8Array

  constructor(
    database: Database<Uint8Array, Uint8Array>,
    window: Window,
    start: Uint8Array,
    end: Uint8Array,
    options: { readonly transaction?: PinnedTransaction } = {},
  ) {
    this.options = options
    this.database = database
    this.window = window
    // A longer one would leave lmdb-js's buffer of keys unusable, for every range that this thread asks for later.
    this.start = rowBound(start)
    this.end = rowBound(end)
  }

  get keyBytes(): Buffer {
    return this.window.keyBytes
  }
  get keyStart(): number {
    return this.window.keyStart
  }
  get keyEnd(): number {
    return this.window.keyEnd
  }
  get valueBytes(): Buffer {
    return this.window.valueBytes
  }
  get valueEnd(): number {
    return this.window.valueEnd
  }

  next(): boolean {
    if (this.rows === undefined) {
      if (Buffer.compare(this.start, this.end) >= 0) return false
      this.rows = this.database
        .getRange({ ...this.options, start: this.start, end: this.end })
        [Symbol.iterator]() as RowIterator
    }
    try {
      return this.rows.next().done !== true
    } catch (error) {
      // It counts as a reader of its transaction from its beginning on: left open it would keep one of LMDB's few slots.
      this.close()
      throw error
    }
  }

  seek(start: Uint8Array): void {
    this.close()
    this.start = rowBound(start)
  }

  close(): void {
    this.rows?.return()
    this.rows = undefined
  }
}
