import type { Resolution } from '../../contract/conflicts.ts'
import { StorageError } from '../../contract/errors.ts'
import type { Layout, VersionId } from '../../contract/object-model.ts'
import type { OutboxEntry } from '../../contract/replication.ts'
import type { ApplyContext } from '../apply-context.ts'
import { checkBody, putBody } from '../apply-objects.ts'
import { bytesOf } from '../encoding.ts'
import { readHybridTime, versionIdBytes, versionTimeMs } from '../hybrid-time.ts'
import { findVersion, KeyVersions, newestVersion } from '../key-versions.ts'
import { encodeText } from '../keys.ts'
import { decodeObjectRow, rowVersionId, type StoredObject } from '../object-row.ts'
import type { TableReader } from '../tables.ts'
import type { ChangeTarget } from './apply-change.ts'
import { changedBytes } from './changed-stamp.ts'
import { changeFrom } from './names-from.ts'
import { compareTimes, readCursor, readRule } from './rows.ts'
import { isBuried } from './tombstones.ts'

/**
 * Two regions that write a bucket (`multi`) have written one key, neither having seen the other's version. That is known from the
 * versions' own times: a region's clock goes ahead of whatever it applies, so a version of another region that comes here for the
 * first time and is older than the newest one, which was made here, was made without having seen it; and this region had not seen
 * the other. So of every two such versions one region knows, the one that made the newer, and it alone decides: whatever it says
 * travels as a version like any other, and the regions come to the same in any order, whatever policy each of them runs.
 */
export interface ConcurrentWrite {
  /** The newest version, made here. */
  readonly newest: StoredObject
  /** What the newest version holds is of the other region, which has since written over it: there is nothing to ask. */
  readonly isFollowed: boolean
}

/** Bytes of an id that say when and where it was made. */
const originOf = (versionId: VersionId): Uint8Array => versionId.subarray(0, changedBytes)
const regionOf = (stamp: Uint8Array): number => Buffer.from(stamp).readUInt16BE(changedBytes - 2)
const isEarlier = (left: Uint8Array, right: Uint8Array): boolean => Buffer.compare(left, right) < 0

/** A version that a policy put in the place of another says in `changed`, which is never before the version elsewhere, whose it was. */
const takenFrom = ({ changed, versionId }: StoredObject): Uint8Array | undefined =>
  changed !== undefined && isEarlier(changed, originOf(versionId)) ? changed : undefined

/** Undefined: nothing to decide. REQUIRES that the entry comes now, by the cursor or from the retry table. */
export function concurrentWith(
  reader: TableReader,
  bucketId: number,
  source: number,
  here: number,
  { change, lsn, time }: OutboxEntry,
): ConcurrentWrite | undefined {
  if (change.type !== 'put') return undefined
  const { key, version } = change
  const { versionId, isNull } = version
  // What a region writes again (for a full synchronization, for a range that differed) may have been here and be gone; so may what a
  // policy has put in another's place, whose parts have met what is here before.
  const isFresh = regionOf(versionId) === source && version.changed === undefined
  if (!isFresh || compareTimes(readHybridTime(Buffer.from(versionId), 0), time) !== 0) return undefined
  const rule = readRule(reader, bucketId)
  if (rule?.mode !== 'multi' || rule.edge !== undefined || rule.isLeaving === true) return undefined
  // Of a third region it may have come before, where nothing is left of a version that was written over.
  if (isNull && rule.members.length > 2) return undefined
  const cursor = readCursor(reader, bucketId, source)
  if (cursor === undefined || cursor.synchronizing || lsn <= (cursor.reached ?? 0)) return undefined
  const keyBytes = encodeText(key)
  const place = newestVersion(reader, bucketId, keyBytes)
  if (place === undefined) return undefined
  const newestId = rowVersionId(place.row)
  if (regionOf(newestId) !== here || !isEarlier(versionId, newestId)) return undefined
  if (findVersion(reader, bucketId, keyBytes, versionId) !== undefined) return undefined
  if (isBuried(reader, bucketId, key, versionId, isNull)) return undefined
  const newest = decodeObjectRow(key, place.row)
  const isSame = newest.etag === version.etag && newest.byteLength === version.byteLength
  if (isSame && newest.deleteMarker === version.deleteMarker) return undefined
  // Behind it there may be a deleted `null` version, with which the result would be gone.
  if (!hasRoomBehind(newestId) || (isNull && isBuried(reader, bucketId, key, newestId, true)))
    return undefined
  const origin = takenFrom(newest)
  return {
    newest,
    isFollowed: origin !== undefined && regionOf(origin) === source && isEarlier(origin, originOf(versionId)),
  }
}

/**
 * An id of the same moment, behind that of the newest version: to everything else that is written the result is what the newest version
 * was, so that no region has to decide about it again. By chance, so that none comes twice though one before it was deleted and forgotten.
 */
function idBehind(newest: VersionId, random: Uint8Array): VersionId {
  const id = Buffer.from(newest)
  const step = 1 + Buffer.from(random).readUIntBE(0, stepBytes)
  id.writeUIntBE(id.readUIntBE(changedBytes, tailBytes) + step, changedBytes, tailBytes)
  return bytesOf(id)
}

const tailBytes = versionIdBytes - changedBytes
const stepBytes = 3
/** One in millions has none. */
const hasRoomBehind = (newest: VersionId): boolean =>
  Buffer.from(newest).readUIntBE(changedBytes, tailBytes) + 2 ** (8 * stepBytes) < 2 ** (8 * tailBytes)

/**
 * Checks a decision that the older version is to last; the function that it gives does it, when the entry has been applied. CONFLICT when
 * it was made about another version than the one that is the newest now: it has to be made again.
 */
export function prepareResolution(
  target: ChangeTarget,
  entry: OutboxEntry,
  { against, layout = { kind: 'empty' } }: Resolution,
): () => void {
  const { context, bucket, source } = target
  const { regionId } = context.entry
  const found = concurrentWith(context, bucket.id, source, regionId, entry)
  const change = changeFrom(entry.change, { from: source, here: regionId })
  if (found === undefined || change.type !== 'put' || Buffer.compare(found.newest.versionId, against) !== 0) {
    throw new StorageError('CONFLICT', 'the key was written while it was decided what becomes of it')
  }
  const { key, version } = change
  const { bodies, inline, uploadId: _, ...fields } = version
  const expected = bodies.length > 0 ? 'chunks' : inline === undefined ? 'empty' : 'inline'
  if (layout.kind !== expected) throw new StorageError('INVALID_ARGUMENT', 'the body has not been fetched')
  checkBody(context, layout, version.byteLength, inline)
  // What an entry makes of its first bytes is another id.
  const versionId = idBehind(against, context.entry.random.subarray(tailBytes))
  const changed = bytesOf(Buffer.from(originOf(version.versionId)))
  const record = { ...fields, versionId, changed, key, layout, modifiedMs: versionTimeMs(versionId) }
  return () => insert(context, target, record, inline, layout)
}

function insert(
  context: ApplyContext,
  { bucket }: ChangeTarget,
  record: StoredObject,
  inline: Uint8Array | undefined,
  layout: Layout,
): void {
  putBody(context, layout, inline, { bucketId: bucket.id, key: record.key })
  new KeyVersions(context, bucket, record.key).insert(record)
}
