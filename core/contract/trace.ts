/**
 * Traces: which steps a request took, where, and for how long. A request is traced or it is not, which is decided once, where it
 * comes in; what is not traced has no span anywhere and pays for one comparison.
 */

/** As in OpenTelemetry. */
export type SpanKind = 'internal' | 'server' | 'client' | 'producer' | 'consumer'

export type SpanAttributes = Readonly<Record<string, string | number | boolean>>

/** One step. Nothing secret goes into names and attributes: they leave the region. */
export interface Span {
  /** 16 bytes; the same in all spans of a trace. */
  readonly traceId: Uint8Array
  /** What the next one is told: a `traceparent` of W3C Trace Context. */
  readonly traceParent: string
  /** A low-cardinality name for the kind of step; may be put right until the end. */
  name: string
  child(name: string, kind?: SpanKind, attributes?: SpanAttributes): Span
  set(name: string, value: string | number | boolean): void
  /** Once; later calls change nothing. `id`: 16 hex digits, when the other side has named this span by itself. */
  end(error?: unknown, id?: string): void
}

/** What a step was, told after it has happened. */
export interface PastSpan {
  readonly traceId: Uint8Array
  /** 16 hex digits. */
  readonly parentId: string
  readonly name: string
  readonly kind: SpanKind
  /** Wall clock, milliseconds since the Unix epoch, with fractions. */
  readonly startMs: number
  readonly durationMs: number
  readonly attributes: SpanAttributes
  readonly error?: string
}

/** Where traces begin. */
export interface Tracer {
  /**
   * Undefined: not traced. `parent` is a `traceparent` as it came in: one that is sampled is gone on with, one that is not is left
   * alone; without one, or with one that cannot be read, a share of requests begins a trace.
   */
  begin(
    name: string,
    kind: SpanKind,
    parent: string | undefined,
    attributes?: SpanAttributes,
  ): Span | undefined
  record(span: PastSpan): void
}

/** Which entries of outboxes traced requests have written: who takes an entry over goes on with its trace. Bounded; the oldest are forgotten. */
export interface OutboxTraces {
  readonly size: number
  /**
   * A traced request changes the bucket now. The answer is to be called with the entry's place once it is known, or without one when there will be none; calls
   * after the first one mean nothing.
   */
  expect(bucketId: number, traceParent: string): (lsn?: number) => void
  /** Undefined: nothing that is expected in the bucket is left. Settles when what is expected now has been told; never rejects. */
  expected(bucketId: number): Promise<void> | undefined
  /** A `traceparent`. */
  recall(bucketId: number, lsn: number): string | undefined
}

/** Told by the catalog on the way of a change. */
export interface SubmitWatch {
  /** It is ordered and applied here; what is left is the confirmation by a majority. Not called where one commit is all. */
  committed(): void
  /** It is durable here, as the entry `lsn` of its bucket's outbox; other regions may be waited for yet. Not called where nobody is. */
  placed?(lsn: number): void
  /** It is durable here; what is left is another region, for as long as it takes to hear from it. */
  stored?(): void
}
