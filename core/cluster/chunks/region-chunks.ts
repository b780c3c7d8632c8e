import type { Catalog } from '../../contract/catalog.ts'
import type { ChunkStore } from '../../contract/chunk-store.ts'
import type { Clock } from '../../contract/clock.ts'
import type { ClusterMap } from '../../contract/cluster-map.ts'
import type { Logger } from '../../contract/logger.ts'
import type { RegionPeers } from '../../contract/region-peers.ts'
import type { WriteRegistry } from '../../contract/write-registry.ts'
import { ClusterChunkStore, type ClusterStoreParts } from './cluster-store.ts'
import type { FollowMapParts } from './follow-map.ts'
import { layoutOf } from './layout.ts'
import { MapFence } from './map-fence.ts'
import { MoveCoordinator } from './move-coordinator.ts'
import { movedGroups } from './moved-groups.ts'
import type { ClusterPeers } from './peers.ts'
import { RegionHolds } from './region-holds.ts'
import { Repair } from './repair.ts'
import type { RepairParts } from './repair-parts.ts'

export interface RegionChunksParts
  extends Pick<ClusterStoreParts, 'acks' | 'order' | 'stragglers' | 'putDeadlineMs'>,
    Pick<FollowMapParts, 'refreshMap'>,
    Pick<RepairParts, 'bytesPerSecond' | 'checksPerSecond' | 'pressure' | 'intervalMs' | 'retryMs'> {
  readonly self: string
  /** Closed together with the region's store. */
  readonly local: ChunkStore
  readonly chunkPeers: ClusterPeers
  readonly peers: Pick<RegionPeers, 'connected' | 'onChange' | 'request' | 'send' | 'serve'>
  readonly catalog: Pick<Catalog, 'barrier' | 'clusterMap' | 'submit' | 'writeOwner' | 'writes'>
  readonly writes: WriteRegistry
  /** Name of the node that ends moves now: the lowest-named voter that lives, as far as this node knows. */
  readonly coordinator: () => string | undefined
  /** What other nodes must know of the map to write here (TransportListener.setMapEpoch); told at once, and with each map. */
  readonly onMoved?: (epoch: number, moved: Uint32Array) => void
  readonly clock: Clock
  readonly log: Logger
}

/** All that a node of a region does with chunks. */
export interface RegionChunks {
  /** For gateways, and for the collection of garbage. */
  readonly store: ClusterChunkStore
  /** What the collector takes as `elsewhere`. */
  readonly elsewhere: RegionHolds
  readonly repair: Repair
  /** The map in force, from the catalog's confirmed state; an older one than before is ignored. At once; never throws. */
  setMap(map: ClusterMap): void
  /** Stops everything, then closes the stores. */
  close(): Promise<void>
}

/** Starts with the catalog's map of now. CONFLICT when a topic of the peers is taken. */
export function openRegionChunks(parts: RegionChunksParts): RegionChunks {
  const { self, local, chunkPeers, peers, catalog, writes, clock } = parts
  const log = parts.log.child({ part: 'chunks' })
  let layout = layoutOf(self, catalog.clusterMap())
  let groups = movedGroups(undefined, layout)
  parts.onMoved?.(layout.map.epoch, groups.moved)
  const members = () => layout.others
  const fence = new MapFence({ peers, members, writes, clock })
  fence.adopt(layout.map.epoch)
  const elsewhere = new RegionHolds({
    ...{ peers, members, writes, clock },
    slotOf: (member) => layout.map.nodes.find(({ name }) => name === member)?.slot,
    caughtUp: () => catalog.barrier(),
  })
  const store = new ClusterChunkStore({
    ...parts,
    local,
    peers: chunkPeers,
    layout: () => layout,
    damaged: (copy) => repair.report(copy),
    log,
  })
  const repair: Repair = new Repair({
    ...parts,
    layout: () => layout,
    rebuilder: store.rebuilder,
    fence,
    log,
  })
  repair.start()
  const coordinator = new MoveCoordinator({
    self,
    peers,
    map: () => layout.map,
    coordinator: parts.coordinator,
    completeFor: () => repair.status().completeFor,
    submit: async (map) => {
      await catalog.submit({ type: 'set-cluster-map', map })
    },
    clock,
    log,
  })
  return {
    store,
    elsewhere,
    repair,
    setMap(map) {
      if (map.epoch <= layout.map.epoch) return
      layout = layoutOf(self, map)
      groups = movedGroups(groups, layout)
      parts.onMoved?.(map.epoch, groups.moved)
      // Only now: what begins from here on is written by this map.
      fence.adopt(map.epoch)
      repair.wake()
    },
    async close() {
      await coordinator.stop()
      await repair.stop()
      elsewhere.stop()
      fence.stop()
      await store.close()
    },
  }
}
