import type { Command, CommandResult } from '../../contract/catalog.ts'
import { StorageError } from '../../contract/errors.ts'
import { groupEpochOf } from '../../contract/failover.ts'
import { mayBegin } from '../../contract/has-begun.ts'
import type { EdgeRule, MemberState, ReplicationRule } from '../../contract/replication.ts'
import { putBucket } from '../apply-buckets.ts'
import type { ApplyContext } from '../apply-context.ts'
import { freeWrite } from '../bodies.ts'
import { pack } from '../encoding.ts'
import { readGroup } from '../group/rows.ts'
import { bucketKey, successor, table } from '../keys.ts'
import { rowKey } from '../tables.ts'
import { forgetAccess, inheritAccess, takeAccess } from './apply-access.ts'
import { dropCursor } from './drop-cursor.ts'
import { decodeOutboxEntry, emptyChain } from './entry-codec.ts'
import { checkMemory, isReliedUpon, noteForgotten } from './forgotten-rule.ts'
import { memberKey, ruleKey, tablesOfRule } from './keys.ts'
import { appendEntry, isWriter, writeOutboxState } from './outbox.ts'
import {
  encodeMember,
  readCursor,
  readMember,
  readMembers,
  readOutboxRow,
  readOutboxState,
  readRule,
  type StoredRule,
} from './rows.ts'
import { trimThrough } from './trim.ts'
import { addStagedTimes, dropWaiting, isEdge } from './waiting.ts'

type Of<T extends Command['type']> = Extract<Command, { type: T }>

/** Rows after which an entry leaves the rest to the next: the writer's thread serves others meanwhile. */
const rowsAtOnce = 1000
/** After an absence of this length a member's content is compared. */
const longAwayMs = 10 * 60_000
const noTime = { ms: 0, counter: 0 }

const sameRule = (left: ReplicationRule, right: ReplicationRule): boolean =>
  left.epoch === right.epoch &&
  left.mode === right.mode &&
  left.primary === right.primary &&
  left.prefix === right.prefix &&
  left.members.join() === right.members.join() &&
  left.rpoMs === right.rpoMs &&
  (left.onBreach ?? 'alert') === (right.onBreach ?? 'alert') &&
  left.retentionMs === right.retentionMs &&
  left.retentionBytes === right.retentionBytes &&
  left.group === right.group &&
  JSON.stringify(left.former ?? []) === JSON.stringify(right.former ?? []) &&
  isSameEdge(left.edge, right.edge)

const isSameEdge = (left: EdgeRule | undefined, right: EdgeRule | undefined): boolean =>
  left === right ||
  (left !== undefined &&
    right !== undefined &&
    left.regions.join() === right.regions.join() &&
    left.quotaBytes === right.quotaBytes &&
    left.quotaAgeMs === right.quotaAgeMs &&
    left.cacheBytes === right.cacheBytes &&
    left.pinned.length === right.pinned.length &&
    left.pinned.every((prefix, at) => prefix === right.pinned[at]) &&
    left.priorities.length === right.priorities.length &&
    left.priorities.every((one, at) => {
      const other = right.priorities[at]
      return (
        one.prefix === other?.prefix && one.tag === other?.tag && one.storageClass === other?.storageClass
      )
    }))

export function setReplication(
  context: ApplyContext,
  { bucketId, rule, versioning, access }: Of<'set-replication'>,
): CommandResult<Of<'set-replication'>> {
  const bucket = context.bucket(bucketId)
  const old = readRule(context, bucketId)
  if (rule === null) {
    if (old === undefined) return { done: true }
    if (old.group !== undefined && readGroup(context, old.group) !== undefined) {
      throw new StorageError('INVALID_BUCKET_STATE', `the bucket is in the failover group '${old.group}'`)
    }
    return { done: removeRule(context, bucketId, old) }
  }
  if (old?.isLeaving === true) throw new StorageError('CONFLICT', 'the rule before is still being taken away')
  const told = versioning === undefined ? bucket : { ...bucket, versioning }
  const here = context.entry.regionId
  const takeTold = (): void => {
    if (access === undefined || !isEdge(rule, here)) return
    takeAccess(context, bucketId, rule, rule.primary, access, false)
  }
  if (old !== undefined && sameRule(old, rule)) {
    takeTold()
    if (told.versioning !== bucket.versioning) putBucket(context, told)
    return { done: true }
  }
  checkRule(context, bucketId, old, rule)
  const memory = checkMemory(context, bucket, old, rule)
  if (old !== undefined) leaveCursor(context, bucketId, old, rule)
  if (old !== undefined && rule.mode === 'multi' && rule.edge === undefined) {
    // What they had is not taken in any more, nor what of it waits; who comes back begins anew, and says so anew what it has passed.
    for (const region of old.members) if (hasLeft(old, rule, region)) dropCursor(context, bucketId, region)
  }
  context.put(ruleKey(bucketId), pack({ ...rule, ...memory }))
  putBucket(context, { ...told, replicated: true })
  if (old === undefined && rule.primary !== here) forgetAccess(context, bucketId)
  if (old !== undefined && isWriter(rule, here) && !isWriter(old, here)) inheritAccess(context, bucketId, old)
  takeTold()
  // The hub of edges tells them nothing.
  if (isWriter(rule, here) && (rule.edge === undefined || isEdge(rule, here)))
    becomeWriter(context, bucketId, old, rule)
  return { done: true }
}

