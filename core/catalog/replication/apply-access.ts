import { type AccessKind, type AccessSetting, accessKinds } from '../../contract/bucket-access.ts'
import type { Command, CommandResult } from '../../contract/catalog.ts'
import { StorageError } from '../../contract/errors.ts'
import type { ApplyContext } from '../apply-context.ts'
import { configKey } from '../config-key.ts'
import { bytesOf } from '../encoding.ts'
import {
  accessRowOf,
  firstAccessRow,
  heldBack,
  isHeldBack,
  readAccessRow,
  settled,
  stampAt,
  unknownAccess,
} from './access.ts'
import { changedBytes, changedStamp } from './changed-stamp.ts'
import { accessKey } from './keys.ts'
import { aclFrom } from './names-from.ts'
import { isWriter, logAccess, writeOutboxState } from './outbox.ts'
import { readCursor, readOutboxState, readRule, readSources, type StoredRule } from './rows.ts'

type Of<T extends Command['type']> = Extract<Command, { type: T }>

function putValue(context: ApplyContext, bucketId: number, kind: AccessKind, value: Uint8Array | null): void {
  const key = configKey(bucketId, kind)
  if (value === null) context.remove(key)
  else context.put(key, value)
}

function withStamp(row: Uint8Array, kind: AccessKind, changed: Uint8Array): Uint8Array {
  const next = bytesOf(row)
  next.set(changed, accessKinds.indexOf(kind) * changedBytes)
  return next
}

/** A client of this region says who may do what. UNAVAILABLE while a copy does not know what holds elsewhere. */
export function setAccess(
  context: ApplyContext,
  bucketId: number,
  kind: AccessKind,
  value: Uint8Array | null,
): void {
  const here = context.entry.regionId
  const stored = readRule(context, bucketId)
  const rule = stored?.isLeaving === true ? undefined : stored
  const known = accessRowOf(context, bucketId, rule, here)
  if (known.length === 0 && rule !== undefined && rule.primary !== here) {
    throw new StorageError(
      'UNAVAILABLE',
      `who may do what in the bucket has not come from region ${rule.primary} yet`,
      { retryAfterMs: 1_000 },
    )
  }
  putValue(context, bucketId, kind, value)
  const isTold = rule !== undefined && isWriter(rule, here)
  // A bucket that no other region was ever told of needs no record of it.
  if (!isTold && readAccessRow(context, bucketId) === undefined) return
  const changed = changedStamp(context)
  const row = known.length === 0 ? firstAccessRow(here) : rule?.mode === 'multi' ? known : settled(known)
  context.put(accessKey(bucketId), withStamp(row, kind, changed))
  if (isTold) logAccess(context, bucketId, rule)
}

/**
 * Another region says who may do what. Where one region writes, or is the hub of edges, what it says holds, unless it was said before something that is here already
 * (`isLate`); where several do, the later change of each document lasts in all of them.
 */
export function takeAccess(
  context: ApplyContext,
  bucketId: number,
  rule: StoredRule,
  from: number,
  settings: readonly AccessSetting[],
  isLate: boolean,
): boolean {
  const here = context.entry.regionId
  const known = accessRowOf(context, bucketId, rule, here)
  let row = known.length === 0 ? firstAccessRow(here) : known
  const hasHome = rule.mode === 'single' || rule.edge !== undefined
  let hasChanged = known.length === 0
  for (const [index, kind] of accessKinds.entries()) {
    const setting = settings.find((one) => one.kind === kind)
    if (setting === undefined) continue
    const order = Buffer.compare(setting.changed, stampAt(row, index))
    const isTaken = known.length === 0 || (hasHome && !isLate ? order !== 0 : order > 0)
    if (!isTaken) continue
    hasChanged = true
    row = withStamp(row, kind, setting.changed)
    putValue(context, bucketId, kind, kind === 'acl' ? listFrom(setting.value, from, here) : setting.value)
  }
  if (!hasChanged) return false
  context.put(accessKey(bucketId), row)
  // What clients write here from now on was judged by it: whoever follows this region must not get the one without the other.
  const state = readOutboxState(context, bucketId)
  if (state?.isAccessTold !== true) return true
  const { isAccessTold: _, ...untold } = state
  writeOutboxState(context, bucketId, untold)
  return true
}

/** Whether something is here as it was at a place of the log before the one that this region has come to. */
const isUneven = (context: ApplyContext, bucketId: number): boolean =>
  readSources(context, bucketId).some((source) => {
    const cursor = readCursor(context, bucketId, source)
    return cursor !== undefined && (cursor.retries > 0 || (cursor.synchronizing && cursor.isStale === true))
  })

/**
 * After what was taken in: settings that came (`isNew`) while changes in front of them wait, or while older content is being replaced, may
 * open what one of those closes. So the bucket is closed to all but its owner until nothing waits any more.
 */
export function settleAccess(context: ApplyContext, bucketId: number, isNew: boolean): void {
  const row = readAccessRow(context, bucketId)
  if (row === undefined || row.length === 0 || isHeldBack(row) === isNew) return
  if (isUneven(context, bucketId) === isNew) {
    context.put(accessKey(bucketId), isNew ? heldBack(row) : settled(row))
  }
}

const decoder = new TextDecoder()
const encoder = new TextEncoder()

/** A list names accounts, a policy too; a policy stays as it was written, and is read with the names of its region. */
const listFrom = (value: Uint8Array | null, from: number, here: number): Uint8Array | null =>
  value === null ? null : encoder.encode(aclFrom(decoder.decode(value), { from, here }))

/** Nobody but its owner is let into the bucket until somebody has said who may do what. */
export function closeAccess(context: ApplyContext, bucketId: number): void {
  context.put(accessKey(bucketId), unknownAccess)
}

/** The bucket becomes a copy: what was said of it here does not count, and what holds at its home is not known yet. */
export function forgetAccess(context: ApplyContext, bucketId: number): void {
  for (const kind of accessKinds) context.remove(configKey(bucketId, kind))
  closeAccess(context, bucketId)
}

/** A copy that its home has never told becomes the primary: nobody knows who may do what until it is said anew. */
export function inheritAccess(context: ApplyContext, bucketId: number, old: StoredRule): void {
  if (accessRowOf(context, bucketId, old, context.entry.regionId).length === 0) closeAccess(context, bucketId)
}

export function tellAccess(
  context: ApplyContext,
  { bucketId }: Of<'tell-access'>,
): CommandResult<Of<'tell-access'>> {
  context.bucket(bucketId)
  const rule = readRule(context, bucketId)
  const state = readOutboxState(context, bucketId)
  if (rule === undefined || rule.isLeaving === true || state === undefined || state.isAccessTold === true)
    return {}
  if (
    isWriter(rule, context.entry.regionId) &&
    accessRowOf(context, bucketId, rule, context.entry.regionId).length > 0
  ) {
    context.tick()
    logAccess(context, bucketId, rule)
  }
  return {}
}
