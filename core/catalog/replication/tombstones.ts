import { StorageError } from '../../contract/errors.ts'
import type { VersionId } from '../../contract/object-model.ts'
import type { LogPlace } from '../../contract/replication.ts'
import type { ApplyContext } from '../apply-context.ts'
import { bytesOf, pack, unpack } from '../encoding.ts'
import { versionIdBytes } from '../hybrid-time.ts'
import { objectKeyBytes, table, unescapeKey } from '../keys.ts'
import type { TableReader } from '../tables.ts'
import { nullTombstoneKey, tombstoneKey, tombstonesKey } from './keys.ts'

/**
 * What a region remembers of versions that are gone for good, so that a copy of them that comes late does not bring them back. With each
 * goes the place of the entry that said so, in whichever log it came: who has applied that entry knows of the delete.
 * An edge's own, which have no place yet, and the hub's are without one.
 */
export interface Tombstone {
  readonly key: string
  readonly versionId: VersionId
  /** Of the `null` versions of the key: this one and every older one are gone. */
  readonly isNull: boolean
  readonly place?: LogPlace
}

/** Of one bucket. */
export interface TombstoneState {
  readonly held: number
  /** Since the bucket has its rule. */
  readonly collected: number
  /** The last entry of each other log that said of a delete. */
  readonly marks: readonly LogPlace[]
  /** What this region last wrote into its own log of what it has taken over. */
  readonly told: readonly LogPlace[]
  /** The entry in which it did. */
  readonly toldAt: number
  /** A pass over the tombstones is under way: it has come to this row. */
  readonly sweptTo?: Uint8Array
  /** What was settled when the last pass began, as text. */
  readonly swept: string
}

type Get = Pick<TableReader, 'get'>

const logIdBytes = 12
const placeBytes = 2 + logIdBytes + 6
const none: TombstoneState = { held: 0, collected: 0, marks: [], told: [], toldAt: 0, swept: '' }

export const isSameLog = (left: Omit<LogPlace, 'lsn'>, right: Omit<LogPlace, 'lsn'>): boolean =>
  left.region === right.region && left.logId === right.logId

export function readTombstoneState(reader: Get, bucketId: number): TombstoneState {
  const row = reader.get(tombstonesKey(bucketId))
  return row === undefined ? none : (unpack(row) as TombstoneState)
}

export const writeTombstoneState = (context: ApplyContext, bucketId: number, state: TombstoneState): void =>
  context.put(tombstonesKey(bucketId), pack(state))

function encodePlace(place: LogPlace | undefined): Uint8Array {
  if (place === undefined) return new Uint8Array(0)
  const bytes = Buffer.alloc(placeBytes)
  bytes.writeUInt16BE(place.region, 0)
  bytes.set(Buffer.from(place.logId, 'hex'), 2)
  bytes.writeUIntBE(place.lsn, 2 + logIdBytes, 6)
  return bytesOf(bytes)
}

function decodePlace(bytes: Uint8Array): LogPlace | undefined {
  if (bytes.length === 0) return undefined
  if (bytes.length !== placeBytes) throw new StorageError('CATALOG_CORRUPT', 'the row of a tombstone')
  const row = Buffer.from(bytes)
  return {
    region: row.readUInt16BE(0),
    logId: row.toString('hex', 2, 2 + logIdBytes),
    lsn: row.readUIntBE(2 + logIdBytes, 6),
  }
}

export const isTombstoneOfNull = (row: Uint8Array): boolean => row[0] === table.nullTombstone

export function decodeTombstone(rowKey: Uint8Array, value: Uint8Array): Tombstone {
  const row = Buffer.from(rowKey)
  const isNull = isTombstoneOfNull(row)
  const { key, next } = isNull ? { key: row.subarray(5), next: row.length } : unescapeKey(row, 5, row.length)
  const id = isNull
    ? value.subarray(0, versionIdBytes)
    : Uint8Array.from(row.subarray(next, next + versionIdBytes), (byte) => ~byte)
  const place = decodePlace(isNull ? value.subarray(versionIdBytes) : value)
  return {
    ...{ key: key.toString('utf8'), versionId: bytesOf(id), isNull },
    ...(place === undefined ? {} : { place }),
  }
}

function rowOf(bucketId: number, { key, versionId, isNull, place }: Tombstone): [Uint8Array, Uint8Array] {
  const keyBytes = objectKeyBytes(key)
  const told = encodePlace(place)
  return isNull
    ? [nullTombstoneKey(bucketId, keyBytes), bytesOf(Buffer.concat([versionId, told]))]
    : [tombstoneKey(bucketId, keyBytes, versionId), told]
}

/** Writes one anew, with another place. */
export const replaceTombstone = (context: ApplyContext, bucketId: number, tombstone: Tombstone): void =>
  context.put(...rowOf(bucketId, tombstone))

/** Remembers that a version must not come back. */
export function bury(context: ApplyContext, bucketId: number, tombstone: Tombstone): void {
  const [row, value] = rowOf(bucketId, tombstone)
  const known = context.get(row)
  const state = readTombstoneState(context, bucketId)
  const { versionId, isNull, place } = tombstone
  const isKnown =
    known !== undefined && (!isNull || Buffer.compare(known.subarray(0, versionIdBytes), versionId) >= 0)
  // Of two entries that say the same either will do.
  if (!isKnown) context.put(row, value)
  const marks = place === undefined ? state.marks : markedAt(state.marks, place, context.entry.regionId)
  if (known !== undefined && marks === state.marks) return
  writeTombstoneState(context, bucketId, {
    ...state,
    marks,
    held: state.held + Number(known === undefined),
  })
}

/** The last of each log: an entry that waited is behind what came after it. */
function markedAt(marks: readonly LogPlace[], place: LogPlace, here: number): readonly LogPlace[] {
  const known = marks.find(({ region }) => region === place.region)
  if (place.region === here || (known !== undefined && isSameLog(known, place) && known.lsn >= place.lsn)) {
    return marks
  }
  return [...marks.filter((mark) => mark !== known), place]
}

export function isBuried(
  context: Get,
  bucketId: number,
  key: string,
  versionId: VersionId,
  isNull: boolean,
): boolean {
  const keyBytes = objectKeyBytes(key)
  if (!isNull) return context.get(tombstoneKey(bucketId, keyBytes, versionId)) !== undefined
  const newest = context.get(nullTombstoneKey(bucketId, keyBytes))
  return newest !== undefined && Buffer.compare(newest.subarray(0, versionIdBytes), versionId) >= 0
}
