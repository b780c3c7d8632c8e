import type { Command, CommandResult } from '../../contract/catalog.ts'
import { replicationLimits } from '../../contract/replication.ts'
import type { ApplyContext } from '../apply-context.ts'
import { appendEntry } from './outbox.ts'
import { readMember, readOutboxState, readRule } from './rows.ts'
import { bodyBytesOf, isEdge, leaveWaiting, mostUrgent, type WaitingChange } from './waiting.ts'

type Of<T extends Command['type']> = Extract<Command, { type: T }>

/**
 * Gives the most urgent changes that wait their places in the outbox. Done when the hub asks, so that what is more urgent overtakes
 * everything that it has not asked for yet. Entries carry the time of this, which ascends in the outbox; versions have their own.
 */
export function stageOutbox(
  context: ApplyContext,
  { bucketId, askedFrom }: Of<'stage-outbox'>,
): CommandResult<Of<'stage-outbox'>> {
  const rule = readRule(context, bucketId)
  const outbox = readOutboxState(context, bucketId)
  if (rule === undefined || rule.isLeaving === true || outbox === undefined) return { staged: 0 }
  if (!isEdge(rule, context.entry.regionId)) return { staged: 0 }
  const acknowledged = readMember(context, bucketId, rule.primary)?.acknowledged ?? 0
  const unacknowledged = outbox.head.lsn - Math.max(acknowledged, outbox.trimmed.lsn)
  // The hub has taken all that has a place: one more goes on, whatever the bodies on their way.
  const least = askedFrom === outbox.head.lsn ? 1 : 0
  const room = Math.max(least, replicationLimits.stagedEntries - unacknowledged)
  let bodyBytes = outbox.bodyBytes
  const staged: (WaitingChange & { readonly lsn: number })[] = []
  for (const waiting of mostUrgent(context, bucketId, room)) {
    bodyBytes += bodyBytesOf(waiting.change)
    if (staged.length >= least && bodyBytes > replicationLimits.stagedBodyBytes) break
    staged.push({ ...waiting, lsn: outbox.head.lsn + staged.length + 1 })
  }
  if (staged.length === 0) return { staged: 0 }
  for (const { change } of staged) appendEntry(context, bucketId, rule, context.tick(), change)
  leaveWaiting(context, bucketId, staged)
  return { staged: staged.length }
}
