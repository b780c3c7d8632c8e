import type { RowCursor, TableReader, Tables, TableWriter } from './tables.ts'

/** Bytes as a string of one Latin-1 character each: strings compare as the bytes do. */
const textOf = (bytes: Uint8Array): string =>
  Buffer.from(bytes.buffer, bytes.byteOffset, bytes.length).toString('latin1')

interface Change {
  readonly key: string
  /** What the row was before; undefined: there was none. */
  readonly value: Uint8Array | undefined
}

/** Rows in memory, with transactions that can be undone: what the simulation and the property tests run on. */
export class MemoryTables implements Tables, TableReader {
  private readonly values = new Map<string, Uint8Array>()
  /** Sorted. */
  private readonly keys: string[] = []
  private journal: Change[] | undefined
  private bytes = 0
  /** Counts changes, so that a cursor that was left open over one is caught. */
  private generation = 0

  get reader(): TableReader {
    return this
  }

  get(key: Uint8Array): Uint8Array | undefined {
    const value = this.values.get(textOf(key))
    return value === undefined ? undefined : value.slice()
  }

  rows(start: Uint8Array, end: Uint8Array): RowCursor {
    const cursor = new MemoryCursor(this.keys, this.values, textOf(end), () => this.generation)
    cursor.seek(start)
    return cursor
  }

  transact<T>(change: (writer: TableWriter) => T): T {
    if (this.journal !== undefined) throw new Error('transactions do not nest')
    const journal: Change[] = []
    this.journal = journal
    const writer: TableWriter = {
      get: (key) => this.get(key),
      rows: (start, end) => this.rows(start, end),
      put: (key, value) => this.set(textOf(key), value.slice(), true),
      remove: (key) => this.set(textOf(key), undefined, true),
    }
    try {
      return change(writer)
    } catch (error) {
      for (const { key, value } of journal.reverse()) this.set(key, value, false)
      throw error
    } finally {
      this.journal = undefined
    }
  }

  bytesOnDisk(): number {
    return this.bytes
  }

  async close(): Promise<void> {}

  private set(key: string, value: Uint8Array | undefined, record: boolean): void {
    this.generation++
    const old = this.values.get(key)
    if (record) this.journal?.push({ key, value: old })
    if (old !== undefined) this.bytes -= key.length + old.length
    if (value !== undefined) {
      this.bytes += key.length + value.length
      if (old === undefined) this.keys.splice(lowerBound(this.keys, key), 0, key)
      this.values.set(key, value)
    } else if (old !== undefined) {
      this.keys.splice(lowerBound(this.keys, key), 1)
      this.values.delete(key)
    }
  }
}

function lowerBound(keys: readonly string[], key: string): number {
  let low = 0
  let high = keys.length
  while (low < high) {
    const middle = (low + high) >>> 1
    if ((keys[middle] ?? '') < key) low = middle + 1
    else high = middle
  }
  return low
}

class MemoryCursor implements RowCursor {
  keyBytes: Buffer = Buffer.alloc(0)
  keyStart = 0
  keyEnd = 0
  valueBytes: Buffer = Buffer.alloc(0)
  valueEnd = 0
  private at = 0
  private readonly opened: number
  private readonly keys: readonly string[]
  private readonly values: ReadonlyMap<string, Uint8Array>
  private readonly end: string
  private readonly generation: () => number

  constructor(
    keys: readonly string[],
    values: ReadonlyMap<string, Uint8Array>,
    end: string,
    generation: () => number,
  ) {
    this.keys = keys
    this.values = values
    this.end = end
    this.generation = generation
    this.opened = generation()
  }

  seek(start: Uint8Array): void {
    this.at = lowerBound(this.keys, textOf(start))
  }

  next(): boolean {
    if (this.opened !== this.generation()) throw new Error('the tables changed under a cursor')
    const key = this.keys[this.at]
    if (key === undefined || key >= this.end) return false
    this.at++
    this.keyBytes = Buffer.from(key, 'latin1')
    this.keyEnd = this.keyBytes.length
    this.valueBytes = Buffer.from(this.values.get(key) ?? [])
    this.valueEnd = this.valueBytes.length
    return true
  }

  close(): void {
    this.at = this.keys.length
  }
}
