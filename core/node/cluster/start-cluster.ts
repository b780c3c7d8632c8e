import type { WritesElsewhere } from '../../catalog/collector.ts'
import { createWriteRegistry } from '../../catalog/write-registry.ts'
import type { ClusterPeer } from '../../cluster/chunks/peers.ts'
import { openRegionChunks } from '../../cluster/chunks/region-chunks.ts'
import { RegionLock } from '../../cluster/locks/region-lock.ts'
import { withStripes } from '../../cluster/placement/change-map.ts'
import type { ChunkStore } from '../../contract/chunk-store.ts'
import type { Environment } from '../../contract/clock.ts'
import type { ClusterMap, ClusterNode } from '../../contract/cluster-map.ts'
import type { ClusterRepairReport } from '../../contract/cluster-report.ts'
import type { ErasureScheme } from '../../contract/erasure.ts'
import { StorageError } from '../../contract/errors.ts'
import type { ChunkId } from '../../contract/ids.ts'
import type { Logger } from '../../contract/logger.ts'
import type { RegionPeers } from '../../contract/region-peers.ts'
import type { WriteRegistry } from '../../contract/write-registry.ts'
import type { ClusterBackend } from '../../control/cluster-service.ts'
import { orderReplicas } from '../../protocol/replicas.ts'
import type { Qos } from '../../qos/open-qos.ts'
import { registerClusterMetrics } from '../../telemetry/cluster-metrics.ts'
import type { Registry } from '../../telemetry/metrics.ts'
import { erasureOf, schemesOf, stripeWidths } from '../config/cluster-schema.ts'
import type { PeerConfig } from '../config/rpc-schema.ts'
import type { NodeConfig } from '../config/schema.ts'
import type { NodeLinks } from '../links/node-links.ts'
import type { NodeHealth } from '../node-health.ts'
import type { StopStack } from '../stop-stack.ts'
import { createClusterAdmin } from './cluster-admin.ts'
import { canOrder, moveOf, type NodeView, reportCluster } from './cluster-report.ts'
import { type OwnEntry, seatOf, withArrival, withSeatKept, withVoters } from './map-upkeep.ts'
import { entryOf, type Foundation } from './open-foundation.ts'
import { encodeNodeReport, parseNodeReport, repairReport } from './repair-report.ts'
import { Upkeep } from './upkeep.ts'

export interface ClusterParts {
  readonly config: NodeConfig
  readonly foundation: Foundation
  readonly local: ChunkStore
  readonly links: NodeLinks
  readonly qos: Qos
  readonly health: Pick<NodeHealth, 'report'>
  readonly environment: Environment
  readonly registry: Registry
  readonly log: Logger
  readonly parts: StopStack
  readonly deadlineMs: number
}

export interface RunningCluster {
  /** The chunks of the whole region. */
  readonly chunks: ChunkStore
  readonly writes: WriteRegistry
  /** What the collector asks of the other nodes. */
  readonly elsewhere: WritesElsewhere
  /** Whether this node does what only one of the region does. */
  isCoordinator(): boolean
  /** How the nodes of the region talk, and which of its voters are there, in the order in which one of them coordinates. */
  readonly nodes: { readonly self: string; readonly peers: RegionPeers; voters(): readonly string[] }
  /** The lock under which garbage of the region is freed. */
  readonly collection: Pick<RegionLock, 'hold' | 'release'>
  /** A chunk here is not what it was: it is fetched anew. */
  replace(id: ChunkId): void
  /** How the chunks of new objects of a storage class are kept. */
  readonly erasure: (storageClass: string) => ErasureScheme | undefined
  readonly backend: ClusterBackend
  /** This node serves: from now on it may hold chunks. */
  arrive(): void
}

const sharingTopic = 'qos'
const reportTopic = 'report'
const reportDeadlineMs = 1_000

