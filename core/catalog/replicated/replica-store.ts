import type { Position } from '../../contract/ordered-log.ts'
import type { ReplicaRow } from './generation.ts'
import type { AppliedRecord, FetchHeader } from './peer-messages.ts'

/** One durable transaction: the entries of the records are applied in order, then the row is changed. */
export interface ReplicaChange {
  readonly records?: readonly AppliedRecord[]
  readonly row?: Partial<Pick<ReplicaRow, 'promised' | 'founding' | 'sequence' | 'confirmed' | 'voterSets'>>
}

export interface AppliedEntry {
  readonly position: Position
  readonly session: string
  readonly sequence: number
  readonly answer: Uint8Array
}

/**
 * What a replica keeps: the catalog's rows, the log rows for its peers, the chain of every recent position, and what it has promised.
 * LMDB in production, memory in the simulation. One `change` at a time, and none while `replace` runs.
 */
export interface ReplicaStore {
  /** As of the last change that resolved. */
  readonly row: ReplicaRow
  readonly position: Position
  /** No entry behind it, up to `position`, has changed what requests are judged by: only objects. */
  readonly rules: Position
  readonly chain: Uint8Array

  /** Why the change at hand does not come to an end (the device is full); absent or undefined: nothing is in its way. */
  readonly waitsFor?: string | undefined
  /** The device has too little room for changes that add something; absent: it has enough. */
  readonly isSpaceLow?: boolean

  /** Resolves once durable, which may take until there is room. After a rejection nothing works any more: the owner stops the node. */
  change(change: ReplicaChange): Promise<readonly AppliedEntry[]>

  /** The chain at a position of the branch held; undefined when it is not known any more, or not yet. */
  chainAt(position: Position): Uint8Array | undefined
  /** The stream's record that a position was in; 0 for positions of older generations and unknown ones. */
  sequenceAt(position: Position): number
  /** Whether the entries behind `after` are all still there as log rows. */
  hasLogBehind(after: Position): boolean
  /** Entries behind `after` up to `through`, about `maxBytes` of them, cut between records; at least one record when there is one. */
  logBehind(after: Position, through: Position, maxBytes: number): readonly AppliedRecord[]
  /** What the state machine answered to an entry, as far as the state at the tip remembers. */
  answerOf(session: Uint8Array, sequence: number): Uint8Array | undefined

  /** All rows of one moment, in pieces of at most 256 KiB or so; `header` is of the same moment. */
  copy(signal: AbortSignal): {
    readonly header: Omit<FetchHeader, 'mode'>
    readonly pieces: AsyncIterable<Uint8Array>
  }
  /**
   * Writes the pieces of another replica's `copy` aside; then calls `accept`, which may call `replace` to have all rows durably
   * replaced by them: a crash leaves the old or the new ones. `change` goes on until then. Without `replace` they are dropped.
   */
  install(
    pieces: AsyncIterable<Uint8Array>,
    accept: (arrived: ArrivedCopy, replace: (row: ReplicaRow) => Promise<void>) => Promise<void>,
  ): Promise<void>

  /** Readers may see everything up to here. Answers the position that they see now (at most this one); undefined: none. */
  show(position: Position): Position | undefined
}

export interface ArrivedCopy {
  readonly position: Position
  readonly chain: Uint8Array
}
