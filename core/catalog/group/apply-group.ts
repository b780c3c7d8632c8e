import { boundedReigns } from '../../contract/bounded-reigns.ts'
import type { Command, CommandResult } from '../../contract/catalog.ts'
import { StorageError } from '../../contract/errors.ts'
import {
  type Divergence,
  failoverLimits,
  firstBehind,
  type GroupRecord,
  type GroupState,
  groupEpochOf,
  isNewerRecord,
  type LeaseGrant,
  type Reign,
  recoveredReason,
  ruleEpochsOfGroup,
  type TakenBucket,
  votersOf,
} from '../../contract/failover.ts'
import type { BucketRecord } from '../../contract/object-model.ts'
import type { EntryTime, OutboxState } from '../../contract/replication.ts'
import { bucketNameKey } from '../apply-buckets.ts'
import type { ApplyContext } from '../apply-context.ts'
import { pack } from '../encoding.ts'
import { becomeWriter } from '../replication/apply-rule.ts'
import { dropCursor } from '../replication/drop-cursor.ts'
import { decodeOutboxEntry } from '../replication/entry-codec.ts'
import { retryKey, ruleKey } from '../replication/keys.ts'
import {
  compareTimes,
  decodeRetry,
  readCursor,
  readMembers,
  readOutboxRow,
  readOutboxState,
  readRule,
  type StoredRule,
  valuesUnder,
} from '../replication/rows.ts'
import { decodeBucketRow } from '../rows.ts'
import { bucketsOf, positionsOf } from './positions.ts'
import { readGroup, readGroups, removeGroupRow, writeGroup } from './rows.ts'

type Of<T extends Command['type']> = Extract<Command, { type: T }>

const noTime: EntryTime = { ms: 0, counter: 0 }

const stale = (name: string, epoch: number): StorageError =>
  new StorageError('STALE_EPOCH', `the group ${name} is in epoch ${epoch} or beyond it`)

export function putGroup(
  context: ApplyContext,
  { record, toldBy }: Of<'put-group'>,
): CommandResult<Of<'put-group'>> {
  const here = context.entry.regionId
  const known = readGroup(context, record.name)
  if (!votersOf(record).includes(here)) {
    throw new StorageError('INVALID_ARGUMENT', `region ${here} is no voter of the group ${record.name}`)
  }
  if (known === undefined) {
    if (toldBy !== undefined) checkTold(context, record, toldBy)
    if (readGroups(context).length >= failoverLimits.groups) {
      throw new StorageError('INVALID_ARGUMENT', `a region has at most ${failoverLimits.groups} groups`)
    }
    const made = record.primary === here ? withFirstReign(context, record) : record
    if (record.primary === here) joinBuckets(context, made)
    const ballot = { epoch: record.epoch, primary: record.primary }
    const introduced = toldBy === undefined ? {} : { introducedBy: toldBy }
    writeGroup(context, {
      ...{ record: made, ballot, ...introduced },
      ...{ isFrozen: false, diverged: [], estimates: [] },
    })
    return {}
  }
  if (record.epoch === known.record.epoch && record.revision === known.record.revision) return {}
  if (!isNewerRecord(record, known.record)) throw stale(record.name, known.record.epoch)
  if (toldBy !== undefined) checkTold(context, record, toldBy, known)
  // Who is the primary of this record had a majority; a greater vote may win still, and then comes with a record of its own.
  const ballot =
    known.ballot.epoch > record.epoch ? known.ballot : { epoch: record.epoch, primary: record.primary }
  const isNewEpoch = record.epoch > known.record.epoch
  if (!isNewEpoch && record.primary === here && toldBy === undefined) joinBuckets(context, record)
  writeGroup(context, {
    ...known,
    record,
    ballot,
    isFrozen: isNewEpoch ? false : known.isFrozen,
    ...(isNewEpoch && record.primary !== here
      ? divergedBy(context, known, record)
      : { diverged: known.diverged, estimates: known.estimates }),
  })
  return {}
}

/**
 * What another region may tell of a group: who leads it, as long as that is not this region, which knows by itself what it has taken; and
 * not that a bucket is in it that is written here. A region that was recovered may have forgotten both. ACCESS_DENIED.
 */
