import { StorageError } from '../../contract/errors.ts'
import { firstEpochOf, hasReturned, isAnotherRule, takenAwayReason } from '../../contract/forgotten-rule.ts'
import { isMesh } from '../../contract/has-begun.ts'
import type { BucketRecord } from '../../contract/object-model.ts'
import type { ReplicationRule } from '../../contract/replication.ts'
import type { ApplyContext } from '../apply-context.ts'
import { pack, unpack } from '../encoding.ts'
import { encodeText, successor, table, tableKey } from '../keys.ts'
import type { TableReader } from '../tables.ts'
import { ruleKey } from './keys.ts'
import { readCursor, readMember, readRule, type StoredRule } from './rows.ts'
import { readTombstoneState } from './tombstones.ts'

type Get = Pick<TableReader, 'get'>
type Memory = Pick<StoredRule, 'isForgetful' | 'minimumEpoch'>

/** Of all rules that a bucket of this name had: the bucket itself may be gone, and another have its name. No name has a byte of 0. */
const forgottenPrefix = (bucket: string): Uint8Array =>
  tableKey(table.forgottenRule, Buffer.concat([encodeText(bucket), Uint8Array.of(0)]))

export function forgottenKey(bucket: string, rule: ReplicationRule): Uint8Array {
  const first = Buffer.alloc(6)
  first.writeUIntBE(firstEpochOf(rule), 0, 6)
  return Buffer.concat([forgottenPrefix(bucket), first])
}

/** The rule may not be given to a bucket of this name: it was taken away here, and what it told of deletes with it. */
export function isForgottenRule(reader: Get, bucket: string, rule: ReplicationRule, here: number): boolean {
  if (!isMesh(rule)) return false
  const row = reader.get(forgottenKey(bucket, rule))
  return row !== undefined && !hasReturned(rule, here, (unpack(row) as { epoch: number }).epoch)
}

/** Whether others may go by what this region has told of deletes. One that never heard of a delete has told nothing. */
export function isReliedUpon(reader: Get, bucketId: number, rule: StoredRule): boolean {
  if (!isMesh(rule)) return false
  const { held, collected, told } = readTombstoneState(reader, bucketId)
  return rule.isForgetful === true || held > 0 || collected > 0 || told.length > 0
}

/** The rule was taken away. One row for each rule that a region has left for good. */
export const noteForgotten = (context: ApplyContext, bucket: string, rule: StoredRule): void =>
  context.put(forgottenKey(bucket, rule), pack({ epoch: rule.epoch }))

/**
 * What the row of a rule that comes into force here has beside it. CONFLICT: it is forgotten (see `isForgottenRule`), or was made anew by a region
 * whose word this one has kept by the rule in force.
 */
export function checkMemory(
  context: ApplyContext,
  { id, name }: BucketRecord,
  old: StoredRule | undefined,
  rule: ReplicationRule,
): Memory {
  if (old !== undefined) {
    if (isAnotherRule(old, rule) && isKnown(context, id, rule.primary)) {
      throw new StorageError(
        'CONFLICT',
        `region ${rule.primary} has taken the rule away and made it anew: it has to be taken away here, too`,
      )
    }
    const { isForgetful, minimumEpoch } = old
    return {
      ...(isForgetful === undefined ? {} : { isForgetful }),
      ...(minimumEpoch === undefined ? {} : { minimumEpoch }),
    }
  }
  if (!isMesh(rule)) return {}
  if (isForgottenRule(context, name, rule, context.entry.regionId))
    throw new StorageError('CONFLICT', takenAwayReason)
  // It has come back: what it tells from now on is kept.
  context.remove(forgottenKey(name, rule))
  return hasForgotten(context, name) ? { minimumEpoch: firstEpochOf(rule) } : {}
}

/** It has been followed here, or has followed. */
function isKnown(context: ApplyContext, bucketId: number, region: number): boolean {
  const member = readMember(context, bucketId, region)
  const hasAsked = member !== undefined && (member.hasBegun === true || member.acknowledged > 0)
  return hasAsked || readCursor(context, bucketId, region) !== undefined
}

function hasForgotten(context: ApplyContext, bucket: string): boolean {
  const prefix = forgottenPrefix(bucket)
  const rows = context.rows(prefix, successor(prefix))
  const found = rows.next()
  rows.close()
  return found
}

/** The region was recovered: what it told last may be known to the others alone. */
export function forgetWord(context: ApplyContext, bucketId: number): void {
  const rule = readRule(context, bucketId)
  if (rule !== undefined && isMesh(rule)) context.put(ruleKey(bucketId), pack({ ...rule, isForgetful: true }))
}
