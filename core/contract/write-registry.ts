import type { WriteId } from './ids.ts'

/**
 * Who is using which stored body right now, so that collection never frees bytes under a reader or before the entry that
 * names them has been acknowledged.
 */
export interface WriteRegistry {
  /** A new write id, registered as in flight until `settle`. */
  begin(): WriteId
  /** The write is either named by an acknowledged entry or its chunks have been deleted. */
  settle(writeId: WriteId): void
  isInFlight(writeId: WriteId): boolean
  /** Keeps the chunks of a write while they are read; call the result once, when done. */
  pin(writeId: WriteId): () => void
  isPinned(writeId: WriteId): boolean
}
