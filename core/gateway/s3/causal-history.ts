import type { Catalog, OutboxPlace } from '../../contract/catalog.ts'
import { groupEpochOf, type Reign, type TakenBucket } from '../../contract/failover.ts'
import type { BucketRecord } from '../../contract/object-model.ts'
import type { CursorState, ReplicationRule } from '../../contract/replication.ts'
import type { CausalPlace } from './causal-token.ts'

type Reads = Pick<Catalog, 'replication' | 'failover'>

/**
 * What becomes of a request that asks for a place in some region's outbox: its state is here (`here`) or on its way (`behind`); a
 * failover has left it out (`lost`); or no region can have said so (`unknown`), or none knows it any more.
 */
export type PlaceVerdict = 'here' | 'behind' | 'lost' | 'unknown'

/** Nobody is so far ahead of a copy that still follows by the outbox. */
const farAheadEntries = 10_000_000
/** First epochs are seconds: no rule that a region has not heard of is so much newer. */
const farAheadEpochs = 2 ** 32

/**
 * Judged by what the catalog holds now; `here` is this region. A log goes on when its region becomes the primary again, so that a place
 * counts together with the epoch in which it was given: the first reign after it says what became of it.
 */
export function judgePlace(
  catalog: Reads,
  bucket: Pick<BucketRecord, 'id' | 'name'>,
  here: number,
  place: CausalPlace,
): PlaceVerdict {
  const { replication } = catalog
  const rule = replication.rule(bucket.id)
  // What is here and nowhere else is here as it was written.
  if (rule === undefined) return place.region === here ? 'here' : 'unknown'
  if (rule.edge !== undefined) return 'unknown'
  const taken = takenOf(catalog, rule, bucket.name, place)
  if (taken !== undefined) {
    // An earlier entry that is missing was another's write: the list of losses names it.
    if (place.lsn > taken.received || taken.missing.includes(place.lsn)) return 'lost'
    if (groupEpochOf(rule.epoch) >= taken.epoch) {
      // What the successor had when it took over is in whatever followed.
      return rule.primary === here || isWhole(replication.cursor(bucket.id, rule.primary)) ? 'here' : 'behind'
    }
  }
  if (place.epoch > rule.epoch + farAheadEpochs) return 'unknown'
  if (groupEpochOf(place.epoch) > groupEpochOf(rule.epoch)) return 'behind'
  const own = replication.outbox(bucket.id)
  if (own?.id === place.log && writes(rule, here)) return place.lsn <= own.head.lsn ? 'here' : 'unknown'
  const cursor = replication.cursor(bucket.id, place.region)
  if (cursor?.logId === place.log) {
    if (isWhole(cursor) && cursor.watermark >= place.lsn) return 'here'
    return place.lsn - cursor.received.lsn > farAheadEntries ? 'unknown' : 'behind'
  }
  // A log that is not followed here yet, of a region that writes.
  const isWriter = place.region !== here && rule.members.includes(place.region) && writes(rule, place.region)
  return isWriter || taken !== undefined ? 'behind' : 'unknown'
}

const writes = ({ mode, primary }: ReplicationRule, region: number): boolean =>
  mode === 'multi' || primary === region

const isWhole = (cursor: CursorState | undefined): boolean => cursor?.synchronizing === false

/** How far the next primary had come in the log of a place. */
function takenOf(
  { failover }: Reads,
  { group }: ReplicationRule,
  bucket: string,
  { log, epoch }: CausalPlace,
): (TakenBucket & Pick<Reign, 'epoch'>) | undefined {
  const state = group === undefined ? undefined : failover.group(group)
  if (state === undefined) return undefined
  for (const reign of [...state.record.reigns, ...state.estimates]) {
    if (reign.epoch <= groupEpochOf(epoch)) continue
    const taken = reign.taken.find((one) => one.bucket === bucket && one.logId === log)
    if (taken !== undefined) return { ...taken, epoch: reign.epoch }
  }
  return undefined
}

/**
 * The places that say what is in front of a client now: for an answer to a write (`written`) its own place alone, and what the client
 * had seen before (`seen`, all of which is here).
 */
export function placesOf(
  { replication }: Reads,
  bucketId: number,
  here: number,
  seen: readonly CausalPlace[],
  written: OutboxPlace | undefined,
): readonly CausalPlace[] {
  const rule = replication.rule(bucketId)
  if (rule === undefined || rule.edge !== undefined) return []
  const { epoch } = rule
  const own = replication.outbox(bucketId)
  if (own !== undefined && written !== undefined) {
    // A former primary's log has no place any more: what came of it is in the logs since.
    const others = replication.cursors(bucketId).map(({ logId }) => logId)
    // A write that had been done before has its place of then: its client may have seen more since, and the log may be another.
    const before = seen.find(({ log }) => log === own.id)
    const mine = before !== undefined && before.lsn > written.lsn ? before : written
    return [
      ...seen.filter(({ log }) => others.includes(log)),
      { region: here, epoch: mine.epoch, log: own.id, lsn: Math.min(mine.lsn, own.head.lsn) },
    ]
  }
  const now = replication
    .cursors(bucketId)
    .filter(isWhole)
    .map(({ source, logId, watermark }) => ({ region: source, epoch, log: logId, lsn: watermark }))
  if (own === undefined || !writes(rule, here)) return now
  return [...now, { region: here, epoch, log: own.id, lsn: own.head.lsn }]
}
