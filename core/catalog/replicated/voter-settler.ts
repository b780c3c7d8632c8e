import { settleVoterSets } from './generation.ts'
import type { Replica } from './replica.ts'

/**
 * To be called whenever more is confirmed. Those who voted before a confirmed change of the voters have nothing to say any more, and that must
 * not wait for the next entry: a machine that lost its disk and has its vote again would be missing in the old set for so long.
 */
export function voterSettler(replica: Replica): () => void {
  let isAsked = false
  const isSettled = (): boolean =>
    settleVoterSets(replica.row.voterSets, replica.confirmed) === replica.row.voterSets
  const settle = async (): Promise<void> => {
    isAsked = false
    if (!isSettled()) await replica.change({ row: { confirmed: replica.confirmed } })
  }
  return () => {
    if (isAsked || isSettled()) return
    isAsked = true
    // When it fails the replica has failed, and says so itself.
    replica.exclusive(settle).catch(() => undefined)
  }
}
