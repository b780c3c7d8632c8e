import { createHash } from 'node:crypto'
import type { Command, CommandResult } from '../contract/catalog.ts'
import { StorageError } from '../contract/errors.ts'
import type { Position } from '../contract/ordered-log.ts'
import { putAccessKey, setAccessKeyEnabled, shareAccessKey, takeAccessKeys } from './apply-access-keys.ts'
import { createBucket, deleteBucket, setBucketConfig, setVersioning } from './apply-buckets.ts'
import { setClusterMap } from './apply-cluster.ts'
import { ApplyContext } from './apply-context.ts'
import { setFederation } from './apply-federation.ts'
import { acquireLock, releaseLock, renewLock } from './apply-locks.ts'
import { collected } from './apply-maintenance.ts'
import { deleteObjects, putObject, setObjectAcl, setObjectTags } from './apply-objects.ts'
import { deployPolicies, putPolicyPackage } from './apply-policies.ts'
import { recoverRegion } from './apply-recovery.ts'
import { abortUpload, completeUpload, createUpload, putPart } from './apply-uploads.ts'
import { findAnswer, rememberAnswer } from './dedupe.ts'
import { decodeEntry } from './entry.ts'
import { freezeGroup, grantLease, putGroup, removeGroup, takeGroup, voteGroup } from './group/apply-group.ts'
import { listLosses } from './group/losses.ts'
import { findFirstAnswer, firstAnswerOf, keepFirstAnswer } from './idempotency.ts'
import { numberKey, table } from './keys.ts'
import { readMeta, writeMeta } from './meta.ts'
import { setRegionConfig } from './region-config.ts'
import { tellAccess } from './replication/apply-access.ts'
import { backfill } from './replication/apply-backfill.ts'
import { cacheVersion, evictVersions } from './replication/apply-cache.ts'
import { compareContent, sendRange } from './replication/apply-compare.ts'
import { applyRemote, putEntryPart, retryRemote, setCursor } from './replication/apply-remote.ts'
import { acknowledgeOutbox, setReplication, startFullSync, trimOutbox } from './replication/apply-rule.ts'
import { collectTombstones, tellPassed } from './replication/apply-tombstones.ts'
import { checkFence } from './replication/fence.ts'
import { stageOutbox } from './replication/stage.ts'
import { encodeFailure, encodeSuccess } from './result.ts'
import { rowKey, type TableWriter } from './tables.ts'

export interface Applied {
  readonly position: Position
  readonly chain: Uint8Array
  readonly session: Uint8Array
  readonly sequence: number
  readonly answer: Uint8Array
  /** Whether it could change what requests are judged by: anything but objects and parts of them. */
  readonly changesRules: boolean
}

/**
 * What is done to objects alone, and what no request is judged by. A command that is not known here is taken for a change of the rules.
 */
const objectCommands: ReadonlySet<Command['type']> = new Set<Command['type']>([
  'put-object',
  'delete-objects',
  'set-object-tags',
  'set-object-acl',
  'create-upload',
  'put-part',
  'complete-upload',
  'abort-upload',
  'collected',
  'grant-lease',
])

export interface ApplyOptions {
  /** How many of the newest entries the log keeps for followers. */
  readonly retainEntries: number
  /** Called for every entry that has changed the cluster map. */
  readonly onClusterMap?: (position: Position) => void
}

/**
 * Applies entries in order, in the caller's transaction. Deterministic: the new rows follow from the old rows and the entries
 * alone. An entry that fails is part of the log like any other; it has changed nothing but what every entry changes
 * (position, chain, answer). An error thrown from here is a bug, damage, or an entry of a later software (UNSUPPORTED_FORMAT): the
 * transaction must be undone.
 */
