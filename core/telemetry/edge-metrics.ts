import type { EdgeTraffic } from '../contract/edge.ts'
import type { BucketReplicationStatus, ReplicationReport } from '../contract/replication-admin.ts'
import { Counter, Gauge, type Registry } from './metrics.ts'

export interface EdgeSources {
  report(): ReplicationReport
  traffic(): readonly EdgeTraffic[]
  /** Wall clock, milliseconds. */
  now(): number
}

/** Of a scrape; the rest is told by `pando edge status`. */
const mostBuckets = 1000

/** What an edge keeps for its hub, read at scrape time from the catalog's rows, and what became of reads. */
export function registerEdgeMetrics(registry: Registry, sources: EdgeSources): void {
  const gauge = (
    name: string,
    help: string,
    read: (one: BucketReplicationStatus & Required<Pick<BucketReplicationStatus, 'backlog'>>) => number,
  ): void => {
    new Gauge({
      ...{ name: `pando_edge_${name}`, help, labelNames: ['bucket'], registers: [registry] },
      collect() {
        this.reset()
        for (const { backlog, ...one } of sources.report().slice(0, mostBuckets)) {
          if (backlog !== undefined) this.set({ bucket: one.bucket }, read({ ...one, backlog }))
        }
      },
    })
  }
  gauge('backlog_entries', 'Changes of an edge that its hub lacks.', ({ backlog }) => backlog.entries)
  gauge(
    'backlog_bytes',
    'Bytes of those changes and of the bodies they name.',
    ({ backlog }) => backlog.bytes,
  )
  gauge('backlog_oldest_seconds', 'Age of the oldest of them, 0 for none.', ({ backlog: { oldestMs } }) =>
    oldestMs === undefined ? 0 : Math.max(0, sources.now() - oldestMs) / 1000,
  )
  gauge(
    'quota_bytes',
    'How many of them an edge keeps before it refuses writes.',
    ({ rule }) => rule.edge?.quotaBytes ?? 0,
  )
  gauge(
    'quota_seconds',
    'How old the oldest may be before it does.',
    ({ rule }) => (rule.edge?.quotaAgeMs ?? 0) / 1000,
  )
  const counter = (
    name: string,
    help: string,
    labelNames: string[],
    collect: (counter: Counter, traffic: EdgeTraffic) => void,
  ): void => {
    new Counter({
      ...{ name: `pando_edge_${name}_total`, help, labelNames, registers: [registry] },
      collect() {
        this.reset()
        for (const one of sources.traffic()) collect(this, one)
      },
    })
  }
  counter(
    'reads',
    'Reads of objects and listings at an edge: hit, miss (the hub was asked for it), stale (it could not be reached).',
    ['bucket', 'state'],
    (into, { bucket, reads }) => {
      for (const [state, count] of Object.entries(reads)) into.inc({ bucket, state }, count)
    },
  )
  counter(
    'fetched_bytes',
    'Bytes of bodies that were fetched from the hub for reads.',
    ['bucket'],
    (into, { bucket, fetchedBytes }) => into.inc({ bucket }, fetchedBytes),
  )
  counter(
    'evicted_versions',
    'Versions that the hub has and the edge no longer keeps.',
    ['bucket'],
    (into, { bucket, evictedVersions }) => into.inc({ bucket }, evictedVersions),
  )
}
