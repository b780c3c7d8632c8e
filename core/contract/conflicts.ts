import type { Layout, ObjectRecord, VersionId } from './object-model.ts'
import type { OutboxEntry } from './replication.ts'

/**
 * Of two versions of a key that two regions wrote at once the older one, which is pulled, lasts. It was decided before the entry was
 * proposed, alone, so that every replica of the region does the same. It comes back as a version of this region, behind the newer one and of its moment.
 */
export interface Resolution {
  /** The version that it was weighed against. When it is not the newest any more, it has to be decided again: CONFLICT. */
  readonly against: VersionId
  /** A second copy of the older version's body; absent: it has none. */
  readonly layout?: Layout
}

export interface ConflictReads {
  /**
   * What region `here`, this one, wrote without having seen what an entry brings that comes now, when neither had seen the other.
   * `isFollowed`: its content came from that region, which has written over it. Undefined: nothing to decide.
   */
  concurrent(
    bucketId: number,
    source: number,
    here: number,
    entry: OutboxEntry,
  ): { readonly newest: ObjectRecord; readonly isFollowed: boolean } | undefined
}
