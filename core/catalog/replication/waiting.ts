import { StorageError } from '../../contract/errors.ts'
import type {
  EdgeBacklog,
  EdgePriority,
  EdgeRule,
  EntryTime,
  ReplicatedChange,
  ReplicationRule,
} from '../../contract/replication.ts'
import type { ApplyContext } from '../apply-context.ts'
import { pack, unpack } from '../encoding.ts'
import { encodeText, objectKeyBytes, successor } from '../keys.ts'
import { rowKey, rowValue, type TableReader } from '../tables.ts'
import { backlogKey, unshippedKey, waitingKey } from './keys.ts'
import { pin, unpin } from './pins.ts'
import { readMember, readOutboxState, readRule } from './rows.ts'

/**
 * What an edge keeps for its hub. A change waits by its priority, and gets its place in the outbox when the hub asks (`stage.ts`): so the
 * outbox is a log like any other, and only a few hundred changes can be in front of one that is more urgent. Changes of one key
 * keep their order: one that is made while others of its key wait, waits behind them.
 */
export interface BacklogRow {
  readonly nextNumber: number
  readonly rowBytes: number
  readonly bodyBytes: number
  /** Changes that wait, by priority. */
  readonly waiting: readonly number[]
}

/** Of a key that the hub has not got all changes of. */
interface UnshippedRow {
  readonly priority: number
  readonly waiting: number
  /** Place in the outbox of the last that has one. */
  readonly lastLsn: number
}

export interface WaitingChange {
  readonly key: Uint8Array
  readonly priority: number
  readonly rowBytes: number
  readonly time: EntryTime
  readonly change: ReplicatedChange
}

type Get = Pick<TableReader, 'get'>

export const isEdge = ({ edge }: Pick<ReplicationRule, 'edge'>, region: number): boolean =>
  edge?.regions.includes(region) === true

const none: BacklogRow = { nextNumber: 1, rowBytes: 0, bodyBytes: 0, waiting: [] }
const stagedTimesKey = (bucketId: number): Uint8Array =>
  Buffer.concat([backlogKey(bucketId), Uint8Array.of(1)])

export function readBacklogRow(reader: Get, bucketId: number): BacklogRow {
  const row = reader.get(backlogKey(bucketId))
  return row === undefined ? none : (unpack(row) as BacklogRow)
}

/** When the changes in the outbox were made, ascending by place, from behind what is trimmed to the head. */
function readStagedTimes(reader: Get, bucketId: number): readonly number[] {
  const row = reader.get(stagedTimesKey(bucketId))
  return row === undefined ? [] : (unpack(row) as number[])
}

function readUnshipped(reader: Get, bucketId: number, key: string): UnshippedRow | undefined {
  const row = reader.get(unshippedKey(bucketId, encodeText(key)))
  return row === undefined ? undefined : (unpack(row) as UnshippedRow)
}

export const isUnshipped = (reader: Get, bucketId: number, key: string): boolean =>
  readUnshipped(reader, bucketId, key) !== undefined

export const total = (numbers: readonly number[]): number => numbers.reduce((sum, one) => sum + one, 0)

const bodiesOf = (change: ReplicatedChange) => (change.type === 'put' ? change.version.bodies : [])

export const bodyBytesOf = (change: ReplicatedChange): number =>
  bodiesOf(change).reduce((sum, { byteLength }) => sum + byteLength, 0)

/** The place of a change among what waits: that of the first priority that fits it. */
function priorityOf({ priorities }: EdgeRule, change: ReplicatedChange): number {
  const found = priorities.findIndex((priority) => isOf(priority, change))
  return found < 0 ? priorities.length : found
}

function isOf({ prefix, tag, storageClass }: EdgePriority, change: ReplicatedChange): boolean {
  if (!('key' in change)) return false
  if (prefix !== undefined && !change.key.startsWith(prefix)) return false
  if (tag !== undefined) {
    const tags = tagsOf(change)
    const at = tag.indexOf('=')
    const name = tag.slice(0, at)
    if (!Object.hasOwn(tags, name) || tags[name] !== tag.slice(at + 1)) return false
  }
  if (storageClass === undefined) return true
  return change.type === 'put' && change.version.attributes.storageClass === storageClass
}

function tagsOf(change: ReplicatedChange): Readonly<Record<string, string>> {
  if (change.type === 'put') return change.version.attributes.tags
  return change.type === 'attributes' ? change.tags : {}
}