function checkRule(
  context: ApplyContext,
  bucketId: number,
  old: ReplicationRule | undefined,
  rule: ReplicationRule,
): void {
  const here = context.entry.regionId
  const { members, primary } = rule
  if (!members.includes(here) || !members.includes(primary)) {
    throw new StorageError('INVALID_ARGUMENT', 'a rule names this region and the primary among its members')
  }
  if (members.length < 2 || members.some((region, at) => at > 0 && region <= (members[at - 1] ?? 0))) {
    throw new StorageError('INVALID_ARGUMENT', 'the members of a rule are two or more, ascending, each once')
  }
  if (rule.epoch <= (old?.epoch ?? 0)) {
    throw new StorageError('CONFLICT', `a rule of epoch ${old?.epoch ?? 0} is in force already`)
  }
  if (old !== undefined && (old.prefix !== rule.prefix || old.mode !== rule.mode)) {
    throw new StorageError(
      'INVALID_ARGUMENT',
      'mode and prefix of a rule are for good: take it away, and give the bucket a new one',
    )
  }
  if (rule.group !== undefined) checkGroup(context, rule)
  checkEdges(old, rule)
  checkFormer(context, bucketId, old, rule)
  // A bucket with content of its own must not become a copy by mistake: the first synchronization would remove that content.
  if (old === undefined && !isWriter(rule, here) && hasVersions(context, bucketId)) {
    throw new StorageError('BUCKET_NOT_EMPTY', 'only an empty bucket can become a copy')
  }
}

/** Since the rule before; it may have come back as well. */
const hasLeft = (old: ReplicationRule, { former = [] }: ReplicationRule, region: number): boolean =>
  former.some((one) => one.region === region && one.epoch >= old.epoch)

/**
 * Where several regions write, who has left is not waited for any more when tombstones are collected: what it holds may have been deleted
 * meanwhile, and nobody would know. So all keep in mind who has left, and who comes back begins with nothing.
 */
function checkFormer(
  context: ApplyContext,
  bucketId: number,
  old: ReplicationRule | undefined,
  { mode, members, former = [], edge }: ReplicationRule,
): void {
  if (mode === 'single' || edge !== undefined) {
    if (former.length > 0) {
      throw new StorageError(
        'INVALID_ARGUMENT',
        'only a rule by which several regions write names who has left',
      )
    }
    return
  }
  if (former.some(({ region }, at) => at > 0 && region <= (former[at - 1]?.region ?? 0))) {
    throw new StorageError('INVALID_ARGUMENT', 'those who have left are named ascending, each once')
  }
  const leftAt = (region: number): number => former.find((one) => one.region === region)?.epoch ?? 0
  const isForgotten =
    old !== undefined &&
    (old.members.some((region) => !members.includes(region) && leftAt(region) < old.epoch) ||
      (old.former ?? []).some(({ region, epoch }) => leftAt(region) < epoch))
  if (isForgotten) throw new StorageError('INVALID_ARGUMENT', 'a rule names every region that has left it')
  const left = leftAt(context.entry.regionId)
  if (left > 0 && (old === undefined ? hasVersions(context, bucketId) : old.epoch <= left)) {
    throw new StorageError(
      'BUCKET_NOT_EMPTY',
      'this region had left the rule: it comes back with an empty bucket, without a rule of its own',
    )
  }
}

