import { createHash } from 'node:crypto'
import type { Command, CommandResult } from '../../contract/catalog.ts'
import { StorageError } from '../../contract/errors.ts'
import { forgetfulReason } from '../../contract/forgotten-rule.ts'
import {
  isRetryTableFull,
  type OutboxEntry,
  type PulledEntry,
  type RetryRecord,
  replicationLimits,
} from '../../contract/replication.ts'
import type { ApplyContext } from '../apply-context.ts'
import { bytesOf } from '../encoding.ts'
import { readGroup } from '../group/rows.ts'
import { encodeText, successor } from '../keys.ts'
import { rowKey, rowValue } from '../tables.ts'
import { settleAccess, takeAccess } from './apply-access.ts'
import { applyChange, type ChangeTarget } from './apply-change.ts'
import { compareRange, rangeCame } from './apply-compare.ts'
import { hasVersions } from './apply-rule.ts'
import { prepareResolution } from './concurrent-write.ts'
import { dropEntryParts, dropRetries } from './drop-cursor.ts'
import { decodeOutboxEntry, extendOutboxChain } from './entry-codec.ts'
import { cursorKey, entryPartKey, retryKey, retryOfKey } from './keys.ts'
import { isWriter } from './outbox.ts'
import {
  compareTimes,
  countRetryBytes,
  decodeRetry,
  encodeCursor,
  encodeRetry,
  firstRetry,
  readCursor,
  readRule,
  type StoredCursor,
  type StoredRule,
} from './rows.ts'

type Of<T extends Command['type']> = Extract<Command, { type: T }>

/**
 * A source whose clock is further ahead than this would make its versions the newest for ever. Below it replication goes on, since
 * holding back what a region writes whose clock was set wrong by minutes loses more than times that are minutes ahead: as far as S3
 * lets a request's time be from the server's.
 */
const maxSkewMs = 15 * 60_000
/** Before the first repeat; then twice that, and so on. */
const firstRetryMs = 1_000

/** What applying entries of one source to one bucket goes by. */
interface Target {
  readonly context: ApplyContext
  readonly bucketId: number
  readonly source: number
  readonly rule: StoredRule
  cursor: StoredCursor
}

function targetOf(context: ApplyContext, bucketId: number, source: number): Omit<Target, 'cursor'> {
  context.bucket(bucketId)
  const rule = readRule(context, bucketId)
  if (rule === undefined || rule.isLeaving === true) {
    throw new StorageError('NO_SUCH_REPLICATION', 'the bucket is not replicated here')
  }
  if (rule.isForgetful === true) throw new StorageError('UNAVAILABLE', forgetfulReason)
  return { context, bucketId, source, rule }
}

/** STALE_EPOCH unless the rule in force lets the source write. */
function checkSource({ context, rule, source }: Omit<Target, 'cursor'>): void {
  if (source !== context.entry.regionId && rule.members.includes(source) && isWriter(rule, source)) return
  throw new StorageError(
    'STALE_EPOCH',
    `region ${source} may not write the bucket: by the rule of epoch ${rule.epoch} region ${rule.primary} does`,
  )
}

function cursorOf(target: Omit<Target, 'cursor'>, logId?: string): Target {
  const cursor = readCursor(target.context, target.bucketId, target.source)
  if (cursor === undefined || (logId !== undefined && cursor.logId !== logId)) {
    throw new StorageError('CONFLICT', 'the bucket does not follow this outbox')
  }
  return { ...target, cursor }
}

export function setCursor(context: ApplyContext, command: Of<'set-cursor'>): CommandResult<Of<'set-cursor'>> {
  const { bucketId, source, logId, at } = command
  const target = targetOf(context, bucketId, source)
  checkSource(target)
  checkLosses(target)
  checkBallot(target)
  const known = readCursor(context, bucketId, source)
  // Of the same log what was said stays true; what was applied may come once more.
  const kept = known?.logId === logId ? known : undefined
  const reached =
    kept === undefined ? 0 : Math.max(kept.reached ?? 0, watermarkOf(context, bucketId, source, kept))
  // What waited there is superseded: the synchronization brings all of it.
  dropRetries(context, bucketId, source)
  putCursor({
    ...target,
    cursor: {
      ...(kept?.passed === undefined ? {} : { passed: kept.passed }),
      ...(reached > at.lsn ? { reached } : {}),
      logId,
      received: at,
      receivedTime: { ms: 0, counter: 0 },
      retries: 0,
      dead: 0,
      synchronizing: true,
      ...(hasVersions(context, bucketId) ? { isStale: true } : {}),
    },
  })
  return {}
}

