import assert from 'node:assert/strict'
import { test } from 'node:test'
import type { ChunkStoreGauges } from '../../../core/contract/chunk-store.ts'
import { silentLogger } from '../../../core/contract/logger.ts'
import type { RequestEvent } from '../../../core/contract/request-observer.ts'
import { createNodeMetrics } from '../../../core/telemetry/metrics.ts'
import { createRequestTelemetry } from '../../../core/telemetry/request-telemetry.ts'

const event = (more: Partial<RequestEvent> = {}): RequestEvent => ({
  requestId: '1',
  operation: 'GetObject',
  method: 'GET',
  bucketName: 'b',
  status: 200,
  durationMs: 3,
  bytesIn: 10,
  bytesOut: 100,
  remoteAddress: '127.0.0.1',
  ...more,
})

function setUp() {
  const metrics = createNodeMetrics({}, '1.2.3')
  const requests = createRequestTelemetry(metrics.registry, silentLogger)
  const value = async (line: string): Promise<string | undefined> =>
    (await metrics.scrape())
      .split('\n')
      .find((candidate) => candidate.startsWith(`${line} `))
      ?.slice(line.length + 1)
  return { metrics, requests, value }
}

test('requests are counted by operation and code, bytes and durations with them', async () => {
  const { requests, value } = setUp()
  requests.finished(event())
  requests.finished(event())
  requests.finished(event({ status: 404, errorCode: 'NoSuchKey' }))
  assert.equal(await value('pando_s3_requests_total{operation="GetObject",code="OK"}'), '2')
  assert.equal(await value('pando_s3_requests_total{operation="GetObject",code="NoSuchKey"}'), '1')
  assert.equal(await value('pando_s3_received_bytes_total'), '30')
  assert.equal(await value('pando_s3_sent_bytes_total'), '300')
  assert.equal(
    await value('pando_s3_request_duration_seconds_bucket{le="0.0025",operation="GetObject"}'),
    '0',
  )
  assert.equal(await value('pando_s3_request_duration_seconds_bucket{le="0.005",operation="GetObject"}'), '3')
  // Scraping twice must not count twice.
  assert.equal(await value('pando_s3_sent_bytes_total'), '300')
})

test('requests in flight go up and down', async () => {
  const { requests, value } = setUp()
  requests.started()
  requests.started()
  assert.equal(await value('pando_s3_requests_in_flight'), '2')
  requests.finished(event())
  assert.equal(await value('pando_s3_requests_in_flight'), '1')
  requests.finished(event())
  assert.equal(requests.inFlight(), 0)
})

test('however many codes there are, the series stay bounded', async () => {
  const { requests, metrics } = setUp()
  for (let index = 0; index < 10_000; index++) requests.finished(event({ errorCode: `Code${index}` }))
  const lines = (await metrics.scrape())
    .split('\n')
    .filter((line) => line.startsWith('pando_s3_requests_total'))
  assert.equal(lines.length, 4096)
})

test('gauges are read at scrape time, and a source that fails hides neither the others nor itself', async () => {
  const sources: Parameters<typeof createNodeMetrics>[0] = {}
  const metrics = createNodeMetrics(sources, '1.2.3')
  const catalog = {
    buckets: 1,
    objects: 2,
    versions: 3,
    uploads: 4,
    liveBytes: 5,
    garbageWrites: 6,
    position: 7,
    bytesOnDisk: 8,
  }
  const nothing = await metrics.scrape()
  assert.doesNotMatch(nothing, /^pando_(store|catalog)_/m, 'a witness has no store that could be offline')
  sources.catalog = () => catalog
  sources.store = async () => ({ online: true, chunkCount: 0 }) as ChunkStoreGauges
  assert.match(await metrics.scrape(), /^pando_store_online 1$/m)
  sources.store = async () => {
    throw new Error('gone')
  }
  const text = await metrics.scrape()
  assert.doesNotMatch(text, /^pando_store_/m)
  assert.match(text, /^pando_catalog_objects 2$/m)
  assert.match(text, /^pando_catalog_disk_bytes 8$/m)
  assert.match(text, /^pando_scrape_errors_total\{source="store"\} 1$/m)
  assert.match(text, /^pando_build_info\{version="1\.2\.3",node_version="v\d/m)
  assert.match(text, /^nodejs_eventloop_lag_seconds /m)
  assert.match(text, /^process_resident_memory_bytes /m)
})

test('failures of ours are logged at warn, other requests at debug', () => {
  const lines: string[] = []
  const log = {
    ...silentLogger,
    warn: (_: object, text: string) => lines.push(`warn ${text}`),
    debug: (_: object, text: string) => lines.push(`debug ${text}`),
  }
  const requests = createRequestTelemetry(createNodeMetrics({}, '0').registry, log)
  requests.finished(event())
  requests.finished(event({ status: 500, errorCode: 'InternalError' }))
  requests.finished(event({ status: 501, errorCode: 'NotImplemented' }))
  assert.deepEqual(lines, ['debug request', 'warn request failed', 'debug request'])
})
