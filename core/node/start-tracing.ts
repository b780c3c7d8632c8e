import type { Environment } from '../contract/clock.ts'
import type { Logger } from '../contract/logger.ts'
import type { OutboxTraces, Tracer } from '../contract/trace.ts'
import type { ServedRequest } from '../contract/transport.ts'
import type { Registry } from '../telemetry/metrics.ts'
import { startOtlpExporter } from '../telemetry/otlp.ts'
import { createOutboxTraces } from '../telemetry/outbox-traces.ts'
import { createTracer, requestSpanId } from '../telemetry/tracing.ts'
import type { NodeConfig } from './config/schema.ts'

export interface TracingParts {
  readonly config: Pick<NodeConfig, 'node' | 'region' | 'telemetry'>
  readonly version: string
  readonly environment: Environment
  readonly registry: Registry
  readonly log: Logger
}

export interface NodeTracing {
  readonly tracer: Tracer
  readonly outboxTraces: OutboxTraces
  /** Makes spans of what other nodes have asked this one for. */
  follow(served: () => readonly ServedRequest[]): void
  close(): Promise<void>
}

/** How often served requests are asked for: a board of the data plane holds 63 of them. */
const followMs = 25

/** Undefined: nothing is traced, and nobody need look. */
export function startTracing(parts: TracingParts): NodeTracing | undefined {
  const { config, environment } = parts
  const { endpoint, ratio } = config.telemetry.traces
  if (endpoint === '') return undefined
  const url = tracesUrl(endpoint)
  const exporter = startOtlpExporter({
    async send(body, signal) {
      const headers = { 'content-type': 'application/json' }
      const answer = await fetch(url, { method: 'POST', headers, body, signal, redirect: 'error' })
      await answer.body?.cancel()
      return answer.status
    },
    resource: {
      'service.name': 'pando',
      'service.namespace': config.region,
      'service.instance.id': config.node,
      'service.version': parts.version,
    },
    version: parts.version,
    clock: environment.clock,
    log: parts.log,
    registry: parts.registry,
  })
  const tracer = createTracer(environment, ratio, exporter.take)
  let stopFollowing = (): void => undefined
  return {
    tracer,
    outboxTraces: createOutboxTraces(),
    follow(served) {
      const look = (): void => {
        for (const request of served()) recordServed(tracer, config.node, request, environment)
      }
      const timer = setInterval(look, followMs)
      timer.unref()
      stopFollowing = () => {
        clearInterval(timer)
        look()
      }
    },
    async close() {
      stopFollowing()
      await exporter.close()
    },
  }
}

function recordServed(
  tracer: Tracer,
  node: string,
  { traceId, requestId, chunk, op, error, startUs, durationUs, byteLength }: ServedRequest,
  { clock }: Environment,
): void {
  // The data plane's clock is the machine's monotonic one.
  const agoMs = Number(process.hrtime.bigint() / 1000n - BigInt(startUs)) / 1000
  tracer.record({
    traceId,
    parentId: requestSpanId(traceId, requestId, chunk, node),
    name: `chunk.serve ${op}`,
    kind: 'server',
    startMs: clock.now() - Math.max(0, agoMs),
    durationMs: durationUs / 1000,
    attributes: {
      'pando.node': node,
      'pando.chunk': Buffer.from(chunk).toString('hex'),
      'pando.bytes': byteLength,
    },
    ...(error === undefined ? {} : { error }),
  })
}

/** As exporters of OpenTelemetry take a base address. */
export function tracesUrl(endpoint: string): string {
  const url = new URL(endpoint)
  return url.pathname === '/' ? new URL('/v1/traces', url).href : url.href
}