function checkTold(context: ApplyContext, record: GroupRecord, from: number, known?: GroupState): void {
  const here = context.entry.regionId
  const refuse = (why: string): never => {
    throw new StorageError('ACCESS_DENIED', `region ${from} tells of the group ${record.name}: ${why}`)
  }
  const votersIn = ({ regions, witnesses }: GroupRecord): string => `${regions.join()};${witnesses.join()}`
  const before = known?.record
  // Who has won says so, too: the primary before may be gone without having told this voter of a change.
  const says = before !== undefined && record.epoch > before.epoch ? record.primary : before?.primary
  const isChanged = before !== undefined && votersIn(before) !== votersIn(record)
  if (isChanged && from !== before.primary && from !== says)
    refuse(`region ${before.primary} says who its voters are`)
  if (known?.isRecovered === true) return
  if (record.primary === here) refuse('this region has not taken what it is said to be the primary of')
  for (const name of record.buckets) {
    const row = context.get(bucketNameKey(name))
    const rule = row === undefined ? undefined : readRule(context, decodeBucketRow(row).id)
    if (rule?.primary !== here || rule.group === record.name) continue
    refuse(`the bucket '${name}' is written here, and only an operator of this region puts it into a group`)
  }
}

function withFirstReign(context: ApplyContext, record: GroupRecord): GroupRecord {
  const { epoch, primary } = record
  return {
    ...record,
    reigns: [...record.reigns, { epoch, primary, start: context.tick(), cause: 'made', taken: [] }],
  }
}

/** Gives the rules of the group's buckets its name and epochs. INVALID_ARGUMENT for a bucket that cannot be in it. */
function joinBuckets(context: ApplyContext, record: GroupRecord): void {
  const here = context.entry.regionId
  const found = record.buckets.map((name) => {
    const row = context.get(bucketNameKey(name))
    if (row === undefined) throw new StorageError('NO_SUCH_BUCKET', `there is no bucket '${name}'`)
    const { id } = decodeBucketRow(row)
    const rule = readRule(context, id)
    const why =
      rule === undefined || rule.isLeaving === true
        ? 'is not replicated'
        : rule.mode !== 'single'
          ? 'is written in several regions: it needs no failover'
          : rule.primary !== here
            ? `is written in region ${rule.primary}: make the group there`
            : rule.members.join() !== record.regions.join()
              ? `is held by the regions ${rule.members.join(', ')}, not by those of the group`
              : rule.group !== undefined && rule.group !== record.name
                ? `is in the group ${rule.group}`
                : undefined
    if (rule === undefined || why !== undefined) {
      throw new StorageError('INVALID_ARGUMENT', `the bucket '${name}' ${why}`)
    }
    return { id, rule }
  })
  const least = record.epoch * ruleEpochsOfGroup
  for (const { id, rule } of found) {
    if (rule.group === record.name) continue
    if (rule.epoch >= least + ruleEpochsOfGroup) {
      throw new StorageError('CONFLICT', 'the rule of a bucket has a greater epoch than the group')
    }
    const epoch = Math.max(rule.epoch + 1, least)
    context.put(ruleKey(id), pack({ ...rule, group: record.name, epoch }))
  }
}

/** Another region has taken over: what of this region's writing is not in its history. */
function divergedBy(
  context: ApplyContext,
  known: GroupState,
  record: GroupRecord,
): Pick<GroupState, 'diverged' | 'estimates'> {
  const here = context.entry.regionId
  const diverged: Divergence[] = [...known.diverged]
  const guessed: TakenBucket[] = []
  for (const { bucket, rule } of bucketsOf(context, record)) {
    const outbox = readOutboxState(context, bucket.id)
    if (rule.primary !== here || outbox === undefined) continue
    if (diverged.some(({ bucketId }) => bucketId === bucket.id)) continue
    const epoch = groupEpochOf(rule.epoch)
    const told = record.reigns
      .filter((reign) => reign.epoch > epoch)
      .flatMap((reign) => reign.taken)
      .find((one) => one.bucket === bucket.name && one.from === here && one.logId === outbox.id)
    const taken = told ?? guess(context, known, bucket, outbox)
    if (told === undefined) guessed.push(taken)
    const { received, missing } = taken
    diverged.push({
      ...{ bucketId: bucket.id, bucket: bucket.name, epoch, received, missing },
      next: Math.min(received + 1, ...missing),
      isEstimate: told === undefined,
      since: told === undefined ? taken.time : noTime,
    })
  }
  if (guessed.length === 0) return { diverged, estimates: known.estimates }
  const { epoch, primary } = record
  const reign: Reign = { epoch, primary, start: noTime, cause: 'by-hand', taken: guessed }
  return { diverged, estimates: [...known.estimates, reign].slice(-failoverLimits.reigns) }
}