export function applyEntries(
  writer: TableWriter,
  entries: readonly Uint8Array[],
  options: ApplyOptions,
): Applied[] {
  const meta = readMeta(writer)
  const applied = entries.map((bytes): Applied => {
    const entry = ofKnownSoftware(meta.position + 1, () => decodeEntry(bytes))
    meta.position++
    meta.chain = extendChain(meta.chain, meta.position, bytes)
    if (options.retainEntries > 0) writer.put(numberKey(table.log, meta.position), bytes)
    const { session, sequence } = entry
    const changesRules = !objectCommands.has(entry.command.type)
    const place = { position: meta.position, chain: meta.chain, session, sequence, changesRules }
    const known = findAnswer(writer, session, sequence)
    if (known !== undefined) {
      return { ...place, answer: known instanceof StorageError ? encodeFailure(known) : known }
    }
    const context = new ApplyContext(writer, meta, entry)
    const result = ofKnownSoftware(meta.position, () => context.unit(() => applyOnce(context, entry.command)))
    const answer = result instanceof StorageError ? encodeFailure(result) : result
    rememberAnswer(writer, meta, session, sequence, answer)
    if (entry.command.type === 'set-cluster-map' && !(result instanceof StorageError)) {
      options.onClusterMap?.(meta.position)
    }
    return { ...place, answer }
  })
  forgetEntries(writer, meta.position - options.retainEntries)
  writeMeta(writer, meta)
  return applied
}

/**
 * What a later software wrote is neither applied nor answered here: where the nodes of a region have different versions, one that knows the
 * command has applied it, and equal chains must mean equal states. UNSUPPORTED_FORMAT.
 */
function ofKnownSoftware<T>(position: Position, work: () => T): T {
  try {
    return work()
  } catch (cause) {
    if (!(cause instanceof StorageError) || cause.code !== 'UNSUPPORTED_FORMAT') throw cause
    throw new StorageError(
      'UNSUPPORTED_FORMAT',
      `entry ${position} of the log cannot be applied here: ${cause.reason}. The software of this node is older than what wrote it: update it, and the node goes on from where it is`,
      { cause },
    )
  }
}

/** Removes the entries up to and with `through`. */
export function forgetEntries(writer: TableWriter, through: Position): void {
  if (through < 1) return
  const cursor = writer.rows(Uint8Array.of(table.log), numberKey(table.log, through + 1))
  const keys: Uint8Array[] = []
  while (cursor.next()) keys.push(rowKey(cursor))
  for (const key of keys) writer.remove(key)
}

/** SHA-256 over the chain so far, the position and the entry: equal chains mean equal histories. */
export function extendChain(chain: Uint8Array, position: Position, entry: Uint8Array): Uint8Array {
  const place = Buffer.alloc(8)
  place.writeUIntBE(position, 2, 6)
  const digest = createHash('sha256').update(chain).update(place).update(entry).digest()
  return new Uint8Array(digest.buffer, digest.byteOffset, digest.length)
}

/** The answer; that of the first request with an idempotency key to all requests with it. */
function applyOnce(context: ApplyContext, command: Command): Uint8Array {
  checkFence(context, command)
  if (!('idempotency' in command) || command.idempotency === undefined) {
    const result = applyCommand(context, command)
    return encodeSuccess(command, result, context.place)
  }
  const { bucketId, idempotency } = command
  const nowMs = Math.max(context.meta.time.ms, context.entry.nowMs)
  const known = findFirstAnswer(context, bucketId, idempotency, nowMs)
  if (known !== undefined) return known
  // One entry of an outbox tells of one version: of a delete of many none tells all.
  if (!('items' in command) || command.items.length === 1) context.idempotency = idempotency
  const result = applyCommand(context, command)
  const { place } = context
  // What was refused has not been done: it may be asked for again.
  const isDone = !('outcomes' in result) || result.outcomes.some(({ error }) => error === undefined)
  if (isDone) {
    const answer = encodeSuccess(command, result, place, firstAnswerOf(command))
    keepFirstAnswer(context, bucketId, idempotency, answer)
  }
  return encodeSuccess(command, result, place)
}

