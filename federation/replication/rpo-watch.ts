import type { Catalog } from '../../core/contract/catalog.ts'
import type { Clock } from '../../core/contract/clock.ts'
import { StorageError } from '../../core/contract/errors.ts'
import type { Logger } from '../../core/contract/logger.ts'
import type { BucketReplicationStatus } from '../../core/contract/replication-admin.ts'
import { bucketStatus } from './status.ts'

export interface RpoWatchOptions {
  readonly regionId: number
  readonly catalog: Pick<Catalog, 'bucketById' | 'replication'>
  readonly clock: Clock
  readonly log: Logger
  /** Of the nodes of a region one raises the alerts. */
  isCoordinator(): boolean
}

const lookMs = 1_000
/** Buckets of one look: thousands of them take no noticeable share of the processor. */
const bucketsAtOnce = 200
/** A write is held back between these, the longer the further the copies are behind. */
const leastHoldMs = 20
const mostHoldMs = 1_000

/**
 * How long a write is held back while a copy is further behind than the rule allows: at twice the objective, and beyond, one second.
 * It is never refused for that; who writes one object after the other comes down to one a second.
 */
export function holdBackMsOf({ rule, outgoing, isBreached }: BucketReplicationStatus): number {
  if (!isBreached || rule.onBreach !== 'throttle') return 0
  const lagMs = Math.max(...outgoing.map(({ oldestUnshippedMs }) => oldestUnshippedMs))
  const beyond = (lagMs - rule.rpoMs) / rule.rpoMs
  return Math.round(Math.min(mostHoldMs, Math.max(leastHoldMs, beyond * mostHoldMs)))
}

/** Looks after the objectives of the rules: says in the log when one is missed and met again, and what writers have to wait. */
export class RpoWatch {
  readonly #options: RpoWatchOptions
  readonly #holds = new Map<number, number>()
  readonly #breached = new Set<number>()
  readonly #stopping = new AbortController()
  readonly #ended: Promise<void>
  #after = 0

  constructor(options: RpoWatchOptions) {
    this.#options = options
    this.#ended = this.#run()
  }

  holdBackMs(bucketId: number): number {
    return this.#holds.get(bucketId) ?? 0
  }

  async stop(): Promise<void> {
    this.#stopping.abort(new StorageError('CANCELLED', 'replication stops'))
    await this.#ended
  }

  async #run(): Promise<void> {
    const { clock, log } = this.#options
    const { signal } = this.#stopping
    while (!signal.aborted) {
      try {
        await clock.sleep(lookMs, signal)
        this.#look()
      } catch (reason) {
        if (!signal.aborted) log.warn({ err: StorageError.from(reason) }, 'objectives cannot be looked after')
      }
    }
  }

  /** The next buckets; from the first again behind the last. */
  #look(): void {
    const { catalog, clock, regionId } = this.#options
    const ids = catalog.replication.ruledBuckets(this.#after, bucketsAtOnce)
    const before = this.#after
    this.#after = ids.length < bucketsAtOnce ? 0 : (ids.at(-1) ?? 0)
    const seen = new Set(ids)
    const through = this.#after === 0 ? Number.POSITIVE_INFINITY : this.#after
    for (const id of this.#breached) {
      if (id > before && id <= through && !seen.has(id)) this.#forget(id)
    }
    for (const id of ids) {
      const status = bucketStatus(catalog, id, clock.now(), regionId, () => undefined)
      if (status === undefined || !status.isBreached) this.#meet(id, status)
      else this.#miss(id, status)
    }
  }

  #miss(id: number, status: BucketReplicationStatus): void {
    const holdMs = holdBackMsOf(status)
    if (holdMs > 0) this.#holds.set(id, holdMs)
    else this.#holds.delete(id)
    if (this.#breached.has(id)) return
    this.#breached.add(id)
    if (!this.#options.isCoordinator()) return
    const { bucket, rule, outgoing } = status
    const behind = outgoing.filter(({ oldestUnshippedMs }) => oldestUnshippedMs > rule.rpoMs)
    this.#options.log.error(
      {
        ...{ event: 'rpo-missed', bucket, rpoMs: rule.rpoMs, onBreach: rule.onBreach ?? 'alert' },
        regions: behind.map(({ region, oldestUnshippedMs, lagEntries }) => ({
          ...{ region, oldestUnshippedMs, lagEntries },
        })),
      },
      'other regions lack more of a bucket than its objective allows',
    )
  }

  #meet(id: number, status: BucketReplicationStatus | undefined): void {
    const wasBreached = this.#breached.has(id)
    this.#forget(id)
    if (!wasBreached || status === undefined || !this.#options.isCoordinator()) return
    this.#options.log.info(
      { event: 'rpo-met', bucket: status.bucket },
      'the objective of a bucket is met again',
    )
  }

  #forget(id: number): void {
    this.#breached.delete(id)
    this.#holds.delete(id)
  }
}
