import type { MetricSet } from '../../../sdk/admin/metrics.ts'
import { errorCodes } from '../../contract/errors.ts'
import type { StatusReply } from '../../control/messages.ts'

/** What a node said at one moment. */
export interface Sample {
  /** Of this machine: monotonic, and since the Unix epoch. */
  readonly atMs: number
  readonly nowMs: number
  readonly status: StatusReply
  readonly metrics: MetricSet
}

/** Rates are per second, since the sample before. Latencies are ms; null: nothing was measured. */
export interface TopView {
  readonly node: string
  readonly region: string
  readonly version: string
  readonly state: StatusReply['state']
  readonly problems: readonly string[]
  readonly uptimeMs: number
  /** Between the two samples that the rates come from. */
  readonly intervalMs: number
  readonly requests: Traffic & {
    readonly inFlight: number
    readonly receivedBytesPerSecond: number
    readonly sentBytesPerSecond: number
  }
  readonly process: {
    /** 1: one core is busy. */
    readonly cpu: number
    readonly residentBytes: number
    readonly heapUsedBytes: number
  }
  readonly store: {
    readonly backend: string
    readonly usedBytes: number
    readonly capacityBytes: number
    readonly chunks: number
    readonly corruptChunks: number
    /** Share of reads that came from memory; null: none were read. */
    readonly cacheHitRatio: number | null
    readonly poolUsedRatio: number
  }
  readonly catalog: {
    readonly buckets: number
    readonly objects: number
    readonly liveBytes: number
    readonly entriesPerSecond: number
  }
  readonly classes: readonly (Traffic & {
    readonly name: string
    readonly inFlight: number
    readonly waiting: number
    readonly shedPerSecond: number
    /** Of the objectives of the class the one that has least left; null: it has none. */
    readonly budgetLeftRatio: number | null
  })[]
  readonly operations: readonly (Traffic & { readonly name: string })[]
  readonly nodes: readonly { readonly name: string; readonly isUp: boolean }[]
  readonly links: readonly {
    readonly peer: string
    readonly isUp: boolean
    readonly state: string
    /** Empty: none carries it. */
    readonly transport: string
    readonly requestsPerSecond: number
    readonly inFlight: number
    readonly errorsPerSecond: number
    readonly rttP50Ms: number | null
    readonly rttP99Ms: number | null
    readonly lossRatio: number
  }[]
  readonly tunnels: readonly {
    readonly region: string
    readonly isUp: boolean
    readonly transport: string
    readonly rttMs: number | null
    readonly receivedBytesPerSecond: number
    readonly sentBytesPerSecond: number
  }[]
  readonly replication: readonly {
    readonly bucket: string
    readonly region: string
    readonly lagMs: number
    readonly lagEntries: number
    readonly failedEntries: number
    readonly isSynchronizing: boolean
  }[]
}

interface Traffic {
  readonly perSecond: number
  /** Answered with an error of the node, or shed. */
  readonly errorsPerSecond: number
  readonly p50Ms: number | null
  readonly p99Ms: number | null
}

