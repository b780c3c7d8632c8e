import type { VersionId } from '../../contract/object-model.ts'
import { bucketKey, escapeKey, table, versionKey } from '../keys.ts'

/** Keys of the rows of replication; see `table` for what is in them. */
function withNumber(
  tag: number,
  bucketId: number,
  region: number,
  lsn?: number,
  middle?: Uint8Array,
): Buffer {
  const key = Buffer.allocUnsafe(7 + (middle?.length ?? 0) + (lsn === undefined ? 0 : 6))
  key[0] = tag
  key.writeUInt32BE(bucketId, 1)
  key.writeUInt16BE(region, 5)
  if (middle !== undefined) key.set(middle, 7)
  if (lsn !== undefined) key.writeUIntBE(lsn, key.length - 6, 6)
  return key
}

export const ruleKey = (bucketId: number): Buffer => bucketKey(table.replication, bucketId)
export const outboxStateKey = (bucketId: number): Buffer => bucketKey(table.outboxState, bucketId)
export const memberKey = (bucketId: number, region: number): Buffer =>
  withNumber(table.member, bucketId, region)
export const cursorKey = (bucketId: number, source: number): Buffer =>
  withNumber(table.cursor, bucketId, source)
export const retryKey = (bucketId: number, source: number, lsn?: number): Buffer =>
  withNumber(table.retry, bucketId, source, lsn)

export const entryPartKey = (bucketId: number, source: number, part?: number): Buffer =>
  withNumber(table.entryPart, bucketId, source, part)

export function outboxKey(bucketId: number, lsn: number): Buffer {
  const key = bucketKey(table.outbox, bucketId, undefined, 6)
  key.writeUIntBE(lsn, 5, 6)
  return key
}

/** The retries of one key, in order; with `lsn` one of them. */
export const retryOfKey = (bucketId: number, source: number, keyBytes: Uint8Array, lsn?: number): Buffer =>
  withNumber(table.retryKey, bucketId, source, lsn, escapeKey(keyBytes, true))

export function tombstoneKey(bucketId: number, keyBytes: Uint8Array, versionId: VersionId): Buffer {
  const key = versionKey(bucketId, keyBytes, versionId)
  key[0] = table.tombstone
  return key
}

export const nullTombstoneKey = (bucketId: number, keyBytes: Uint8Array): Buffer =>
  bucketKey(table.nullTombstone, bucketId, keyBytes)

export const tombstonesKey = (bucketId: number): Buffer => bucketKey(table.tombstones, bucketId)

/** Stays when the rule is taken away: the bucket's policy keeps the names of the region that it was set in. */
export const accessKey = (bucketId: number): Buffer => bucketKey(table.access, bucketId)

/** Beside it, since it stays as long. */
export const versioningKey = (bucketId: number): Buffer => bucketKey(table.access, bucketId, Uint8Array.of(1))

export const backlogKey = (bucketId: number): Buffer => bucketKey(table.backlog, bucketId)
export const unshippedKey = (bucketId: number, keyBytes: Uint8Array): Buffer =>
  bucketKey(table.unshipped, bucketId, keyBytes)

/** With `number` one change that waits; without, all of one priority. */
export function waitingKey(bucketId: number, priority: number, number?: number): Buffer {
  const key = bucketKey(table.waiting, bucketId, undefined, number === undefined ? 1 : 7)
  key[5] = priority
  if (number !== undefined) key.writeUIntBE(number, 6, 6)
  return key
}

/** Every table whose rows begin with the bucket's id and go when its rule is taken away; the outbox goes first, by itself. */
export const tablesOfRule = [
  table.retryKey,
  table.retry,
  table.entryPart,
  table.tombstone,
  table.nullTombstone,
  table.tombstones,
  table.cursor,
  table.member,
  table.outboxState,
  table.waiting,
  table.unshipped,
  table.backlog,
] as const
