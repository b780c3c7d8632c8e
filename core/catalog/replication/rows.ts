import type {
  ComparisonState,
  CursorState,
  EntryTime,
  LogPoint,
  MemberState,
  OutboxState,
  ReplicationRule,
  RetryRecord,
} from '../../contract/replication.ts'
import { bytesOf, pack, unpack } from '../encoding.ts'
import { successor } from '../keys.ts'
import { rowKey, rowValue, type TableReader } from '../tables.ts'
import { cursorKey, memberKey, outboxKey, outboxStateKey, retryKey, ruleKey } from './keys.ts'

/** The rows of replication, see core/catalog/README.md. */
export const chainBytes = 32

/** What a rule's row holds. */
export interface StoredRule extends ReplicationRule {
  /** It is being taken away: nothing is logged any more, the rest goes step by step. */
  readonly isLeaving?: boolean
  /** This region may have forgotten what it told of deletes: see core/contract/forgotten-rule.ts. */
  readonly isForgetful?: true
  /** Another rule of the bucket was taken away here: entries of older epochs are of regions that still go by that one. */
  readonly minimumEpoch?: number
}

/** The part of `CursorState` that is stored; the rest follows from the retry table. */
export interface StoredCursor {
  readonly logId: string
  readonly received: LogPoint
  readonly receivedTime: EntryTime
  readonly retries: number
  readonly retryBytes?: number
  readonly dead: number
  readonly synchronizing: boolean
  readonly comparison?: ComparisonState
  readonly passed?: NonNullable<CursorState['passed']>
  readonly reached?: number
  /** Of a synchronization: there was content here when it began. */
  readonly isStale?: true
}

type Get = Pick<TableReader, 'get'>

function readRow<T>(reader: Get, key: Uint8Array): T | undefined {
  const row = reader.get(key)
  return row === undefined ? undefined : (unpack(row) as T)
}

const pointOf = ({ lsn, chain }: LogPoint): LogPoint => ({ lsn, chain: bytesOf(chain) })

export const readRule = (reader: Get, bucketId: number): StoredRule | undefined =>
  readRow<StoredRule>(reader, ruleKey(bucketId))

export function readOutboxState(reader: Get, bucketId: number): OutboxState | undefined {
  const state = readRow<OutboxState>(reader, outboxStateKey(bucketId))
  return state === undefined
    ? undefined
    : { ...state, head: pointOf(state.head), trimmed: pointOf(state.trimmed) }
}
export const encodeOutboxState = (state: OutboxState): Uint8Array => pack(state)

export const readMember = (reader: Get, bucketId: number, region: number): MemberState | undefined =>
  readRow<MemberState>(reader, memberKey(bucketId, region))
export const encodeMember = (member: MemberState): Uint8Array => pack(member)

export function readMembers(reader: TableReader, bucketId: number): MemberState[] {
  return valuesUnder(reader, memberKey(bucketId, 0).subarray(0, 5)).map((row) => unpack(row) as MemberState)
}

export function readCursor(reader: Get, bucketId: number, source: number): StoredCursor | undefined {
  const cursor = readRow<StoredCursor>(reader, cursorKey(bucketId, source))
  return cursor === undefined ? undefined : { ...cursor, received: pointOf(cursor.received) }
}
export const encodeCursor = (cursor: StoredCursor): Uint8Array => pack(cursor)

/** Regions that a bucket has a cursor for. */
export function readSources(reader: TableReader, bucketId: number): number[] {
  const prefix = cursorKey(bucketId, 0).subarray(0, 5)
  const cursor = reader.rows(prefix, successor(prefix))
  const sources: number[] = []
  while (cursor.next()) sources.push(Buffer.from(rowKey(cursor)).readUInt16BE(5))
  return sources
}

export function encodeRetry(retry: RetryRecord): Uint8Array {
  const { lsn, key, bytes, sinceMs, attempts, nextMs, reason, dead } = retry
  return pack([lsn, key, bytes, sinceMs, attempts, nextMs, reason, dead])
}

export function decodeRetry(row: Uint8Array): RetryRecord {
  const [lsn, key, bytes, sinceMs, attempts, nextMs, reason, dead] = unpack(row) as [
    number,
    string,
    Uint8Array,
    number,
    number,
    number,
    string,
    boolean,
  ]
  return { lsn, key, bytes: bytesOf(bytes), sinceMs, attempts, nextMs, reason, dead }
}

/** Of the entries in a retry table from before their bytes were counted. */
export function countRetryBytes(reader: TableReader, bucketId: number, source: number): number {
  const prefix = retryKey(bucketId, source)
  const cursor = reader.rows(prefix, successor(prefix))
  let bytes = 0
  while (cursor.next()) bytes += decodeRetry(rowValue(cursor)).bytes.length
  return bytes
}

/** The first entry that waits in the retry table. */
export function firstRetry(reader: TableReader, bucketId: number, source: number): number | undefined {
  const prefix = retryKey(bucketId, source)
  const cursor = reader.rows(prefix, successor(prefix))
  if (!cursor.next()) return undefined
  const lsn = Buffer.from(rowKey(cursor)).readUIntBE(7, 6)
  cursor.close()
  return lsn
}

export const encodeOutboxRow = (chain: Uint8Array, bytes: Uint8Array): Uint8Array =>
  Buffer.concat([chain, bytes])

export function readOutboxRow(
  reader: Get,
  bucketId: number,
  lsn: number,
): { readonly chain: Uint8Array; readonly bytes: Uint8Array } | undefined {
  const row = reader.get(outboxKey(bucketId, lsn))
  return row === undefined ? undefined : splitOutboxRow(row)
}

export const splitOutboxRow = (row: Uint8Array): { chain: Uint8Array; bytes: Uint8Array } => ({
  chain: bytesOf(row.subarray(0, chainBytes)),
  bytes: bytesOf(row.subarray(chainBytes)),
})

export function valuesUnder(reader: TableReader, prefix: Uint8Array, limit = 10_000): Uint8Array[] {
  const values: Uint8Array[] = []
  const cursor = reader.rows(prefix, successor(prefix))
  while (values.length < limit && cursor.next()) values.push(rowValue(cursor))
  cursor.close()
  return values
}

export const compareTimes = (left: EntryTime, right: EntryTime): number =>
  left.ms - right.ms || left.counter - right.counter
