import { StorageError } from '../../contract/errors.ts'
import type { BucketRecord, Layout, VersionId } from '../../contract/object-model.ts'
import type { LogPlace, OutboxEntry, ReplicatedChange } from '../../contract/replication.ts'
import { putBucket } from '../apply-buckets.ts'
import type { ApplyContext } from '../apply-context.ts'
import { checkBody, putBody, shownVersion } from '../apply-objects.ts'
import { setAside } from '../group/losses.ts'
import { isDivergent, readGroup } from '../group/rows.ts'
import { readHybridTime, versionTimeMs } from '../hybrid-time.ts'
import { answered, takeFirstAnswer } from '../idempotency.ts'
import { findVersion, KeyVersions, type VersionPlace } from '../key-versions.ts'
import { encodeText, table, tableKey } from '../keys.ts'
import { checkObjectRow, decodeObjectRow, rowVersionId, type StoredObject } from '../object-row.ts'
import { encodeSuccess } from '../result.ts'
import { encodeGarbageRow } from '../rows.ts'
import { versionsWithin } from './apply-backfill.ts'
import { changeFrom } from './names-from.ts'
import { isReplicatedKey } from './outbox.ts'
import { compareTimes, readMember, type StoredRule } from './rows.ts'
import { bury, isBuried } from './tombstones.ts'
import { takesPlaceOf } from './version-conflict.ts'
import { takeVersioning } from './versioning-state.ts'

type Of<T extends ReplicatedChange['type']> = Extract<ReplicatedChange, { type: T }>

export interface ChangeTarget {
  readonly context: ApplyContext
  readonly bucket: BucketRecord
  readonly source: number
  readonly rule: StoredRule
  /** The first synchronization with the source is under way: until it has passed a key, what is there may be in nobody's history. */
  readonly synchronizing: boolean
  /** Of the entry. */
  readonly place: LogPlace
  /** Where several regions write: the entry was applied before, and is read again since this region synchronizes in full. */
  readonly isAgain: boolean
}

const isNewer = (left: Uint8Array, right: Uint8Array): boolean => Buffer.compare(left, right) > 0

/**
 * Does what an entry of another region says. Every change names versions by their ids, so doing one twice is doing it once. An
 * error comes before the first write.
 */
export function applyChange(target: ChangeTarget, entry: OutboxEntry, layout: Layout | undefined): void {
  const { context, source, rule } = target
  const change = changeFrom(entry.change, { from: source, here: context.entry.regionId })
  const isOfRule =
    'key' in change
      ? isReplicatedKey(rule, change.key)
      : change.type !== 'range' || change.purged.every(([key]) => isReplicatedKey(rule, key))
  if (!isOfRule) throw new StorageError('PROTOCOL_ERROR', 'the key is not one that the rule replicates')
  switch (change.type) {
    case 'put':
      putVersion(target, change, layout ?? { kind: 'empty' })
      break
    case 'attributes':
      changeAttributes(target, change)
      break
    case 'purge':
      purge(target, change, entry.time)
      break
    case 'versioning':
      changeVersioning(target, change, entry.time)
      break
    case 'range':
      applyRange(target, change, entry.time)
      break
    case 'access':
      // What the entry says of that is in force already.
      break
    case 'digest':
    case 'passed':
      // Changes nothing: what it says is compared where the cursor is.
      break
  }
}

function changeVersioning(target: ChangeTarget, change: Of<'versioning'>, time: OutboxEntry['time']): void {
  const { context, bucket, source, rule } = target
  const versioning = takeVersioning(context, bucket, rule, source, change, time)
  if (bucket.versioning !== versioning) putBucket(context, { ...bucket, versioning })
}

function putVersion(target: ChangeTarget, change: Of<'put'>, layout: Layout): void {
  const { context, bucket, rule } = target
  const { key, version } = change
  const { versionId, isNull } = version
  const versions = new KeyVersions(context, bucket, key, 'elsewhere')
  const known = versions.withId(versionId)
  if (known !== undefined) {
    const record = decodeObjectRow(key, known.row)
    if (takesPlaceOf(rule, version, record)) {
      replaceContent(target, versions, known, change, layout)
      return
    }
    const { changed: _, ...unchanged } = record
    if (version.changed !== undefined && isNewer(version.changed, record.changed ?? new Uint8Array(0))) {
      versions.replace(known, { ...record, attributes: version.attributes, changed: version.changed })
    } else if (rule.group !== undefined && !isSameChange(version.changed, record.changed)) {
      // A former primary's own change, of which its successor knows nothing.
      const changed = version.changed === undefined ? {} : { changed: version.changed }
      versions.replace(known, { ...unchanged, ...changed, attributes: version.attributes })
    }
    discard(context, layout)
    return
  }
  // What was here once and is not any more is gone, though nobody may remember why.
  if (rule.mode === 'multi' && (target.isAgain || isBuried(context, bucket.id, key, versionId, isNull))) {
    discard(context, layout)
    return
  }
  const record = recordOf(context, change, layout)
  checkObjectRow(record)
  const other = isNull ? versions.find('null') : undefined
  if (other !== undefined && isDoubtful(target, other, isNewer(rowVersionId(other.row), versionId))) {
    setAside(context, versions, other)
  }
  if (versions.merge(record)) putBody(context, layout, version.inline, { bucketId: bucket.id, key })
  else discard(context, layout)
  if (change.idempotency !== undefined)
    takeFirstAnswer(context, bucket.id, change.idempotency, answerOf(record))
}

