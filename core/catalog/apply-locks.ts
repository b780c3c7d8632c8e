import type { CommandResult } from '../contract/catalog.ts'
import { StorageError } from '../contract/errors.ts'
import type { LockCommand } from '../contract/locks.ts'
import type { ApplyContext } from './apply-context.ts'
import { checkLock, readLock, readLocks, removeLock, writeLock } from './lock-rows.ts'

type Of<T extends LockCommand['type']> = Extract<LockCommand, { type: T }>

/** There is one for each kind of work that one node at a time does. */
const mostLocks = 256

export function acquireLock(
  context: ApplyContext,
  { name, owner, instead }: Of<'acquire-lock'>,
): CommandResult<Of<'acquire-lock'>> {
  const lock = readLock(context, name)
  if (lock === undefined) {
    if (readLocks(context).length >= mostLocks) {
      throw new StorageError('OVERLOADED', `a region has at most ${mostLocks} locks`)
    }
  } else if (instead?.token !== lock.token || instead.renewed !== lock.renewed) {
    throw new StorageError('CONFLICT', `${lock.owner} has the lock ${name}`)
  }
  const { position } = context.meta
  const { nowMs } = context.entry
  writeLock(context, { name, owner, token: position, renewed: position, givenMs: nowMs, renewedMs: nowMs })
  return { token: position, renewed: position }
}

export function renewLock(
  context: ApplyContext,
  { name, token }: Of<'renew-lock'>,
): CommandResult<Of<'renew-lock'>> {
  const lock = checkLock(context, { name, token })
  const { position } = context.meta
  writeLock(context, { ...lock, renewed: position, renewedMs: context.entry.nowMs })
  return { token, renewed: position }
}

export function releaseLock(
  context: ApplyContext,
  { name, token }: Of<'release-lock'>,
): CommandResult<Of<'release-lock'>> {
  if (readLock(context, name)?.token === token) removeLock(context, name)
  return {}
}
