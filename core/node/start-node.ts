import { join } from 'node:path'
import type { Environment } from '../contract/clock.ts'
import { StorageError } from '../contract/errors.ts'
import type { Logger } from '../contract/logger.ts'
import type { Gateway } from '../gateway/s3/operation.ts'
import type { Qos } from '../qos/open-qos.ts'
import { createRequestTelemetry } from '../telemetry/request-telemetry.ts'
import { createSlaMonitor } from '../telemetry/sla-monitor.ts'
import { registerLinkShareMetrics, registerTunnelMetrics } from '../telemetry/tunnel-metrics.ts'
import { observeAll, startAudit } from './audit/start-audit.ts'
import { noCluster } from './cluster/no-cluster.ts'
import type { RootKeys } from './config/load.ts'
import type { ReloadReport } from './config/reload.ts'
import type { NodeConfig } from './config/schema.ts'
import { type DataDirectory, openDataDirectory } from './data-directory.ts'
import type { RegionKey } from './links/region-key.ts'
import { bindListener, dialable, listeners } from './listeners.ts'
import { openLocalDoor } from './local-door.ts'
import { refuseLostCatalog } from './lost-catalog.ts'
import { adminEndpointOf, openManagement } from './management.ts'
import { createNodeAdmin } from './node-admin.ts'
import { startMaintenance } from './node-maintenance.ts'
import { openOwnChunkStore } from './own-chunk-store.ts'
import { openConfigInForce, type ReadConfig } from './region-config/config-in-force.ts'
import type { TakenVersion } from './region-config/taken-version.ts'
import { createCredentialSource, createSecretSealer } from './sealed-secrets.ts'
import { startTracing } from './start-tracing.ts'
import { StopStack } from './stop-stack.ts'

export interface NodeOptions {
  readonly config: NodeConfig
  /** From the environment; otherwise those of the data directory. */
  readonly rootKeys: RootKeys | undefined
  /** From the environment; otherwise that of `rpc.regionKeyFile` or of the data directory. */
  readonly regionKey?: Uint8Array | undefined
  /** Reads the configuration again from where it came from. Absent: it cannot change while the node runs. */
  readonly readConfig?: ReadConfig
  /** The version of the region's configuration that `config` has been made with. */
  readonly regionConfig?: TakenVersion | undefined
  /** Aborts when the node is to stop before it has started: a node of a cluster waits for others. */
  readonly signal?: AbortSignal
  readonly environment: Environment
  readonly log: Logger
  readonly version: string
}

export interface RunningNode {
  readonly facts: ReadyFacts
  readonly rootKeys: RootKeys
  readonly rootKeysFrom: DataDirectory['rootKeysFrom']
  /** Undefined for a node that has nothing to do with others. */
  readonly regionKey: Omit<RegionKey, 'key'> | undefined
  /** Resolves when an admin call asks the node to stop. */
  readonly stopRequested: Promise<void>
  /** Resolves with the reason when the node can no longer do its work. The owner stops it and ends the process. */
  readonly failure: Promise<StorageError>
  /** Classes, budgets and what became of requests; its numbers may be changed while the node runs. */
  readonly qos: Qos
  /** Reads the configuration again and puts into force what may change. INVALID_CONFIG: everything stays as it is. */
  reloadConfig(): Promise<ReloadReport>
  /** Reverse of the start; resolves with the names of the parts that did not stop cleanly. Idempotent. */
  stop(): Promise<readonly string[]>
}

/** What a program that started the node wants to know: the fields of the ready line. */
export interface ReadyFacts {
  readonly s3: string
  readonly admin: string
  readonly adminSocket: string
  readonly console: string
  /** Where other nodes reach this one; empty: it serves none. */
  readonly rpc: string
  readonly data: string
  readonly store: string
  readonly backend: string
  readonly pid: number
  readonly version: string
  readonly startedInMs: number
}

/** Time that parts get to stop, beyond the drain of requests. */
const partDeadlineMs = 10_000

/**
 * Starts a node part by part; what has been started is stopped again when a later part fails. The order is the order of
 * need: directory and lock, console (so that health can say `starting`), chunk store, catalog, S3, admin, background.
 */
export async function startNode(options: NodeOptions): Promise<RunningNode> {
  const parts = new StopStack(options.environment.clock, options.log)
  try {
    return await start(options, parts)
  } catch (error) {
    await parts.stop()
    throw error
  }
}

