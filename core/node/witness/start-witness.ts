import { join } from 'node:path'
import { StorageError } from '../../contract/errors.ts'
import type { RegionConfigAdministration } from '../../contract/region-config.ts'
import type { ReplicationAdministration } from '../../contract/replication-admin.ts'
import type { AdminBackend } from '../../control/admin-backend.ts'
import type { PolicyBackend } from '../../control/policy-backend.ts'
import { registerTunnelMetrics } from '../../telemetry/tunnel-metrics.ts'
import { startAudit } from '../audit/start-audit.ts'
import { noCluster } from '../cluster/no-cluster.ts'
import { openDataDirectory } from '../data-directory.ts'
import { bindListener, listeners } from '../listeners.ts'
import { adminEndpointOf, openManagement } from '../management.ts'
import { createSecretSealer } from '../sealed-secrets.ts'
import type { NodeOptions, ReadyFacts, RunningNode } from '../start-node.ts'
import { StopStack } from '../stop-stack.ts'

export type RunningWitness = Omit<RunningNode, 'qos'>

const partDeadlineMs = 10_000

/**
 * Starts a witness: it votes in failover groups and holds no bucket. Of a node it has the catalog, where its votes are, the tunnels, the
 * admin service and the console; no S3 endpoint and no chunk store.
 */
export async function startWitness(options: NodeOptions): Promise<RunningWitness> {
  const parts = new StopStack(options.environment.clock, options.log)
  try {
    return await start(options, parts)
  } catch (error) {
    await parts.stop()
    throw error
  }
}

async function start(options: NodeOptions, parts: StopStack): Promise<RunningWitness> {
  const { config, environment, log, version } = options
  const { clock, randomness } = environment
  const began = clock.monotonic()
  const startedMs = clock.now()
  const [catalogModule, control, federationModule, failoverModule, sharingModule] = await Promise.all([
    import('../../catalog/catalog.ts'),
    import('../../control/admin-server.ts'),
    import('../federation/start-federation.ts'),
    import('../federation/start-failover.ts'),
    import('../federation/start-sharing.ts'),
  ])
  const data = await openDataDirectory({
    path: config.data,
    regionId: config.regionId,
    version,
    randomness,
    rootKeys: options.rootKeys,
  })
  parts.push('data directory', partDeadlineMs, () => data.close())
  const management = await openManagement({
    ...{ config, environment, log, version, parts },
    deadlineMs: partDeadlineMs,
  })
  const { health, metrics, certificate, consoleEndpoint, fail, requestStop } = management
  const audit = await startAudit({
    ...{ config, environment, registry: metrics.registry },
    log: log.child({ part: 'audit' }),
  })
  if (audit !== undefined) parts.push('audit log', partDeadlineMs, () => audit.close())
  const catalog = await catalogModule.openCatalog({
    directory: data.catalogPath,
    regionId: config.regionId,
    environment,
    inlineBytes: config.s3.inlineBytes,
    log: log.child({ part: 'catalog' }),
    onFailure(error) {
      health.report('catalog', `the witness stops, for the catalog cannot be written: ${error.reason}`)
      fail(error)
    },
  })
  parts.push('catalog', partDeadlineMs, () => catalog.close())
  if (catalog.stats().buckets > 0) {
    throw new StorageError(
      'INVALID_CONFIG',
      'the data directory is that of a region with buckets, not of a witness',
    )
  }
  const federation = federationModule.startFederation({
    ...{ config, catalog, environment },
    sealer: createSecretSealer(data.sealingKey, randomness),
    seals: await federationModule.openPayloadSeals({ config, environment, log }),
    isCoordinator: () => true,
    log: log.child({ part: 'federation' }),
  })
  parts.push('tunnels to other regions', partDeadlineMs, () => federation.close())
  registerTunnelMetrics(metrics.registry, () => federation.status())
  const failover = failoverModule.startFailover({
    ...{ regionId: config.regionId, catalog, tunnels: federation, environment },
    joined: () => federation.status().peers.map(({ regionId }) => regionId),
    replication: () => [],
    endpoints: [],
    log: log.child({ part: 'failover' }),
  })
  parts.push('failover', partDeadlineMs, () => failover.close())
  const sharing = sharingModule.startSharing({
    ...{ config, version, catalog, health, environment, tunnels: federation },
    sealer: createSecretSealer(data.sealingKey, randomness),
    rootAccessKeyId: data.rootKeys.accessKeyId,
    failover: failover.administration,
    registry: metrics.registry,
    isCoordinator: () => true,
    log: log.child({ part: 'sharing' }),
  })
  parts.push('sharing with other regions', partDeadlineMs, () => sharing.close())

  let adminEndpoint = ''
  const backend: AdminBackend = {
    ...refusing,
    async status() {
      const { status: state, problems } = await health.check()
      return {
        ...{ version, node: config.node, region: config.region, startedMs, state, problems },
        ...{ adminEndpoint, consoleEndpoint, s3Endpoint: 'none: a witness', dataDirectory: data.path },
        ...{ pid: process.pid, storeKind: 'none', storeBackend: 'witness', requestsInFlight: 0 },
        objectives: [],
        store: noStore,
        catalog: catalog.stats(),
      }
    },
    metrics: async () => ({ text: await metrics.scrape() }),
    stop: requestStop,
  }
  const admin = await bindListener(listeners.admin, config.admin.listen, () =>
    control.startAdminServer({
      backend,
      policies: noPolicies(config.node),
      cluster: noCluster(config.node),
      federation,
      sharing,
      replication: noReplication,
      failover: failover.administration,
      config: noRegionConfig,
      keys: data.rootKeys,
      listen: config.admin.listen,
      tls: certificate,
      socketPath: data.sockets.address('admin.sock'),
      audit: audit?.call,
      clock,
      log: log.child({ part: 'admin' }),
    }),
  )
  parts.push('admin service', partDeadlineMs, () => admin.close(2_000))
  adminEndpoint = adminEndpointOf(management, config, admin.port)
  parts.push('readiness', partDeadlineMs, async () => health.setState('stopping'))
  health.setState('ready')
  const facts: ReadyFacts = {
    ...{ s3: '', admin: adminEndpoint, console: consoleEndpoint, rpc: '', data: data.path },
    adminSocket: join(data.path, 'admin.sock'),
    ...{ store: 'none', backend: 'witness', pid: process.pid, version },
    startedInMs: Math.round(clock.monotonic() - began),
  }
  log.info({ event: 'ready', ...facts }, 'ready')
  return {
    facts,
    rootKeys: data.rootKeys,
    rootKeysFrom: data.rootKeysFrom,
    regionKey: undefined,
    stopRequested: management.stopRequested,
    failure: management.failure,
    async reloadConfig() {
      throw refusal()
    },
    stop: () => parts.stop(),
  }
}

