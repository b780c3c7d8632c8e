import type { Environment } from '../../contract/clock.ts'
import type { ClusterMap } from '../../contract/cluster-map.ts'
import type { StorageError } from '../../contract/errors.ts'
import type { Logger } from '../../contract/logger.ts'
import type { NoticeBoard } from '../../contract/notice-board.ts'
import type { OrderStreams } from '../../contract/order-stream.ts'
import type { Position } from '../../contract/ordered-log.ts'
import type { RegionPeers } from '../../contract/region-peers.ts'
import type { EmbeddedCatalog } from '../catalog.ts'

export interface ReplicatedCatalogOptions {
  /** Made when missing; the catalog alone writes into it. May hold the catalog of a region of one node. */
  readonly directory: string
  readonly environment: Environment
  readonly regionId: number
  /** Bodies of at most this many bytes may travel inline; INVALID_ARGUMENT beyond. */
  readonly inlineBytes: number
  readonly streams: OrderStreams
  readonly peers: RegionPeers
  /** A shorter way to how far the others have come; without it they are asked. */
  readonly board?: NoticeBoard
  /** This node's name, as the others' certificates and maps know it. */
  readonly name: string
  /** Names of the nodes that found the region: the same list on each of them. */
  readonly bootstrap: readonly string[]
  /**
   * The first map of the region: epoch 1, all of `members` are its voters. Called on one of the bootstrap nodes (or on several,
   * one of whose maps is taken).
   */
  readonly firstMap: (members: readonly CatalogMember[]) => ClusterMap
  readonly log?: Logger
  /** Called once, when nothing can be written any more: the owner stops the node. */
  readonly onFailure?: (error: StorageError) => void
  /** The device is full: why this node follows the log no further; undefined when it goes on. */
  readonly onWait?: (reason: string | undefined) => void
  /** Newest entries kept for nodes that were away for a while; default 200,000. Beyond, they fetch a whole copy. */
  readonly retainEntries?: number
  readonly minFreeBytes?: number
}

/** A node with one life of its disk. */
export interface CatalogMember {
  readonly name: string
  readonly incarnation: string
}

export interface ReplicatedCatalog extends EmbeddedCatalog {
  /** Made with the catalog's directory and lost with it. 32 hex digits; what the cluster map must say for this node to vote. */
  readonly incarnation: string
  /**
   * Resolves when there is a confirmed state with a cluster map to read. Until then reads throw UNAVAILABLE and changes wait for
   * their deadline. Rejects when the signal aborts or the catalog is closed.
   */
  ready(signal?: AbortSignal): Promise<void>
  status(): CatalogReplicationStatus
  /** Called after the confirmed state has a new cluster map. Several in one step are one call. Returns how to stop. */
  onClusterMap(listener: (map: ClusterMap) => void): () => void
}

export interface CatalogReplicationStatus {
  /** 0: the log has not been founded, or this node has not heard of it. */
  readonly generation: number
  /** Applied and durable here. */
  readonly position: Position
  /** Held by a majority of voters: what readers may see. */
  readonly confirmed: Position
  /** This node's own vote counts. */
  readonly isVoter: boolean
  /** Ascending by name; this node too when it votes. */
  readonly voters: readonly CatalogVoterStatus[]
  /** What the node is doing: `following` is the healthy state. */
  readonly activity: 'starting' | 'following' | 'catching up' | 'founding' | 'waiting'
  /** What keeps it from being healthy, in words for a person; empty when nothing does. */
  readonly problems: readonly string[]
  /** Why it follows the log no further: its device is full. Also among the problems; absent: it does. */
  readonly waitsFor?: string
  /** Entries waiting here for their acknowledgement. */
  readonly pendingEntries: number
}

export interface CatalogVoterStatus extends CatalogMember {
  /** As last reported; undefined: never heard from since this node started. */
  readonly position?: Position
  /** The generation that it is in. */
  readonly generation?: number
  /** How long ago it was heard from; 0 for this node itself. */
  readonly heardMsAgo?: number
}