/**
 * Who has voted for a later primary takes nothing in from the one before: what that one still acknowledges must not count on a copy
 * of which the voters of its successor were not told. STALE_EPOCH.
 */
function checkBallot({ context, rule, source }: Omit<Target, 'cursor'>): void {
  const state = rule.group === undefined ? undefined : readGroup(context, rule.group)
  if (state === undefined || state.ballot.epoch <= state.record.epoch) return
  if (source === state.ballot.primary) return
  throw new StorageError(
    'STALE_EPOCH',
    `this region has voted for region ${state.ballot.primary} as the primary of epoch ${state.ballot.epoch}`,
  )
}

/** What this region wrote and did not hand over is listed before anything of its successor is taken in. CONFLICT until then. */
function checkLosses({ context, bucketId, rule }: Omit<Target, 'cursor'>): void {
  const state = rule.group === undefined ? undefined : readGroup(context, rule.group)
  if (state?.diverged.some((one) => one.bucketId === bucketId) === true) {
    throw new StorageError('CONFLICT', 'what this region had not handed over is still being listed')
  }
}

function putCursor({ context, bucketId, source, cursor }: Target): void {
  context.put(cursorKey(bucketId, source), encodeCursor(cursor))
}

export function applyRemote(
  context: ApplyContext,
  command: Of<'apply-remote'>,
): CommandResult<Of<'apply-remote'>> {
  const { bucketId, source, logId, after, entries: told } = command
  const unplaced = targetOf(context, bucketId, source)
  checkSource(unplaced)
  checkLosses(unplaced)
  checkBallot(unplaced)
  const target = cursorOf(unplaced, logId)
  const { received } = target.cursor
  if (after + told.length <= received.lsn) return { applied: 0, retries: target.cursor.retries }
  if (after !== received.lsn) {
    throw new StorageError('CONFLICT', `the cursor is at ${received.lsn}, the batch begins behind ${after}`)
  }
  if (isRetryTableFull(target.cursor)) {
    throw new StorageError(
      'OVERLOADED',
      'too many entries wait in the retry table, or too many bytes of them',
    )
  }
  const entries = told.map((pulled) => (pulled.inParts === undefined ? pulled : assembled(target, pulled)))
  const decoded = entries.map(({ bytes }, at) => decodeAt(target, bytes, after + at + 1))
  const resolve = resolutionOf(target, entries, decoded)
  dropEntryParts(context, bucketId, source)
  let applied = 0
  let isNew = false
  for (const [at, pulled] of entries.entries()) {
    const entry = decoded[at]
    const lsn = after + at + 1
    // Also where the entry itself has to wait: what comes behind it must not be seen by more than may see it.
    if (entry !== undefined && !(entry instanceof StorageError)) {
      if (takeTold(target, entry, false)) isNew = true
      // What this region has of others it tells anew, and an entry says nothing that is newer than itself.
      if (entry.access !== undefined) goAhead(context, entry.time)
    }
    const reason =
      entry instanceof StorageError || entry === undefined
        ? (entry?.message ?? 'missing')
        : applyPulled(target, entry, pulled, resolve)
    if (reason === undefined) applied++
    else keepForLater(target, lsn, entry, pulled.bytes, reason)
    const { cursor } = target
    target.cursor = {
      ...cursor,
      received: { lsn, chain: extendOutboxChain(cursor.received, pulled.bytes) },
      ...(entry instanceof StorageError || entry === undefined ? {} : { receivedTime: entry.time }),
    }
  }
  putCursor(target)
  settleAccess(context, bucketId, isNew)
  if (isNew) settleAccess(context, bucketId, false)
  return { applied, retries: target.cursor.retries }
}

