/**
 * OpenTelemetry spans, when the application has `@opentelemetry/api` 1.x with a tracer registered. That package keeps what
 * is registered under one global symbol, so that all its copies share it; looking there needs no import, costs nothing
 * when it is not there, and leaves bundles without it.
 */
const apiSymbol = Symbol.for('opentelemetry.js.api.1')

interface OpenTelemetryApi {
  readonly trace?: { getTracer(name: string): Tracer }
}
interface Tracer {
  startSpan(name: string, options: { kind: number; attributes: Record<string, string | number> }): ApiSpan
}
interface ApiSpan {
  spanContext(): { readonly traceId: string; readonly spanId: string; readonly traceFlags: number }
  setAttribute(name: string, value: string | number): unknown
  addEvent(name: string, attributes: Record<string, string | number>): unknown
  setStatus(status: { code: number; message?: string }): unknown
  recordException(error: Error): void
  end(): void
}

export interface Span {
  /** For the gateway, so that its spans come below this one: a header of W3C Trace Context. */
  readonly traceParent: string
  set(name: string, value: string | number): void
  event(name: string, attributes: Record<string, string | number>): void
  end(error?: unknown): void
}

/** SpanKind.CLIENT and SpanStatusCode.ERROR of the API. */
const clientKind = 2
const errorStatus = 2

/** A span of one call, named after its S3 operation; undefined when nobody traces. */
export function startSpan(
  operation: string,
  bucket: string | undefined,
  key: string | undefined,
): Span | undefined {
  const api = (globalThis as { [apiSymbol]?: OpenTelemetryApi })[apiSymbol]
  if (api?.trace === undefined) return undefined
  // Names of the semantic conventions for S3 and HTTP clients.
  const span = api.trace.getTracer('pando-sdk').startSpan(`S3 ${operation}`, {
    kind: clientKind,
    attributes: {
      'rpc.system': 'aws-api',
      'rpc.service': 'S3',
      'rpc.method': operation,
      ...(bucket === undefined ? {} : { 'aws.s3.bucket': bucket }),
      ...(key === undefined ? {} : { 'aws.s3.key': key }),
    },
  })
  const { traceId, spanId, traceFlags } = span.spanContext()
  return {
    traceParent: `00-${traceId}-${spanId}-${traceFlags.toString(16).padStart(2, '0')}`,
    set: (name, value) => {
      span.setAttribute(name, value)
    },
    event: (name, attributes) => {
      span.addEvent(name, attributes)
    },
    end(error) {
      if (error !== undefined) {
        const reason = error instanceof Error ? error : new Error(String(error))
        span.recordException(reason)
        span.setStatus({ code: errorStatus, message: reason.message })
      }
      span.end()
    },
  }
}
