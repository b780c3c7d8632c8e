import assert from 'node:assert/strict'
import test from 'node:test'
import { Registry } from 'prom-client'
import { StorageError } from '../../../core/contract/errors.ts'
import { silentLogger } from '../../../core/contract/logger.ts'
import { tracesUrl } from '../../../core/node/start-tracing.ts'
import { encodeSpans, startOtlpExporter } from '../../../core/telemetry/otlp.ts'
import { createOutboxTraces } from '../../../core/telemetry/outbox-traces.ts'
import {
  createTracer,
  type EndedSpan,
  parseTraceParent,
  requestSpanId,
} from '../../../core/telemetry/tracing.ts'
import { FakeClock } from '../../kit/fake-clock.ts'
import { systemEnvironment } from '../../kit/s3-region.ts'

const traceId = '0af7651916cd43dd8448eb211c80319c'
const spanId = 'b7ad6b7169203331'
const sampled = `00-${traceId}-${spanId}-01`

test('a traceparent is read as the recommendation says, and what is none is taken for absent', () => {
  assert.deepEqual(parseTraceParent(sampled), { traceId, spanId, sampled: true })
  assert.equal(parseTraceParent(`00-${traceId}-${spanId}-02`)?.sampled, false)
  assert.equal(parseTraceParent(`cc-${traceId}-${spanId}-01-what-comes-later`)?.sampled, true)
  for (const wrong of [
    '',
    'nonsense',
    `ff-${traceId}-${spanId}-01`,
    `00-${'0'.repeat(32)}-${spanId}-01`,
    `00-${traceId}-${'0'.repeat(16)}-01`,
    `00-${traceId.toUpperCase()}-${spanId}-01`,
    `${sampled}-more`,
    `${sampled}${' '.repeat(300)}`,
  ])
    assert.equal(parseTraceParent(wrong), undefined, wrong)
})

function collect(ratio: number) {
  const spans: EndedSpan[] = []
  return { spans, tracer: createTracer(systemEnvironment, ratio, (span) => spans.push(span)) }
}

test('the decision of whoever asks counts; without one the ratio does', () => {
  const never = collect(0)
  assert.equal(never.tracer.begin('x', 'server', undefined), undefined)
  assert.equal(never.tracer.begin('x', 'server', `00-${traceId}-${spanId}-00`), undefined)
  const span = never.tracer.begin('x', 'server', sampled)
  assert.equal(Buffer.from(span?.traceId ?? []).toString('hex'), traceId)
  const always = collect(1)
  assert.equal(always.tracer.begin('x', 'server', `00-${traceId}-${spanId}-00`), undefined)
  assert.ok(always.tracer.begin('x', 'server', 'nonsense'))
  const some = collect(0.25)
  const begun = Array.from({ length: 4000 }, () => some.tracer.begin('x', 'server', undefined)).filter(
    (each) => each !== undefined,
  ).length
  assert.ok(begun > 800 && begun < 1200, `${begun} of 4000 at a ratio of 0.25`)
})

test('spans hang below each other, say what went wrong, and end once', () => {
  const { tracer, spans } = collect(0)
  const root = tracer.begin('S3', 'server', sampled)
  const child = root?.child('chunk.put', 'client', { bytes: 4 })
  child?.set('more', 'x'.repeat(5000))
  child?.end(new StorageError('UNAVAILABLE', 'not now'), '00000000000000aa')
  child?.end()
  if (root !== undefined) root.name = 'S3 PutObject'
  root?.end()
  const [put, s3] = spans
  assert.equal(spans.length, 2)
  assert.deepEqual(
    [put?.name, put?.id, put?.error, put?.parentId],
    ['chunk.put', '00000000000000aa', 'UNAVAILABLE', s3?.id],
  )
  assert.equal(String(put?.attributes['more']).length, 1024)
  assert.deepEqual([s3?.name, s3?.parentId, s3?.error], ['S3 PutObject', spanId, undefined])
  assert.match(root?.traceParent ?? '', new RegExp(`^00-${traceId}-${s3?.id}-01$`))
})

test('both sides of a request between nodes give its span the same id, and other requests get others', () => {
  const trace = Buffer.from(traceId, 'hex')
  const chunk = new Uint8Array(16).fill(3)
  // SHA-256 of what native/RPC.md names, computed by another program.
  assert.equal(requestSpanId(trace, 0x0001_0002, chunk, 'n2'), expectedId)
  const others = [
    requestSpanId(trace, 0x0001_0003, chunk, 'n2'),
    requestSpanId(trace, 0x0001_0002, chunk, 'n3'),
    requestSpanId(trace, 0x0001_0002, new Uint8Array(16), 'n2'),
    requestSpanId(new Uint8Array(16), 0x0001_0002, chunk, 'n2'),
  ]
  assert.equal(new Set([...others, expectedId]).size, 5)
})
const expectedId = '4531e0ce7f1d1df2'

