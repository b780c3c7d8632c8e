import assert from 'node:assert/strict'
import { once } from 'node:events'
import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'

/** A collector of traces: takes OTLP over HTTP in JSON, checks what the protocol demands of it, and keeps the spans. */
export interface OtlpReceiver extends AsyncDisposable {
  readonly port: number
  readonly spans: readonly ReceivedSpan[]
  readonly requests: number
  /** What requests are answered from now on; 200 at first. */
  setStatus(status: number): void
  /** Spans of one trace. */
  trace(traceId: string): readonly ReceivedSpan[]
}

export interface ReceivedSpan {
  readonly traceId: string
  readonly id: string
  /** Undefined: the first of its trace. */
  readonly parentId: string | undefined
  readonly name: string
  readonly kind: number
  readonly startNs: bigint
  readonly endNs: bigint
  readonly attributes: Readonly<Record<string, unknown>>
  readonly isError: boolean
  /** `service.instance.id` of who made it. */
  readonly node: string
}

interface Attribute {
  readonly key: string
  readonly value: Readonly<Record<string, unknown>>
}
interface WireSpan {
  readonly traceId: string
  readonly spanId: string
  readonly parentSpanId?: string
  readonly name: string
  readonly kind: number
  readonly startTimeUnixNano: string
  readonly endTimeUnixNano: string
  readonly attributes: readonly Attribute[]
  readonly status: { readonly code?: number }
}
interface ExportRequest {
  readonly resourceSpans: readonly {
    readonly resource: { readonly attributes: readonly Attribute[] }
    readonly scopeSpans: readonly { readonly spans: readonly WireSpan[] }[]
  }[]
}

export async function openOtlpReceiver(host = '127.0.0.1'): Promise<OtlpReceiver> {
  const spans: ReceivedSpan[] = []
  let requests = 0
  let status = 200
  const server = createServer(async (request, response) => {
    const pieces: Buffer[] = []
    for await (const piece of request) pieces.push(piece as Buffer)
    requests++
    if (status === 200) {
      assert.equal(`${request.method} ${request.url}`, 'POST /v1/traces')
      assert.equal(request.headers['content-type'], 'application/json')
      spans.push(...parse(JSON.parse(Buffer.concat(pieces).toString()) as ExportRequest))
    }
    response.writeHead(status, { 'content-type': 'application/json' }).end('{}')
  })
  server.listen(0, host)
  await once(server, 'listening')
  return {
    port: (server.address() as AddressInfo).port,
    spans,
    get requests() {
      return requests
    },
    setStatus(next) {
      status = next
    },
    trace: (traceId) => spans.filter((span) => span.traceId === traceId),
    async [Symbol.asyncDispose]() {
      server.closeAllConnections()
      server.close()
      await once(server, 'close')
    },
  }
}

function parse({ resourceSpans }: ExportRequest): readonly ReceivedSpan[] {
  return resourceSpans.flatMap(({ resource, scopeSpans }) => {
    const about = plain(resource.attributes)
    assert.equal(about['service.name'], 'pando')
    return scopeSpans.flatMap(({ spans }) =>
      spans.map((span) => {
        assert.match(span.traceId, /^[0-9a-f]{32}$/)
        assert.match(span.spanId, /^[0-9a-f]{16}$/)
        assert.ok(span.kind >= 1 && span.kind <= 5)
        const startNs = BigInt(span.startTimeUnixNano)
        const endNs = BigInt(span.endTimeUnixNano)
        assert.ok(endNs >= startNs && startNs > 1_600_000_000_000_000_000n, 'times are nanoseconds')
        return {
          ...{ traceId: span.traceId, id: span.spanId, parentId: span.parentSpanId, name: span.name },
          ...{ kind: span.kind, startNs, endNs, attributes: plain(span.attributes) },
          isError: span.status.code === 2,
          node: String(about['service.instance.id']),
        }
      }),
    )
  })
}

function plain(attributes: readonly Attribute[]): Readonly<Record<string, unknown>> {
  return Object.fromEntries(
    attributes.map(({ key, value }) => {
      const [kind = '', content] = Object.entries(value)[0] ?? []
      assert.ok(['stringValue', 'intValue', 'doubleValue', 'boolValue'].includes(kind), `${key}: ${kind}`)
      return [key, kind === 'intValue' ? Number(content) : content]
    }),
  )
}
