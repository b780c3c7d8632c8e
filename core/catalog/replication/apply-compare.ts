import { createHash } from 'node:crypto'
import type { Command, CommandResult } from '../../contract/catalog.ts'
import { StorageError } from '../../contract/errors.ts'
import type { ComparisonState, EntryTime, KeyRange, ReplicatedChange } from '../../contract/replication.ts'
import { replicationLimits } from '../../contract/replication.ts'
import type { ApplyContext } from '../apply-context.ts'
import { bytesOf } from '../encoding.ts'
import { readHybridTime } from '../hybrid-time.ts'
import { findVersion } from '../key-versions.ts'
import { encodeText } from '../keys.ts'
import { decodeObjectRow } from '../object-row.ts'
import { appendRange, isWithin, versionsWithin, wholeKeys } from './apply-backfill.ts'
import { emptyChain } from './entry-codec.ts'
import { append, isWriter, writeOutboxState } from './outbox.ts'
import { compareTimes, readOutboxState, readRule, type StoredRule } from './rows.ts'
import { retellVersioning } from './versioning-state.ts'

type Of<T extends Command['type']> = Extract<Command, { type: T }>
type Digest = Extract<ReplicatedChange, { type: 'digest' }>

/** Where several regions write, versions younger than this are on their way and not compared. */
const settledMs = 60_000

/**
 * Comparing copies with their source: a pass over the keys, range by range, writes the digest of each into the outbox, and a copy
 * compares it with its own rows when it comes to that entry. So both are at the same place of the one order, whatever is being
 * written meanwhile. The root is the hash chain over the digests of a pass. Where a range differs the copy asks for it, and it is
 * written into the outbox again like a step of a full synchronization.
 */
export function compareContent(
  context: ApplyContext,
  { bucketId }: Of<'compare-content'>,
): CommandResult<Of<'compare-content'>> {
  const bucket = context.bucket(bucketId)
  const rule = readRule(context, bucketId)
  const state = readOutboxState(context, bucketId)
  const isIdle = rule === undefined || rule.isLeaving === true || state === undefined
  // Copies are between two states: there is nothing to compare yet.
  if (isIdle || state.backfill !== undefined || !isWriter(rule, context.entry.regionId)) return { done: true }
  const { after, root } = state.comparing ?? { after: '', root: emptyChain() }
  if (state.comparing === undefined) {
    // With each pass a copy is told once more who may do what: it may have come by a software that did not know it.
    const { isAccessTold: _, ...untold } = state
    writeOutboxState(context, bucketId, untold)
    retellVersioning(context, bucket, rule)
  }
  const time = context.tick()
  const before =
    rule.mode === 'multi' ? { ms: Math.max(0, context.entry.nowMs - settledMs), counter: 0 } : time
  const { through } = wholeKeys(context, bucketId, rule.prefix, after, replicationLimits.compareVersions)
  const range: KeyRange = through === undefined ? { after } : { after, through }
  const hash = digestOf(context, bucketId, rule, range, before)
  const next = extend(root, hash)
  append(context, bucketId, rule, time, {
    ...{ type: 'digest', ...range, before, hash },
    ...(through === undefined ? { root: next } : {}),
  })
  const written = readOutboxState(context, bucketId)
  if (written === undefined) throw new Error('an outbox that was written to is there')
  const { comparing: _, isCompareDue: __, ...rest } = written
  writeOutboxState(
    context,
    bucketId,
    through === undefined
      ? { ...rest, compared: { lsn: written.head.lsn, ms: context.entry.nowMs, root: next } }
      : { ...rest, comparing: { after: through, root: next } },
  )
  return { done: through === undefined }
}

const extend = (root: Uint8Array, hash: Uint8Array): Uint8Array =>
  bytesOf(createHash('sha256').update(root).update(hash).digest())

