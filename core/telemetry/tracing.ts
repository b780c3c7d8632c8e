import { createHash } from 'node:crypto'
import type { Environment } from '../contract/clock.ts'
import { StorageError } from '../contract/errors.ts'
import type { PastSpan, Span, SpanAttributes, SpanKind, Tracer } from '../contract/trace.ts'

/** A span that has ended, as an exporter takes it. Ids in lower-case hex. */
export interface EndedSpan {
  readonly traceId: string
  readonly id: string
  /** Empty: the first of its trace. */
  readonly parentId: string
  readonly name: string
  readonly kind: SpanKind
  readonly startMs: number
  readonly endMs: number
  readonly attributes: SpanAttributes
  readonly error: string | undefined
}

/** Takes spans; must not wait. */
export type SpanSink = (span: EndedSpan) => void

/** https://www.w3.org/TR/trace-context/#traceparent-header, version 00; a higher one may have more behind it. */
const traceParentPattern = /^([0-9a-f]{2})-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})(-.*)?$/
const sampledFlag = 1
/** Attributes a span keeps, and characters of one: a key of an object has up to 1024 bytes. */
const maxAttributes = 32
const maxText = 1024

export interface TraceParent {
  readonly traceId: string
  readonly spanId: string
  readonly sampled: boolean
}

/** Undefined: it is none, and to be taken for absent. */
export function parseTraceParent(text: string | undefined): TraceParent | undefined {
  if (text === undefined || text.length > 256) return undefined
  const [, version = '', traceId = '', spanId = '', flags = '', more] = traceParentPattern.exec(text) ?? []
  if (version === '' || version === 'ff' || (version === '00' && more !== undefined)) return undefined
  if (/^0+$/.test(traceId) || /^0+$/.test(spanId)) return undefined
  return { traceId, spanId, sampled: (Number.parseInt(flags, 16) & sampledFlag) !== 0 }
}

/**
 * The id of the span of a request between two nodes. A frame of chunk RPC has room for the trace's id alone (native/RPC.md,
 * "Traces"), so both sides make the span's out of what both know: the request on its session, the chunk, and who serves it.
 */
export function requestSpanId(
  traceId: Uint8Array,
  requestId: number,
  chunk: Uint8Array,
  node: string,
): string {
  const number = Buffer.alloc(4)
  number.writeUInt32LE(requestId >>> 0)
  const digest = createHash('sha256').update(traceId).update(number).update(chunk).update(node, 'utf8')
  return digest.digest('hex').slice(0, 16)
}

/** Traces a share of the requests that bring no decision of their own: `ratio` from 0 to 1. */
export function createTracer(environment: Environment, ratio: number, sink: SpanSink): Tracer {
  const { clock, randomness } = environment
  const random = (byteLength: number): string => {
    for (;;) {
      const bytes = randomness.fill(new Uint8Array(byteLength))
      if (bytes.some((byte) => byte !== 0)) return Buffer.from(bytes).toString('hex')
    }
  }
  // By the trace's id, as others do who see it (OpenTelemetry's TraceIdRatioBased): the same answer at each of them.
  const isChosen = (traceId: string): boolean => Number.parseInt(traceId.slice(-13), 16) < ratio * 2 ** 52

  class ActiveSpan implements Span {
    readonly traceId: Uint8Array
    name: string
    readonly #trace: string
    readonly #id: string
    readonly #parentId: string
    readonly #kind: SpanKind
    readonly #attributes: Record<string, string | number | boolean>
    readonly #startMs = clock.now()
    readonly #startedMs = clock.monotonic()
    #ended = false

    constructor(trace: string, parentId: string, name: string, kind: SpanKind, attributes: SpanAttributes) {
      this.#trace = trace
      this.#id = random(8)
      this.#parentId = parentId
      this.traceId = Buffer.from(trace, 'hex')
      this.name = name
      this.#kind = kind
      this.#attributes = { ...attributes }
    }

    get traceParent(): string {
      return `00-${this.#trace}-${this.#id}-01`
    }

    child(name: string, kind: SpanKind = 'internal', attributes: SpanAttributes = {}): Span {
      return new ActiveSpan(this.#trace, this.#id, name, kind, attributes)
    }

    set(name: string, value: string | number | boolean): void {
      if (name in this.#attributes || Object.keys(this.#attributes).length < maxAttributes)
        this.#attributes[name] = typeof value === 'string' ? value.slice(0, maxText) : value
    }

    end(error?: unknown, id?: string): void {
      if (this.#ended) return
      this.#ended = true
      sink({
        traceId: this.#trace,
        id: id ?? this.#id,
        parentId: this.#parentId,
        name: this.name,
        kind: this.#kind,
        startMs: this.#startMs,
        endMs: this.#startMs + (clock.monotonic() - this.#startedMs),
        attributes: this.#attributes,
        error: error === undefined ? undefined : StorageError.from(error).code,
      })
    }
  }

  return {
    begin(name, kind, parent, attributes = {}) {
      const known = parseTraceParent(parent)
      if (known !== undefined) {
        return known.sampled ? new ActiveSpan(known.traceId, known.spanId, name, kind, attributes) : undefined
      }
      if (ratio === 0) return undefined
      const traceId = random(16)
      return isChosen(traceId) ? new ActiveSpan(traceId, '', name, kind, attributes) : undefined
    },
    record({ traceId, parentId, name, kind, startMs, durationMs, attributes, error }: PastSpan) {
      const trace = Buffer.from(traceId).toString('hex')
      const endMs = startMs + durationMs
      sink({ traceId: trace, id: random(8), parentId, name, kind, startMs, endMs, attributes, error })
    },
  }
}