/** Its bodies are held until the hub has it. */
export function wait(
  context: ApplyContext,
  bucketId: number,
  edge: EdgeRule,
  time: EntryTime,
  change: ReplicatedChange,
): void {
  const key = 'key' in change ? change.key : undefined
  const before = key === undefined ? undefined : readUnshipped(context, bucketId, key)
  const priority = before !== undefined && before.waiting > 0 ? before.priority : priorityOf(edge, change)
  const backlog = readBacklogRow(context, bucketId)
  const number = backlog.nextNumber
  const row = pack([time.ms, time.counter, presentOnly(change)])
  for (const { writeId } of bodiesOf(change)) pin(context, writeId)
  context.put(waitingKey(bucketId, priority, number), row)
  if (key !== undefined) {
    const unshipped: UnshippedRow = {
      priority,
      waiting: (before?.waiting ?? 0) + 1,
      lastLsn: before?.lastLsn ?? 0,
    }
    context.put(unshippedKey(bucketId, objectKeyBytes(key)), pack(unshipped))
  }
  putBacklog(context, bucketId, {
    nextNumber: number + 1,
    rowBytes: backlog.rowBytes + row.length,
    bodyBytes: backlog.bodyBytes + bodyBytesOf(change),
    waiting: changed(backlog.waiting, priority, 1),
  })
}

const presentOnly = (change: ReplicatedChange): object =>
  Object.fromEntries(Object.entries(change).filter(([, value]) => value !== undefined))

function changed(counts: readonly number[], at: number, by: number): number[] {
  const next = Array.from({ length: Math.max(counts.length, at + 1) }, (_, index) => counts[index] ?? 0)
  next[at] = (next[at] ?? 0) + by
  return next
}

function putBacklog(context: ApplyContext, bucketId: number, row: BacklogRow): void {
  context.put(backlogKey(bucketId), pack(row))
}

/** The most urgent first, those of one priority in their order. */
export function* mostUrgent(reader: TableReader, bucketId: number, limit: number): Generator<WaitingChange> {
  const { waiting } = readBacklogRow(reader, bucketId)
  let left = limit
  for (const [priority, count] of waiting.entries()) {
    if (count === 0 || left === 0) continue
    const prefix = waitingKey(bucketId, priority)
    const rows: [key: Uint8Array, value: Uint8Array][] = []
    const cursor = reader.rows(prefix, successor(prefix))
    while (rows.length < left && cursor.next()) rows.push([rowKey(cursor), rowValue(cursor)])
    cursor.close()
    left -= rows.length
    for (const [key, value] of rows) {
      const [ms, counter, change] = unpack(value) as [number, number, ReplicatedChange]
      yield { key, priority, rowBytes: value.length, time: { ms, counter }, change }
    }
  }
}

/** Those that now have places in the outbox, in order up to and with its head. */
export function leaveWaiting(
  context: ApplyContext,
  bucketId: number,
  staged: readonly (WaitingChange & { readonly lsn: number })[],
): void {
  let backlog = readBacklogRow(context, bucketId)
  for (const { key, priority, rowBytes, change, lsn } of staged) {
    context.remove(key)
    backlog = {
      ...backlog,
      rowBytes: backlog.rowBytes - rowBytes,
      bodyBytes: backlog.bodyBytes - bodyBytesOf(change),
      waiting: changed(backlog.waiting, priority, -1),
    }
    if (!('key' in change)) continue
    const unshipped = readUnshipped(context, bucketId, change.key)
    if (unshipped === undefined) continue
    context.put(
      unshippedKey(bucketId, objectKeyBytes(change.key)),
      pack({ ...unshipped, waiting: unshipped.waiting - 1, lastLsn: lsn }),
    )
  }
  putBacklog(context, bucketId, backlog)
  addStagedTimes(
    context,
    bucketId,
    staged.map(({ time }) => time.ms),
  )
}

/** With each entry that gets a place: when it was made, 0 for one that brings nothing. */
export function addStagedTimes(context: ApplyContext, bucketId: number, times: readonly number[]): void {
  context.put(stagedTimesKey(bucketId), pack([...readStagedTimes(context, bucketId), ...times]))
}