/** Two looks at a node, one after the other, as what happened in between. */
export function viewOf(before: Sample, after: Sample): TopView {
  const { status, metrics } = after
  // Counters begin anew with a process: then all that it counted was counted in between.
  const isSameProcess = before.status.startedMs === status.startedMs && before.status.pid === status.pid
  const intervalMs = after.atMs - before.atMs
  const elapsedMs = Math.max(1, isSameProcess ? intervalMs : Math.min(intervalMs, uptimeOf(after)))
  const rate = (name: string, labels: Labels = {}): number => {
    const earlier = isSameProcess ? before.metrics.sum(name, labels) : 0
    return (Math.max(0, metrics.sum(name, labels) - earlier) / elapsedMs) * 1000
  }
  const between = (name: string, labels: Labels) => {
    const now = cumulative(metrics, name, labels)
    const earlier = isSameProcess ? cumulative(before.metrics, name, labels) : []
    return now.map(({ le, count }, index) => ({ le, count: count - (earlier[index]?.count ?? 0) }))
  }
  const latency = (name: string, labels: Labels = {}) => {
    const buckets = between(name, labels)
    return { p50Ms: quantileMs(buckets, 0.5), p99Ms: quantileMs(buckets, 0.99) }
  }
  const value = (name: string, labels: Labels = {}) => metrics.sum(name, labels)
  const names = (metric: string, label: string) => [
    ...new Set(metrics.all(metric).map(({ labels }) => labels[label] ?? '')),
  ]
  const errorRate = (labels: Labels) =>
    names('pando_s3_requests_total', 'code')
      .filter((code) => ourErrors.has(code))
      .reduce((sum, code) => sum + rate('pando_s3_requests_total', { ...labels, code }), 0)
  const { store, catalog } = status
  const hits = rate('pando_store_cache_hits_total')
  const reads = hits + rate('pando_store_cache_misses_total')
  return {
    ...{ node: status.node, region: status.region, version: status.version },
    ...{ state: status.state, problems: status.problems },
    uptimeMs: uptimeOf(after),
    intervalMs,
    requests: {
      perSecond: rate('pando_s3_requests_total'),
      errorsPerSecond: errorRate({}),
      ...latency('pando_s3_request_duration_seconds'),
      inFlight: status.requestsInFlight,
      receivedBytesPerSecond: rate('pando_s3_received_bytes_total'),
      sentBytesPerSecond: rate('pando_s3_sent_bytes_total'),
    },
    process: {
      cpu: rate('process_cpu_seconds_total'),
      residentBytes: value('process_resident_memory_bytes'),
      heapUsedBytes: value('nodejs_heap_size_used_bytes'),
    },
    store: {
      backend: status.storeBackend,
      usedBytes: Math.max(0, store.capacityBytes - store.freeBytes),
      capacityBytes: store.capacityBytes,
      chunks: store.chunkCount,
      corruptChunks: store.corruptChunks,
      cacheHitRatio: reads === 0 ? null : hits / reads,
      poolUsedRatio: store.poolBytes === 0 ? 0 : store.poolUsedBytes / store.poolBytes,
    },
    catalog: {
      buckets: catalog.buckets,
      objects: catalog.objects,
      liveBytes: catalog.liveBytes,
      entriesPerSecond: rate('pando_catalog_log_position'),
    },
    classes: names('pando_slo_events_total', 'class').map((name) => {
      const ofClass = { class: name }
      const left = metrics.all('pando_slo_error_budget_remaining_ratio', ofClass)
      return {
        name,
        perSecond: rate('pando_s3_class_request_duration_seconds_count', ofClass),
        errorsPerSecond: rate('pando_slo_events_total', { ...ofClass, outcome: 'failed' }),
        ...latency('pando_s3_class_request_duration_seconds', ofClass),
        inFlight: value('pando_qos_in_flight', ofClass),
        waiting: value('pando_qos_queue_depth', ofClass),
        shedPerSecond: rate('pando_qos_shed_total', ofClass),
        budgetLeftRatio: left.length === 0 ? null : Math.min(...left.map((each) => each.value)),
      }
    }),
    operations: names('pando_s3_requests_total', 'operation')
      .map((name) => ({
        name,
        perSecond: rate('pando_s3_requests_total', { operation: name }),
        errorsPerSecond: errorRate({ operation: name }),
        ...latency('pando_s3_request_duration_seconds', { operation: name }),
      }))
      .filter(({ perSecond }) => perSecond > 0)
      .toSorted((a, b) => b.perSecond - a.perSecond || (a.name < b.name ? -1 : 1)),
    nodes: metrics
      .all('pando_cluster_node_up')
      .map(({ labels, value: up }) => ({ name: labels['node'] ?? '', isUp: up === 1 })),
    links: names('pando_link_up', 'peer').map((peer) => {
      const ofPeer = { peer }
      const active = metrics.all('pando_link_transport_active', ofPeer).find((each) => each.value === 1)
      const transport = active?.labels['transport'] ?? ''
      const way = { peer, transport }
      const rtt = (percentile: string) =>
        milliseconds(metrics.all('pando_link_transport_rtt_seconds', { ...way, percentile })[0]?.value)
      return {
        peer,
        isUp: value('pando_link_up', ofPeer) === 1,
        state: metrics.all('pando_link_state', ofPeer)[0]?.labels['state'] ?? '',
        transport,
        requestsPerSecond: rate('pando_link_requests_total', ofPeer),
        inFlight: value('pando_link_requests_in_flight', ofPeer),
        errorsPerSecond: rate('pando_link_errors_total', ofPeer),
        rttP50Ms: rtt('50'),
        rttP99Ms: rtt('99'),
        lossRatio: value('pando_link_transport_loss_ratio', way),
      }
    }),
    tunnels: metrics.all('pando_tunnel_up').map(({ labels, value: up }) => {
      const region = labels['region'] ?? ''
      return {
        region,
        isUp: up === 1,
        transport: labels['transport'] ?? '',
        rttMs: milliseconds(metrics.all('pando_tunnel_rtt_seconds', { region })[0]?.value),
        receivedBytesPerSecond: rate('pando_tunnel_received_bytes_total', { region }),
        sentBytesPerSecond: rate('pando_tunnel_sent_bytes_total', { region }),
      }
    }),
    replication: metrics
      .all('pando_replication_lag_seconds')
      .map(({ labels, value: seconds }) => {
        const { bucket = '', region = '' } = labels
        return {
          ...{ bucket, region, lagMs: seconds * 1000 },
          lagEntries: value('pando_replication_lag_entries', { bucket, region }),
          failedEntries: value('pando_replication_failed_entries', { bucket, region }),
          isSynchronizing: value('pando_replication_synchronizing', { bucket, region }) === 1,
        }
      })
      .toSorted((a, b) => b.lagMs - a.lagMs || b.lagEntries - a.lagEntries),
  }
}

