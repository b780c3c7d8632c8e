import { type Catalog, type Command, type CommandResult, isClientWrite } from '../../core/contract/catalog.ts'
import type { Clock } from '../../core/contract/clock.ts'
import { StorageError } from '../../core/contract/errors.ts'
import { type GroupRecord, syncCopies } from '../../core/contract/failover.ts'
import type { SubmitWatch } from '../../core/contract/trace.ts'
import type { FailoverAgent } from './agent.ts'
import { hasCopies } from './lags.ts'

/** A write of a `sync` bucket that other regions do not have by then is answered with an error; it is here, and may arrive there. */
const mostSyncMs = 10_000
const firstLookMs = 2
const longestLookMs = 20
const retryAfterMs = 1_000

type Submit = Pick<Catalog, 'submit' | 'bucket' | 'failover' | 'replication'>

/**
 * What clients write goes this way: the write of a group's bucket carries the group's epoch, which is checked again at its commit, and
 * it is acknowledged only while the lease holds, looked at once more when it is durable. A write that is not acknowledged may have
 * happened, as with every error of this kind.
 */
export function guardSubmit(
  catalog: Submit,
  agent: Pick<FailoverAgent, 'known' | 'mayAcknowledge'>,
  clock: Clock,
  regionId: number,
): Catalog['submit'] {
  /** The group has changed since it was looked at, or this replica has not heard of it yet. */
  const submit = (command: Command, watch?: SubmitWatch) =>
    catalog.submit(command, watch).catch((reason: unknown) => {
      const error = StorageError.from(reason)
      throw error.code === 'STALE_EPOCH' ? notNow(error.reason) : error
    })
  return async <C extends Command>(command: C, watch?: SubmitWatch): Promise<CommandResult<C>> => {
    if (!isClientWrite(command)) return catalog.submit(command, watch)
    const { bucketId } = command
    const group = catalog.replication.rule(bucketId)?.group
    if (group === undefined) return (await submit(command, watch)) as CommandResult<C>
    const record = agent.known(group)?.record
    if (record === undefined) throw notNow('the failover group of the bucket is not known here yet')
    // A copy's refusal names the region that is the primary: the catalog says it.
    if (record.primary === regionId && !agent.mayAcknowledge(record)) {
      throw notNow('this region does not hold the lease of the failover group now')
    }
    const result = await submit({ ...command, groupEpoch: record.epoch }, watch)
    if ('place' in result && result.place !== undefined) watch?.placed?.(result.place.lsn)
    await keeps(catalog, agent, clock, bucketId, record, watch?.stored?.bind(watch))
    return result as CommandResult<C>
  }
}

/**
 * For what was written before and is told again without a write: it is acknowledged under the same conditions as when it is written.
 * `stored` is called when another region has to be waited for. UNAVAILABLE, REPLICATION_PENDING, NOT_PRIMARY.
 */
export function guardAnswer(
  catalog: Submit,
  agent: Pick<FailoverAgent, 'known' | 'mayAcknowledge'>,
  clock: Clock,
  regionId: number,
): (bucketId: number, stored?: () => void) => Promise<void> {
  return async (bucketId, stored) => {
    const group = catalog.replication.rule(bucketId)?.group
    if (group === undefined) return
    const record = agent.known(group)?.record
    if (record === undefined) throw notNow('the failover group of the bucket is not known here yet')
    if (record.primary !== regionId) {
      throw new StorageError('NOT_PRIMARY', `region ${record.primary} is the primary of the group`, {
        details: { PrimaryRegion: String(record.primary) },
      })
    }
    await keeps(catalog, agent, clock, bucketId, record, stored)
  }
}

/** What is in the catalog may be acknowledged now, and has the copies that it needs. */
async function keeps(
  catalog: Submit,
  agent: Pick<FailoverAgent, 'mayAcknowledge'>,
  clock: Clock,
  bucketId: number,
  record: GroupRecord,
  stored: (() => void) | undefined,
): Promise<void> {
  checkLease(agent, record)
  // As of the write, not of the last look: whoever has made the bucket a `sync` one since was told that it is.
  const latest = catalog.failover.group(record.name)?.record ?? record
  if (!isSync(catalog, latest, bucketId)) return
  await copied(catalog, clock, bucketId, latest, stored)
  checkLease(agent, record)
}

const notNow = (reason: string): StorageError => new StorageError('UNAVAILABLE', reason, { retryAfterMs })

function checkLease(agent: Pick<FailoverAgent, 'mayAcknowledge'>, record: GroupRecord): void {
  if (agent.mayAcknowledge(record)) return
  throw notNow(
    'the write is stored here, but the lease of the failover group has ended: another region may take over',
  )
}

function isSync({ replication, bucket }: Submit, { syncBuckets }: GroupRecord, bucketId: number): boolean {
  if (syncBuckets.length === 0 || replication.rule(bucketId) === undefined) return false
  return syncBuckets.some((name) => bucket(name)?.id === bucketId)
}

async function copied(
  catalog: Submit,
  clock: Clock,
  bucketId: number,
  record: GroupRecord,
  stored: (() => void) | undefined,
): Promise<void> {
  // The write is at or in front of the head of now.
  const lsn = catalog.replication.outbox(bucketId)?.head.lsn ?? Number.POSITIVE_INFINITY
  const copies = syncCopies(record)
  if (hasCopies(catalog, bucketId, record, lsn, copies)) return
  stored?.()
  const sinceMs = clock.monotonic()
  const untilMs = sinceMs + mostSyncMs
  let lookMs = firstLookMs
  while (!hasCopies(catalog, bucketId, record, lsn, copies)) {
    if (clock.monotonic() >= untilMs) {
      throw new StorageError(
        'REPLICATION_PENDING',
        'the write is stored here, but no other region has it yet',
        {
          retryAfterMs,
          // Only its primary writes the bucket.
          details: { OriginRegion: String(record.primary) },
        },
      )
    }
    await clock.sleep(lookMs)
    // Who has waited for long is not much later by it: with the other region down those who wait are many.
    const waitedMs = clock.monotonic() - sinceMs
    lookMs = Math.min(lookMs * 2, Math.max(longestLookMs, waitedMs / 10))
  }
}
