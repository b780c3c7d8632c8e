import { accountFrom } from '../../core/contract/accounts.ts'
import type { Catalog } from '../../core/contract/catalog.ts'
import { StorageError } from '../../core/contract/errors.ts'
import { takenAwayReason } from '../../core/contract/forgotten-rule.ts'
import type { BucketRecord } from '../../core/contract/object-model.ts'
import type { Offer } from './peer.ts'

export interface AcceptOptions {
  readonly regionId: number
  readonly catalog: Pick<Catalog, 'bucket' | 'replication' | 'submit'>
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
  const owner = accountFrom(offer.owner ?? 'root', source, regionId)
  const bucket = await catalog.submit({ type: 'create-bucket', name: offer.bucket, owner })
  await catalog.submit({ type: 'set-replication', bucketId: bucket.id, rule, ...told })
  return true
}