/** The hub has these entries of the outbox: they are being trimmed, the oldest first. */
export function shipped(
  context: ApplyContext,
  bucketId: number,
  entries: readonly { readonly lsn: number; readonly change: ReplicatedChange }[],
): void {
  if (entries.length === 0 || context.get(stagedTimesKey(bucketId)) === undefined) return
  context.put(stagedTimesKey(bucketId), pack(readStagedTimes(context, bucketId).slice(entries.length)))
  for (const { lsn, change } of entries) {
    if (!('key' in change)) continue
    const unshipped = readUnshipped(context, bucketId, change.key)
    if (unshipped === undefined || unshipped.waiting > 0 || unshipped.lastLsn !== lsn) continue
    context.remove(unshippedKey(bucketId, objectKeyBytes(change.key)))
  }
}

/** The bucket is no edge's any more: what waits holds no body. False when there is more than one step takes. */
export function dropWaiting(
  context: ApplyContext,
  bucketId: number,
  atOnce: number,
  free: (writeId: Uint8Array) => void,
): boolean {
  const dropped = [...mostUrgent(context, bucketId, atOnce)]
  if (dropped.length === 0) return true
  let backlog = readBacklogRow(context, bucketId)
  for (const { key, priority, change } of dropped) {
    for (const { writeId } of bodiesOf(change)) if (unpin(context, writeId)) free(writeId)
    context.remove(key)
    backlog = { ...backlog, waiting: changed(backlog.waiting, priority, -1) }
  }
  putBacklog(context, bucketId, backlog)
  return dropped.length < atOnce
}

/** Undefined: no changes wait for a hub here, and never did. */
export function readBacklog(reader: TableReader, bucketId: number): EdgeBacklog | undefined {
  const rule = readRule(reader, bucketId)
  if (rule?.edge === undefined || rule.isLeaving === true) return undefined
  const outbox = readOutboxState(reader, bucketId)
  if (outbox === undefined) return undefined
  const { waiting, rowBytes, bodyBytes } = readBacklogRow(reader, bucketId)
  const acknowledged = readMember(reader, bucketId, rule.primary)?.acknowledged ?? 0
  const count = total(waiting)
  const oldestMs = oldestOf(reader, bucketId, waiting)
  return {
    waiting: count,
    waitingByPriority: Array.from(
      { length: Math.max(waiting.length, rule.edge.priorities.length + 1) },
      (_, at) => waiting[at] ?? 0,
    ),
    entries: count + outbox.head.lsn - Math.max(acknowledged, outbox.trimmed.lsn),
    bytes: rowBytes + bodyBytes + outbox.rowBytes + outbox.bodyBytes,
    ...(oldestMs === undefined ? {} : { oldestMs }),
  }
}

function oldestOf(reader: TableReader, bucketId: number, waiting: readonly number[]): number | undefined {
  let oldest: number | undefined
  const see = (ms: number): void => {
    if (ms > 0 && (oldest === undefined || ms < oldest)) oldest = ms
  }
  for (const ms of readStagedTimes(reader, bucketId)) see(ms)
  for (const [priority, count] of waiting.entries()) {
    if (count === 0) continue
    const prefix = waitingKey(bucketId, priority)
    const cursor = reader.rows(prefix, successor(prefix))
    if (cursor.next()) see((unpack(rowValue(cursor)) as [number])[0])
    cursor.close()
  }
  return oldest
}

/** Why an edge takes no more bytes into a bucket; undefined: it does. */
export function refusalOf(
  edge: EdgeRule,
  backlog: EdgeBacklog,
  addedBytes: number,
  nowMs: number,
): StorageError | undefined {
  const { quotaBytes, quotaAgeMs } = edge
  if (backlog.bytes >= quotaBytes || backlog.bytes + addedBytes > quotaBytes) {
    return new StorageError(
      'INSUFFICIENT_STORAGE',
      'this edge keeps as much for its hub as it may; it takes more when the hub has got some of it',
      { details: { QuotaBytes: String(quotaBytes), KeptBytes: String(backlog.bytes) } },
    )
  }
  const ageMs = backlog.oldestMs === undefined ? 0 : nowMs - backlog.oldestMs
  if (ageMs <= quotaAgeMs) return undefined
  return new StorageError(
    'INSUFFICIENT_STORAGE',
    'what this edge keeps for its hub is older than it may be; it takes more when the hub has got it',
    {
      details: {
        QuotaSeconds: String(Math.floor(quotaAgeMs / 1000)),
        OldestSeconds: String(Math.floor(ageMs / 1000)),
      },
    },
  )
}