function applyCommand(context: ApplyContext, command: Command): CommandResult<Command> {
  switch (command.type) {
    case 'create-bucket':
      return createBucket(context, command)
    case 'delete-bucket':
      return deleteBucket(context, command)
    case 'set-versioning':
      return setVersioning(context, command)
    case 'set-bucket-config':
      return setBucketConfig(context, command)
    case 'put-object':
      return putObject(context, command)
    case 'delete-objects':
      return deleteObjects(context, command)
    case 'set-object-tags':
      return setObjectTags(context, command)
    case 'set-object-acl':
      return setObjectAcl(context, command)
    case 'create-upload':
      return createUpload(context, command)
    case 'put-part':
      return putPart(context, command)
    case 'complete-upload':
      return completeUpload(context, command)
    case 'abort-upload':
      return abortUpload(context, command)
    case 'collected':
      return collected(context, command)
    case 'put-access-key':
      return putAccessKey(context, command)
    case 'set-access-key-enabled':
      return setAccessKeyEnabled(context, command)
    case 'share-access-key':
      return shareAccessKey(context, command)
    case 'take-access-keys':
      return takeAccessKeys(context, command)
    case 'put-policy-package':
      return putPolicyPackage(context, command)
    case 'deploy-policies':
      return deployPolicies(context, command)
    case 'set-cluster-map':
      return setClusterMap(context, command)
    case 'recover-region':
      return recoverRegion(context)
    case 'set-federation':
      return setFederation(context, command)
    case 'set-region-config':
      return setRegionConfig(context, command)
    case 'acquire-lock':
      return acquireLock(context, command)
    case 'renew-lock':
      return renewLock(context, command)
    case 'release-lock':
      return releaseLock(context, command)
    case 'set-replication':
      return setReplication(context, command)
    case 'apply-remote':
      return applyRemote(context, command)
    case 'put-entry-part':
      return putEntryPart(context, command)
    case 'retry-remote':
      return retryRemote(context, command)
    case 'set-cursor':
      return setCursor(context, command)
    case 'acknowledge-outbox':
      return acknowledgeOutbox(context, command)
    case 'start-full-sync':
      return startFullSync(context, command)
    case 'backfill':
      return backfill(context, command)
    case 'compare-content':
      return compareContent(context, command)
    case 'send-range':
      return sendRange(context, command)
    case 'stage-outbox':
      return stageOutbox(context, command)
    case 'cache-version':
      return cacheVersion(context, command)
    case 'evict-versions':
      return evictVersions(context, command)
    case 'tell-access':
      return tellAccess(context, command)
    case 'tell-passed':
      return tellPassed(context, command)
    case 'collect-tombstones':
      return collectTombstones(context, command)
    case 'trim-outbox':
      return trimOutbox(context, command)
    case 'put-group':
      return putGroup(context, command)
    case 'remove-group':
      return removeGroup(context, command)
    case 'vote-group':
      return voteGroup(context, command)
    case 'grant-lease':
      return grantLease(context, command)
    case 'take-group':
      return takeGroup(context, command)
    case 'freeze-group':
      return freezeGroup(context, command)
    case 'list-losses':
      return listLosses(context, command)
    default:
      return unknownCommand(command)
  }
}

function unknownCommand(command: never): never {
  const { type } = command as { type: unknown }
  throw new StorageError('UNSUPPORTED_FORMAT', `this version knows no command ${String(type)}`)
}

/** A hash over all rows that every replica must share: all but the entries kept for followers. */
export function stateHash(writer: Pick<TableWriter, 'rows'>): string {
  const hash = createHash('sha256')
  const length = Buffer.alloc(4)
  for (const [start, end] of [
    [0, table.log],
    [table.log + 1, table.replica],
  ] as const) {
    const cursor = writer.rows(Uint8Array.of(start), Uint8Array.of(end))
    while (cursor.next()) {
      for (const part of [
        cursor.keyBytes.subarray(cursor.keyStart, cursor.keyEnd),
        cursor.valueBytes.subarray(0, cursor.valueEnd),
      ]) {
        length.writeUInt32BE(part.length)
        hash.update(length).update(part)
      }
    }
  }
  return hash.digest('hex')
}
