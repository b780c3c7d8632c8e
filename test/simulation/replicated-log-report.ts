import type { ReplicatedLog } from '../../core/catalog/replicated/replicated-log.ts'
import type { SimulatedStore } from './replica-disk.ts'

/** What happened in a run. */
export interface ReplicatedLogReport {
  readonly operations: number
  readonly acknowledged: number
  readonly generations: number
  readonly crashes: number
  readonly wipes: number
  /** Disks that came back as they were earlier. */
  readonly restores: number
  readonly losses: number
  readonly voterChanges: number
  /** Runs that ended, rightly, with a node that says that it must not decide: two failures more than are survived. */
  readonly undecided: number
}

export const emptyReport = () => ({
  operations: 0,
  acknowledged: 0,
  generations: 0,
  crashes: 0,
  wipes: 0,
  restores: 0,
  losses: 0,
  voterChanges: 0,
  undecided: 0,
})

/** A line for each, for the message of a run that failed. */
export function describeNodes(
  nodes: readonly { readonly name: string; readonly store: SimulatedStore; readonly log: ReplicatedLog }[],
): string {
  return nodes
    .map(({ name, store, log: { replica } }) => {
      const { row } = store
      return JSON.stringify({
        name,
        ballot: replica.ballot,
        promised: row.promised,
        position: store.position,
        sequence: row.sequence,
        shown: store.shownLog?.length,
        confirmed: replica.confirmed,
        votes: replica.rejoin.isDone,
        sets: row.voterSets,
        activity: replica.activity,
        trouble: replica.trouble,
        suspicion: replica.suspicion?.reason,
        incarnation: row.incarnation,
      })
    })
    .join('\n')
}
