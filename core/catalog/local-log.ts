import { StorageError } from '../contract/errors.ts'
import type { LogRecord, OrderedLog, Position } from '../contract/ordered-log.ts'
import { numberKey, table } from './keys.ts'
import { readMeta } from './meta.ts'
import { rowKey, rowValue, type TableReader } from './tables.ts'

export interface LocalLogOptions {
  readonly reader: TableReader
  readonly append: (entry: Uint8Array) => Promise<{ readonly position: Position }>
  readonly trim: (before: Position) => Promise<void>
  /** Called after every commit and at the end. */
  readonly follow: Set<() => void>
}

const maxBatchEntries = 256

/** The log of an embedded node: ordered by the one writer, made durable together with the state that it leads to. */
export class LocalLog implements OrderedLog {
  private readonly options: LocalLogOptions
  private readonly closing = new AbortController()

  constructor(options: LocalLogOptions) {
    this.options = options
  }

  async append(entry: Uint8Array, signal?: AbortSignal): Promise<Position> {
    this.checkOpen()
    if (signal?.aborted === true) throw new StorageError('CANCELLED', 'the append was cancelled')
    const { position } = await this.options.append(entry)
    return position
  }

  async *tail(after: Position, signal: AbortSignal): AsyncGenerator<readonly LogRecord[]> {
    const stop = AbortSignal.any([signal, this.closing.signal])
    let last = after
    while (!stop.aborted) {
      const records = this.readBehind(last)
      if (records.length > 0) {
        last = records.at(-1)?.position ?? last
        yield records
      } else {
        await this.commitBehind(last, stop)
      }
    }
  }

  async lastPosition(): Promise<Position> {
    this.checkOpen()
    return readMeta(this.options.reader).position
  }

  async trim(before: Position): Promise<void> {
    this.checkOpen()
    await this.options.trim(before)
  }

  async close(): Promise<void> {
    this.closing.abort()
  }

  private checkOpen(): void {
    if (this.closing.signal.aborted) throw new StorageError('CLOSED', 'the log is closed')
  }

  private readBehind(last: Position): LogRecord[] {
    const { reader } = this.options
    const { position } = readMeta(reader)
    const records: LogRecord[] = []
    if (position <= last) return records
    const cursor = reader.rows(numberKey(table.log, last + 1), Uint8Array.of(table.log + 1))
    while (records.length < maxBatchEntries && cursor.next()) {
      records.push({ position: Buffer.from(rowKey(cursor)).readUIntBE(1, 6), entry: rowValue(cursor) })
    }
    cursor.close()
    if (records[0]?.position !== last + 1) {
      throw new StorageError('LOG_TRIMMED', `the log does not hold entry ${last + 1} any more`)
    }
    return records
  }

  private commitBehind(last: Position, stop: AbortSignal): Promise<void> {
    const { follow, reader } = this.options
    return new Promise((resolve) => {
      const wake = (): void => {
        follow.delete(wake)
        stop.removeEventListener('abort', wake)
        resolve()
      }
      follow.add(wake)
      stop.addEventListener('abort', wake)
      // A commit between the caller's look and now.
      if (stop.aborted || readMeta(reader).position > last) wake()
    })
  }
}
