import type { BucketReplicationStatus, ReplicationReport } from '../contract/replication-admin.ts'
import { Counter, Gauge, type Registry } from './metrics.ts'

/** What this process has done for copies of others' buckets, by the region they come from. */
export interface ReplicationTraffic {
  readonly source: number
  readonly entries: number
  /** Of bodies, as they came. */
  readonly bytes: number
  /** Keys that both regions had written without having seen each other, by what became of them here. */
  readonly conflicts: Readonly<Partial<Record<string, number>>>
}

export interface ReplicationSources {
  report(): ReplicationReport
  traffic(): readonly ReplicationTraffic[]
  /** How long writes to a bucket are held back now, milliseconds. */
  holdBackMs(bucket: string): number
}

/** Of a scrape; the rest is told by `pando replication status`. */
const mostBuckets = 1000

type Outgoing = BucketReplicationStatus['outgoing'][number]
type Incoming = BucketReplicationStatus['incoming'][number]

/**
 * How far copies are, read at scrape time from the catalog's rows: an age that is right when nothing is written (0), when a copy stands
 * still (it grows) and when the other region is down (it grows, too).
 */
export function registerReplicationMetrics(registry: Registry, sources: ReplicationSources): void {
  let current: ReplicationReport | undefined
  // All metrics of one scrape collect in one turn: the rows are read once.
  const report = (): ReplicationReport => {
    if (current !== undefined) return current
    current = sources.report().slice(0, mostBuckets)
    queueMicrotask(() => {
      current = undefined
    })
    return current
  }
  const gauge = (name: string, help: string, labelNames: string[], collect: (gauge: Gauge) => void): void => {
    new Gauge({
      ...{ name: `pando_replication_${name}`, help, labelNames, registers: [registry] },
      collect() {
        this.reset()
        collect(this)
      },
    })
  }
  const perRegion = (name: string, help: string, read: (to: Outgoing) => number): void =>
    gauge(name, help, ['bucket', 'region'], (into) => {
      for (const { bucket, outgoing } of report()) {
        for (const to of outgoing) into.set({ bucket, region: String(to.region) }, read(to))
      }
    })
  const perSource = (name: string, help: string, read: (from: Incoming) => number): void =>
    gauge(name, help, ['bucket', 'source'], (into) => {
      for (const { bucket, incoming } of report()) {
        for (const from of incoming) into.set({ bucket, source: String(from.region) }, read(from))
      }
    })
  const perWritten = (name: string, help: string, read: (one: BucketReplicationStatus) => number): void =>
    gauge(name, help, ['bucket'], (into) => {
      for (const one of report()) if (one.isWritten) into.set({ bucket: one.bucket }, read(one))
    })

  perRegion(
    'lag_seconds',
    'Age of the oldest change that a region lacks, 0 for none: what would be lost with this region now.',
    ({ oldestUnshippedMs }) => oldestUnshippedMs / 1000,
  )
  perRegion('lag_entries', 'Changes that a region lacks.', ({ lagEntries }) => lagEntries)
  perRegion(
    'synchronizing',
    '1 while a region has not got all that was there before it joined or fell behind.',
    ({ synchronizing }) => Number(synchronizing),
  )
  perRegion(
    'needs_full_sync',
    '1 when a region fell further behind than changes are kept.',
    ({ needsFullSync }) => Number(needsFullSync),
  )
  perRegion('failed_entries', 'Changes that a region has given up; at most 256 are told.', ({ dead }) => dead)
  perWritten('backlog_entries', 'Changes that are kept for other regions.', ({ entriesKept }) => entriesKept)
  perWritten(
    'backlog_bytes',
    'Bytes of those changes and of the bodies they name.',
    ({ bytesKept }) => bytesKept,
  )
  perWritten('rpo_target_seconds', 'The objective of the rule.', ({ rule }) => rule.rpoMs / 1000)
  perWritten(
    'rpo_met',
    '1 while every region has everything that is older than the objective, 0 otherwise.',
    ({ isBreached, outgoing }) =>
      Number(!isBreached && outgoing.every(({ synchronizing }) => !synchronizing)),
  )
  perWritten(
    'write_hold_seconds',
    'How long writes are held back now, by a rule that slows them down.',
    ({ bucket }) => sources.holdBackMs(bucket) / 1000,
  )
  gauge(
    'tombstones',
    'Deletes that are remembered so that no late copy undoes them, where several regions write.',
    ['bucket'],
    (into) => {
      for (const { bucket, rule, tombstonesHeld } of report()) {
        if (rule.mode === 'multi') into.set({ bucket }, tombstonesHeld)
      }
    },
  )
  perSource(
    'behind_entries',
    'Changes of a region that are not applied here, as far as is known.',
    (from) => from.lagEntries,
  )
  perSource(
    'waiting_entries',
    'Changes that could not be applied and are tried again.',
    (from) => from.retries,
  )
  perSource(
    'dead_letters',
    'Changes among them that were given up: an operator must look.',
    ({ dead }) => dead,
  )
  perSource(
    'heard_seconds',
    'Time since the region was last heard of; -1: not by this process.',
    ({ heardMs }) => (heardMs < 0 ? -1 : heardMs / 1000),
  )
  perSource(
    'compared_ranges',
    'Ranges of keys that were compared with a region.',
    (from) => from.comparedRanges,
  )
  perSource(
    'differences',
    'Ranges among them that differed and were asked for again.',
    (from) => from.differences,
  )
  perSource(
    'agreed_timestamp_seconds',
    'When all of the bucket was last found to be the same as in that region; 0: not yet.',
    ({ agreedMs }) => agreedMs / 1000,
  )
  new Counter({
    name: 'pando_replication_tombstones_collected_total',
    help: 'Deletes that need not be remembered any more: every region has them, and everything that was written before.',
    labelNames: ['bucket'],
    registers: [registry],
    collect() {
      this.reset()
      for (const { bucket, rule, tombstonesCollected } of report()) {
        if (rule.mode === 'multi') this.inc({ bucket }, tombstonesCollected)
      }
    },
  })
  new Counter({
    name: 'pando_replication_conflicts_total',
    help: 'Keys that this region and another had written without having seen each other, by outcome: newest, older, both, followed, undecided.',
    labelNames: ['source', 'outcome'],
    registers: [registry],
    collect() {
      this.reset()
      for (const { source, conflicts } of sources.traffic()) {
        for (const [outcome, count = 0] of Object.entries(conflicts))
          this.inc({ source: String(source), outcome }, count)
      }
    },
  })
  const counter = (name: string, help: string, read: (traffic: ReplicationTraffic) => number): void => {
    new Counter({
      ...{ name: `pando_replication_${name}_total`, help, labelNames: ['source'], registers: [registry] },
      collect() {
        this.reset()
        for (const one of sources.traffic()) this.inc({ source: String(one.source) }, read(one))
      },
    })
  }
  counter('applied_entries', 'Changes of a region that were applied here.', ({ entries }) => entries)
  counter('fetched_bytes', 'Bytes of bodies that came from a region.', ({ bytes }) => bytes)
}