/** What a node does as one of several: chunks at several nodes, its own entry in the map, budgets of the region. */
export function startCluster(options: ClusterParts): RunningCluster {
  const { config, foundation, local, links, environment, log, parts, deadlineMs } = options
  const { catalog, peers, order, membership } = foundation
  const { clock } = environment
  const own = entryOf(config.rpc, membership.own, catalog.incarnation)

  let map = catalog.clusterMap()
  const writes = createWriteRegistry(environment, {
    slot: () => slotOf(map, own),
    afterMs: catalog.lastTimeMs(),
  })
  links.setPeers(peerConfigs(map, config.node))
  foundation.notices.attach(links)
  const isHere = (name: string): boolean => name === config.node || peers.connected().includes(name)
  const votersHere = (): readonly string[] =>
    map.nodes.filter(({ name, voter }) => voter && isHere(name)).map(({ name }) => name)
  const coordinator = (): string | undefined => votersHere()[0]
  const isCoordinator = (): boolean => coordinator() === config.node && seatOf(map, own) !== undefined
  const region = openRegionChunks({
    self: config.node,
    local,
    chunkPeers: (name) => clusterPeer(links, name),
    peers,
    catalog,
    writes,
    coordinator,
    async refreshMap() {
      await catalog.barrier()
      follow(catalog.clusterMap())
    },
    onMoved: (epoch, moved) => links.setMapEpoch(epoch, moved),
    acks: config.cluster.acks,
    bytesPerSecond: config.cluster.repairRate,
    order: (views) => orderReplicas(views, Math.random),
    clock,
    log,
  })
  parts.push('chunks of the region', deadlineMs, () => region.close())
  const collection = new RegionLock({ catalog, name: 'collection', owner: config.node, clock })
  let hasArrived = false
  const upkeep = new Upkeep({
    catalog,
    steps: [
      (latest) => withSeatKept(latest, own),
      (latest) =>
        hasArrived && seatOf(latest, own) !== undefined ? withArrival(latest, own.name) : undefined,
      (latest) => withStripes(latest, stripeWidths(config.cluster)),
      (latest) => (isCoordinator() ? withVoters(latest, isHere) : undefined),
    ],
    clock,
    log,
  })
  parts.push('upkeep of the cluster map', deadlineMs, () => upkeep.stop())
  const follow = (next: ClusterMap): void => {
    if (next.epoch <= map.epoch) return
    map = next
    if (seatOf(map, own) === undefined) {
      const isReplaced = map.nodes.some(({ name }) => name === own.name)
      const what = isReplaced
        ? `another process is ${own.name} in the region now`
        : 'this node was taken out of the region'
      const sentence = `${what}: this process takes no writes any more; stop it`
      options.health.report('cluster', sentence)
      log.warn({ epoch: map.epoch }, sentence)
      return
    }
    links.setPeers(peerConfigs(map, config.node))
    region.setMap(map)
    upkeep.wake()
  }
  const unfollow = catalog.onClusterMap(follow)
  follow(catalog.clusterMap())
  parts.push('the cluster map', deadlineMs, async () => unfollow())

  const shared = options.qos.shareBudgets({
    others: () => peers.connected(),
    send(message) {
      for (const name of peers.connected()) peers.send(name, sharingTopic, message)
    },
  })
  const unserve = peers.serve(sharingTopic, { message: (from, message) => shared.hear(from, message) })
  parts.push('budgets of the region', deadlineMs, async () => {
    unserve()
    shared.stop()
  })

  const reportRepair = (): ClusterRepairReport => repairReport(region.repair.status())
  const unserveReport = peers.serve(reportTopic, {
    request: async () =>
      encodeNodeReport({ repair: reportRepair(), waitsFor: catalog.status().waitsFor ?? '' }),
  })
  parts.push('reports to other nodes', deadlineMs, async () => unserveReport())
  const viewOf = async (name: string): Promise<NodeView> => {
    const isConnected = peers.connected().includes(name)
    const answer = isConnected
      ? await peers
          .request(name, reportTopic, new Uint8Array(0), { deadlineMs: reportDeadlineMs })
          .catch(() => undefined)
      : undefined
    return {
      health: isConnected ? 'alive' : 'dead',
      silentForMs: catalog.status().voters.find((voter) => voter.name === name)?.heardMsAgo ?? 0,
      transport: links.links.get(name)?.active ?? '',
      report: answer === undefined ? undefined : parseNodeReport(answer),
    }
  }
  registerClusterMetrics(options.registry, () => {
    const repair = region.repair.status()
    const { missing, repairedChunks, repairedBytes } = repairReport(repair)
    const { movingNodes, movedNodes } = moveOf(map)
    const { generation, position, confirmed, pendingEntries, activity } = catalog.status()
    return {
      epoch: map.epoch,
      nodes: map.nodes.map(({ name, voter }) => ({ name, voter, isUp: isHere(name) })),
      isCoordinator: isCoordinator(),
      log: {
        ...{ generation, position, confirmed, pendingEntries },
        isWritable: canOrder({ map, catalog: { activity }, servers: order.report(), isHere }),
      },
      repair: { missingChunks: missing, lostChunks: repair.lostChunks, repairedChunks, repairedBytes },
      movingNodes: movingNodes - movedNodes,
    }
  })
  const report = async () => {
    const others = map.nodes.map(({ name }) => name).filter((name) => name !== config.node)
    const views = await Promise.all(others.map(async (name) => [name, await viewOf(name)] as const))
    return reportCluster({
      node: config.node,
      map,
      acks: config.cluster.acks,
      coordinator: coordinator(),
      catalog: catalog.status(),
      servers: order.report(),
      repair: reportRepair(),
      others: new Map(views),
    })
  }
  return {
    chunks: region.store,
    writes,
    elsewhere: region.elsewhere,
    isCoordinator,
    nodes: { self: config.node, peers, voters: votersHere },
    collection,
    replace: (id) => region.repair.report({ id, node: config.node, problem: 'corrupt' }),
    erasure: (storageClass) => erasureOf(config.cluster, storageClass),
    backend: createClusterAdmin({
      ...{ catalog, report, isHere, acks: config.cluster.acks, schemes: schemesOf(config.cluster) },
      onChange: () => upkeep.wake(),
    }),
    arrive() {
      hasArrived = true
      upkeep.wake()
    },
  }
}