/** What the region that made a version has answered, without the place in its own outbox. */
function answerOf(record: StoredObject): Uint8Array {
  const { key, deleteMarker, modifiedMs } = record
  const versionId = shownVersion(record)
  const shape = { bucketId: 0, key, owner: record.owner }
  if (deleteMarker) {
    const outcomes = [{ key, deleteMarker, versionId }]
    return encodeSuccess({ type: 'delete-objects', items: [{ key }], ...shape }, { outcomes }, undefined, {})
  }
  const { etag, byteLength, attributes, layout } = record
  const object = { etag, byteLength, attributes, layout }
  const result = { versionId, modifiedMs }
  return encodeSuccess({ type: 'put-object', object, ...shape }, result, undefined, answered(record))
}

/** REQUIRES nothing written yet: it says that the body has to be fetched first. */
function recordOf(context: ApplyContext, { key, version }: Of<'put'>, layout: Layout): StoredObject {
  const { bodies, inline, ...fields } = version
  const expected = bodies.length > 0 ? 'chunks' : inline === undefined ? 'empty' : 'inline'
  if (layout.kind !== expected) throw new StorageError('INVALID_ARGUMENT', 'the body has not been fetched')
  checkBody(context, layout, version.byteLength, inline)
  return { ...fields, key, layout, modifiedMs: versionTimeMs(version.versionId) }
}

/** The same version with other bytes takes the place of the one that is here; of their tags the later ones last. */
function replaceContent(
  { context, bucket, rule }: ChangeTarget,
  versions: KeyVersions,
  known: VersionPlace,
  change: Of<'put'>,
  layout: Layout,
): void {
  const told = recordOf(context, change, layout)
  const { changed, attributes } = decodeObjectRow(change.key, known.row)
  const isLater = changed !== undefined && isNewer(changed, told.changed ?? new Uint8Array(0))
  const record = isLater && rule.mode === 'multi' ? { ...told, attributes, changed } : told
  checkObjectRow(record)
  versions.removeVersion(known)
  if (versions.merge(record)) {
    putBody(context, layout, change.version.inline, { bucketId: bucket.id, key: change.key })
  } else discard(context, layout)
}

/** A body that was fetched and is not needed: the collector takes it, unless it is in use after all. */
export function discard(context: ApplyContext, layout: Layout): void {
  if (layout.kind !== 'chunks') return
  for (const { writeId, chunkBytes, byteLength } of layout.extents) {
    const garbage = tableKey(table.garbage, writeId)
    if (context.get(tableKey(table.write, writeId)) !== undefined || context.get(garbage) !== undefined)
      continue
    context.put(garbage, encodeGarbageRow({ writeId, chunkBytes, byteLength }))
    context.meta.counts.garbageWrites++
  }
}

function changeAttributes({ context, bucket, rule, isAgain }: ChangeTarget, change: Of<'attributes'>): void {
  const { key, versionId, changed, tags, acl } = change
  const versions = new KeyVersions(context, bucket, key, 'elsewhere')
  const place = versions.withId(versionId)
  if (place === undefined) {
    // From a third region it may still be on its way.
    if (rule.mode === 'multi' && !isAgain && !isGone(context, bucket, key, versionId)) {
      throw new StorageError('NO_SUCH_VERSION', 'the version has not come yet')
    }
    return
  }
  const record = decodeObjectRow(key, place.row)
  if (!isNewer(changed, record.changed ?? new Uint8Array(0))) return
  const { acl: _, ...attributes } = record.attributes
  versions.replace(place, {
    ...record,
    changed,
    attributes: { ...attributes, tags, ...(acl === undefined ? {} : { acl }) },
  })
}