const refusal = (): StorageError =>
  new StorageError('NOT_IMPLEMENTED', 'this is a witness: it votes in failover groups and holds no bucket')
const refuse = (): never => {
  throw refusal()
}
const noRegionConfig: RegionConfigAdministration = {
  state: async () => ({ versions: [], nodes: [], silent: [] }),
  apply: async () => refuse(),
}
const refuseLater = async (): Promise<never> => refuse()
const refuseStream = (): AsyncIterable<never> => refuse()

const refusing: Omit<AdminBackend, 'status' | 'metrics' | 'stop'> = {
  stats: refuseLater,
  links: refuseLater,
  listBuckets: () => ({ buckets: [], truncated: false }),
  createBucket: refuseLater,
  deleteBucket: refuseLater,
  statBucket: refuseStream,
  createKey: refuseLater,
  listKeys: () => [],
  setKeyEnabled: refuseLater,
  scan: refuseStream,
  scrub: refuseStream,
  collect: refuseStream,
  reloadConfig: refuseLater,
}

const noReplication: ReplicationAdministration = {
  report: async () => [],
  replicate: refuseLater,
  stop: refuseLater,
  compare: refuseLater,
  retry: refuseLater,
}

const noStore = {
  ...{ chunkCount: 0, liveBytes: 0, staleBytes: 0, capacityBytes: 0, freeBytes: 0, indexBytes: 0 },
  ...{ cacheBytes: 0, cacheHits: 0, cacheMisses: 0, poolUsedBytes: 0, poolBytes: 0, corruptChunks: 0 },
  online: true,
}

function noPolicies(node: string): PolicyBackend {
  return {
    push: refuseLater,
    activate: refuseLater,
    rollback: refuseLater,
    deactivate: refuseLater,
    status: () => ({
      ...{ node, epoch: 0, deployedEpoch: 0, policies: [], quarantine: [] },
      ...{ unavailable: 'this is a witness', signatureRequired: false },
    }),
    list: () => ({ deployment: { epoch: 0, policies: [] }, packages: [] }),
    explainRequest: () => undefined,
    recentRequests: () => [],
    explainHook: () => [],
    trace: () => '',
  }
}
