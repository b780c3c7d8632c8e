import assert from 'node:assert/strict'
import test from 'node:test'
import {
  type Attributes,
  type SpanStatus,
  SpanStatusCode,
  type TracerProvider,
  trace,
} from '@opentelemetry/api'
import { ok, refusal, scriptNetwork, watch } from './scripted-network.ts'

interface Seen {
  readonly name: string
  readonly attributes: Attributes
  readonly events: string[]
  status?: SpanStatus
  ended: boolean
}

/** Registered by the real API, as an application does it. */
function collectSpans(): Seen[] {
  const spans: Seen[] = []
  const provider = {
    getTracer: () => ({
      startSpan(name: string, options: { attributes: Attributes }) {
        const seen: Seen = { name, attributes: { ...options.attributes }, events: [], ended: false }
        spans.push(seen)
        return {
          spanContext: () => ({ traceId: 'a'.repeat(32), spanId: 'b'.repeat(16), traceFlags: 1 }),
          setAttribute: (key: string, value: string) => Object.assign(seen.attributes, { [key]: value }),
          addEvent: (event: string) => seen.events.push(event),
          setStatus: (status: SpanStatus) => Object.assign(seen, { status }),
          recordException() {},
          end: () => Object.assign(seen, { ended: true }),
        }
      },
    }),
  }
  assert.ok(trace.setGlobalTracerProvider(provider as unknown as TracerProvider))
  return spans
}

test('each request is a span of the application’s tracer, and none without a tracer', async (t) => {
  const network = scriptNetwork()
  network.serve('a', () => (network.requests.length === 2 ? refusal(500, 'InternalError') : ok()))
  const client = network.client()
  await client.put('bucket', 'key', 'untraced')
  const spans = collectSpans()
  t.after(() => trace.disable())
  const traced = watch(client.put('bucket', 'key', 'x'))
  await network.clock.advance(1000)
  assert.equal(traced.value?.etag, 'e')
  network.serve('a', () => refusal(404, 'NoSuchKey'))
  await assert.rejects(client.get('bucket', 'missing'))
  assert.equal(network.requests[0]?.headers.get('traceparent'), null)
  assert.equal(network.requests[1]?.headers.get('traceparent'), `00-${'a'.repeat(32)}-${'b'.repeat(16)}-01`)
  const [put, get] = spans
  assert.equal(spans.length, 2)
  assert.equal(put?.name, 'S3 PutObject')
  assert.deepEqual(put?.events, ['attempt failed'])
  assert.equal(put?.attributes['http.request.resend_count'], 1)
  assert.equal(put?.attributes['aws.s3.key'], 'key')
  assert.equal(get?.name, 'S3 GetObject')
  assert.equal(get?.status?.code, SpanStatusCode.ERROR)
  assert.ok(spans.every(({ ended }) => ended))
})
