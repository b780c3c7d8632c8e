import { accountFrom } from '../../core/contract/accounts.ts'
import type { Catalog } from '../../core/contract/catalog.ts'
import { StorageError } from '../../core/contract/errors.ts'
import { groupEpochOf } from '../../core/contract/failover.ts'
import { takenAwayReason } from '../../core/contract/forgotten-rule.ts'
import type { BucketRecord } from '../../core/contract/object-model.ts'
import type { ReplicationRule } from '../../core/contract/replication.ts'
import type { Offer } from './peer.ts'

export interface AcceptOptions {
  readonly regionId: number
  readonly catalog: Pick<Catalog, 'bucket' | 'failover' | 'replication' | 'submit'>
}

/**
 * Where one region writes, that one says what the rule is, or the primary of the bucket's failover group: a copy that could say so would make
 * itself the primary, and have what is here removed. What is told of an epoch of the group that is not known here is refused by the catalog.
 * A group that this copy has heard of by another region than the bucket's home may be that one's invention: then the home says first that the
 * bucket is in it.
 */
function mayChange(
  { catalog, regionId }: AcceptOptions,
  current: ReplicationRule,
  source: number,
  { bucket, rule }: Offer,
): boolean {
  if (current.mode !== 'single' || source === current.primary) return true
  // A copy may hear of the group before it hears that the bucket is in it; the primary has put it there.
  const name = current.group ?? (current.primary === regionId ? undefined : rule.group)
  if (name === undefined) return false
  const state = catalog.failover.group(name)
  // The group has been taken away before this copy heard who its primary was in the end, which says so of the bucket.
  if (state === undefined) return source === rule.primary
  const { introducedBy = current.primary, record } = state
  const isOfHome = introducedBy === current.primary && record.buckets.includes(bucket)
  if (current.group === undefined && !isOfHome) return false
  if (rule.group === name && groupEpochOf(rule.epoch) > record.epoch) return true
  return source === record.primary
}

/**
 * The record of a failover group comes another way than its rules: a bucket that was made before it would be left without a rule when the
 * catalog refuses that, and then is another bucket of that name for ever. CONFLICT: the offer comes again.
 */
function checkGroupKnown({ catalog }: AcceptOptions, { group, epoch, primary }: ReplicationRule): void {
  if (group === undefined) return
  const record = catalog.failover.group(group)?.record
  const told = groupEpochOf(epoch)
  if (record === undefined || record.epoch < told) {
    throw new StorageError('CONFLICT', `epoch ${told} of the group ${group} is not known here yet`)
  }
  if (record.epoch === told && record.primary !== primary) {
    throw new StorageError('CONFLICT', `region ${record.primary} is the primary of the group ${group}`)
  }
}

/** Whether an edge has what its hub says of who may do what. */
function isAccessKnown(
  { catalog, regionId }: AcceptOptions,
  bucket: BucketRecord,
  { access }: Offer,
): boolean {
  if (access === undefined) return true
  const held = catalog.replication.accessSettings(bucket, regionId) ?? []
  return access.every(({ kind, changed }) =>
    held.some((one) => one.kind === kind && Buffer.compare(one.changed, changed) === 0),
  )
}

/**
 * Takes a rule that another region tells of into force here, when it is newer than ours; makes the bucket when it is the first. A
 * bucket that is here already becomes part of a replication only when an operator of this region says so: who wrote or shared it
 * did not mean other regions' data. True: the bucket follows the rule that was offered. ACCESS_DENIED, BUCKET_NOT_EMPTY.
 */
export async function acceptOffer(options: AcceptOptions, source: number, offer: Offer): Promise<boolean> {
  const { catalog, regionId } = options
  const { rule } = offer
  const isEdge = rule.edge?.regions.includes(regionId) === true
  // Whether the bucket keeps versions, and who may do what in it, is said by the hub.
  const told = {
    ...(isEdge && offer.versioning !== undefined ? { versioning: offer.versioning } : {}),
    ...(isEdge && offer.access !== undefined ? { access: offer.access } : {}),
  }
  if (!rule.members.includes(regionId) || !rule.members.includes(source)) return false
  const known = catalog.bucket(offer.bucket)
  const current = known === undefined ? undefined : catalog.replication.rule(known.id)
  if (known !== undefined && current !== undefined) {
    // Who is no member may not say that it is one.
    if (!current.members.includes(source)) return false
    const isNews =
      isEdge &&
      source === current.primary &&
      (offer.versioning !== known.versioning || !isAccessKnown(options, known, offer))
    if (current.epoch > rule.epoch || (current.epoch === rule.epoch && !isNews))
      return current.epoch === rule.epoch
    // An edge has no say: it stands where anybody can reach it, and a member or a quota more is what its thief would ask for.
    if (current.edge?.regions.includes(source) === true) {
      throw new StorageError(
        'ACCESS_DENIED',
        `region ${source} is an edge of '${offer.bucket}' and changes no rule`,
      )
    }
    if (!mayChange(options, current, source, offer)) {
      // Copies tell each other of what their primary has told them.
      if (rule.primary !== source) return false
      throw new StorageError(
        'ACCESS_DENIED',
        `region ${source} has a copy of '${offer.bucket}': region ${current.primary} says who writes it`,
      )
    }
    await catalog.submit({ type: 'set-replication', bucketId: known.id, rule, ...told })
    return true
  }
  if (known !== undefined) {
    throw new StorageError(
      'ACCESS_DENIED',
      `region ${source} replicates a bucket '${offer.bucket}' to this region, which has another bucket of that name`,
    )
  }
  if (rule.primary !== source) return false
  if (catalog.replication.isForgotten(offer.bucket, rule, regionId))
    throw new StorageError('CONFLICT', takenAwayReason)
  checkGroupKnown(options, rule)
  const owner = accountFrom(offer.owner ?? 'root', source, regionId)
  const bucket = await catalog.submit({ type: 'create-bucket', name: offer.bucket, owner })
  await catalog.submit({ type: 'set-replication', bucketId: bucket.id, rule, ...told })
  return true
}