export function putEntryPart(
  context: ApplyContext,
  command: Of<'put-entry-part'>,
): CommandResult<Of<'put-entry-part'>> {
  const { bucketId, source, logId, lsn, part, bytes } = command
  const unplaced = targetOf(context, bucketId, source)
  checkSource(unplaced)
  const { received } = cursorOf(unplaced, logId).cursor
  if (received.lsn >= lsn) return {}
  if (received.lsn + 1 !== lsn) {
    throw new StorageError('CONFLICT', `the cursor is at ${received.lsn}, the part is of entry ${lsn}`)
  }
  if (part === 0) dropEntryParts(context, bucketId, source)
  context.put(entryPartKey(bucketId, source, part), bytes)
  return {}
}

/** An entry whose bytes came in parts. CONFLICT where these are not the ones that it had: they have to come once more. */
function assembled({ context, bucketId, source }: Target, pulled: PulledEntry): PulledEntry {
  const { inParts: digest = new Uint8Array(0), ...rest } = pulled
  const parts: Uint8Array[] = []
  const prefix = entryPartKey(bucketId, source)
  const rows = context.rows(prefix, successor(prefix))
  while (rows.next()) parts.push(rowValue(rows))
  const bytes = bytesOf(Buffer.concat(parts))
  if (Buffer.compare(createHash('sha256').update(bytes).digest(), digest) !== 0)
    throw new StorageError('CONFLICT', 'the parts of an entry are not those that it had')
  return { ...rest, bytes }
}

/** What is left to do when the entry has been applied. CONFLICT before anything is written: then it is decided again. */
function resolutionOf(
  target: Target,
  entries: readonly PulledEntry[],
  [entry]: readonly (OutboxEntry | StorageError)[],
): (() => void) | undefined {
  const resolution = entries.find((one) => one.resolution !== undefined)?.resolution
  if (resolution === undefined || entry === undefined || entry instanceof StorageError) return undefined
  if (entries.length > 1) throw new StorageError('INVALID_ARGUMENT', 'what was decided about comes alone')
  return prepareResolution(contextOf(target, entry.lsn), entry, resolution)
}

/** An entry that this software cannot read is kept for one that can; one that must not be here fails the batch. */
function decodeAt(
  { context, rule, source }: Target,
  bytes: Uint8Array,
  lsn: number,
): OutboxEntry | StorageError {
  let entry: OutboxEntry
  try {
    entry = decodeOutboxEntry(bytes)
  } catch (error) {
    return StorageError.from(error)
  }
  checkOrigin(context, source, entry, lsn)
  checkEpoch(context.entry.regionId, rule, source, entry.epoch)
  return entry
}

/**
 * CONFLICT: it was written by a rule that is not known here yet, or from before one of the two had left. What a region has that
 * does not know that this one was gone may be deleted elsewhere, where nobody waited for this one before the delete was forgotten.
 */
function checkEpoch(here: number, rule: StoredRule, source: number, epoch: number): void {
  if (epoch > rule.epoch) {
    throw new StorageError('CONFLICT', `an entry of epoch ${epoch}: the rule here is of ${rule.epoch}`)
  }
  if (epoch < (rule.minimumEpoch ?? 0)) {
    throw new StorageError(
      'CONFLICT',
      `region ${source} goes by a rule that was taken away here and made anew: it has to be taken away there, too`,
    )
  }
  const isBefore = (region: number): boolean =>
    rule.former?.some((left) => left.region === region && epoch <= left.epoch) === true
  if (isBefore(source)) {
    throw new StorageError(
      'CONFLICT',
      `region ${source} had left the rule and has come back with what it had: its bucket has to be made anew`,
    )
  }
  if (isBefore(here)) {
    throw new StorageError(
      'CONFLICT',
      `this region had left the rule, which region ${source} does not know yet: what it tells is from before`,
    )
  }
}

/** PROTOCOL_ERROR, CLOCK_SKEW: it is not what the source may say at this place. */
function checkOrigin(context: ApplyContext, source: number, entry: OutboxEntry, lsn: number): void {
  if (entry.lsn !== lsn || entry.origin !== source) {
    throw new StorageError(
      'PROTOCOL_ERROR',
      `entry ${entry.lsn} of region ${entry.origin} in place of ${lsn}`,
    )
  }
  if (entry.time.ms > context.entry.nowMs + maxSkewMs) {
    const aheadMs = entry.time.ms - context.entry.nowMs
    throw new StorageError('CLOCK_SKEW', `the clock of region ${source} is ${aheadMs} ms ahead`)
  }
}

