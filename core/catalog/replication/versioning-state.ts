import type { BucketRecord } from '../../contract/object-model.ts'
import type { EntryTime, ReplicatedChange } from '../../contract/replication.ts'
import type { ApplyContext } from '../apply-context.ts'
import { bytesOf } from '../encoding.ts'
import { writeHybridTime } from '../hybrid-time.ts'
import type { TableReader } from '../tables.ts'
import { changedBytes, changedStamp } from './changed-stamp.ts'
import { versioningKey } from './keys.ts'
import { append, ruleOfWriter } from './outbox.ts'
import type { StoredRule } from './rows.ts'

/**
 * Where several regions write, each of them says whether the bucket keeps versions: the later change lasts in all of them, so a row keeps time
 * and region of it. Without the row the state is from before there was one, or from before the bucket had such a rule: earlier than every change
 * that has a stamp, and among its like by its region.
 */
type State = Exclude<BucketRecord['versioning'], 'off'>

/** An edge has no say in it, and what the home of a bucket says holds in its copies. */
const isSaidByAll = ({ mode, edge }: StoredRule): boolean => mode === 'multi' && edge === undefined

const readStamp = (reader: Pick<TableReader, 'get'>, bucketId: number): Uint8Array | undefined =>
  reader.get(versioningKey(bucketId))

function stampOf({ ms, counter }: EntryTime, region: number): Uint8Array {
  const stamp = Buffer.alloc(changedBytes)
  writeHybridTime(stamp, 0, { ms, counter })
  stamp.writeUInt16BE(region, changedBytes - 2)
  return bytesOf(stamp)
}

const withoutStamp = (region: number): Uint8Array => stampOf({ ms: 0, counter: 0 }, region)

/** A client of this region has said whether the bucket keeps versions. */
export function logVersioning(context: ApplyContext, bucketId: number, state: State): void {
  const rule = ruleOfWriter(context, bucketId)
  const isShared = rule !== undefined && isSaidByAll(rule)
  // Once other regions were told with a stamp, a change that has none would be older than what they have.
  const isStamped = isShared || readStamp(context, bucketId) !== undefined
  if (isStamped) context.put(versioningKey(bucketId), changedStamp(context))
  else if (rule !== undefined) context.tick()
  if (rule !== undefined) tell(context, bucketId, rule, state, context.meta.time)
}

/** What holds here is told once more, as it was heard or said. */
export function tellVersioning(context: ApplyContext, bucket: BucketRecord, rule: StoredRule): void {
  if (bucket.versioning !== 'off') tell(context, bucket.id, rule, bucket.versioning, context.tick())
}

/** The same in a pass of a comparison, where regions could have come to differ. */
export function retellVersioning(context: ApplyContext, bucket: BucketRecord, rule: StoredRule): void {
  if (isSaidByAll(rule)) tellVersioning(context, bucket, rule)
}

function tell(
  context: ApplyContext,
  bucketId: number,
  rule: StoredRule,
  state: State,
  time: EntryTime,
): void {
  const changed = isSaidByAll(rule) ? readStamp(context, bucketId) : undefined
  append(context, bucketId, rule, time, {
    ...{ type: 'versioning', state },
    ...(changed === undefined ? {} : { changed: bytesOf(changed) }),
  })
}

/** Another region says whether the bucket keeps versions: the state that holds from now on. */
export function takeVersioning(
  context: ApplyContext,
  bucket: BucketRecord,
  rule: StoredRule,
  source: number,
  told: Extract<ReplicatedChange, { type: 'versioning' }>,
  time: EntryTime,
): BucketRecord['versioning'] {
  if (rule.edge !== undefined) return bucket.versioning
  const known = readStamp(context, bucket.id)
  if (!isSaidByAll(rule)) {
    if (known !== undefined) context.put(versioningKey(bucket.id), stampOf(time, source))
    return told.state
  }
  const changed = told.changed ?? withoutStamp(source)
  const own = known ?? withoutStamp(context.entry.regionId)
  // Of those of one region without a stamp the last one that it told.
  if (bucket.versioning !== 'off' && Buffer.compare(changed, own) < 0) return bucket.versioning
  context.put(versioningKey(bucket.id), changed)
  return told.state
}