function checkEdges(
  old: ReplicationRule | undefined,
  { edge, mode, members, primary, prefix }: ReplicationRule,
): void {
  if (old !== undefined && (old.edge === undefined) !== (edge === undefined)) {
    throw new StorageError(
      'INVALID_ARGUMENT',
      'whether a rule has edges is for good: take it away, and give the bucket a new one',
    )
  }
  if (edge === undefined) return
  if (prefix !== '') {
    throw new StorageError('INVALID_ARGUMENT', 'edges write and read whole buckets: their rule has no prefix')
  }
  if (old !== undefined && old.primary !== primary) {
    throw new StorageError('INVALID_ARGUMENT', 'the hub of edges cannot change')
  }
  if (mode !== 'multi' || edge.regions.join() !== members.filter((region) => region !== primary).join()) {
    throw new StorageError(
      'INVALID_ARGUMENT',
      'of the members of a rule with edges the hub is the primary, and all others are edges',
    )
  }
}

/** Who is the primary of a group is said by the group's own record, which also tells what a former primary had not handed over. */
function checkGroup(context: ApplyContext, { group = '', epoch, primary, mode }: ReplicationRule): void {
  const record = readGroup(context, group)?.record
  if (record === undefined || record.epoch < groupEpochOf(epoch)) {
    throw new StorageError(
      'CONFLICT',
      `epoch ${groupEpochOf(epoch)} of the group ${group} is not known here yet`,
    )
  }
  if (mode !== 'single' || (groupEpochOf(epoch) === record.epoch && primary !== record.primary)) {
    throw new StorageError(
      'INVALID_ARGUMENT',
      `region ${record.primary} is the primary of the group ${group}`,
    )
  }
}

/**
 * A place in an outbox says what is held of a bucket as long as one region has written it all the time. When another one has, it
 * says nothing any more: the region synchronizes in full, and until then nobody takes it for a candidate, or for even.
 */
function leaveCursor(
  context: ApplyContext,
  bucketId: number,
  old: ReplicationRule,
  rule: ReplicationRule,
): void {
  const here = context.entry.regionId
  if (rule.mode === 'multi' || rule.primary === here) return
  if (rule.group === undefined || old.group === undefined) {
    // A former primary's log goes on where it was, though others have written since.
    if (old.primary !== rule.primary) dropCursor(context, bucketId, rule.primary)
    return
  }
  const reigns = readGroup(context, rule.group)?.record.reigns ?? []
  const from = groupEpochOf(old.epoch)
  const isKnown = reigns.some(({ epoch }) => epoch <= from)
  const isSame = reigns.every(
    ({ epoch, primary }) => epoch <= from || epoch > groupEpochOf(rule.epoch) || primary === rule.primary,
  )
  if (old.primary === rule.primary && isKnown && isSame) return
  dropCursor(context, bucketId, rule.primary)
  if (old.primary !== here) dropCursor(context, bucketId, old.primary)
}

/** Whether anything is in the bucket. */
export const hasVersions = (context: ApplyContext, bucketId: number): boolean =>
  [table.current, table.version].some((tag) => {
    const prefix = bucketKey(tag, bucketId)
    const cursor = context.rows(prefix, successor(prefix))
    const found = cursor.next()
    cursor.close()
    return found
  })

/** Opens the outbox, or goes on with it; makes the rows of the members. */
export function becomeWriter(
  context: ApplyContext,
  bucketId: number,
  old: ReplicationRule | undefined,
  rule: ReplicationRule,
): void {
  const here = context.entry.regionId
  const known = readOutboxState(context, bucketId)
  const wasWriter = old !== undefined && isWriter(old, here)
  const isBareEdge = known === undefined && rule.edge !== undefined && !hasVersions(context, bucketId)
  if (known === undefined) {
    const point = { lsn: 0, chain: emptyChain() }
    writeOutboxState(context, bucketId, {
      id: Buffer.from(context.entry.random).toString('hex'),
      head: point,
      headTime: noTime,
      trimmed: point,
      rowBytes: 0,
      bodyBytes: 0,
      // Everything that is here already is told first, so that a member's place in the outbox says all of its content.
      ...(isBareEdge ? {} : { backfill: { from: 0, after: '' } }),
      backfilledThrough: 0,
    })
  }
  // Of what it once told nobody may know any more what came last.
  if (known !== undefined && !wasWriter) {
    const { isAccessTold: _, ...untold } = known
    writeOutboxState(context, bucketId, untold)
  }
  if (isBareEdge) {
    // An edge begins with nothing: it says so at once, or what is written from now on would be told twice.
    const nothing = { type: 'range', after: '', versions: [], purged: [] } as const
    appendEntry(context, bucketId, rule, context.tick(), nothing)
    addStagedTimes(context, bucketId, [0])
  }
  for (const { region } of readMembers(context, bucketId)) {
    const isGone = !rule.members.includes(region) || (old !== undefined && hasLeft(old, rule, region))
    if (isGone) context.remove(memberKey(bucketId, region))
  }
  for (const region of rule.members) {
    if (region === here || isEdge(rule, region)) continue
    const member = readMember(context, bucketId, region)
    // What happened while others wrote is not in this outbox: who followed it before has to begin again.
    const goesOn = known === undefined || (wasWriter && member !== undefined)
    putMember(context, bucketId, {
      ...(member ?? { region, acknowledged: 0, acknowledgedTime: noTime }),
      needsFullSync: !goesOn || member?.needsFullSync === true,
    })
  }
}