/** An edge has no say in who may do what: it stands where anybody can reach it. */
function takeTold(
  { context, bucketId, rule, source }: Target,
  { access }: OutboxEntry,
  isLate: boolean,
): boolean {
  if (access === undefined || rule.edge !== undefined) return false
  return takeAccess(context, bucketId, rule, source, access, isLate)
}

/** What is written here from now on is later than what this region has. */
function goAhead(context: ApplyContext, time: OutboxEntry['time']): void {
  if (compareTimes(time, context.meta.time) > 0) context.meta.time = time
}

/** Why it must wait; undefined: done. */
function applyPulled(
  target: Target,
  entry: OutboxEntry,
  pulled: PulledEntry,
  resolve: (() => void) | undefined,
): string | undefined {
  const { context } = target
  const { change } = entry
  // Where several regions write nothing depends on an order: versions are a set, and of two changes of one the later one lasts.
  if (target.rule.mode === 'single') {
    if ('key' in change && firstOfKey(target, change.key) !== undefined)
      return 'an earlier change of the key waits'
    // It may be of any key: a delete of what it brings must not come before it, nor a list of all there is behind what came later.
    if (firstOfKey(target, '') !== undefined)
      return 'an earlier entry waits that is of no key, or cannot be read here'
  }
  if (pulled.failure !== undefined) return pulled.failure
  const outcome = context.unit(() => {
    applyChange(contextOf(target, entry.lsn), entry, pulled.layout)
    resolve?.()
  })
  if (outcome instanceof StorageError) return outcome.message
  goAhead(context, entry.time)
  target.cursor = cursorBehind(target, entry)
  // Entries fail each for itself: what follows must not count as part of this one.
  context.wrote = true
  return undefined
}

/** What the entry says of the bucket as a whole. */
function cursorBehind(
  { context, bucketId, rule, cursor }: Target,
  { change, lsn }: OutboxEntry,
): StoredCursor {
  const { comparison, synchronizing, retries } = cursor
  if (change.type === 'digest') {
    const isComparable = !synchronizing && retries === 0
    return {
      ...cursor,
      comparison: compareRange(context, bucketId, rule, change, comparison, lsn, isComparable),
    }
  }
  if (change.type === 'passed') {
    const seen = change.seen.map(([region, logId, place]) => ({ region, logId, lsn: place }))
    return { ...cursor, passed: { at: lsn, seen } }
  }
  if (change.type !== 'range') return cursor
  if (change.isRepair === true) {
    return comparison === undefined ? cursor : { ...cursor, comparison: rangeCame(comparison, change.after) }
  }
  return change.through === undefined ? { ...cursor, synchronizing: false } : cursor
}

function contextOf({ context, bucketId, source, rule, cursor }: Target, lsn: number): ChangeTarget {
  const { logId, synchronizing, reached = 0 } = cursor
  return {
    ...{ context, bucket: context.bucket(bucketId), source, rule, synchronizing },
    place: { region: source, logId, lsn },
    isAgain: rule.mode === 'multi' && lsn <= reached,
  }
}

function firstOfKey({ context, bucketId, source }: Omit<Target, 'cursor'>, key: string): number | undefined {
  const prefix = retryOfKey(bucketId, source, encodeText(key))
  const rows = context.rows(prefix, successor(prefix))
  if (!rows.next()) return undefined
  const bytes = Buffer.from(rowKey(rows))
  rows.close()
  return bytes.readUIntBE(bytes.length - 6, 6)
}