type Labels = Readonly<Record<string, string>>

const uptimeOf = ({ status, nowMs }: Sample): number => Math.max(0, nowMs - status.startedMs)

/** S3 codes of what the node could not do; what it refused is the client's. */
const ourErrors: ReadonlySet<string> = new Set(
  Object.values(errorCodes)
    .filter(({ http }) => http >= 500 && http !== 501)
    .map(({ s3 }) => s3),
)

const milliseconds = (seconds: number | undefined): number | null =>
  seconds === undefined || Number.isNaN(seconds) ? null : seconds * 1000

interface Bucket {
  readonly le: number
  readonly count: number
}

/** Of all series that have these labels together. */
function cumulative(metrics: MetricSet, name: string, labels: Labels): readonly Bucket[] {
  const counts = new Map<number, number>()
  for (const sample of metrics.all(`${name}_bucket`, labels)) {
    const text = sample.labels['le'] ?? ''
    const le = text === '+Inf' ? Number.POSITIVE_INFINITY : Number(text)
    counts.set(le, (counts.get(le) ?? 0) + sample.value)
  }
  return [...counts].map(([le, count]) => ({ le, count })).toSorted((a, b) => a.le - b.le)
}

/** As Prometheus's `histogram_quantile`: linear within a bucket; beyond the last bound, that bound. */
export function quantileMs(buckets: readonly Bucket[], quantile: number): number | null {
  const total = buckets.at(-1)?.count ?? 0
  if (total <= 0) return null
  const rank = quantile * total
  let below: Bucket = { le: 0, count: 0 }
  for (const bucket of buckets) {
    if (bucket.count >= rank) {
      if (bucket.le === Number.POSITIVE_INFINITY) return below.le * 1000
      const share = bucket.count === below.count ? 1 : (rank - below.count) / (bucket.count - below.count)
      return (below.le + (bucket.le - below.le) * share) * 1000
    }
    below = bucket
  }
  return below.le * 1000
}