const putMember = (context: ApplyContext, bucketId: number, member: MemberState): void =>
  context.put(memberKey(bucketId, member.region), encodeMember(member))

/** Step by step; true when nothing is left. */
function removeRule(context: ApplyContext, bucketId: number, old: StoredRule): boolean {
  // Of the deletes nothing is known any more when the rows are gone.
  const isForgetful = isReliedUpon(context, bucketId, old)
  const leaving: StoredRule = { ...old, isLeaving: true, ...(isForgetful ? { isForgetful } : {}) }
  if (old.isLeaving !== true) context.put(ruleKey(bucketId), pack(leaving))
  const state = readOutboxState(context, bucketId)
  if (state !== undefined && !trimThrough(context, bucketId, state.head.lsn)) return false
  const free = (writeId: Uint8Array): void => freeWrite(context, writeId)
  if (!dropWaiting(context, bucketId, rowsAtOnce, free)) return false
  for (const tag of tablesOfRule) {
    const prefix = bucketKey(tag, bucketId)
    const keys: Uint8Array[] = []
    const cursor = context.rows(prefix, successor(prefix))
    while (keys.length < rowsAtOnce && cursor.next()) keys.push(rowKey(cursor))
    cursor.close()
    for (const key of keys) context.remove(key)
    if (keys.length === rowsAtOnce) return false
  }
  context.remove(ruleKey(bucketId))
  const { replicated: _, ...bucket } = context.bucket(bucketId)
  putBucket(context, bucket)
  if (isForgetful) noteForgotten(context, bucket.name, old)
  return true
}

function ownOutbox(context: ApplyContext, bucketId: number) {
  const rule = readRule(context, bucketId)
  const state = readOutboxState(context, bucketId)
  if (rule === undefined || rule.isLeaving === true || state === undefined) {
    throw new StorageError('NO_SUCH_REPLICATION', 'the bucket is not replicated from here')
  }
  return { rule, state }
}

export function acknowledgeOutbox(
  context: ApplyContext,
  { bucketId, region, logId, lsn, dead = [] }: Of<'acknowledge-outbox'>,
): CommandResult<Of<'acknowledge-outbox'>> {
  const { state, rule } = ownOutbox(context, bucketId)
  const member = readMember(context, bucketId, region)
  if (member === undefined) throw new StorageError('INVALID_ARGUMENT', `region ${region} is no member`)
  if (logId !== state.id) throw new StorageError('CONFLICT', 'the acknowledgement is of another outbox')
  if (lsn > state.head.lsn) {
    throw new StorageError(
      'INVALID_ARGUMENT',
      `entry ${lsn} was never written: the head is ${state.head.lsn}`,
    )
  }
  // Late or repeated; and of a member that has to begin again, what it says of the time before does not count.
  if (lsn < member.acknowledged || member.needsFullSync) return {}
  const begins =
    member.hasBegun !== true && mayBegin(rule, context.entry.regionId, readCursor(context, bucketId, region))
  const isNews = lsn > member.acknowledged || dead.join() !== (member.dead ?? []).join()
  if (!isNews && !begins) return {}
  const row = readOutboxRow(context, bucketId, lsn)
  const time = row === undefined ? member.acknowledgedTime : decodeOutboxEntry(row.bytes).time
  if (
    rule.edge === undefined &&
    lsn > member.acknowledged &&
    isLongAgo(context, bucketId, member.acknowledged + 1)
  ) {
    writeOutboxState(context, bucketId, { ...state, isCompareDue: true })
  }
  const { dead: _, held, ...before } = member
  putMember(context, bucketId, {
    ...before,
    acknowledged: lsn,
    acknowledgedTime: time,
    ...(begins ? { hasBegun: true } : {}),
    ...(dead.length === 0 ? {} : { dead }),
    // Said again of where it was told to begin, it says nothing of having begun.
    ...(held === undefined || lsn > member.acknowledged ? {} : { held }),
  })
  // An edge has one hub: what it has is done with, and makes room.
  if (rule.edge !== undefined) trimThrough(context, bucketId, lsn)
  return {}
}

