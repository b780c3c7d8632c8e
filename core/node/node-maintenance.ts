import type { Catalog } from '../contract/catalog.ts'
import type { ChunkStore, ScrubFinding } from '../contract/chunk-store.ts'
import type { Environment } from '../contract/clock.ts'
import { StorageError } from '../contract/errors.ts'
import { chunkOwner } from '../contract/ids.ts'
import type { Logger } from '../contract/logger.ts'
import type { WriteRegistry } from '../contract/write-registry.ts'
import { progressIntervalMs, report } from '../control/jobs.ts'
import type { JobFinding, JobUpdate } from '../control/messages.ts'
import type { NodeMetrics } from '../telemetry/metrics.ts'
import type { NodeConfig } from './config/schema.ts'
import { startSchedule } from './maintenance.ts'
import type { NodeHealth } from './node-health.ts'

export interface MaintenanceParts {
  readonly config: NodeConfig
  readonly catalog: Catalog
  readonly chunks: ChunkStore
  readonly writes: WriteRegistry
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

/** The work in the background of a node: the same jobs that `pando debug` runs by hand. */
export function startMaintenance(parts: MaintenanceParts): Maintenance {
  const { config, catalog, chunks, environment, metrics } = parts
  const log = parts.log.child({ part: 'maintenance' })
  const { clock } = environment
  /** One scrub at a time: a second would only fight for the same disk. */
  let isScrubbing = false

  async function* scrub(signal: AbortSignal): AsyncIterable<JobUpdate> {
    if (isScrubbing) throw new StorageError('CONFLICT', 'a scrub is running already')
    isScrubbing = true
    try {
      let findings = 0
      let toldMs = clock.monotonic()
      for await (const finding of chunks.scrub(signal)) {
        findings++
        metrics.maintenance.scrubFindings.inc()
        const owned = describeFinding(catalog, finding)
        log.error(owned, 'scrub found damage')
        yield { finding: owned }
        const now = clock.monotonic()
        if (now - toldMs < progressIntervalMs) continue
        toldMs = now
        yield { progress: { stage: 'reading every byte', done: findings, total: 0 } }
      }
      metrics.maintenance.scrubRuns.inc()
      const { chunkCount } = await chunks.stats()
      yield report(findings === 0, { chunks: chunkCount, findings })
    } finally {
      isScrubbing = false
    }
  }

  const schedule = startSchedule(
    [
      {
        name: 'scrub',
        intervalMs: config.maintenance.scrubInterval,
        firstDelayMs: config.maintenance.scrubInterval,
        run: (signal) => runToEnd(scrub(signal)),
      },
    ],
    clock,
    log,
  )

  return {
    // biome-ignore lint/correctness/useYield: it only refuses
    async *scan() {
      throw new StorageError('NOT_IMPLEMENTED', 'the full scan is not part of this version')
    },
    scrub,
    // biome-ignore lint/correctness/useYield: it only refuses
    async *collect() {
      throw new StorageError('NOT_IMPLEMENTED', 'collection is not part of this version')
    },
    stop: () => schedule.stop(),
  }
}

async function runToEnd(updates: AsyncIterable<JobUpdate>): Promise<void> {
  for await (const _ of updates) {
    // Findings are logged and counted where they are met.
  }
}

/** Which object a damaged chunk belongs to: what a person can act on. */
function describeFinding(catalog: Catalog, { id, problem, detail }: ScrubFinding): JobFinding {
  if (id === undefined) return { problem, detail, chunkId: '', bucket: '', key: '' }
  const owner = catalog.writeOwner(chunkOwner(id).writeId)
  const bucket = owner === undefined ? undefined : catalog.bucketById(owner.bucketId)
  return {
    problem,
    detail,
    chunkId: Buffer.from(id).toString('hex'),
    bucket: bucket?.name ?? '',
    key: owner?.key ?? '',
  }
}