/** At least what every member has acknowledged, and what was there before this region wrote, is everybody's. */
function guess(
  context: ApplyContext,
  { record }: GroupState,
  { id, name }: BucketRecord,
  outbox: OutboxState,
): TakenBucket {
  const here = context.entry.regionId
  const members = readMembers(context, id)
  const received = members.reduce((least, { acknowledged }) => Math.min(least, acknowledged), outbox.head.lsn)
  const row = readOutboxRow(context, id, received)
  const shipped = row === undefined ? noTime : decodeOutboxEntry(row.bytes).time
  const start = record.reigns.findLast(({ primary }) => primary === here)?.start ?? noTime
  const time = compareTimes(shipped, start) > 0 ? shipped : start
  return { bucket: name, from: here, logId: outbox.id, received, missing: [], time }
}

/** A vote or a grant that was forgotten with the last entries must not be given a second time to somebody else. STALE_EPOCH. */
function checkMemory({ isRecovered, record: { name } }: GroupState): void {
  if (isRecovered === true) throw new StorageError('STALE_EPOCH', recoveredReason(name))
}

export function removeGroup(
  context: ApplyContext,
  { name }: Of<'remove-group'>,
): CommandResult<Of<'remove-group'>> {
  const state = readGroup(context, name)
  if (state === undefined) return {}
  if (state.diverged.length > 0) {
    throw new StorageError('CONFLICT', 'what this region had not handed over is still being listed')
  }
  const here = context.entry.regionId
  for (const { bucket, rule } of bucketsOf(context, state.record)) {
    const { group: _, ...alone } = rule
    if (rule.primary === here) context.put(ruleKey(bucket.id), pack({ ...alone, epoch: rule.epoch + 1 }))
    // Where the bucket is not written, its rule changes when that region says so; and from now on no other one may.
    else if (rule.primary === state.record.primary) context.put(ruleKey(bucket.id), pack(alone))
  }
  removeGroupRow(context, name)
  return {}
}

export function voteGroup(
  context: ApplyContext,
  { name, epoch, primary, grantedAt, frozenAt, positions }: Of<'vote-group'>,
): CommandResult<Of<'vote-group'>> {
  const state = readGroup(context, name)
  if (state === undefined) throw new StorageError('CONFLICT', `this region knows no group ${name}`)
  const { ballot, record, grant, isFrozen } = state
  checkMemory(state)
  if (ballot.epoch === epoch && ballot.primary === primary) return { record }
  if (epoch <= ballot.epoch || epoch <= record.epoch) throw stale(name, Math.max(ballot.epoch, record.epoch))
  if (grantedAt !== undefined && grantedAt !== (grant?.at ?? 0)) {
    throw new StorageError('STALE_EPOCH', `another node has granted the lease of ${name} meanwhile`)
  }
  if (frozenAt !== undefined && !(isFrozen && frozenAt === state.frozenAt)) {
    throw new StorageError('STALE_EPOCH', `writes of ${name} were let in again meanwhile`)
  }
  if (!record.regions.includes(primary)) {
    throw new StorageError('INVALID_ARGUMENT', `region ${primary} holds none of the group's buckets`)
  }
  // Here and not before: between a look and the vote a copy may come that the primary before counts.
  const here = context.entry.regionId
  const behind =
    positions && primary !== here && firstBehind(record, positions, positionsOf(context, state, here))
  if (behind) {
    throw new StorageError('STALE_EPOCH', `region ${here} has more of the bucket ${behind}`)
  }
  const granted = grantTo(context, state, epoch, primary)
  writeGroup(context, { ...state, ballot: { epoch, primary }, grant: granted })
  return { record }
}

export function grantLease(
  context: ApplyContext,
  { name, epoch, primary }: Of<'grant-lease'>,
): CommandResult<Of<'grant-lease'>> {
  const state = readGroup(context, name)
  if (state === undefined) throw new StorageError('CONFLICT', `this region knows no group ${name}`)
  checkMemory(state)
  const { ballot, record } = state
  if (record.epoch !== epoch || record.primary !== primary || ballot.epoch > epoch) {
    throw stale(name, Math.max(ballot.epoch, record.epoch))
  }
  writeGroup(context, { ...state, grant: grantTo(context, state, epoch, primary) })
  return { record }
}

function grantTo(
  { meta }: ApplyContext,
  { grant, record }: GroupState,
  epoch: number,
  to: number,
): LeaseGrant {
  const before = grant?.epoch === epoch ? grant.leaseMs : 0
  return { at: meta.position, to, epoch, leaseMs: Math.max(before, record.leaseMs) }
}