/** SHA-256 over all that makes a version what it is, of every version of the range that was made before a time. */
function digestOf(
  context: ApplyContext,
  bucketId: number,
  { prefix }: StoredRule,
  { after, through }: KeyRange,
  before: EntryTime,
): Uint8Array {
  const hash = createHash('sha256')
  for (const { key, versionId, isNull } of versionsWithin(context, bucketId, prefix, after, through)) {
    const id = Buffer.from(versionId)
    if (compareTimes(readHybridTime(id, 0), before) > 0) continue
    const keyBytes = encodeText(key)
    const place = findVersion(context, bucketId, keyBytes, isNull ? 'null' : versionId)
    if (place === undefined) throw new StorageError('CATALOG_CORRUPT', `${key}: a version is listed only`)
    const record = decodeObjectRow(key, place.row)
    const fixed = Buffer.alloc(13)
    fixed.writeUInt32BE(keyBytes.length, 0)
    fixed[4] = Number(isNull) | (Number(record.deleteMarker) << 1)
    fixed.writeBigUInt64BE(BigInt(record.byteLength), 5)
    hash.update(fixed).update(keyBytes).update(id)
    hash.update(`${record.etag} `).update(record.changed ?? '')
  }
  return bytesOf(hash.digest())
}

/** What a copy finds out when it comes to the digest of a range; `isComparable`: nothing that came before it waits. */
export function compareRange(
  context: ApplyContext,
  bucketId: number,
  rule: StoredRule,
  { after, through, before, hash, root: whole }: Digest,
  known: ComparisonState | undefined,
  lsn: number,
  isComparable: boolean,
): ComparisonState {
  const { root, isWhole } =
    after === ''
      ? { root: emptyChain(), isWhole: true }
      : { root: known?.root ?? emptyChain(), isWhole: known?.isWhole === true }
  const state: ComparisonState = {
    ...{ ranges: 0, differences: 0, differing: [] },
    ...known,
    ...{ root, isWhole: isWhole && isComparable },
  }
  if (!isComparable) return state
  const range: KeyRange = through === undefined ? { after } : { after, through }
  const own = digestOf(context, bucketId, rule, range, before)
  const isEqual = Buffer.compare(own, hash) === 0
  const next = extend(root, own)
  const isAgreed =
    through === undefined && state.isWhole && whole !== undefined && Buffer.compare(next, whole) === 0
  const isAsked = state.differing.some((asked) => asked.after === after)
  const isFull = state.differing.length >= replicationLimits.rangesAsked
  return {
    ...state,
    root: next,
    ranges: state.ranges + 1,
    differences: state.differences + Number(!isEqual),
    differing: isEqual || isAsked || isFull ? state.differing : [...state.differing, range],
    ...(isAgreed ? { agreed: { lsn, ms: context.entry.nowMs, root: next } } : {}),
  }
}

/** A range that differed has come again. */
export function rangeCame(known: ComparisonState, after: string): ComparisonState {
  return { ...known, differing: known.differing.filter((asked) => asked.after !== after) }
}

/** Writes a range into the outbox again, for a copy that has found it to differ. What is more than a step of it waits for the next pass. */
export function sendRange(
  context: ApplyContext,
  { bucketId, after, through }: Of<'send-range'>,
): CommandResult<Of<'send-range'>> {
  context.bucket(bucketId)
  const rule = readRule(context, bucketId)
  const state = readOutboxState(context, bucketId)
  const isIdle = rule === undefined || rule.isLeaving === true || state === undefined
  if (isIdle || !isWriter(rule, context.entry.regionId)) return {}
  const page = wholeKeys(context, bucketId, rule.prefix, after, replicationLimits.compareVersions)
  const end =
    page.through !== undefined && isWithin(encodeText(page.through), after, through) ? page.through : through
  const versions = page.versions.filter(({ key }) => isWithin(encodeText(key), after, end))
  appendRange(context, bucketId, rule, versions, end === undefined ? { after } : { after, through: end })
  return {}
}
