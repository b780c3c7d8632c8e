import type { Catalog } from '../../core/contract/catalog.ts'
import type { Clock } from '../../core/contract/clock.ts'
import type { Logger } from '../../core/contract/logger.ts'
import type { ObjectRecord } from '../../core/contract/object-model.ts'
import type { ConflictVersion, ResolveDecision, ResolveInput } from '../../core/contract/policy.ts'
import type { OutboxEntry, ReplicatedChange } from '../../core/contract/replication.ts'

/** What becomes of keys that two regions wrote without having seen each other's version. */
export interface ConflictOptions {
  /** This region. */
  readonly regionId: number
  /** Total: a policy that fails has its fallback behind it. */
  decide(input: ResolveInput): ResolveDecision
  readonly clock: Pick<Clock, 'now'>
  readonly log: Pick<Logger, 'debug' | 'warn'>
}

/**
 * `newest`: the later version lasts, as it would without anybody deciding; `older`: the other one, which is put behind it. `both`: as
 * `newest`, asked for as such. `followed`: what lasts had come from the other region, which has written over it; nobody is asked.
 * `undecided`: as `newest`, since the policy said what is not done here (`merge`), or the key did not stand still.
 */
export type ConflictOutcome = 'newest' | 'older' | 'both' | 'followed' | 'undecided'

export interface DecidedConflict {
  readonly newest: ObjectRecord
  readonly outcome: ConflictOutcome
}

type Put = Extract<ReplicatedChange, { type: 'put' }>

/** User metadata of both together; more than S3 lets an object have. */
const mostMetadataBytes = 32 * 1024

/** Undefined: the entry is of no conflict that this region decides about. */
export function decideConflict(
  { regionId, decide, clock, log }: ConflictOptions,
  catalog: Pick<Catalog, 'replication'>,
  bucketId: number,
  source: number,
  entry: OutboxEntry,
): DecidedConflict | undefined {
  const { change } = entry
  if (change.type !== 'put') return undefined
  const found = catalog.replication.concurrent(bucketId, source, regionId, entry)
  if (found === undefined) return undefined
  const { newest, isFollowed } = found
  if (isFollowed) return { newest, outcome: 'followed' }
  const decision = decide({
    // The order is that of the versions' ids.
    versions: [conflictVersion(source, change.version), conflictVersion(regionId, newest)],
    nowMs: clock.now(),
    ...{ deadlineMs: 0, seed: seedOf(change), requestHash: 0n, tenant: 0, bucket: 0 },
  })
  const outcome = outcomeOf(decision)
  const { key } = change
  const { policy, reason } = decision
  const said = { key, source, policy, reason, outcome: decision.outcome }
  if (outcome === 'undecided')
    log.warn(said, 'metadata of two versions cannot be merged: the later one lasts')
  else log.debug(said, 'two regions wrote a key without having seen each other')
  return { newest, outcome }
}

function outcomeOf({ outcome }: ResolveDecision): ConflictOutcome {
  if (outcome === 'first') return 'older'
  if (outcome === 'second') return 'newest'
  return outcome === 'keep-both' ? 'both' : 'undecided'
}

/** The same whoever asks again. */
const seedOf = ({ version }: Put): number =>
  Buffer.from(version.versionId).readUInt32BE(version.versionId.length - 4)

function conflictVersion(
  region: number,
  {
    versionId,
    byteLength,
    deleteMarker,
    etag,
    attributes,
  }: Pick<ObjectRecord, 'versionId' | 'byteLength' | 'deleteMarker' | 'etag' | 'attributes'>,
): ConflictVersion {
  const metadata = Buffer.from(JSON.stringify(attributes.userMetadata), 'utf8')
  return {
    ...{ region, byteLength, isDeleteMarker: deleteMarker },
    hlc: Buffer.from(versionId).readBigUInt64BE(0),
    // Of an upload in parts without their number.
    etag: new Uint8Array(Buffer.from(etag, 'hex')),
    metadata: new Uint8Array(metadata.length > mostMetadataBytes ? Buffer.from('{}') : metadata),
  }
}