function isGone(context: ApplyContext, bucket: BucketRecord, key: string, versionId: VersionId): boolean {
  if (isBuried(context, bucket.id, key, versionId, false)) return true
  if (isBuried(context, bucket.id, key, versionId, true)) return true
  const newer = findVersion(context, bucket.id, encodeText(key), 'null')
  return newer !== undefined && isNewer(rowVersionId(newer.row), versionId)
}

/** How far a version may be ahead of everything that was heard of. */
const purgedAheadMs = 3_600_000

/**
 * What is gone keeps every older `null` version away: an id of the far future would keep away whatever anybody writes. A version that is here
 * is not later than what was heard of; clients of an edge may name any that is not, and such an entry is done with nothing.
 */
function canBeThere({ context }: ChangeTarget, versionId: VersionId, time: OutboxEntry['time']): boolean {
  return versionTimeMs(versionId) <= Math.max(context.meta.time.ms, time.ms) + purgedAheadMs
}

function purge(target: ChangeTarget, change: Of<'purge'>, time: OutboxEntry['time']): void {
  const { context, bucket, rule } = target
  const { key, versionId, isNull } = change
  if (!canBeThere(target, versionId, time)) return
  const versions = new KeyVersions(context, bucket, key, 'elsewhere')
  const place = isNull ? versions.find('null') : versions.find(versionId)
  const isMeant = place !== undefined && !isNewer(rowVersionId(place.row), versionId)
  const isOlder = isMeant && isNull && isNewer(versionId, rowVersionId(place.row))
  if (isOlder && isDoubtful(target, place, false)) setAside(context, versions, place)
  else if (isMeant) versions.removeVersion(place)
  if (rule.mode === 'multi') bury(context, bucket.id, { key, versionId, isNull, place: target.place })
}

/**
 * Where one region writes, what it does not name is not there any more. What this region itself has written and not handed over is
 * kept: it was primary once, and that may be the only copy.
 */
function applyRange(target: ChangeTarget, change: Of<'range'>, time: OutboxEntry['time']): void {
  const { context, bucket, source, rule } = target
  const { after, through, purged } = change
  if (rule.mode === 'multi') {
    for (const [key, versionId, isNull] of purged) {
      purge(target, { type: 'purge', key, versionId, isNull }, time)
    }
    return
  }
  const named = new Set(change.versions.map(([key, versionId]) => nameOf(key, versionId)))
  const handedOver = readMember(context, bucket.id, source)?.acknowledgedTime
  const doomed = versionsWithin(context, bucket.id, rule.prefix, after, through).filter(
    ({ key, versionId }) =>
      !named.has(nameOf(key, versionId)) &&
      (rule.group !== undefined || !isUnshipped(context, versionId, handedOver)),
  )
  const isSetAside = divergence(context, bucket, rule)
  for (const { key, versionId } of doomed) {
    const versions = new KeyVersions(context, bucket, key, 'elsewhere')
    const place = versions.withId(versionId)
    if (place === undefined) continue
    if (isSetAside(versionId)) setAside(context, versions, place)
    else versions.removeVersion(place)
  }
}

const isSameChange = (left: Uint8Array | undefined, right: Uint8Array | undefined): boolean =>
  Buffer.compare(left ?? new Uint8Array(0), right ?? new Uint8Array(0)) === 0

/** Which versions a former primary made that its successor does not know of. */
function divergence(
  context: ApplyContext,
  { name }: BucketRecord,
  { group }: StoredRule,
): (versionId: Uint8Array) => boolean {
  const state = group === undefined ? undefined : readGroup(context, group)
  return (versionId) => state !== undefined && isDivergent(state, name, versionId)
}

/**
 * Whether the version that takes the place of another must not end it: a former primary made that one, and whoever wrote or freed the
 * key since did not know of it. An older one is known to be such only until the key has been synchronized.
 */
function isDoubtful(
  { context, bucket, rule, synchronizing }: ChangeTarget,
  place: VersionPlace,
  isPlaceNewer: boolean,
): boolean {
  return (isPlaceNewer || synchronizing) && divergence(context, bucket, rule)(rowVersionId(place.row))
}

const nameOf = (key: string, versionId: VersionId): string =>
  `${Buffer.from(versionId).toString('hex')} ${key}`

function isUnshipped(
  context: ApplyContext,
  versionId: VersionId,
  handedOver: Parameters<typeof compareTimes>[0] | undefined,
): boolean {
  const id = Buffer.from(versionId)
  if (id.readUInt16BE(8) !== context.entry.regionId) return false
  return handedOver === undefined || compareTimes(readHybridTime(id, 0), handedOver) > 0
}
