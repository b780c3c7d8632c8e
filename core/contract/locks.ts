/**
 * Locks of a region: rows of the catalog, given and taken by entries of its log. Which owner is the right one never depends on a clock:
 * whoever believes that an owner is gone says so in an entry, which counts only if that owner has not renewed meanwhile. What an owner
 * does under its lock carries the token, and is refused once somebody else has a newer one.
 */
export interface LockRecord {
  readonly name: string
  /** A node, by its name. */
  readonly owner: string
  /** Fencing token: the position of the entry that gave the lock. Greater than every token before it. */
  readonly token: number
  /** Position of the entry that gave or renewed it last. */
  readonly renewed: number
  /** The times of these two entries, milliseconds since the Unix epoch: for people. */
  readonly givenMs: number
  readonly renewedMs: number
}

/** Under which lock something is done. */
export interface LockFence {
  readonly name: string
  readonly token: number
}

/** A lock as somebody saw it when he began to wait. */
export type LockSighting = Pick<LockRecord, 'token' | 'renewed'>

export type LockCommand =
  /**
   * Gives a lock that nobody has, or the one that `instead` names and that has not been renewed since. CONFLICT when somebody has it;
   * OVERLOADED when there are too many locks.
   */
  | {
      readonly type: 'acquire-lock'
      readonly name: string
      readonly owner: string
      readonly instead?: LockSighting
    }
  /** CONFLICT when the token is no longer the newest. */
  | { readonly type: 'renew-lock'; readonly name: string; readonly token: number }
  /** Nothing happens when the token is no longer the newest. */
  | { readonly type: 'release-lock'; readonly name: string; readonly token: number }

export interface LockResults {
  'acquire-lock': LockSighting
  'renew-lock': LockSighting
  'release-lock': Record<string, never>
}

export interface LockReads {
  lock(name: string): LockRecord | undefined
  /** Ascending by name. */
  locks(): readonly LockRecord[]
}
