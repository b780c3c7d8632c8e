import type { Catalog } from '../../contract/catalog.ts'
import type { ChunkStore } from '../../contract/chunk-store.ts'
import type { Clock } from '../../contract/clock.ts'
import type { Logger } from '../../contract/logger.ts'
import type { RegionPeers } from '../../contract/region-peers.ts'
import type { ChunkLayout } from './layout.ts'
import type { MapFence } from './map-fence.ts'
import type { ClusterPeers } from './peers.ts'
import type { Rebuilder } from './rebuild.ts'

export interface RepairParts {
  readonly self: string
  /** This node's own store. */
  readonly local: Pick<ChunkStore, 'delete' | 'get' | 'has' | 'list' | 'put'>
  readonly chunkPeers: ClusterPeers
  /** Computes fragments that nobody has any more. */
  readonly rebuilder: Pick<Rebuilder, 'rebuild'>
  readonly peers: Pick<RegionPeers, 'connected' | 'onChange' | 'send' | 'serve'>
  readonly layout: () => ChunkLayout
  readonly catalog: Pick<Catalog, 'barrier' | 'writeOwner' | 'writes'>
  readonly fence: Pick<MapFence, 'passedEverywhere'>
  readonly clock: Clock
  readonly log: Logger
  /** Ceiling of what is fetched; 64 MiB unless told. */
  readonly bytesPerSecond?: number
  /** Chunks that are looked up in our own store; 20,000 unless told. */
  readonly checksPerSecond?: number
  /** How busy the foreground is, 0 to 1: the rate of repair falls with it. Unless told, what its fetches tell (`Yielding`). */
  readonly pressure?: () => number
  /** Between two walks when nothing happens; 6 h unless told. */
  readonly intervalMs?: number
  /** How long an unfinished round waits for its next try; 5 s unless told, doubled up to 5 min. */
  readonly retryMs?: number
}

export interface RepairStatus {
  readonly state: 'idle' | 'looking' | 'fetching'
  /** The last round found everything that this node must hold, or fetched it, and nothing was reported since. */
  readonly complete: boolean
  /**
   * A round that began after the last reason to look (the start, a connection that came back, another map) has ended: before that the
   * other numbers say nothing of what this node lacks.
   */
  readonly isKnown: boolean
  /** The move (its `fromEpoch`) that this node is complete for: it lacks nothing that anybody may have. */
  readonly completeFor: number | undefined
  /** Of the round under way, or of the last one. */
  readonly checkedChunks: number
  readonly missingChunks: number
  /** Those that are lost are among them. */
  readonly unresolvedChunks: number
  /** Chunks that are nowhere although all who could have them have answered: data is lost. No move waits for them. */
  readonly lostChunks: number
  readonly queuedChunks: number
  readonly queuedBytes: number
  /** Since the process began. */
  readonly fetchedChunks: number
  readonly fetchedBytes: number
  readonly rounds: number
  /** Copies here of groups that others hold now, which are not yet sound at all of them. */
  readonly leftoverChunks: number
  readonly freedLeftovers: number
  /** Why the last round did not end well; empty: it did. */
  readonly problem: string
}
