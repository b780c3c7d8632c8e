/**
 * What orders the records of a region: NATS JetStream in production. It is trusted with the order and with nothing else: it may
 * lose what it acknowledged, or hold something else in its place, after its servers have lost power (published: 14 % of
 * acknowledged messages, Jepsen on NATS 2.12.1). Whoever uses it keeps its own copy and its own proof; the laws are in
 * `test/kit/order-streams.ts`.
 */
export interface OrderStreams {
  /** STREAM_NOT_FOUND when the servers answer and have none of this name; UNAVAILABLE while they do not answer. */
  open(name: string, signal?: AbortSignal): Promise<OrderStream>
  /** Makes an empty stream; CONFLICT when there is one of this name. UNAVAILABLE: it may have been made. */
  create(name: string, signal?: AbortSignal): Promise<OrderStream>
  /** Resolves false when there was none. */
  remove(name: string, signal?: AbortSignal): Promise<boolean>
  /** Names that begin with `prefix`, ascending. */
  names(prefix: string, signal?: AbortSignal): Promise<readonly string[]>
  /**
   * The full name under which a new stream called `name` is best made now. Where servers order independently of each other it says
   * which of them does; absent where one place is all there is. UNAVAILABLE while none answers.
   */
  placeFor?(name: string): string
  /** Records of one publication have at most this many bytes. */
  readonly maxRecordBytes: number
  close(): Promise<void>
}

export interface OrderStream {
  readonly name: string
  /**
   * Resolves with the record's sequence (1 for the first) once a majority of the servers holds it. INVALID_ARGUMENT when it is
   * too long, STREAM_NOT_FOUND; UNAVAILABLE and DEADLINE_EXCEEDED leave open whether it was taken.
   */
  publish(record: Uint8Array, signal?: AbortSignal): Promise<number>
  /**
   * Records behind `after` in batches, ascending and without a gap, for as long as they can be had: LOG_TRIMMED when the next one
   * is gone, STREAM_NOT_FOUND, UNAVAILABLE after the connection was lost or when a gap was met (the caller looks at `state` before
   * it begins again). Ends without an error when the signal aborts.
   */
  tail(after: number, signal: AbortSignal): AsyncIterable<readonly StreamRecord[]>
  /** first: of the oldest record kept (last + 1 when there is none); last: of the newest ever taken, 0 before any. */
  state(signal?: AbortSignal): Promise<{ readonly first: number; readonly last: number }>
  /** Forgets the records before `before`. */
  trim(before: number, signal?: AbortSignal): Promise<void>
}

export interface StreamRecord {
  readonly sequence: number
  readonly bytes: Uint8Array
}
