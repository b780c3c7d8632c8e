import type { Command } from '../../contract/catalog.ts'
import { StorageError } from '../../contract/errors.ts'
import type { ApplyContext } from '../apply-context.ts'
import { isWriter } from './outbox.ts'
import { readRule } from './rows.ts'

/** Changes that clients ask for; the rest is the region's own housekeeping. */
const clientWrites: ReadonlySet<Command['type']> = new Set([
  'set-versioning',
  'put-object',
  'delete-objects',
  'set-object-tags',
  'set-object-acl',
  'create-upload',
  'put-part',
  'complete-upload',
])

/**
 * Refuses, at the moment of the commit, what this region may not write: a gateway that has not heard yet that another region is
 * the primary now cannot get anything acknowledged. NOT_PRIMARY; NOT_IMPLEMENTED for conditions where several regions write.
 */
export function checkFence(context: ApplyContext, command: Command): void {
  if (!clientWrites.has(command.type) || !('bucketId' in command)) return
  // A bucket that does not exist is for the command itself to say.
  const rule = readRule(context, command.bucketId)
  if (rule === undefined || rule.isLeaving === true) return
  if (!isWriter(rule, context.entry.regionId)) {
    throw new StorageError(
      'NOT_PRIMARY',
      `the bucket is a copy in this region; it is written in region ${rule.primary}`,
      { details: { PrimaryRegion: String(rule.primary) } },
    )
  }
  if (rule.mode === 'multi' && hasConditions(command)) {
    throw new StorageError(
      'NOT_IMPLEMENTED',
      'a bucket that several regions write takes no conditional writes: no region knows what the others do at that moment',
    )
  }
}

function hasConditions(command: Command): boolean {
  if (command.type === 'put-object' || command.type === 'complete-upload') {
    return command.preconditions !== undefined
  }
  return (
    command.type === 'delete-objects' &&
    command.items.some(({ preconditions }) => preconditions !== undefined)
  )
}
