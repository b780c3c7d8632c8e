import { createCollector, type WritesElsewhere } from '../catalog/collector.ts'
import { fullScan, type ScanFinding, scrubReport } from '../catalog/full-scan.ts'
import type { Catalog } from '../contract/catalog.ts'
import type { ChunkStore } from '../contract/chunk-store.ts'
import type { Environment } from '../contract/clock.ts'
import { StorageError } from '../contract/errors.ts'
import { type ChunkId, chunkId } from '../contract/ids.ts'
import type { LockFence } from '../contract/locks.ts'
import type { Logger } from '../contract/logger.ts'
import type { WriteRegistry } from '../contract/write-registry.ts'
import { report } from '../control/jobs.ts'
import type { JobFinding, JobUpdate } from '../control/messages.ts'
import type { NodeMetrics } from '../telemetry/metrics.ts'
import type { NodeConfig } from './config/schema.ts'
import { startSchedule } from './maintenance.ts'
import type { NodeHealth } from './node-health.ts'
import { withProgress } from './with-progress.ts'

export interface MaintenanceParts {
  readonly config: NodeConfig
  readonly catalog: Catalog
  readonly chunks: ChunkStore
  readonly writes: WriteRegistry
  /** Of a node that is one of several. */
  readonly region?: {
    /** This node's own chunks: what nobody owns is looked for and freed where it lies. */
    readonly local: Pick<ChunkStore, 'delete' | 'list'>
    readonly elsewhere: WritesElsewhere
    /** What objects no longer need is freed everywhere by one node. */
    isCoordinator(): boolean
    /** The lock under which it does so. `hold` answers undefined while another node has it. */
    readonly collection: { hold(): Promise<LockFence | undefined>; release(): Promise<void> }
    /** Fetches a damaged chunk anew from another node. */
    replace(id: ChunkId): void
  }
  readonly health: NodeHealth
  readonly metrics: NodeMetrics
  readonly environment: Environment
  readonly log: Logger
}

export interface Maintenance {
  scan(repair: boolean, signal: AbortSignal): AsyncIterable<JobUpdate>
  scrub(signal: AbortSignal): AsyncIterable<JobUpdate>
  collect(signal: AbortSignal): AsyncIterable<JobUpdate>
  stop(): Promise<void>
}

/** The start has other things to do first; what a crash left waits so long. */
const firstOrphanDelayMs = 2_000