function isLongAgo(context: ApplyContext, bucketId: number, lsn: number): boolean {
  const row = readOutboxRow(context, bucketId, lsn)
  return row !== undefined && decodeOutboxEntry(row.bytes).time.ms + longAwayMs < context.entry.nowMs
}

export function startFullSync(
  context: ApplyContext,
  { bucketId, region }: Of<'start-full-sync'>,
): CommandResult<Of<'start-full-sync'>> {
  const { rule, state } = ownOutbox(context, bucketId)
  const member = readMember(context, bucketId, region)
  if (member === undefined) throw new StorageError('INVALID_ARGUMENT', `region ${region} is no member`)
  const running = state.backfill
  // Where several regions write, what a step has written may have been deleted by another one since, and the newcomer need not hear of that.
  const isUntouched = rule.mode === 'single' || running?.from === state.head.lsn
  const canJoin = running !== undefined && running.from >= state.trimmed.lsn && isUntouched
  const from = canJoin ? running.from : state.head.lsn
  if (!canJoin) {
    const { isAccessTold: _, ...untold } = state
    writeOutboxState(context, bucketId, { ...untold, backfill: { from, after: '' } })
  }
  putMember(context, bucketId, {
    region,
    acknowledged: from,
    acknowledgedTime: noTime,
    needsFullSync: false,
    ...(member.hasBegun === true ? { hasBegun: true } : {}),
    ...(member.needsFullSync ? {} : { held: Math.min(from, member.held ?? member.acknowledged) }),
  })
  return {}
}

/**
 * Trims to what every member has. A member that holds up more than the retention allows is let go: it has to synchronize in full,
 * and is told so when it comes.
 */
export function trimOutbox(
  context: ApplyContext,
  { bucketId }: Of<'trim-outbox'>,
): CommandResult<Of<'trim-outbox'>> {
  const { rule, state } = ownOutbox(context, bucketId)
  const dropped: number[] = []
  let waiting = readMembers(context, bucketId).filter(({ needsFullSync }) => !needsFullSync)
  const leastOf = (members: readonly MemberState[]): number =>
    members.reduce((least, { acknowledged }) => Math.min(least, acknowledged), state.head.lsn)
  let least = leastOf(waiting)
  // The entries of a group tell what a failover has lost: they stay until a member is known to have begun anew.
  const isKept = rule.group !== undefined && !isBeyondRetention(context, bucketId, rule)
  const placeOf = (so: number): number =>
    isKept ? Math.min(so, ...waiting.map(({ held }) => held ?? so)) : so
  // What all have goes first: it is no reason to let one go.
  if (!trimThrough(context, bucketId, placeOf(least))) return { done: false, dropped }
  // An edge refuses to take more rather than let its hub go.
  if (rule.edge === undefined && least < state.head.lsn && isBeyondRetention(context, bucketId, rule)) {
    for (const member of waiting.filter(({ acknowledged }) => acknowledged === least)) {
      dropped.push(member.region)
      putMember(context, bucketId, { ...member, needsFullSync: true })
    }
    waiting = waiting.filter(({ region }) => !dropped.includes(region))
    least = leastOf(waiting)
  }
  return { done: trimThrough(context, bucketId, placeOf(least)), dropped }
}

function isBeyondRetention(context: ApplyContext, bucketId: number, rule: ReplicationRule): boolean {
  const state = readOutboxState(context, bucketId)
  if (state === undefined) return false
  if (state.rowBytes + state.bodyBytes > rule.retentionBytes) return true
  const oldest = readOutboxRow(context, bucketId, state.trimmed.lsn + 1)
  if (oldest === undefined) return false
  return decodeOutboxEntry(oldest.bytes).time.ms + rule.retentionMs < context.entry.nowMs
}
