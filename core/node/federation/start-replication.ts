import { CacheEviction } from '../../../federation/edge/evict.ts'
import { ReadThrough } from '../../../federation/edge/read-through.ts'
import { serveEdges } from '../../../federation/edge/serve-edges.ts'
import { FetchWindow } from '../../../federation/replication/fetch-window.ts'
import { Replicator } from '../../../federation/replication/replicator.ts'
import { RpoWatch } from '../../../federation/replication/rpo-watch.ts'
import { serveReplication } from '../../../federation/replication/serve.ts'
import { ReplicationSource } from '../../../federation/replication/source.ts'
import { refusalOf } from '../../catalog/replication/waiting.ts'
import type { Catalog } from '../../contract/catalog.ts'
import type { ChunkStore } from '../../contract/chunk-store.ts'
import type { Environment } from '../../contract/clock.ts'
import { StorageError } from '../../contract/errors.ts'
import type { Logger } from '../../contract/logger.ts'
import type { ResolveDecision, ResolveInput } from '../../contract/policy.ts'
import {
  defaultEdge,
  defaultRetentionBytes,
  defaultRetentionMs,
  defaultRpoMs,
  type FormerMember,
  type ReplicationRule,
} from '../../contract/replication.ts'
import type {
  ReplicateRequest,
  ReplicationAdministration,
  ReplicationReport,
} from '../../contract/replication-admin.ts'
import type { OutboxTraces, Tracer } from '../../contract/trace.ts'
import type { RegionTunnels } from '../../contract/tunnel.ts'
import type { WriteRegistry } from '../../contract/write-registry.ts'
import type { GatewayReplication } from '../../gateway/s3/operation.ts'
import { registerEdgeMetrics } from '../../telemetry/edge-metrics.ts'
import type { Registry } from '../../telemetry/metrics.ts'
import { registerReplicationMetrics } from '../../telemetry/replication-metrics.ts'
import type { NodeConfig } from '../config/schema.ts'

export interface ReplicationParts {
  readonly config: NodeConfig
  readonly catalog: Catalog
  readonly chunks: ChunkStore
  readonly writes: WriteRegistry
  readonly tunnels: RegionTunnels
  /** Regions that this one is joined with, connected or not. */
  joined(): Promise<readonly { readonly regionId: number; readonly name: string }[]>
  readonly registry: Registry
  /** Absent: nothing is traced. */
  readonly tracing?: { readonly tracer: Tracer; readonly outboxTraces: OutboxTraces } | undefined
  isCoordinator(): boolean
  /** Which of two versions lasts that two regions wrote without having seen each other. */
  resolve(input: ResolveInput): ResolveDecision
  readonly environment: Environment
  readonly log: Logger
}

export interface RunningReplication extends ReplicationAdministration {
  /** For the requests of clients. */
  readonly gateway: GatewayReplication
  status(): ReplicationReport
  close(): Promise<void>
}

/** Answers the regions that pull from this one, and pulls from them where this node is the one to do it. */
export function startReplication(parts: ReplicationParts): RunningReplication {
  const { config, catalog, chunks, writes, tunnels, environment, log } = parts
  const { regionId } = config
  const { clock } = environment
  // A region far away takes its bytes slowly: clients of this one need the pool as well.
  const lentBytes = Math.floor(config.store.pool / 8)
  const { tracer, outboxTraces } = parts.tracing ?? {}
  const source = new ReplicationSource({
    ...{ regionId, catalog, chunks, writes, clock, log, lentBytes },
    ...(outboxTraces === undefined ? {} : { outboxTraces }),
  })
  const stopServing = serveReplication(tunnels, source, log, tracer)
  // What comes from elsewhere has its share of the pool, too: it comes as slowly as the way there wants.
  const bytesAtOnce = Math.floor(config.store.pool / 4)
  const buffers = new FetchWindow({ atOnce: Number.POSITIVE_INFINITY, bytesAtOnce })
  const replicator = new Replicator({
    ...{ regionId, catalog, chunks, writes, clock, log, tunnels, buffers },
    chunkBytes: config.s3.chunkBytes,
    isCoordinator: parts.isCoordinator,
    conflicts: { ...{ regionId, clock, log }, decide: (input) => parts.resolve(input) },
    ...(tracer === undefined ? {} : { tracer }),
  })
  const reads = new ReadThrough({
    ...{ regionId, catalog, chunks, writes, clock, log, tunnels, buffers },
    chunkBytes: config.s3.chunkBytes,
  })
  const eviction = new CacheEviction({
    ...{ regionId, catalog, reads, clock, log },
    isCoordinator: parts.isCoordinator,
  })
  const stopAnswering = serveEdges(tunnels, catalog, log, regionId)
  const watch = new RpoWatch({ regionId, catalog, clock, log, isCoordinator: parts.isCoordinator })
  registerReplicationMetrics(parts.registry, {
    report: () => replicator.status(),
    traffic: () => replicator.traffic(),
    holdBackMs: (name) => watch.holdBackMs(catalog.bucket(name)?.id ?? 0),
  })
  registerEdgeMetrics(parts.registry, {
    report: () => replicator.status(),
    traffic: () => reads.traffic(),
    now: () => clock.now(),
  })
  const stopping = new AbortController()

  async function replicate(request: ReplicateRequest): Promise<ReplicationReport> {
    const bucket = bucketOf(catalog, request.bucket)
    await checkJoined(request.regions, parts)
    const current = catalog.replication.rule(bucket.id)
    const rule = nextRule(request, regionId, current, clock.now())
    await catalog.submit({ type: 'set-replication', bucketId: bucket.id, rule })
    return replicator.status()
  }

  async function stop(name: string): Promise<ReplicationReport> {
    const { id } = bucketOf(catalog, name)
    for (;;) {
      const { done } = await catalog.submit({ type: 'set-replication', bucketId: id, rule: null })
      if (done) return replicator.status()
    }
  }

  return {
    gateway: {
      ...{ regionId, replicate, stop },
      regions: parts.joined,
      edge: reads,
      holdBackMs: (bucketId) => watch.holdBackMs(bucketId),
      refusal(bucketId, addedBytes) {
        const backlog = catalog.replication.backlog(bucketId)
        const edge = catalog.replication.rule(bucketId)?.edge
        if (backlog === undefined || edge === undefined) return undefined
        return refusalOf(edge, backlog, addedBytes, clock.now())
      },
    },
    status: () => replicator.status(),
    report: async () => replicator.status(),
    replicate,
    stop,

    async compare(name) {
      const { id } = bucketOf(catalog, name)
      const outbox = catalog.replication.outbox(id)
      const rule = catalog.replication.rule(id)
      if (rule?.edge !== undefined) {
        throw new StorageError(
          'INVALID_ARGUMENT',
          'an edge holds a part of what its hub does: nothing to compare',
        )
      }
      if (rule === undefined || outbox === undefined) {
        throw new StorageError('NO_SUCH_REPLICATION', `'${name}' is not replicated from this region`)
      }
      await catalog.submit({ type: 'compare-content', bucketId: id })
      return replicator.status()
    },

    async retry(name) {
      await replicator.retry(name, stopping.signal)
      return replicator.status()
    },

    async close() {
      stopping.abort(new StorageError('CANCELLED', 'the node stops'))
      stopServing()
      stopAnswering()
      reads.stop()
      await eviction.stop()
      await watch.stop()
      await replicator.stop()
    },
  }
}

