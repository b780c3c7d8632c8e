import type { WriteId } from './ids.ts'

/**
 * What this process is doing with bodies right now: which writes are in flight (chunks may be in the store that no
 * catalog row names yet) and which are being read (chunks must outlive the overwrite or delete that freed them).
 * The collector asks it before it deletes a chunk. All calls are synchronous and never wait.
 *
 * The order that makes it safe, on the one thread that reads the catalog and runs the collector:
 * - a writer calls `begin` before its first chunk, and `settle` only after its `submit` has settled (or after it gave up and
 *   no chunk put of it is pending any more); a client that went away does not settle a write whose `submit` is pending;
 * - a reader calls `pin` for every extent in the same turn in which it read the object's record, before any await.
 */
export interface WriteRegistry {
  /** A new write id, never handed out before by this process; in flight until settled. */
  begin(): WriteId
  /** The write is over, whatever its outcome: the catalog alone now says whether its chunks live. Idempotent. */
  settle(writeId: WriteId): void
  /** Keeps the chunks of a write in the store until the returned function is called (once or more often). */
  pin(writeId: WriteId): () => void

  isInFlight(writeId: WriteId): boolean
  /**
   * The one that was begun first of those in flight. Ids of one process ascend in the order of `begin`: when the oldest is behind
   * some id, everything begun before that id is over.
   */
  oldestInFlight(): WriteId | undefined
  isPinned(writeId: WriteId): boolean
  /** How many writes are in flight, and how many are pinned: gauges. */
  counts(): { readonly inFlight: number; readonly pinned: number }
}