function keepForLater(
  target: Target,
  lsn: number,
  entry: OutboxEntry | StorageError | undefined,
  bytes: Uint8Array,
  reason: string,
): void {
  const { context, bucketId, source } = target
  const key = keyOf(entry)
  const { nowMs } = context.entry
  const retry: RetryRecord = {
    lsn,
    key,
    bytes,
    sinceMs: nowMs,
    attempts: 1,
    nextMs: nowMs + firstRetryMs,
    reason: reason.slice(0, replicationLimits.reasonChars),
    dead: false,
  }
  const retryBytes = retryBytesOf(target) + bytes.length
  context.put(retryKey(bucketId, source, lsn), encodeRetry(retry))
  context.put(retryOfKey(bucketId, source, encodeText(key), lsn), new Uint8Array(0))
  target.cursor = { ...target.cursor, retries: target.cursor.retries + 1, retryBytes }
}

const retryBytesOf = ({ context, bucketId, source, cursor }: Target): number =>
  cursor.retryBytes ?? countRetryBytes(context, bucketId, source)

function keyOf(entry: OutboxEntry | StorageError | undefined): string {
  if (entry === undefined || entry instanceof StorageError) return ''
  return 'key' in entry.change ? entry.change.key : ''
}

export function retryRemote(
  context: ApplyContext,
  command: Of<'retry-remote'>,
): CommandResult<Of<'retry-remote'>> {
  const { bucketId, source, lsn, layout, failure } = command
  const target = cursorOf(targetOf(context, bucketId, source))
  checkBallot(target)
  const rowAt = retryKey(bucketId, source, lsn)
  const row = context.get(rowAt)
  // Done before, and the answer was lost.
  if (row === undefined) return { applied: false }
  const retry = decodeRetry(row)
  if (target.rule.mode === 'single') {
    const isFirst = firstOfKey(target, retry.key) === lsn && (firstOfKey(target, '') ?? lsn) >= lsn
    if (!isFirst) throw new StorageError('CONFLICT', 'an earlier change of the key waits')
  }
  let entry: OutboxEntry | undefined
  const outcome =
    failure === undefined
      ? context.unit(() => {
          entry = decodeOutboxEntry(retry.bytes)
          // One that the software of then could not read was kept unseen.
          checkOrigin(context, source, entry, lsn)
          checkEpoch(context.entry.regionId, target.rule, source, entry.epoch)
          applyChange(contextOf(target, lsn), entry, layout)
        })
      : new StorageError('UNAVAILABLE', failure.reason)
  if (outcome instanceof StorageError) {
    const dead = failure?.dead ?? retry.dead
    const { nowMs } = context.entry
    const next: RetryRecord = {
      ...retry,
      attempts: retry.attempts + 1,
      nextMs: failure?.nextMs ?? nowMs + firstRetryMs,
      reason: outcome.reason.slice(0, replicationLimits.reasonChars),
      dead,
    }
    context.put(rowAt, encodeRetry(next))
    const change = Number(dead) - Number(retry.dead)
    if (change !== 0)
      putCursor({ ...target, cursor: { ...target.cursor, dead: target.cursor.dead + change } })
    return { applied: false }
  }
  context.wrote = true
  if (entry !== undefined) goAhead(context, entry.time)
  const isNew = takeTold(target, decodeOutboxEntry(retry.bytes), true)
  const retryBytes = retryBytesOf(target) - retry.bytes.length
  context.remove(rowAt)
  context.remove(retryOfKey(bucketId, source, encodeText(retry.key), lsn))
  // A comparison has gone on without it; the end of a synchronization, and what was told of other logs, count as ever.
  const isCounted =
    entry !== undefined && entry.change.type !== 'digest' && (target.cursor.passed?.at ?? 0) < lsn
  const cursor = entry !== undefined && isCounted ? cursorBehind(target, entry) : target.cursor
  putCursor({
    ...target,
    cursor: { ...cursor, retries: cursor.retries - 1, retryBytes, dead: cursor.dead - Number(retry.dead) },
  })
  settleAccess(context, bucketId, isNew)
  if (isNew) settleAccess(context, bucketId, false)
  return { applied: true }
}

/** Applied without a gap. */
export function watermarkOf(
  reader: Parameters<typeof firstRetry>[0],
  bucketId: number,
  source: number,
  cursor: StoredCursor,
): number {
  if (cursor.retries === 0) return cursor.received.lsn
  return (firstRetry(reader, bucketId, source) ?? cursor.received.lsn + 1) - 1
}
