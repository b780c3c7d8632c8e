/** Position of an entry: 1 for the first, dense. 0: before any. */
export type Position = number

export interface LogRecord {
  readonly position: Position
  readonly entry: Uint8Array
}

/**
 * The ordered log of one catalog partition. Its order is the only order there is; the laws are in
 * `test/kit/ordered-log.ts`.
 */
export interface OrderedLog {
  /** Resolves with the entry's position once it is ordered and durable. */
  append(entry: Uint8Array, signal?: AbortSignal): Promise<Position>
  /** Records after `after`, in order, without a gap, in batches. LOG_TRIMMED when `after` was trimmed away. */
  tail(after: Position, signal: AbortSignal): AsyncIterable<readonly LogRecord[]>
  /** Linearizable: covers every append that had resolved before the call. */
  lastPosition(): Promise<Position>
  /** Forgets the entries before `before`. */
  trim(before: Position): Promise<void>
  close(): Promise<void>
}
