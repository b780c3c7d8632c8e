import type { VersionId } from '../../contract/object-model.ts'
import type {
  EntryTime,
  OutboxState,
  ReplicatedChange,
  ReplicatedVersion,
} from '../../contract/replication.ts'
import type { ApplyContext } from '../apply-context.ts'
import { bytesOf } from '../encoding.ts'
import { readHybridTime } from '../hybrid-time.ts'
import { table, tableKey } from '../keys.ts'
import type { StoredObject } from '../object-row.ts'
import type { TableReader } from '../tables.ts'
import { accessToTell } from './access.ts'
import { changedStamp } from './changed-stamp.ts'
import { encodeOutboxEntry, extendOutboxChain } from './entry-codec.ts'
import { outboxKey, outboxStateKey } from './keys.ts'
import { pin } from './pins.ts'
import { encodeOutboxRow, encodeOutboxState, readOutboxState, readRule, type StoredRule } from './rows.ts'
import { bury } from './tombstones.ts'
import { bodyBytesOf, isEdge, wait } from './waiting.ts'

/**
 * Writing the outbox: one entry for every change of a replicated bucket, in the transaction of the change. Only regions where
 * clients may write have one; what came from elsewhere is not written again, so nothing travels in circles.
 */

/** The rule, when changes that this region makes are to be told to others. */
export function ruleOfWriter(context: ApplyContext, bucketId: number): StoredRule | undefined {
  const rule = readRule(context, bucketId)
  if (rule === undefined || rule.isLeaving === true) return undefined
  return isWriter(rule, context.entry.regionId) ? rule : undefined
}

export const isWriter = ({ mode, primary }: Pick<StoredRule, 'mode' | 'primary'>, region: number): boolean =>
  mode === 'multi' || primary === region

export const isReplicatedKey = ({ prefix }: Pick<StoredRule, 'prefix'>, key: string): boolean =>
  prefix === '' || key.startsWith(prefix)

/** A version came to be; its body rows are written already. */
export function logPut(context: ApplyContext, bucketId: number, record: StoredObject): void {
  const rule = ruleOfWriter(context, bucketId)
  if (rule === undefined || !isReplicatedKey(rule, record.key)) return
  // What takes the place of another version is of that one's moment, and the outbox goes by when it came to be.
  const isMadeNow = record.changed === undefined
  const time = isMadeNow ? readHybridTime(Buffer.from(record.versionId), 0) : context.tick()
  append(context, bucketId, rule, time, {
    type: 'put',
    key: record.key,
    version: versionOf(context, record),
    ...(context.idempotency === undefined ? {} : { idempotency: context.idempotency }),
  })
}

/** A version is gone for good. */
export function logPurge(context: ApplyContext, bucketId: number, record: StoredObject): void {
  const rule = ruleOfWriter(context, bucketId)
  if (rule === undefined || !isReplicatedKey(rule, record.key)) return
  const { key, versionId, isNull } = record
  if (rule.mode === 'multi') buryHere(context, bucketId, rule, key, versionId, isNull)
  append(context, bucketId, rule, context.tick(), { type: 'purge', key, versionId, isNull })
}

/** REQUIRES that the entry that says so is the next one. */
function buryHere(
  context: ApplyContext,
  bucketId: number,
  { edge }: StoredRule,
  key: string,
  versionId: VersionId,
  isNull: boolean,
): void {
  const outbox = readOutboxState(context, bucketId)
  // An edge's entry has no place yet, and a hub writes none.
  const isPlaced = outbox !== undefined && edge === undefined
  const place = isPlaced
    ? { place: { region: context.entry.regionId, logId: outbox.id, lsn: outbox.head.lsn + 1 } }
    : {}
  bury(context, bucketId, { key, versionId, isNull, ...place })
}

/** Whether clients of this region write the bucket as those of an edge, which may not hold what the hub does. */
export function isEdgeBucket(context: ApplyContext, bucketId: number): boolean {
  const rule = ruleOfWriter(context, bucketId)
  return rule !== undefined && isEdge(rule, context.entry.regionId)
}

/**
 * At an edge: a version is gone for good, whether it was here or not. Of a `null` version `versionId` is one that is new: what the hub has
 * and is older goes.
 */
