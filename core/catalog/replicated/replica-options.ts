import type { Environment } from '../../contract/clock.ts'
import type { StorageError } from '../../contract/errors.ts'
import type { Logger } from '../../contract/logger.ts'
import type { NoticeBoard } from '../../contract/notice-board.ts'
import type { OrderStreams } from '../../contract/order-stream.ts'
import type { Position } from '../../contract/ordered-log.ts'
import type { RegionPeers } from '../../contract/region-peers.ts'
import type { AppliedEntry, ReplicaStore } from './replica-store.ts'

export interface ReplicaOptions {
  readonly name: string
  readonly bootstrap: readonly string[]
  /** Names of streams begin with it. */
  readonly streamPrefix: string
  readonly store: ReplicaStore
  readonly streams: OrderStreams
  readonly peers: RegionPeers
  /** A shorter way to how far the others have come; without it they are asked. */
  readonly board?: NoticeBoard
  /** Resolves when what this turn of the event loop has brought was looked at; without it nothing is gathered for that long. */
  readonly endOfTurn?: () => Promise<void>
  readonly environment: Environment
  readonly log: Logger
  readonly pace?: Partial<ReplicaPace>
  /** After each commit, in order. */
  readonly onApplied: (entries: readonly AppliedEntry[]) => void
  /** The rows were replaced, or another generation began: entries that were applied may be gone, others may have come. */
  readonly onBranch: () => void
  /** Readers see more than before. */
  readonly onShown: (position: Position) => void
  /** Something may be published now that could not be before. */
  readonly onPublishable: () => void
  /** Called once, when the store has failed. */
  readonly onFailure: (error: StorageError) => void
}

/** Times and bounds; only how fast the replica recovers depends on the times, never what is true. */
export interface ReplicaPace {
  /** Everybody tells everybody how far they are at least this often. */
  readonly progressMs: number
  /** The stream's state is compared with what was applied this often, and an answer is waited for this long. */
  readonly stateCheckMs: number
  readonly stateAnswerMs: number
  /** Not heard from for so long, the server that orders the log is lost; sooner when its connection has ended. */
  readonly orderLostMs: number
  readonly orderBrokenMs: number
  /** Whether it is lost is looked at this often. */
  readonly orderCheckMs: number
  /** What all have applied is trimmed from the stream this often. */
  readonly trimMs: number
  readonly requestMs: number
  /** Between two pieces of what a peer sends to a node that catches up. */
  readonly pieceMs: number
  /** After a promise that nothing came of, somebody proposes again after about this long. */
  readonly promiseMs: number
  /** A suspicion about the stream is acted upon by the first voter after this, by the others each this much later. */
  readonly rankMs: number
  readonly retryMs: number
  readonly maxRetryMs: number
  /** Entries applied and not confirmed: beyond, the stream has to wait. Bounds what a promise must report, too. */
  readonly maxUnconfirmed: number
  /** The voters that answered a prepare are enough; the others get this much longer, since the longest tip loses the least. */
  readonly graceMs: number
}

export const defaultPace: ReplicaPace = {
  progressMs: 1000,
  stateCheckMs: 400,
  stateAnswerMs: 700,
  orderLostMs: 1000,
  orderBrokenMs: 500,
  orderCheckMs: 100,
  trimMs: 5000,
  requestMs: 2000,
  pieceMs: 10_000,
  promiseMs: 2500,
  rankMs: 150,
  retryMs: 100,
  maxRetryMs: 3000,
  maxUnconfirmed: 8192,
  graceMs: 150,
}
