import type { VersionId, VersioningState } from './object-model.ts'

/** Entries of an outbox that are of the bucket or of a range of its keys, not of one key. */

/** Whether the bucket keeps versions was changed, or is told once more. */
export interface VersioningChange {
  readonly type: 'versioning'
  readonly state: Exclude<VersioningState, 'off'>
  /**
   * Where several regions write, time and region of the last change (10 bytes): the later one lasts in all of them. Absent there: from before
   * such changes had one.
   */
  readonly changed?: Uint8Array
}

/**
 * Of a full synchronization, behind the entries of the versions that it names: these are all versions of the keys behind
 * `after` up to and with `through` (absent: to the end, and the synchronization is complete). `purged`: of versions that
 * are gone for good (`multi` mode).
 */
export interface RangeChange {
  readonly type: 'range'
  readonly after: string
  readonly through?: string
  readonly versions: readonly (readonly [key: string, versionId: VersionId])[]
  readonly purged: readonly (readonly [key: string, versionId: VersionId, isNull: boolean])[]
  /** It came because a copy differed: a full synchronization does not end with it. */
  readonly isRepair?: true
}