const ended = (name: string): EndedSpan => ({
  ...{
    traceId,
    id: spanId,
    parentId: '',
    name,
    kind: 'server',
    attributes: { n: 1, r: 0.5, b: true, s: 'x' },
  },
  ...{ startMs: 1_700_000_000_000.25, endMs: 1_700_000_000_001.5, error: undefined },
})

test('spans are written as OTLP in JSON wants them', () => {
  const written = JSON.parse(encodeSpans([ended('a')], { 'service.name': 'pando' }, '1.2.3'))
  const [resource] = written.resourceSpans
  assert.deepEqual(resource.resource.attributes, [{ key: 'service.name', value: { stringValue: 'pando' } }])
  assert.deepEqual(resource.scopeSpans[0].scope, { name: 'pando', version: '1.2.3' })
  assert.deepEqual(resource.scopeSpans[0].spans, [
    {
      ...{ traceId, spanId, name: 'a', kind: 2, status: {} },
      startTimeUnixNano: '1700000000000250000',
      endTimeUnixNano: '1700000000001500000',
      attributes: [
        { key: 'n', value: { intValue: '1' } },
        { key: 'r', value: { doubleValue: 0.5 } },
        { key: 'b', value: { boolValue: true } },
        { key: 's', value: { stringValue: 'x' } },
      ],
    },
  ])
})

test('a collector that is away costs spans beyond the bound, and no memory; one that refuses is not asked again', async () => {
  const clock = new FakeClock()
  const registry = new Registry()
  const bodies: number[] = []
  let status = 503
  const exporter = startOtlpExporter({
    async send(body) {
      bodies.push(JSON.parse(body).resourceSpans[0].scopeSpans[0].spans.length)
      return status
    },
    ...{ resource: {}, version: '1', clock, log: silentLogger, registry },
  })
  const counts = async () => {
    const { values } = (await registry.getSingleMetric('pando_trace_spans_total')?.get()) ?? { values: [] }
    return Object.fromEntries(values.map(({ labels, value }) => [labels['outcome'], value]))
  }
  for (let count = 0; count < 5000; count++) exporter.take(ended(`${count}`))
  assert.deepEqual(await counts(), { exported: 0, dropped: 904 })
  await clock.advance(1000)
  assert.deepEqual(bodies, [512], 'one attempt while it is away')
  status = 200
  await clock.advance(1000)
  assert.deepEqual(await counts(), { exported: 4096, dropped: 904 })
  status = 400
  exporter.take(ended('refused'))
  await clock.advance(1000)
  assert.deepEqual(await counts(), { exported: 4096, dropped: 905 })
  status = 200
  exporter.take(ended('last'))
  const closing = exporter.close()
  await clock.advance(5000)
  await closing
  assert.deepEqual(await counts(), { exported: 4097, dropped: 905 })
})

test('the address of a collector is a base, as exporters of OpenTelemetry take it', () => {
  assert.equal(tracesUrl('http://127.0.0.1:4318'), 'http://127.0.0.1:4318/v1/traces')
  assert.equal(tracesUrl('https://collector.example/otlp/traces'), 'https://collector.example/otlp/traces')
})

test('which entries are traced is remembered of the newest ones alone', () => {
  const traces = createOutboxTraces(3)
  for (const lsn of [1, 2, 3, 1, 4]) traces.expect(7, `${sampled}${lsn}`)(lsn)
  assert.equal(traces.size, 3)
  assert.deepEqual(
    [1, 2, 3, 4].map((lsn) => traces.recall(7, lsn)),
    [`${sampled}1`, undefined, `${sampled}3`, `${sampled}4`],
  )
  assert.equal(traces.recall(8, 4), undefined)
})

test('a trace whose entry has no place yet is waited for', async () => {
  const traces = createOutboxTraces()
  assert.equal(traces.expected(7), undefined)
  const [one, other, elsewhere] = [
    traces.expect(7, `${sampled}1`),
    traces.expect(7, sampled),
    traces.expect(8, sampled),
  ]
  let isTold = false
  const expected = traces.expected(7)?.then(() => {
    isTold = true
  })
  one(5)
  one(6)
  await new Promise(setImmediate)
  assert.equal(isTold, false)
  // A change that failed, or made no entry.
  other()
  await expected
  assert.equal(traces.expected(7), undefined)
  assert.equal(traces.recall(7, 5), `${sampled}1`)
  assert.equal(traces.recall(7, 6), undefined)
  assert.ok(traces.expected(8))
  elsewhere(1)
})
