import {
  type AccessSetting,
  accessKinds,
  accessValueBytes,
  type BucketAccess,
} from '../../contract/bucket-access.ts'
import type { BucketRecord } from '../../contract/object-model.ts'
import { configKey } from '../config-key.ts'
import { bytesOf } from '../encoding.ts'
import type { TableReader, TableWriter } from '../tables.ts'
import { changedBytes } from './changed-stamp.ts'
import { accessKey } from './keys.ts'
import { readRule, type StoredRule } from './rows.ts'

/**
 * The row behind who may do what in a replicated bucket: for each of its documents the time and region of its last change, in the
 * order of `accessKinds`. One byte more: they hold, and something that came before them waits, so that nobody else may see what they would
 * let him see. Empty: this region holds a copy, and its home has not said yet. None: the bucket has never been told of.
 */
export type AccessRow = Uint8Array

type Get = Pick<TableReader, 'get'>

export const unknownAccess: AccessRow = new Uint8Array(0)

export const readAccessRow = (reader: Get, bucketId: number): AccessRow | undefined => {
  const row = reader.get(accessKey(bucketId))
  return row === undefined ? undefined : bytesOf(row)
}

/** As the documents of a bucket of this region are before the first change that other regions are told of. */
export function firstAccessRow(here: number): AccessRow {
  const row = Buffer.alloc(accessKinds.length * changedBytes)
  for (let at = changedBytes; at <= row.length; at += changedBytes) row.writeUInt16BE(here, at - 2)
  return bytesOf(row)
}

const rowBytes = accessKinds.length * changedBytes

export const isHeldBack = (row: AccessRow): boolean => row.length > rowBytes
export const heldBack = (row: AccessRow): AccessRow => Uint8Array.of(...row.subarray(0, rowBytes), 1)
export const settled = (row: AccessRow): AccessRow => row.slice(0, rowBytes)

export const stampAt = (row: AccessRow, index: number): Uint8Array =>
  row.subarray(index * changedBytes, (index + 1) * changedBytes)

/**
 * The row that counts. A copy that was made before copies were told, and whose home has not told it since, knows nothing; at home it is known
 * what holds there.
 */
export function accessRowOf(
  reader: Get,
  bucketId: number,
  rule: StoredRule | undefined,
  here: number,
): AccessRow {
  const row = readAccessRow(reader, bucketId)
  if (row !== undefined) return row
  const isCopy = rule !== undefined && rule.isLeaving !== true && rule.primary !== here
  return isCopy ? unknownAccess : firstAccessRow(here)
}

export function accessOf(reader: Get, bucket: BucketRecord, here: number): BucketAccess {
  const rule = bucket.replicated === true ? readRule(reader, bucket.id) : undefined
  const row = accessRowOf(reader, bucket.id, rule, here)
  if (row.length === 0 || isHeldBack(row)) return { isKnown: false, tag: '', policyRegion: here }
  const policy = Buffer.from(stampAt(row, accessKinds.indexOf('policy')))
  return {
    isKnown: true,
    tag: Buffer.from(row).toString('hex'),
    policyRegion: policy.readUInt16BE(changedBytes - 2),
  }
}

export function accessSettings(
  reader: Get,
  bucketId: number,
  rule: StoredRule | undefined,
  here: number,
): AccessSetting[] | undefined {
  const row = accessRowOf(reader, bucketId, rule, here)
  if (row.length === 0) return undefined
  return accessKinds.map((kind, index) => {
    const value = reader.get(configKey(bucketId, kind))
    // From a time without a limit: what is more than this was never valid.
    const isTold = value !== undefined && value.length <= accessValueBytes
    return { kind, value: isTold ? bytesOf(value) : null, changed: bytesOf(stampAt(row, index)) }
  })
}

/** What the next entry of an outbox says; undefined: nothing is known that could be said. */
export function accessToTell(
  writer: TableWriter,
  bucketId: number,
  rule: StoredRule,
  here: number,
): readonly AccessSetting[] | undefined {
  const row = readAccessRow(writer, bucketId)
  // Whoever took over in that state: what it lacks may be what closed an object at the former primary.
  if (row !== undefined && isHeldBack(row) && rule.mode === 'single') return undefined
  const settings = accessSettings(writer, bucketId, rule, here)
  if (settings !== undefined && row === undefined) {
    writer.put(accessKey(bucketId), firstAccessRow(here))
  }
  return settings
}
