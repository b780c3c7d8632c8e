import type { ReplicaRow } from './generation.ts'
import type { ReplicaChange } from './replica-store.ts'

/** What a replica's store and its writer's thread say to each other; each question is answered once, in order. */
export interface ReplicaWriterSettings {
  readonly directory: string
  readonly retainEntries: number
  readonly minFreeBytes: number
  /** Taken for a directory that has none yet; 32 hex digits. */
  readonly incarnation: string
}

export type ToReplicaWriter =
  | {
      readonly type: 'change'
      /** Of the records: their sequences, and how many of the joined entries are theirs. */
      readonly records: readonly (readonly [sequence: number, count: number])[]
      readonly entries: ArrayBuffer
      readonly row: NonNullable<ReplicaChange['row']>
    }
  /** Joined keys and values in turn: part of a copy. */
  | { readonly type: 'rows'; readonly rows: ArrayBuffer }
  /** The end of a copy: the row is replaced as it is. Answered with the state of the rows. */
  | { readonly type: 'adopt'; readonly row: ReplicaRow }
  | { readonly type: 'place' }
  | { readonly type: 'close' }

export interface ReplicaWriterState {
  readonly position: number
  readonly chain: Uint8Array
  /** Absent: a change of rows that changed nothing in it but what the change itself said. */
  readonly row?: ReplicaRow
  /** The last entry of the change that changed more than objects; absent: none did. */
  readonly rules?: number
  /** Less is free on the device than is to be kept free. */
  readonly isSpaceLow: boolean
}

export type FromReplicaWriter =
  | {
      readonly type: 'done'
      readonly state: ReplicaWriterState
      readonly applied: ArrayBuffer
      readonly chains: ArrayBuffer
    }
  | { readonly type: 'failed'; readonly code: string; readonly reason: string }
