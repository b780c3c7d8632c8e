import type { Clock } from '../contract/clock.ts'
import { StorageError } from '../contract/errors.ts'
import type { Logger } from '../contract/logger.ts'
import type { SpanAttributes, SpanKind } from '../contract/trace.ts'
import { Counter, type Registry } from './metrics.ts'
import type { EndedSpan, SpanSink } from './tracing.ts'

/** Spans to a collector: OTLP/HTTP with JSON (https://opentelemetry.io/docs/specs/otlp/#otlphttp), in batches, with a bound. */

/** Sends one body; resolves with the status of the answer. Injected: this folder does not touch the network. */
export type SendOtlp = (body: string, signal: AbortSignal) => Promise<number>

export interface OtlpParts {
  readonly send: SendOtlp
  /** Of the resource: `service.name` and what else tells this node from others. */
  readonly resource: SpanAttributes
  readonly version: string
  readonly clock: Clock
  readonly log: Logger
  readonly registry: Registry
  /** Between two batches, milliseconds; 1000 unless told. */
  readonly intervalMs?: number
}

export interface OtlpExporter {
  readonly take: SpanSink
  /** Sends what is left, for two seconds at most. */
  close(): Promise<void>
}

/** A collector that is away for longer costs traces, not memory. */
const maxQueuedSpans = 4096
const maxBatchSpans = 512
const sendTimeoutMs = 10_000
const closeTimeoutMs = 2000
/** Between two lines about a collector that does not take what it gets. */
const complainEveryMs = 60_000
/** What the specification says is worth another attempt. */
const retryable = new Set([429, 502, 503, 504])

export function startOtlpExporter(parts: OtlpParts): OtlpExporter {
  const { clock, log } = parts
  const counter = new Counter({
    name: 'pando_trace_spans_total',
    help: 'Spans of traces by what became of them: exported, or dropped because the collector did not take them in time.',
    labelNames: ['outcome'],
    registers: [parts.registry],
  })
  const exported = counter.labels('exported')
  const dropped = counter.labels('dropped')
  // Series that are there before anything happens can be told from none.
  exported.inc(0)
  dropped.inc(0)
  const queue: EndedSpan[] = []
  const closing = new AbortController()
  let complainedMs = Number.NEGATIVE_INFINITY

  const complain = (fields: object): void => {
    if (clock.monotonic() - complainedMs < complainEveryMs) return
    complainedMs = clock.monotonic()
    log.warn(fields, 'the collector of traces does not take them')
  }

  /** True: it is done with, one way or the other. */
  async function deliver(batch: readonly EndedSpan[], timeoutMs: number): Promise<boolean> {
    const body = encodeSpans(batch, parts.resource, parts.version)
    try {
      const status = await parts.send(body, AbortSignal.timeout(timeoutMs))
      if (status >= 200 && status < 300) {
        exported.inc(batch.length)
        return true
      }
      complain({ status })
      if (retryable.has(status)) return false
      dropped.inc(batch.length)
      return true
    } catch (error) {
      complain({ err: StorageError.from(error) })
      return false
    }
  }

  /** One batch after the other while they are taken. */
  async function drain(timeoutMs: number): Promise<void> {
    while (queue.length > 0) {
      const batch = queue.splice(0, maxBatchSpans)
      if (await deliver(batch, timeoutMs)) continue
      // Again with the next ones, as far as there is room.
      const room = Math.max(0, maxQueuedSpans - queue.length)
      queue.unshift(...batch.slice(0, room))
      if (batch.length > room) dropped.inc(batch.length - room)
      return
    }
  }

  const loop = (async () => {
    while (!closing.signal.aborted) {
      await clock.sleep(parts.intervalMs ?? 1000, closing.signal).catch(() => undefined)
      if (!closing.signal.aborted) await drain(sendTimeoutMs)
    }
  })()

  return {
    take(span) {
      if (queue.length >= maxQueuedSpans) dropped.inc()
      else queue.push(span)
    },
    async close() {
      closing.abort()
      await Promise.race([loop.then(() => drain(closeTimeoutMs)), clock.sleep(closeTimeoutMs)])
      dropped.inc(queue.splice(0).length)
    },
  }
}

/** Of `opentelemetry.proto.trace.v1.Span.SpanKind`. */
const kinds: Readonly<Record<SpanKind, number>> = {
  internal: 1,
  server: 2,
  client: 3,
  producer: 4,
  consumer: 5,
}
const statusError = 2

/** An `ExportTraceServiceRequest` in the JSON of OTLP: ids in hex, 64-bit numbers as strings. */
export function encodeSpans(spans: readonly EndedSpan[], resource: SpanAttributes, version: string): string {
  return JSON.stringify({
    resourceSpans: [
      {
        resource: { attributes: attributesOf(resource) },
        scopeSpans: [{ scope: { name: 'pando', version }, spans: spans.map(encodeSpan) }],
      },
    ],
  })
}

function encodeSpan(span: EndedSpan): object {
  return {
    traceId: span.traceId,
    spanId: span.id,
    ...(span.parentId === '' ? {} : { parentSpanId: span.parentId }),
    name: span.name,
    kind: kinds[span.kind],
    startTimeUnixNano: nanoseconds(span.startMs),
    endTimeUnixNano: nanoseconds(span.endMs),
    attributes: attributesOf(span.attributes),
    status: span.error === undefined ? {} : { code: statusError, message: span.error },
  }
}

/** Beyond what a number holds exactly: whole milliseconds and the rest apart. */
function nanoseconds(timeMs: number): string {
  const whole = Math.floor(timeMs)
  return (BigInt(whole) * 1_000_000n + BigInt(Math.round((timeMs - whole) * 1_000_000))).toString()
}

function attributesOf(attributes: SpanAttributes): readonly object[] {
  return Object.entries(attributes).map(([key, value]) => ({
    key,
    value:
      typeof value === 'string'
        ? { stringValue: value }
        : typeof value === 'boolean'
          ? { boolValue: value }
          : Number.isInteger(value)
            ? { intValue: String(value) }
            : { doubleValue: value },
  }))
}