function bucketOf(catalog: Catalog, name: string) {
  const bucket = catalog.bucket(name)
  if (bucket === undefined) throw new StorageError('NO_SUCH_BUCKET', `there is no bucket '${name}'`)
  return bucket
}

async function checkJoined(regions: readonly number[], { joined, config }: ReplicationParts): Promise<void> {
  const known = (await joined()).map(({ regionId }) => regionId)
  for (const region of regions) {
    if (region === config.regionId) {
      throw new StorageError('INVALID_ARGUMENT', `region ${region} is this one: name the others`)
    }
    if (!known.includes(region)) {
      throw new StorageError(
        'INVALID_ARGUMENT',
        `this region is not joined with region ${region}: see 'pando federation invite'`,
      )
    }
  }
}

/** Who has left a rule by which several regions write, and when: deletes are not remembered for them. */
function formerOf(current: ReplicationRule | undefined, members: readonly number[]): readonly FormerMember[] {
  const left = (current?.members ?? [])
    .filter((region) => !members.includes(region))
    .map((region) => ({ region, epoch: current?.epoch ?? 1 }))
  const before = (current?.former ?? []).filter(({ region }) => !left.some((one) => one.region === region))
  return [...before, ...left].toSorted((one, other) => one.region - other.region)
}

/** What the operator asks for; what is not said stays as it is. */
function nextRule(
  { mode, regions, prefix, rpoMs, onBreach, edge }: ReplicateRequest,
  here: number,
  current: ReplicationRule | undefined,
  nowMs: number,
): ReplicationRule {
  const members = [...new Set([here, ...regions])].toSorted((left, right) => left - right)
  const primary = current?.primary ?? here
  if (mode === 'single' && primary !== here) {
    throw new StorageError('NOT_PRIMARY', `the rule of the bucket is changed in region ${primary}`, {
      details: { PrimaryRegion: String(primary) },
    })
  }
  if (edge !== undefined && primary !== here) {
    throw new StorageError(
      'NOT_PRIMARY',
      `the edges of the bucket are told by region ${primary}, their hub`,
      {
        details: { PrimaryRegion: String(primary) },
      },
    )
  }
  const isMesh = mode === 'multi' && edge === undefined
  const former = isMesh ? formerOf(current, members) : []
  // A rule that was taken away here may still be in force elsewhere: the new one must be newer than it was.
  const epoch = current === undefined ? Math.max(1, Math.floor(nowMs / 1000)) : current.epoch + 1
  const firstEpoch = isMesh ? (current === undefined ? epoch : current.firstEpoch) : undefined
  const breach = onBreach ?? current?.onBreach ?? 'alert'
  return {
    ...{ mode, members, prefix, primary },
    epoch,
    rpoMs: rpoMs === 0 ? (current?.rpoMs ?? defaultRpoMs) : rpoMs,
    ...(breach === 'alert' ? {} : { onBreach: breach }),
    retentionMs: current?.retentionMs ?? defaultRetentionMs,
    retentionBytes: current?.retentionBytes ?? defaultRetentionBytes,
    ...(current?.group === undefined ? {} : { group: current.group }),
    ...(former.length === 0 ? {} : { former }),
    ...(firstEpoch === undefined ? {} : { firstEpoch }),
    ...(edge === undefined
      ? {}
      : {
          edge: {
            ...{ ...defaultEdge, priorities: [], pinned: [], ...current?.edge, ...edge },
            regions: members.filter((region) => region !== here),
          },
        }),
  }
}
