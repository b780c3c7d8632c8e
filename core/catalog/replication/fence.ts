import { type ClientWrite, type Command, isClientWrite } from '../../contract/catalog.ts'
import { StorageError } from '../../contract/errors.ts'
import { groupEpochOf, recoveredReason } from '../../contract/failover.ts'
import { forgetfulReason } from '../../contract/forgotten-rule.ts'
import type { ApplyContext } from '../apply-context.ts'
import { readGroup } from '../group/rows.ts'
import { isWriter } from './outbox.ts'
import { readRule, type StoredRule } from './rows.ts'
import { isEdge, readBacklog, refusalOf } from './waiting.ts'

/**
 * Refuses, at the moment of the commit, what this region may not write: a gateway that has not heard yet that another region is
 * the primary now cannot get anything acknowledged. NOT_PRIMARY; NOT_IMPLEMENTED for conditions where several regions write.
 */
export function checkFence(context: ApplyContext, command: Command): void {
  if (!isClientWrite(command)) return
  // A bucket that does not exist is for the command itself to say.
  const rule = readRule(context, command.bucketId)
  if (rule === undefined || rule.isLeaving === true) return
  if (!isWriter(rule, context.entry.regionId)) {
    throw notPrimary(rule.primary)
  }
  // What it took now it would have to throw away.
  if (rule.isForgetful === true) throw new StorageError('UNAVAILABLE', forgetfulReason)
  if (rule.group !== undefined) checkGroup(context, rule.group, rule, command)
  if (rule.edge !== undefined && isEdge(rule, context.entry.regionId)) checkRoom(context, rule, command)
  if (rule.mode === 'multi' && hasConditions(command)) {
    throw new StorageError(
      'NOT_IMPLEMENTED',
      'a bucket that several regions write takes no conditional writes: no region knows what the others do at that moment',
    )
  }
}

/**
 * The primary of a group writes in the epoch in which its write was begun, and not once it has given its vote to another: what was
 * under way meanwhile, in a process that stood still, is refused here. UNAVAILABLE while it hands over, STALE_EPOCH, NOT_PRIMARY.
 */
function checkGroup(context: ApplyContext, name: string, rule: StoredRule, command: ClientWrite): void {
  const state = readGroup(context, name)
  const here = context.entry.regionId
  if (state === undefined) throw new StorageError('UNAVAILABLE', `the group ${name} is not known here yet`)
  const { record, ballot, isFrozen } = state
  if (record.primary !== here) throw notPrimary(record.primary)
  if (state.isRecovered === true) throw new StorageError('UNAVAILABLE', recoveredReason(name))
  if (ballot.epoch > record.epoch || isFrozen || groupEpochOf(rule.epoch) !== record.epoch) {
    throw new StorageError('UNAVAILABLE', 'the bucket is being handed over to another region', {
      retryAfterMs: 1_000,
    })
  }
  if (command.groupEpoch !== record.epoch) {
    throw new StorageError(
      'STALE_EPOCH',
      `the write belongs to epoch ${command.groupEpoch ?? 0} of the group ${name}, which is in ${record.epoch}`,
    )
  }
}

/** What an edge may keep for its hub is bounded; the hub says whether a bucket keeps versions, and who may do what in it. INSUFFICIENT_STORAGE, NOT_PRIMARY. */
function checkRoom(context: ApplyContext, { edge, primary }: StoredRule, command: ClientWrite): void {
  if (command.type === 'set-versioning' || command.type === 'set-bucket-config') throw notPrimary(primary)
  const backlog = readBacklog(context, command.bucketId)
  if (edge === undefined || backlog === undefined) return
  const refusal = refusalOf(edge, backlog, addedBytes(command), context.entry.nowMs)
  if (refusal !== undefined) throw refusal
}

function addedBytes(command: ClientWrite): number {
  if (command.type === 'put-object') return command.object.byteLength
  return command.type === 'put-part' ? command.byteLength : 0
}

const notPrimary = (primary: number): StorageError =>
  new StorageError('NOT_PRIMARY', `the bucket is a copy in this region; it is written in region ${primary}`, {
    details: { PrimaryRegion: String(primary) },
  })

function hasConditions(command: Command): boolean {
  if (command.type === 'put-object' || command.type === 'complete-upload') {
    return command.preconditions !== undefined
  }
  return (
    command.type === 'delete-objects' &&
    command.items.some(({ preconditions }) => preconditions !== undefined)
  )
}
