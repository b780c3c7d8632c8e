import { Counter, Gauge, Histogram, type Registry } from 'prom-client'
import type { Logger } from '../contract/logger.ts'
import type { RequestObserver } from '../contract/request-observer.ts'

export interface RequestTelemetry extends RequestObserver {
  inFlight(): number
}

/** Seconds. From an answer out of memory (0.5 ms) to a long upload (5 min). */
const durationBuckets = [
  0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300,
]

/** Pairs of operation and code kept; both come from closed tables, so the bound is a safety net. */
const maxSeries = 4096

interface Series {
  count(): void
  observe(seconds: number): void
}

/**
 * Metrics and log of S3 requests. A request costs two map look-ups and a few additions: children with their labels are
 * made once per (operation, code), since building label keys is what makes prom-client slow.
 */
export function createRequestTelemetry(registry: Registry, log: Logger): RequestTelemetry {
  const requests = new Counter({
    name: 'pando_s3_requests_total',
    help: 'S3 requests answered, by operation and S3 error code (OK when there was none).',
    labelNames: ['operation', 'code'],
    registers: [registry],
  })
  const durations = new Histogram({
    name: 'pando_s3_request_duration_seconds',
    help: 'From the head of a request to the last byte of its answer.',
    labelNames: ['operation'],
    buckets: durationBuckets,
    registers: [registry],
  })
  let receivedBytes = 0
  let sentBytes = 0
  let inFlight = 0
  // Counted in plain numbers and handed over at scrape time.
  const bytes = (name: string, help: string, read: () => number) =>
    new Counter({
      name,
      help,
      registers: [registry],
      collect() {
        this.reset()
        this.inc(read())
      },
    })
  bytes('pando_s3_received_bytes_total', 'Bytes of bodies received from S3 clients.', () => receivedBytes)
  bytes('pando_s3_sent_bytes_total', 'Bytes of bodies sent to S3 clients.', () => sentBytes)
  new Gauge({
    name: 'pando_s3_requests_in_flight',
    help: 'S3 requests being served now.',
    registers: [registry],
    collect() {
      this.set(inFlight)
    },
  })

  const byOperation = new Map<string, Map<string, Series>>()
  let seriesCount = 0

  function seriesOf(operation: string, code: string): Series {
    let byCode = byOperation.get(operation)
    if (byCode === undefined) {
      byCode = new Map()
      byOperation.set(operation, byCode)
    }
    let series = byCode.get(code)
    if (series === undefined) {
      if (seriesCount >= maxSeries) return { count() {}, observe() {} }
      seriesCount++
      const requestChild = requests.labels(operation, code)
      const durationChild = durations.labels(operation)
      series = {
        count: () => requestChild.inc(),
        observe: (seconds) => durationChild.observe(seconds),
      }
      byCode.set(code, series)
    }
    return series
  }

  return {
    started() {
      inFlight++
    },
    finished(event) {
      inFlight--
      receivedBytes += event.bytesIn
      sentBytes += event.bytesOut
      const series = seriesOf(event.operation, event.errorCode ?? 'OK')
      series.count()
      series.observe(event.durationMs / 1000)
      // 5xx is ours to explain, at any level of detail; the rest is for whoever asks.
      // Shedding is neither: it comes in thousands, and has counters of its own.
      if (event.status >= 500 && event.status !== 501 && event.errorCode !== 'SlowDown')
        log.warn(event, 'request failed')
      else log.debug(event, 'request')
    },
    inFlight: () => inFlight,
  }
}
