import assert from 'node:assert/strict'
import type { Catalog } from '../../core/contract/catalog.ts'
import { silentLogger } from '../../core/contract/logger.ts'
import type { FollowerOptions } from '../../federation/replication/follower.ts'
import { hex, type SimulatedRegion } from './replicating-region.ts'

type Options = Pick<FollowerOptions, 'catalog' | 'conflicts' | 'onConflict'>

/**
 * Policies of the regions of one simulation, and what is known of who had seen what: nobody may be asked about two versions of which one was
 * written with knowledge of the other. Each third seed has no policy, one that all regions have, or others in each.
 */
export class SimulatedConflicts {
  readonly #seed: number
  readonly #report: { conflicts: number; olderKept: number }
  /** Of a version: the region that wrote it, and how many it had seen by then. */
  readonly #written = new Map<string, { readonly region: SimulatedRegion; readonly seen: number }>()

  constructor(seed: number, report: { conflicts: number; olderKept: number }) {
    this.#seed = seed
    this.#report = report
  }

  /** Around a write of a client. */
  async write(region: SimulatedRegion, key: string, work: () => Promise<void>): Promise<void> {
    region.checkGone()
    const seen = region.seenCount
    await work()
    const made = region.catalog.object(region.bucketId ?? 0, key)
    if (made !== undefined) this.#written.set(hex(made.versionId), { region, seen })
  }

  optionsOf(region: SimulatedRegion): Options {
    const { catalog, clock, id: regionId } = region
    if (this.#seed % 3 === 0) return { catalog }
    const isOdd = this.#seed % 3 === 2 && regionId % 2 === 1
    return {
      catalog: this.#watched(region),
      onConflict: (_, outcome) => {
        this.#report.conflicts++
        if (outcome === 'older') this.#report.olderKept++
      },
      conflicts: {
        ...{ regionId, clock, log: silentLogger },
        decide({ versions: [first, second] }) {
          const isEven = first.byteLength === second.byteLength
          const isFirst = isEven ? isOdd : first.byteLength > second.byteLength !== isOdd
          return { policy: 'simulated', reason: 0, outcome: isFirst ? 'first' : 'second' }
        },
      },
    }
  }

  #watched(region: SimulatedRegion): Options['catalog'] {
    const { catalog } = region
    const { replication } = catalog
    const concurrent: Catalog['replication']['concurrent'] = (bucketId, source, here, entry) => {
      const found = replication.concurrent(bucketId, source, here, entry)
      if (found === undefined || entry.change.type !== 'put') return found
      const { key, version } = entry.change
      assert.ok(region.seenAt(key, version.versionId) === undefined, 'it was here before')
      const writer = this.#written.get(hex(version.versionId))
      const seen = writer?.region.seenAt(key, found.newest.versionId)
      const hadSeen = writer !== undefined && seen !== undefined && seen < writer.seen
      assert.ok(!hadSeen, 'it was written with knowledge of what it is weighed against')
      return found
    }
    return {
      bucket: (name) => catalog.bucket(name),
      submit: (command) => catalog.submit(command),
      replication: { ...replication, concurrent },
    }
  }
}