/** A process that is not in the map (yet, or any more) takes no writes: nobody could tell its ids from those of others. */
function slotOf(map: ClusterMap, own: OwnEntry): number {
  const slot = seatOf(map, own)?.slot
  if (slot === undefined) {
    throw new StorageError(
      'UNAVAILABLE',
      `this node is not in the cluster map as ${own.name}: it takes no writes`,
    )
  }
  return slot
}

function clusterPeer(links: NodeLinks, name: string): ClusterPeer | undefined {
  const link = links.links.get(name)
  if (link === undefined) return undefined
  return {
    chunks: link,
    distance: link.peer.distance,
    isUsable: link.active !== undefined,
    p50Ms: link.latency.p50Ms,
  }
}

/** A link to each of the others. A socket in shared memory is of no use to another machine. */
function peerConfigs(map: ClusterMap, self: string): readonly PeerConfig[] {
  const me = map.nodes.find(({ name }) => name === self)
  return map.nodes
    .filter(({ name }) => name !== self)
    .map((node) => {
      const { tcp = '', rdma = '', ipoib = '', shm = '' } = node.transports
      const isSameHost = me !== undefined && hostOf(node) === hostOf(me)
      return {
        name: node.name,
        addresses: { tcp, rdma, ipoib, shm: isSameHost ? shm : '' },
        distance: distanceOf(node, me),
      }
    })
}

const hostOf = ({ control }: ClusterNode): string => control.slice(0, control.lastIndexOf(':'))

function distanceOf(node: ClusterNode, me: ClusterNode | undefined): PeerConfig['distance'] {
  if (me === undefined || node.zone !== me.zone) return 'auto'
  if (node.zone === '') return 'auto'
  return node.rack !== '' && node.rack === me.rack ? 'rack' : 'zone'
}
