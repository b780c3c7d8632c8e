import { isMesh } from './has-begun.ts'
import type { ReplicationRule } from './replication.ts'

/**
 * Where several regions write, the others forget deletes on the word of every member. A member that has forgotten its own word, since the rule was
 * taken away there or the region was recovered from a node that had not heard of it, must not go on: what it holds, or is handed now, may
 * be deleted already, and nobody would know. It leaves the rule and comes back with nothing, or the rule is made anew everywhere.
 */

/** What tells a rule from another one of the same bucket, whatever was changed in it since; 0: it was made by a software that did not say it. */
export const firstEpochOf = ({ firstEpoch = 0 }: Pick<ReplicationRule, 'firstEpoch'>): number => firstEpoch

/** Whether a rule that was taken away in region `here` in this epoch may be given again: it says that the region was gone. */
export const hasReturned = ({ former = [] }: ReplicationRule, here: number, epoch: number): boolean =>
  former.some((left) => left.region === here && left.epoch >= epoch)

/** Two rules of one bucket, of which the one was made when the other was no more. */
export const isAnotherRule = (left: ReplicationRule, right: ReplicationRule): boolean =>
  isMesh(left) &&
  isMesh(right) &&
  left.firstEpoch !== undefined &&
  right.firstEpoch !== undefined &&
  left.firstEpoch !== right.firstEpoch

const wayOut =
  'take the region out of the rule in another one, then empty its bucket and let it come back; or take the rule away in all of them and make it anew'

export const takenAwayReason = `the rule was taken away in this region, with what it had told the others of deletes: ${wayOut}`

/** Of a bucket of a region that was recovered (`recover-region`). */
export const forgetfulReason = `this region was recovered and may have forgotten deletes that it had told the others of: ${wayOut}`
