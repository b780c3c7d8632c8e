import type { WriteRegistryOptions } from '../../catalog/write-registry.ts'
import { ClusterChunkStore } from '../../cluster/chunks/cluster-store.ts'
import { type ChunkLayout, layoutOf } from '../../cluster/chunks/layout.ts'
import type { ClusterPeer, DamagedCopy } from '../../cluster/chunks/peers.ts'
import type { ChunkStore } from '../../contract/chunk-store.ts'
import type { Environment } from '../../contract/clock.ts'
import type { ClusterMap, ClusterNode } from '../../contract/cluster-map.ts'
import { StorageError } from '../../contract/errors.ts'
import type { Logger } from '../../contract/logger.ts'
import type { ClusterBackend } from '../../control/cluster-service.ts'
import { orderReplicas } from '../../protocol/replicas.ts'
import type { Qos } from '../../qos/open-qos.ts'
import type { PeerConfig } from '../config/rpc-schema.ts'
import type { NodeConfig } from '../config/schema.ts'
import type { NodeLinks } from '../links/node-links.ts'
import type { StopStack } from '../stop-stack.ts'
import { createClusterAdmin } from './cluster-admin.ts'
import { reportCluster } from './cluster-report.ts'
import { withArrival, withOwnEntry, withVoters } from './map-upkeep.ts'
import { entryOf, type Foundation } from './open-foundation.ts'
import { Upkeep } from './upkeep.ts'

export interface ClusterParts {
  readonly config: NodeConfig
  readonly foundation: Foundation
  readonly local: ChunkStore
  readonly links: NodeLinks
  readonly qos: Qos
  readonly environment: Environment
  readonly log: Logger
  readonly parts: StopStack
  readonly deadlineMs: number
}

export interface RunningCluster {
  /** The chunks of the whole region. */
  readonly chunks: ChunkStore
  readonly backend: ClusterBackend
  /** How write ids of this node are kept apart from those of the others. */
  readonly writeIds: Pick<WriteRegistryOptions, 'slot'>
  /** This node serves: from now on it may hold chunks. */
  arrive(): void
}

const sharingTopic = 'qos'

/** What a node does as one of several: chunks at several nodes, its own entry in the map, budgets of the region. */
export function startCluster(options: ClusterParts): RunningCluster {
  const { config, foundation, local, links, environment, log, parts, deadlineMs } = options
  const { catalog, peers, order, membership } = foundation
  const { clock } = environment
  const own = entryOf(config.rpc, membership.own, catalog.incarnation)

  let layout: ChunkLayout = layoutOf(config.node, catalog.clusterMap())
  const follow = (map: ClusterMap): void => {
    layout = layoutOf(config.node, map)
    links.setPeers(peerConfigs(map, config.node))
  }
  follow(catalog.clusterMap())
  const chunks = new ClusterChunkStore({
    self: config.node,
    local,
    peers: (name) => clusterPeer(links, name),
    layout: () => layout,
    acks: config.cluster.acks,
    order: (views) => orderReplicas(views, Math.random),
    clock,
    log,
    damaged: (_copy: DamagedCopy) => undefined,
  })

  const isHere = (name: string): boolean => name === config.node || peers.connected().includes(name)
  const coordinator = (map: ClusterMap): string | undefined =>
    map.nodes.find(({ name, voter }) => voter && isHere(name))?.name
  let hasArrived = false
  const upkeep = new Upkeep({
    catalog,
    steps: [
      (map) => withOwnEntry(map, own),
      (map) => (hasArrived ? withArrival(map, config.node) : undefined),
      (map) => (coordinator(map) === config.node ? withVoters(map, isHere) : undefined),
    ],
    clock,
    log,
  })
  parts.push('upkeep of the cluster map', deadlineMs, () => upkeep.stop())
  const unfollow = catalog.onClusterMap((map) => {
    follow(map)
    upkeep.wake()
  })
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

  const report = async () => {
    const map = catalog.clusterMap()
    const connected = new Set(peers.connected())
    return reportCluster({
      node: config.node,
      map,
      acks: config.cluster.acks,
      coordinator: coordinator(map),
      catalog: catalog.status(),
      servers: order.report(),
      repair: noRepair,
      others: new Map(
        map.nodes
          .filter(({ name }) => name !== config.node)
          .map(({ name }) => [
            name,
            {
              health: connected.has(name) ? 'alive' : 'dead',
              silentForMs: 0,
              transport: links.links.get(name)?.active ?? '',
              repair: undefined,
            },
          ]),
      ),
    })
  }
  return {
    chunks,
    writeIds: { slot: () => slotOf(layout.map, config.node) },
    backend: createClusterAdmin({ catalog, report, onChange: () => upkeep.wake() }),
    arrive() {
      hasArrived = true
      upkeep.wake()
    },
  }
}

/** A node that is not in the map (yet, or any more) takes no writes: nobody could tell its ids from those of others. */
function slotOf(map: ClusterMap, name: string): number {
  const slot = map.nodes.find((node) => node.name === name)?.slot
  if (slot === undefined) {
    throw new StorageError('UNAVAILABLE', `${name} is not in the cluster map: it takes no writes yet`)
  }
  return slot
}

const noRepair = {
  checked: 0,
  total: 0,
  missing: 0,
  repairedChunks: 0,
  repairedBytes: 0,
  removedChunks: 0,
  isWalking: false,
  movedNodes: 0,
  movingNodes: 0,
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
