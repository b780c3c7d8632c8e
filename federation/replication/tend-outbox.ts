import type { Catalog } from '../../core/contract/catalog.ts'
import type { Logger } from '../../core/contract/logger.ts'

/** Entries in front of the slowest member up to which a full synchronization is written: it takes no more space than that. */
const mostBackfillAhead = 2048
/** Steps of one kind before others have a turn. */
const stepsAtOnce = 32
/** Steps of a full synchronization that become durable together; one too many does nothing. */
const stepsTogether = 4

export interface TendOptions {
  /** Of this region. */
  readonly regionId: number
  readonly catalog: Pick<Catalog, 'bucketById' | 'replication' | 'submit'>
  readonly log: Logger
  /** By this region's clock, as in `OutboxState.compared`. */
  nowMs(): number
}

/** Between two comparisons of all copies with what is here. */
const compareEveryMs = 6 * 3_600_000
/** Ranges of a comparison that are written at once, a few hundred versions each. */
const rangesAtOnce = 2

/** Steps of a pass over the tombstones at once, a thousand of them each. */
const sweepsAtOnce = 8

/**
 * Looks after one outbox of this region: writes the next steps of a full synchronization as fast as members take them, forgets what
 * every member has, lets go who holds up more than the retention allows, and forgets deletes that nobody can undo any more. `isLate`:
 * also ask for what only time brings about.
 */
export async function tendOutbox(options: TendOptions, bucketId: number, isLate: boolean): Promise<void> {
  const { catalog, nowMs } = options
  for (let step = 0; step < stepsAtOnce && mayBackfill(catalog, bucketId); step += stepsTogether) {
    await Promise.all(
      Array.from({ length: stepsTogether }, () => catalog.submit({ type: 'backfill', bucketId })),
    )
  }
  if (mayTellAccess(options, bucketId)) await catalog.submit({ type: 'tell-access', bucketId })
  for (let step = 0; step < rangesAtOnce && mayCompare(catalog, bucketId, nowMs()); step++) {
    await catalog.submit({ type: 'compare-content', bucketId })
  }
  await trim(options, bucketId, isLate)
  await forgetDeletes(options, bucketId, isLate)
}

async function trim({ catalog, log }: TendOptions, bucketId: number, isLate: boolean): Promise<void> {
  const { replication } = catalog
  for (let step = 0; step < stepsAtOnce; step++) {
    const outbox = replication.outbox(bucketId)
    if (outbox === undefined || outbox.head.lsn === outbox.trimmed.lsn) return
    if (leastAcknowledged(catalog, bucketId, outbox.head.lsn) <= outbox.trimmed.lsn && !isLate) return
    const { done, dropped } = await catalog.submit({ type: 'trim-outbox', bucketId })
    for (const region of dropped) {
      const bucket = catalog.bucketById(bucketId)?.name
      log.error(
        { bucket, region },
        'a region is further behind than the outbox is kept: it has to synchronize the bucket in full',
      )
    }
    if (done) return
  }
}

/** What is told is an entry for all members, so it is told late: with each late turn at most once, and only when there is something new. */
async function forgetDeletes(
  { catalog, regionId }: TendOptions,
  bucketId: number,
  isLate: boolean,
): Promise<void> {
  const numbers = catalog.replication.tombstones(bucketId, regionId)
  if (numbers === undefined) return
  if (isLate && numbers.isTellDue) await catalog.submit({ type: 'tell-passed', bucketId })
  if (!numbers.isSweeping && !(isLate && numbers.isCollectDue)) return
  for (let step = 0; step < sweepsAtOnce; step++) {
    if ((await catalog.submit({ type: 'collect-tombstones', bucketId })).done) return
  }
}

function leastAcknowledged(
  { replication }: Pick<Catalog, 'replication'>,
  bucketId: number,
  head: number,
): number {
  return replication
    .members(bucketId)
    .reduce(
      (least, { acknowledged, needsFullSync }) => (needsFullSync ? least : Math.min(least, acknowledged)),
      head,
    )
}

/** A bucket that nobody writes to has no next entry that could say it. */
function mayTellAccess({ catalog, regionId }: TendOptions, bucketId: number): boolean {
  const outbox = catalog.replication.outbox(bucketId)
  if (outbox === undefined || outbox.isAccessTold === true || outbox.backfill !== undefined) return false
  const rule = catalog.replication.rule(bucketId)
  if (rule === undefined || rule.edge !== undefined) return false
  if (rule.mode === 'single' && rule.primary !== regionId) return false
  const bucket = catalog.bucketById(bucketId)
  return bucket !== undefined && catalog.replication.access(bucket, regionId).isKnown
}

function mayCompare(catalog: Pick<Catalog, 'replication'>, bucketId: number, nowMs: number): boolean {
  const outbox = catalog.replication.outbox(bucketId)
  if (outbox === undefined || outbox.backfill !== undefined) return false
  // An edge holds a part of what its hub does.
  if (catalog.replication.rule(bucketId)?.edge !== undefined) return false
  const ahead = outbox.head.lsn - leastAcknowledged(catalog, bucketId, outbox.head.lsn)
  if (ahead >= mostBackfillAhead) return false
  const { comparing, compared, isCompareDue, backfilledThrough } = outbox
  if (comparing !== undefined) return true
  const ageMs = nowMs - (compared?.ms ?? nowMs)
  // A bucket that is written all the time is never even.
  if (ahead > 0 && ageMs < 2 * compareEveryMs) return false
  // What was synchronized in full is looked at soon; everything else from time to time.
  const isNew = compared === undefined || compared.lsn < backfilledThrough
  return isNew || isCompareDue === true || ageMs >= compareEveryMs
}

function mayBackfill(catalog: Pick<Catalog, 'replication'>, bucketId: number): boolean {
  const outbox = catalog.replication.outbox(bucketId)
  if (outbox?.backfill === undefined) return false
  return outbox.head.lsn - leastAcknowledged(catalog, bucketId, outbox.head.lsn) < mostBackfillAhead
}
