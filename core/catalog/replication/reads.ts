import { StorageError } from '../../contract/errors.ts'
import type { ObjectRecord, VersionId } from '../../contract/object-model.ts'
import {
  type CursorState,
  type OutboxRow,
  type ReplicationReads,
  type RetryRecord,
  replicationLimits,
} from '../../contract/replication.ts'
import { readHybridTime, versionTimeMs } from '../hybrid-time.ts'
import { findVersion, newestVersion } from '../key-versions.ts'
import { after, encodeText, maxObjectKeyBytes, successor, table } from '../keys.ts'
import { decodeObjectRow, rowVersionId } from '../object-row.ts'
import { rowKey, rowValue, type TableReader } from '../tables.ts'
import { accessOf, accessSettings } from './access.ts'
import { watermarkOf } from './apply-remote.ts'
import { tombstoneNumbers } from './apply-tombstones.ts'
import { concurrentWith } from './concurrent-write.ts'
import { decodeOutboxEntry, encodeOutboxEntry } from './entry-codec.ts'
import { isForgottenRule } from './forgotten-rule.ts'
import { outboxKey, retryKey, ruleKey, unshippedKey } from './keys.ts'
import { changeFrom } from './names-from.ts'
import { isReplicatedKey, versionOf } from './outbox.ts'
import {
  compareTimes,
  decodeRetry,
  readCursor,
  readMembers,
  readOutboxRow,
  readOutboxState,
  readRule,
  readSources,
  splitOutboxRow,
} from './rows.ts'
import { takesPlaceOf } from './version-conflict.ts'
import { isUnshipped, readBacklog } from './waiting.ts'

/** What the federation reads of the catalog. */
export function createReplicationReads(reader: TableReader): ReplicationReads {
  const cursor = (bucketId: number, source: number): CursorState | undefined => {
    const stored = readCursor(reader, bucketId, source)
    if (stored === undefined) return undefined
    return { source, ...stored, watermark: watermarkOf(reader, bucketId, source, stored) }
  }
  return {
    rule(bucketId) {
      const stored = readRule(reader, bucketId)
      if (stored === undefined || stored.isLeaving === true) return undefined
      const { isForgetful: _, minimumEpoch: __, ...rule } = stored
      return rule
    },
    isForgetful: (bucketId) => readRule(reader, bucketId)?.isForgetful === true,
    isForgotten: (bucket, rule, here) => isForgottenRule(reader, bucket, rule, here),
    ruledBuckets(start, limit) {
      const ids: number[] = []
      const rows = reader.rows(after(ruleKey(start)), Uint8Array.of(table.replication + 1))
      while (ids.length < limit && rows.next()) ids.push(Buffer.from(rowKey(rows)).readUInt32BE(1))
      rows.close()
      return ids
    },
    outbox: (bucketId) => readOutboxState(reader, bucketId),
    members: (bucketId) => readMembers(reader, bucketId),
    entries: (bucketId, start, limit, maxBytes) => readEntries(reader, bucketId, start, limit, maxBytes),
    entryAt(bucketId, lsn) {
      const row = readOutboxRow(reader, bucketId, lsn)
      if (row !== undefined) return { lsn, chain: row.chain, time: decodeOutboxEntry(row.bytes).time }
      const trimmed = readOutboxState(reader, bucketId)?.trimmed
      return trimmed?.lsn === lsn ? { ...trimmed, time: { ms: 0, counter: 0 } } : undefined
    },
    cursor,
    cursors: (bucketId) => readSources(reader, bucketId).flatMap((source) => cursor(bucketId, source) ?? []),
    retries(bucketId, source, start, limit) {
      const found: RetryRecord[] = []
      const rows = reader.rows(retryKey(bucketId, source, start + 1), successor(retryKey(bucketId, source)))
      let bytes = 0
      while (found.length < limit && bytes < replicationLimits.retryPageBytes && rows.next()) {
        const retry = decodeRetry(rowValue(rows))
        bytes += retry.bytes.length
        found.push(retry)
      }
      rows.close()
      return found
    },
    backlog: (bucketId) => readBacklog(reader, bucketId),
    isUnshipped: (bucketId, key) => isUnshipped(reader, bucketId, key),
    unshippedKeys: (bucketId, prefix, start, limit) => unshippedKeys(reader, bucketId, prefix, start, limit),
    versionEntry: (bucketId, key, version) => versionEntry(reader, bucketId, key, version),
    recordOf: recordOfEntry,
    decode: decodeOutboxEntry,
    tombstones: (bucketId, here) => tombstoneNumbers(reader, bucketId, here),
    status: (bucketId, key, version) => statusOf(reader, bucketId, key, version),
    access: (bucket, here) => accessOf(reader, bucket, here),
    accessSettings: (bucket, here) => accessSettings(reader, bucket.id, readRule(reader, bucket.id), here),
    hasVersion: (bucketId, key, versionId) => rowOf(reader, bucketId, key, versionId) !== undefined,
    concurrent: (bucketId, source, here, entry) => concurrentWith(reader, bucketId, source, here, entry),
    isWanted(bucketId, key, version) {
      const rule = readRule(reader, bucketId)
      const row = rowOf(reader, bucketId, key, version.versionId)
      return row === undefined || rule === undefined || takesPlaceOf(rule, version, decodeObjectRow(key, row))
    },
  }
}

