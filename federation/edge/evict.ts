import type { Catalog, VersionListing } from '../../core/contract/catalog.ts'
import type { Clock } from '../../core/contract/clock.ts'
import { StorageError } from '../../core/contract/errors.ts'
import type { Logger } from '../../core/contract/logger.ts'
import type { VersionId } from '../../core/contract/object-model.ts'
import { replicationLimits } from '../../core/contract/replication.ts'
import type { ReadThrough } from './read-through.ts'

export interface EvictOptions {
  readonly regionId: number
  readonly catalog: Pick<Catalog, 'bucketById' | 'listVersions' | 'replication' | 'stats' | 'submit'>
  readonly reads: Pick<ReadThrough, 'usedMs' | 'evicted'>
  readonly clock: Clock
  readonly log: Logger
  isCoordinator(): boolean
}

const lookMs = 2_000
/** Versions that are looked at before others have a turn. */
const pageVersions = 500

interface Held {
  readonly key: string
  readonly versionId: VersionId
  readonly byteLength: number
  readonly usedMs: number
}

/** Keeps what an edge holds although its hub has it within the rule's bytes: what was read the longest ago goes first. */
export class CacheEviction {
  readonly #options: EvictOptions
  readonly #stopping = new AbortController()
  readonly #ended: Promise<void>

  constructor(options: EvictOptions) {
    this.#options = options
    this.#ended = this.#run()
  }

  async stop(): Promise<void> {
    this.#stopping.abort(new StorageError('CANCELLED', 'the region stops'))
    await this.#ended
  }

  async #run(): Promise<void> {
    const { catalog, clock, log } = this.#options
    const { signal } = this.#stopping
    while (!signal.aborted) {
      try {
        await clock.sleep(lookMs, signal)
        if (!this.#options.isCoordinator()) continue
        for (const id of catalog.replication.ruledBuckets(0, Number.MAX_SAFE_INTEGER)) {
          await evictOnce(this.#options, id, signal)
        }
      } catch (reason) {
        if (!signal.aborted) log.warn({ err: StorageError.from(reason) }, 'a cache could not be looked after')
      }
    }
  }
}

/** Of one bucket, once. */
export async function evictOnce(
  { catalog, reads, clock, regionId }: EvictOptions,
  bucketId: number,
  signal: AbortSignal,
): Promise<void> {
  const edge = catalog.replication.rule(bucketId)?.edge
  const bucket = catalog.bucketById(bucketId)?.name
  if (edge === undefined || bucket === undefined || !edge.regions.includes(regionId)) return
  // All objects of the region together are not more than this bucket may keep: nothing is to be counted.
  if (catalog.stats().liveBytes <= edge.cacheBytes) return
  const held: Held[] = []
  let bytes = 0
  let page: VersionListing | undefined
  do {
    page = catalog.listVersions(bucketId, {
      ...{ prefix: '', delimiter: '', limit: pageVersions, keyMarker: page?.nextKeyMarker ?? '' },
      ...(page?.nextVersionMarker === undefined ? {} : { versionMarker: page.nextVersionMarker }),
    })
    for (const { key, versionId, byteLength, modifiedMs } of page.versions) {
      if (catalog.replication.isUnshipped(bucketId, key)) continue
      if (edge.pinned.some((prefix) => key.startsWith(prefix))) continue
      bytes += byteLength
      held.push({ key, versionId, byteLength, usedMs: reads.usedMs(bucketId, key) ?? modifiedMs })
    }
    await clock.sleep(0, signal)
  } while (page.truncated)
  held.sort((left, right) => left.usedMs - right.usedMs)
  const doomed: (readonly [string, VersionId])[] = []
  for (const { key, versionId, byteLength } of held) {
    if (bytes <= edge.cacheBytes) break
    doomed.push([key, versionId])
    bytes -= byteLength
  }
  for (let at = 0; at < doomed.length; at += replicationLimits.evictedVersions) {
    const versions = doomed.slice(at, at + replicationLimits.evictedVersions)
    const { evicted } = await catalog.submit({ type: 'evict-versions', bucketId, versions })
    reads.evicted(bucket, evicted)
  }
}