/** The work in the background of a node: the same jobs that `pando debug` runs by hand. */
export function startMaintenance(parts: MaintenanceParts): Maintenance {
  const { config, catalog, chunks, writes, environment, health } = parts
  const metrics = parts.metrics.maintenance
  const log = parts.log.child({ part: 'maintenance' })
  const { clock } = environment
  const { region } = parts
  const elsewhere = region === undefined ? {} : { elsewhere: region.elsewhere }
  const inTurn = takeTurns()
  const fence = region === undefined ? {} : { fence: () => region.collection.hold() }
  const garbage = createCollector({ catalog, chunks, writes, clock, ...elsewhere, ...fence })
  const orphans =
    region === undefined
      ? garbage
      : createCollector({ catalog, chunks: region.local, writes, clock, ...elsewhere })
  /** One scrub at a time: a second would only fight for the same disk. */
  let isScrubbing = false

  async function collectGarbage(signal: AbortSignal) {
    if (region?.isCoordinator() === false) {
      await region.collection.release()
      return { writes: 0, chunks: 0, pinned: 0 }
    }
    const done = await inTurn(() => garbage.collect(signal))
    metrics.collectedWrites.inc(done.writes)
    metrics.collectedChunks.inc(done.chunks)
    if (done.writes > 0) log.debug(done, 'space given back')
    return done
  }

  async function collectOrphans(signal: AbortSignal) {
    const done = await inTurn(() => orphans.collectOrphans(signal))
    metrics.orphanChunks.inc(done.deleted)
    if (done.deleted > 0) log.info(done, 'chunks that no object owns were freed')
    return done
  }

  async function* collect(signal: AbortSignal): AsyncIterable<JobUpdate> {
    const total = catalog.stats().garbageWrites
    yield { progress: { stage: 'freeing deleted objects', done: 0, total } }
    const freed = await collectGarbage(signal)
    yield { progress: { stage: 'looking for orphans', done: 0, total: 0 } }
    const { deleted } = await collectOrphans(signal)
    yield report(true, {
      'bodies freed': freed.writes,
      'chunks freed': freed.chunks + deleted,
      'held by readers': freed.pinned,
    })
  }

  async function* scan(repair: boolean, signal: AbortSignal): AsyncIterable<JobUpdate> {
    const freed = repair ? (await collectOrphans(signal)).deleted : 0
    const { chunkCount } = await chunks.stats()
    let scanned = 0
    let findings = 0
    let missing = 0
    const counted: Pick<ChunkStore, 'has' | 'list'> = {
      has: (id, stripe) => chunks.has(id, stripe),
      async list(after, limit) {
        const batch = await chunks.list(after, limit)
        scanned += batch.length
        return batch
      },
    }
    yield* withProgress(
      fullScan({ catalog, chunks: counted, writes, signal, ...elsewhere }),
      clock,
      () => ({ stage: 'comparing store and catalog', done: scanned, total: Math.max(scanned, chunkCount) }),
      (finding) => {
        findings++
        if (finding.problem !== 'leaked-chunk') missing++
        return { finding: describeScanFinding(finding) }
      },
    )
    if (missing > 0) health.report('scan', `${missing} chunks of objects are missing: run 'pando debug scan'`)
    else health.clear('scan')
    yield report(findings === 0, { chunks: scanned, findings, ...(repair ? { freed } : {}) })
  }

  async function* scrub(signal: AbortSignal): AsyncIterable<JobUpdate> {
    if (isScrubbing) throw new StorageError('CONFLICT', 'a scrub is running already')
    isScrubbing = true
    try {
      let findings = 0
      yield* withProgress(
        chunks.scrub(signal),
        clock,
        () => ({ stage: 'reading every byte', done: 0, total: 0 }),
        (raw) => {
          const { id, problem, detail, place } = scrubReport(catalog, raw)
          if (id !== undefined) region?.replace(id)
          const finding: JobFinding = {
            problem,
            detail,
            chunkId: id === undefined ? '' : hex(id),
            bucket: place?.owner?.bucket ?? '',
            key: place?.owner?.key ?? '',
          }
          findings++
          metrics.scrubFindings.inc()
          log.error(finding, 'scrub found damage')
          return { finding }
        },
      )
      metrics.scrubRuns.inc()
      if (findings > 0)
        health.report('scrub', `the last scrub found ${findings} damaged places: run 'pando debug scrub'`)
      else health.clear('scrub')
      const { chunkCount } = await chunks.stats()
      yield report(findings === 0, { chunks: chunkCount, findings })
    } finally {
      isScrubbing = false
    }
  }

  const { collectInterval, orphanInterval, scrubInterval } = config.maintenance
  const onFailure = () => metrics.failures.inc()
  const schedule = startSchedule(
    [
      {
        name: 'collection',
        intervalMs: collectInterval,
        firstDelayMs: collectInterval,
        onFailure,
        async run(signal) {
          await collectGarbage(signal)
        },
      },
      {
        name: 'orphans',
        intervalMs: orphanInterval,
        firstDelayMs: Math.min(firstOrphanDelayMs, orphanInterval),
        onFailure,
        async run(signal) {
          await collectOrphans(signal)
        },
      },
      {
        name: 'scrub',
        intervalMs: scrubInterval,
        firstDelayMs: scrubInterval,
        onFailure,
        run: (signal) => runToEnd(scrub(signal)),
      },
    ],
    clock,
    log,
  )

  return { scan, scrub, collect, stop: () => schedule.stop() }
}

/** Rounds by hand and by the clock wait for each other: two at once would only do the same work twice. */
function takeTurns(): <T>(round: () => Promise<T>) => Promise<T> {
  let last: Promise<unknown> = Promise.resolve()
  return (round) => {
    const turn = last.then(round, round)
    last = turn.catch(() => undefined)
    return turn
  }
}

async function runToEnd(updates: AsyncIterable<JobUpdate>): Promise<void> {
  for await (const _ of updates) {
    // Findings are logged and counted where they are met.
  }
}

function describeScanFinding({ problem, detail, place }: ScanFinding): JobFinding {
  return {
    problem,
    detail,
    chunkId: hex(chunkId(place.writeId, place.index)),
    bucket: place.owner?.bucket ?? '',
    key: place.owner?.key ?? '',
  }
}

function hex(bytes: Uint8Array): string {
  return Buffer.from(bytes).toString('hex')
}