/** Of the version with this very id, also when it is shown as `null`. */
function rowOf(
  reader: TableReader,
  bucketId: number,
  key: string,
  versionId: VersionId,
): Uint8Array | undefined {
  const keyBytes = encodeText(key)
  const known =
    findVersion(reader, bucketId, keyBytes, versionId) ?? findVersion(reader, bucketId, keyBytes, 'null')
  return known !== undefined && Buffer.compare(rowVersionId(known.row), versionId) === 0
    ? known.row
    : undefined
}

function unshippedKeys(
  reader: TableReader,
  bucketId: number,
  prefix: string,
  start: string,
  limit: number,
): string[] {
  const all = unshippedKey(bucketId, encodeText(prefix))
  const behind = after(unshippedKey(bucketId, encodeText(start)))
  const rows = reader.rows(Buffer.compare(behind, all) > 0 ? behind : all, successor(all))
  const found: string[] = []
  while (found.length < limit && rows.next()) found.push(Buffer.from(rowKey(rows)).toString('utf8', 5))
  rows.close()
  return found
}

function versionEntry(
  reader: TableReader,
  bucketId: number,
  key: string,
  version: VersionId | 'null' | undefined,
): Uint8Array | undefined {
  const keyBytes = encodeText(key)
  if (keyBytes.length === 0 || keyBytes.length > maxObjectKeyBytes) return undefined
  const place =
    version === undefined
      ? newestVersion(reader, bucketId, keyBytes)
      : findVersion(reader, bucketId, keyBytes, version)
  if (place === undefined) return undefined
  const record = decodeObjectRow(key, place.row)
  const { versionId } = record
  return encodeOutboxEntry({
    ...{ lsn: 1, epoch: 1, origin: Buffer.from(versionId).readUInt16BE(8) },
    time: readHybridTime(Buffer.from(versionId), 0),
    change: { type: 'put', key, version: versionOf(reader, record) },
  })
}

function recordOfEntry(entry: Uint8Array, from: number, here: number): ObjectRecord {
  const change = changeFrom(decodeOutboxEntry(entry).change, { from, here })
  if (change.type !== 'put') throw new StorageError('PROTOCOL_ERROR', 'an entry that brings no version')
  const { bodies: _bodies, inline: _inline, ...fields } = change.version
  const { key, version } = change
  return { ...fields, key, modifiedMs: versionTimeMs(version.versionId), layout: { kind: 'empty' } }
}

function readEntries(
  reader: TableReader,
  bucketId: number,
  start: number,
  limit: number,
  maxBytes: number,
): OutboxRow[] {
  const state = readOutboxState(reader, bucketId)
  if (state === undefined) return []
  if (start < state.trimmed.lsn) {
    throw new StorageError('LOG_TRIMMED', `the outbox does not hold entry ${start + 1} any more`)
  }
  const found: OutboxRow[] = []
  let held = 0
  const rows = reader.rows(outboxKey(bucketId, start + 1), outboxKey(bucketId, state.head.lsn + 1))
  while (found.length < limit && rows.next()) {
    const lsn = Buffer.from(rowKey(rows)).readUIntBE(5, 6)
    const { bytes } = splitOutboxRow(rowValue(rows))
    held += bytes.length
    if (found.length > 0 && held > maxBytes) break
    found.push({ lsn, bytes })
  }
  rows.close()
  return found
}

function statusOf(
  reader: TableReader,
  bucketId: number,
  key: string,
  version: VersionId | 'null' | undefined,
): ReturnType<ReplicationReads['status']> {
  const rule = readRule(reader, bucketId)
  if (rule === undefined || rule.isLeaving === true || !isReplicatedKey(rule, key)) return undefined
  const keyBytes = encodeText(key)
  if (keyBytes.length > maxObjectKeyBytes) return undefined
  const place =
    version === undefined
      ? newestVersion(reader, bucketId, keyBytes)
      : findVersion(reader, bucketId, keyBytes, version)
  if (place === undefined) return undefined
  const { versionId, changed } = decodeObjectRow(key, place.row)
  const state = readOutboxState(reader, bucketId)
  const members = readMembers(reader, bucketId)
  const origin = Buffer.from(versionId).readUInt16BE(8)
  if (rule.edge !== undefined && state === undefined) {
    return rule.edge.regions.includes(origin) ? 'replica' : undefined
  }
  if (state === undefined || members.some(({ region }) => region === origin)) return 'replica'
  const made = readHybridTime(Buffer.from(changed ?? versionId), 0)
  const isHere = rule.edge !== undefined && isUnshipped(reader, bucketId, key)
  const isEverywhere =
    !isHere &&
    members.every(
      ({ acknowledged, acknowledgedTime, needsFullSync }) =>
        !needsFullSync &&
        state.backfill === undefined &&
        acknowledged >= state.backfilledThrough &&
        compareTimes(acknowledgedTime, made) >= 0,
    )
  if (isEverywhere) return 'completed'
  const lost = members.flatMap(({ dead = [] }) => dead)
  return lost.some((lsn) => isOf(reader, bucketId, lsn, key, versionId)) ? 'failed' : 'pending'
}

/** Whether an entry, which is kept as long as a member has not applied it, is of this version. */
function isOf(
  reader: TableReader,
  bucketId: number,
  lsn: number,
  key: string,
  versionId: VersionId,
): boolean {
  const row = readOutboxRow(reader, bucketId, lsn)
  if (row === undefined) return false
  const { change } = decodeOutboxEntry(row.bytes)
  if (change.type !== 'put' && change.type !== 'attributes') return false
  const named = change.type === 'put' ? change.version.versionId : change.versionId
  return change.key === key && Buffer.compare(named, versionId) === 0
}