export function freezeGroup(
  context: ApplyContext,
  { name, epoch, isFrozen }: Of<'freeze-group'>,
): CommandResult<Of<'freeze-group'>> {
  const state = readGroup(context, name)
  if (state === undefined) throw new StorageError('CONFLICT', `this region knows no group ${name}`)
  if (state.record.epoch !== epoch || state.record.primary !== context.entry.regionId) {
    throw stale(name, state.record.epoch)
  }
  const at = context.meta.position
  writeGroup(context, { ...state, isFrozen, frozenAt: at })
  return { at }
}

export function takeGroup(
  context: ApplyContext,
  { name, epoch, cause, outageMs = -1 }: Of<'take-group'>,
): CommandResult<Of<'take-group'>> {
  const here = context.entry.regionId
  const state = readGroup(context, name)
  if (state === undefined) throw new StorageError('CONFLICT', `this region knows no group ${name}`)
  const { record, ballot } = state
  checkMemory(state)
  if (record.epoch === epoch && record.primary === here) return { record }
  if (ballot.epoch !== epoch || ballot.primary !== here || epoch <= record.epoch) {
    throw stale(name, Math.max(ballot.epoch, record.epoch))
  }
  if (state.diverged.length > 0) {
    throw new StorageError('CONFLICT', 'what this region had not handed over is still being listed')
  }
  const buckets = bucketsOf(context, record)
  if (buckets.length < record.buckets.length) {
    throw new StorageError('CONFLICT', 'not all buckets of the group are here')
  }
  // All that may be refused is refused before the first row is written.
  let room: number = failoverLimits.missing
  const taken = buckets.flatMap(({ bucket, rule }) => {
    const one = takenOf(context, record, bucket, rule, room)
    room -= one?.missing.length ?? 0
    return one ?? []
  })
  const start = context.tick()
  for (const { bucket, rule } of buckets) {
    const next: StoredRule = { ...rule, primary: here, epoch: epoch * ruleEpochsOfGroup }
    if (rule.primary !== here) dropCursor(context, bucket.id, rule.primary)
    context.put(ruleKey(bucket.id), pack(next))
    becomeWriter(context, bucket.id, rule, next)
  }
  const reign: Reign = { epoch, primary: here, start, cause, ...(outageMs < 0 ? {} : { outageMs }), taken }
  const next: GroupRecord = {
    ...record,
    ...{ epoch, primary: here, revision: 0 },
    automaticMs: cause === 'automatic' && record.primary !== here ? context.entry.nowMs : record.automaticMs,
    reigns: boundedReigns([...record.reigns, reign].slice(-failoverLimits.reigns)),
  }
  writeGroup(context, { ...state, record: next, isFrozen: false })
  return { record: next }
}

/** Where this region is in the outbox of the primary before it. CONFLICT when it does not hold the whole bucket. */
function takenOf(
  context: ApplyContext,
  record: GroupRecord,
  bucket: BucketRecord,
  rule: StoredRule,
  mostMissing: number,
): TakenBucket | undefined {
  const { id, name } = bucket
  const partly = () => new StorageError('CONFLICT', `this region holds only a part of the bucket '${name}'`)
  // Of a reign that has ended it may have all: what was written since is not there.
  if (groupEpochOf(rule.epoch) !== record.epoch) throw partly()
  if (rule.primary === context.entry.regionId) return undefined
  const cursor = readCursor(context, id, rule.primary)
  if (cursor === undefined || cursor.synchronizing) throw partly()
  const waiting = valuesUnder(context, retryKey(id, rule.primary), mostMissing + 1).map(decodeRetry)
  const [first] = waiting
  const isTooMany = waiting.length > mostMissing
  return {
    ...{ bucket: name, from: rule.primary, logId: cursor.logId },
    received: first === undefined || !isTooMany ? cursor.received.lsn : first.lsn - 1,
    missing: isTooMany ? [] : waiting.map(({ lsn }) => lsn),
    time: first === undefined ? cursor.receivedTime : justBefore(timeOf(first.bytes)),
  }
}

function timeOf(bytes: Uint8Array): EntryTime {
  try {
    return decodeOutboxEntry(bytes).time
  } catch {
    // An entry of newer software: what is behind it is set aside rather than removed.
    return noTime
  }
}

const justBefore = ({ ms, counter }: EntryTime): EntryTime =>
  counter > 0 ? { ms, counter: counter - 1 } : { ms: Math.max(0, ms - 1), counter: 0xffff }