async function start(options: NodeOptions, parts: StopStack): Promise<RunningNode> {
  const { config, environment, log, version } = options
  const { clock, randomness } = environment
  const began = clock.monotonic()
  const startedMs = clock.now()

  // The modules load while the directory is being opened.
  const loading = Promise.all([
    import('../gateway/s3/server.ts'),
    import('../gateway/s3/target.ts'),
    import('../../native/addon.ts'),
    import('../catalog/catalog.ts'),
    import('../catalog/write-registry.ts'),
    import('../control/admin-server.ts'),
    import('../qos/open-qos.ts'),
    import('./policies/node-policies.ts'),
    import('./links/start-links.ts'),
    import('./federation/start-federation.ts'),
    import('./federation/start-replication.ts'),
    import('./federation/start-failover.ts'),
    import('./federation/start-sharing.ts'),
    import('./node-console.ts'),
  ])
  loading.catch(() => undefined)

  const isCluster = Object.keys(config.cluster.nodes).length > 0
  const clusterModules = isCluster
    ? await Promise.all([import('./cluster/open-foundation.ts'), import('./cluster/start-cluster.ts')])
    : undefined
  const membership = await clusterModules?.[0].readMembership(config, environment, log)
  const data = await openDataDirectory({
    path: config.data,
    regionId: config.regionId,
    version,
    randomness,
    rootKeys: options.rootKeys,
    ...(membership === undefined ? {} : { shared: membership.keys }),
  })
  parts.push('data directory', partDeadlineMs, () => data.close())
  const management = await openManagement({
    ...{ config, environment, log, version, parts },
    deadlineMs: partDeadlineMs,
  })
  const { health, metrics, sources, certificate, consoleEndpoint, fail, requestStop } = management
  const requests = createRequestTelemetry(metrics.registry, log.child({ part: 's3' }))
  const tracing = startTracing({
    ...{ config, version, environment, registry: metrics.registry },
    log: log.child({ part: 'traces' }),
  })
  // Stopped late: what other parts do while they stop may still be told. And whatever fails from here on, its loop must not keep the process.
  if (tracing !== undefined) parts.push('traces', partDeadlineMs, () => tracing.close())
  const audit = await startAudit({
    ...{ config, environment, registry: metrics.registry },
    log: log.child({ part: 'audit' }),
  })
  if (audit !== undefined) parts.push('audit log', partDeadlineMs, () => audit.close())

  const [
    gatewayModule,
    target,
    addon,
    catalogModule,
    registryModule,
    control,
    qosModule,
    policiesModule,
    linksModule,
    federationModule,
    replicationModule,
    failoverModule,
    sharingModule,
    consoleModule,
  ] = await loading
  parts.mark('modules')

  const local = await openOwnChunkStore({
    ...{ config, data, isCluster, randomness, addon },
    log: log.child({ part: 'store' }),
  })
  parts.push('chunk store', partDeadlineMs, () => local.close())
  health.setStore(local)
  sources.store = () => local.stats()

  const onFailure = (error: StorageError): void => {
    health.report('catalog', `the node stops, for the catalog cannot be written: ${error.reason}`)
    fail(error)
  }
  const foundation =
    clusterModules === undefined || membership === undefined
      ? undefined
      : await clusterModules[0].openFoundation({
          ...{ config, membership, health, environment, log, onFailure, parts, deadlineMs: partDeadlineMs },
          dataPath: data.path,
          catalogPath: data.catalogPath,
          signal: options.signal ?? new AbortController().signal,
        })
  const catalog =
    foundation?.catalog ??
    (await catalogModule.openCatalog({
      directory: data.catalogPath,
      regionId: config.regionId,
      environment,
      inlineBytes: config.s3.inlineBytes,
      log: log.child({ part: 'catalog' }),
      onFailure,
      onWait(reason) {
        if (reason === undefined) health.clear('catalog')
        else health.report('catalog', `changes are refused: ${reason}`)
      },
    }))
  if (foundation === undefined) parts.push('catalog', partDeadlineMs, () => catalog.close())
  await refuseLostCatalog(catalog, local, data)
  sources.catalog = () => catalog.stats()

  const qos = qosModule.openQos({
    config: config.qos,
    environment,
    log: log.child({ part: 'qos' }),
    registry: metrics.registry,
    nextTurn: setImmediate,
  })
  parts.push('quality of service', partDeadlineMs, async () => qos.close())
  // Without admission no request has a class: then the numbers of the classes are nobody's.
  if (config.qos.enabled && local.planSink !== undefined) qos.addPlanSink(local.planSink)

  const sla = createSlaMonitor({
    classes: qos.tables().classes,
    objectives: config.telemetry.objectives,
    ...{ clock, registry: metrics.registry },
  })
  const policies = await policiesModule.openNodePolicies({
    config: config.policies,
    node: config.node,
    catalog,
    qos,
    classTargetMs: (name) => config.qos.classes[name]?.slo ?? 0,
    environment,
    log: log.child({ part: 'policies' }),
    registry: metrics.registry,
  })
  parts.push('policies', partDeadlineMs, () => policies.close())

  // After the policies, which choose the transports, and before everything that reads or writes chunks.
  const links = await linksModule.startLinks({
    config,
    data,
    regionKey: membership?.keys.regionKey ?? options.regionKey,
    chunks: local,
    policies,
    health,
    registry: metrics.registry,
    environment,
    log: log.child({ part: 'links' }),
  })
  parts.push('links to other nodes', partDeadlineMs, () => links.close())
  tracing?.follow(() => links.served())

  const cluster =
    clusterModules === undefined || foundation === undefined
      ? undefined
      : clusterModules[1].startCluster({
          ...{
            config,
            foundation,
            local,
            links,
            qos,
            health,
            environment,
            parts,
            registry: metrics.registry,
            deadlineMs: partDeadlineMs,
          },
          log: log.child({ part: 'cluster' }),
        })
  const chunks = cluster?.chunks ?? local
  const writes =
    cluster?.writes ?? registryModule.createWriteRegistry(environment, { afterMs: catalog.lastTimeMs() })
  const sealer = createSecretSealer(data.sealingKey, randomness)
  let current = (): NodeConfig => config
  const federation = federationModule.startFederation({
    ...{ config, catalog, sealer, environment },
    current: () => current(),
    seals: await federationModule.openPayloadSeals({ config, environment, log }),
    select: (input) => policies.decisions.select(input),
    isCoordinator: () => cluster?.isCoordinator() ?? true,
    log: log.child({ part: 'federation' }),
  })
  parts.push('tunnels to other regions', partDeadlineMs, () => federation.close())
  registerTunnelMetrics(metrics.registry, () => federation.status())
  registerLinkShareMetrics(metrics.registry, () => federation.shares())
  const replication = replicationModule.startReplication({
    ...{ config, catalog, chunks, writes, environment },
    tunnels: federation,
    joined: async () => (await federation.status()).peers,
    resolve: (input) => policies.decisions.resolve(input),
    ...{ registry: metrics.registry, tracing },
    isCoordinator: () => cluster?.isCoordinator() ?? true,
    log: log.child({ part: 'replication' }),
  })
  parts.push('replication', partDeadlineMs, () => replication.close())

  const isEdge = config.role === 'edge'
  const failover = !isEdge
    ? failoverModule.startFailover({
        ...{ regionId: config.regionId, catalog, tunnels: federation, environment },
        joined: () => federation.status().peers.map(({ regionId }) => regionId),
        endpoints: config.s3.endpoints,
        ...(cluster === undefined ? {} : { nodes: cluster.nodes }),
        replication: () => replication.status(),
        log: log.child({ part: 'failover' }),
      })
    : undefined
  if (failover !== undefined) parts.push('failover', partDeadlineMs, () => failover.close())
  const sharing = sharingModule.startSharing({
    ...{ config, version, catalog, sealer, health, environment, tunnels: federation },
    rootAccessKeyId: data.rootKeys.accessKeyId,
    region: { policies: policies.backend, replication: () => replication.status() },
    ...(failover === undefined ? {} : { failover: failover.administration }),
    registry: metrics.registry,
    isCoordinator: () => cluster?.isCoordinator() ?? true,
    log: log.child({ part: 'sharing' }),
  })
  parts.push('sharing with other regions', partDeadlineMs, () => sharing.close())
  const gateway: Gateway = {
    catalog: failover === undefined ? catalog : { ...catalog, submit: failover.submit },
    chunks,
    writes,
    environment,
    log: log.child({ part: 's3' }),
    config: {
      region: config.region,
      domains: config.s3.domains,
      inlineBytes: config.s3.inlineBytes,
      chunkBytes: config.s3.chunkBytes,
      windowBytes: config.s3.windowBytes,
      idleTimeoutMs: config.s3.idleTimeout,
      maxConnections: config.s3.maxConnections,
    },
    ...(cluster === undefined ? {} : { erasure: cluster.erasure }),
    replication: replication.gateway,
    ...(tracing === undefined ? {} : { outboxTraces: tracing.outboxTraces }),
    ...(failover === undefined ? {} : { failover: failover.gateway }),
    credentials: createCredentialSource(data.rootKeys, catalog, sealer, (accessKeyId, error) =>
      log.error({ accessKeyId, err: error }, 'an access key cannot be used'),
    ),
  }

  const maintenance = startMaintenance({
    ...{ config, catalog, chunks, writes, health, metrics, environment, log },
    ...(cluster === undefined ? {} : { region: { local, ...cluster } }),
  })
  parts.push('background work', partDeadlineMs, () => maintenance.stop())

  const localDoor = await openLocalDoor(config, environment, log)
  const s3 = gatewayModule.createS3Server(gateway, {
    local: localDoor,
    observer: observeAll(requests, sla, audit),
    tracer: tracing?.tracer,
    tls: certificate,
    ...(config.qos.enabled ? { admission: qos.admission } : {}),
  })
  const s3Address = await bindListener(listeners.s3, config.s3.listen, () =>
    s3.listen(config.s3.listen.host, config.s3.listen.port),
  )
  // The drain has its own time-out inside; the margin is for cutting what is left.
  parts.push('S3 endpoint', config.stop.drainTimeout + 2_000, () => s3.close(config.stop.drainTimeout))
  await s3.listenLocally()

  const scheme = certificate === undefined ? 'http' : 'https'
  const s3Endpoint = `${scheme}://${dialable({ host: config.s3.listen.host, port: s3Address.port })}`
  const inForce = openConfigInForce({
    ...{ config, health, clock, qos, catalog },
    dataPath: data.path,
    taken: options.regionConfig,
    readConfig: options.readConfig,
    refreshCertificate: async () => (await certificate?.refresh()) ?? false,
    ...(foundation === undefined
      ? {}
      : {
          region: {
            peers: foundation.peers,
            members: () => foundation.catalog.clusterMap().nodes.map(({ name }) => name),
          },
        }),
    log: log.child({ part: 'config' }),
  })
  current = inForce.current
  parts.push("the region's configuration", partDeadlineMs, () => inForce.region.close())
  let adminEndpoint = ''
  const adminBackend = createNodeAdmin({
    facts: () => ({
      version,
      node: config.node,
      region: config.region,
      startedMs,
      s3Endpoint,
      adminEndpoint,
      consoleEndpoint,
      dataDirectory: data.path,
    }),
    rootAccessKeyId: data.rootKeys.accessKeyId,
    catalog,
    chunks,
    sealer,
    health,
    environment,
    inFlight: () => requests.inFlight(),
    objectives: () =>
      sla.report().map(({ burnRates, ...objective }) => ({ ...objective, burnRate_1h: burnRates['1h'] })),
    metrics: () => metrics.scrape(),
    links: () => links.report(),
    checkBucketName(name) {
      if (!target.isBucketName(name)) {
        throw new StorageError(
          'INVALID_BUCKET_NAME',
          `'${name}' is not a bucket name: it has ${target.bucketNameRule}`,
        )
      }
    },
    scan: maintenance.scan,
    scrub: maintenance.scrub,
    collect: maintenance.collect,
    reloadConfig: inForce.reload,
    stop: requestStop,
  })
  const administration = {
    backend: adminBackend,
    policies: policies.backend,
    cluster: cluster?.backend ?? noCluster(config.node),
    federation,
    sharing,
    replication,
    failover:
      failover?.administration ??
      failoverModule.noFailover('an edge has no vote and cannot be in a failover group'),
    config: inForce.region,
    keys: data.rootKeys,
  }
  const admin = await bindListener(listeners.admin, config.admin.listen, () =>
    control.startAdminServer({
      ...administration,
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
  await consoleModule.attachNodeConsole({
    ...{ admin: administration, management, credentials: gateway.credentials, s3, environment, parts },
    facts: { node: config.node, region: config.region, version },
    audit: audit?.call,
    log: log.child({ part: 'console' }),
    deadlineMs: partDeadlineMs,
  })

  parts.push('readiness', partDeadlineMs, async () => health.setState('stopping'))
  health.setState('ready')
  cluster?.arrive()
  const { backend } = await chunks.stats()
  const facts: ReadyFacts = {
    s3: s3Endpoint,
    admin: adminEndpoint,
    adminSocket: join(data.path, 'admin.sock'),
    console: consoleEndpoint,
    rpc: links.rpcAddress ?? '',
    data: data.path,
    store: chunks.kind,
    backend,
    pid: process.pid,
    version,
    startedInMs: Math.round(clock.monotonic() - began),
  }
  log.info({ event: 'ready', ...facts }, 'ready')
  return {
    facts,
    rootKeys: data.rootKeys,
    rootKeysFrom: data.rootKeysFrom,
    regionKey: links.regionKey,
    stopRequested: management.stopRequested,
    failure: management.failure,
    qos,
    reloadConfig: inForce.reload,
    stop: () => parts.stop(),
  }
}