export function logErasure(
  context: ApplyContext,
  bucketId: number,
  key: string,
  versionId: VersionId,
  isNull: boolean,
): void {
  const rule = ruleOfWriter(context, bucketId)
  if (rule === undefined || !isReplicatedKey(rule, key)) return
  buryHere(context, bucketId, rule, key, versionId, isNull)
  append(context, bucketId, rule, context.tick(), { type: 'purge', key, versionId, isNull })
}

/**
 * Tags or access list are about to change: stamps the record with when and where, so that of two changes in two regions the
 * same one lasts everywhere.
 */
export function stampChange(context: ApplyContext, record: StoredObject): StoredObject {
  return { ...record, changed: changedStamp(context) }
}

export function logAttributes(context: ApplyContext, bucketId: number, record: StoredObject): void {
  const rule = ruleOfWriter(context, bucketId)
  if (rule === undefined || record.changed === undefined || !isReplicatedKey(rule, record.key)) return
  const { key, versionId, changed } = record
  const { tags, acl } = record.attributes
  append(context, bucketId, rule, context.meta.time, {
    type: 'attributes',
    key,
    versionId,
    changed,
    tags,
    ...(acl === undefined ? {} : { acl }),
  })
}

/** Who may do what in the bucket has changed, or is to be told anew, as of the last tick. */
export function logAccess(context: ApplyContext, bucketId: number, rule: StoredRule): void {
  const state = readOutboxState(context, bucketId)
  if (state === undefined) return
  const { isAccessTold: _, ...untold } = state
  writeOutboxState(context, bucketId, untold)
  append(context, bucketId, rule, context.meta.time, { type: 'access' })
}

export function versionOf(context: Pick<TableReader, 'get'>, record: StoredObject): ReplicatedVersion {
  const { layout, key: _key, modifiedMs: _modifiedMs, ...version } = record
  const bodies =
    layout.kind === 'chunks'
      ? layout.extents
          .filter(({ byteLength }) => byteLength > 0)
          .map(({ writeId, byteLength }) => ({ writeId, byteLength }))
      : []
  if (layout.kind !== 'inline') return { ...version, bodies }
  const inline = context.get(tableKey(table.body, layout.writeId)) ?? new Uint8Array(0)
  return { ...version, bodies, inline: bytesOf(inline) }
}

/** The next entry, or at an edge one that waits for its place. Its bodies are held until it is trimmed. */
export function append(
  context: ApplyContext,
  bucketId: number,
  rule: StoredRule,
  time: EntryTime,
  change: ReplicatedChange,
): void {
  // The hub of edges keeps no outbox: they take nothing over.
  if (readOutboxState(context, bucketId) === undefined) return
  if (rule.edge !== undefined) {
    wait(context, bucketId, rule.edge, time, change)
    return
  }
  if (change.type === 'put') for (const { writeId } of change.version.bodies) pin(context, writeId)
  appendEntry(context, bucketId, rule, time, change)
}

/** The next entry of an outbox that there is. REQUIRES that its bodies are held. */
export function appendEntry(
  context: ApplyContext,
  bucketId: number,
  rule: StoredRule,
  time: EntryTime,
  change: ReplicatedChange,
): void {
  const state = readOutboxState(context, bucketId)
  if (state === undefined) return
  const lsn = state.head.lsn + 1
  const origin = context.entry.regionId
  // No entry goes ahead of what says who may see what it brings. An edge says nothing of that.
  const access =
    state.isAccessTold === true || rule.edge !== undefined
      ? undefined
      : accessToTell(context, bucketId, rule, origin)
  const told = access === undefined ? {} : { access }
  const bytes = encodeOutboxEntry({ lsn, epoch: rule.epoch, origin, time, change, ...told })
  const chain = extendOutboxChain(state.head, bytes)
  const row = encodeOutboxRow(chain, bytes)
  context.put(outboxKey(bucketId, lsn), row)
  context.place = { lsn, epoch: rule.epoch }
  writeOutboxState(context, bucketId, {
    ...state,
    ...(access === undefined ? {} : { isAccessTold: true }),
    head: { lsn, chain },
    headTime: time,
    rowBytes: state.rowBytes + row.length,
    bodyBytes: state.bodyBytes + bodyBytesOf(change),
  })
}

export function writeOutboxState(context: ApplyContext, bucketId: number, state: OutboxState): void {
  context.put(outboxStateKey(bucketId), encodeOutboxState(state))
}
