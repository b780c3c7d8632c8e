import { isDeepStrictEqual } from 'node:util'
import { accountFrom } from '../../core/contract/accounts.ts'
import type { Catalog, ListQuery, ObjectListing } from '../../core/contract/catalog.ts'
import type { CacheState, EdgeAnswer, EdgeLook, EdgeReads, EdgeTraffic } from '../../core/contract/edge.ts'
import { StorageError } from '../../core/contract/errors.ts'
import type { Logger } from '../../core/contract/logger.ts'
import type { Layout, ObjectRecord, VersionId } from '../../core/contract/object-model.ts'
import type { ReplicationRule } from '../../core/contract/replication.ts'
import type { RegionTunnels } from '../../core/contract/tunnel.ts'
import {
  type Fetched,
  type FetchOptions,
  fetchVersion,
  UnfetchableVersion,
} from '../replication/fetch-version.ts'
import { TunnelPeer } from '../replication/tunnel-peer.ts'
import { mergeListing, type OwnKey } from './merge-listing.ts'
import { Hub } from './wire.ts'

export interface ReadThroughOptions extends FetchOptions {
  readonly regionId: number
  readonly catalog: Pick<Catalog, 'bucketById' | 'listObjects' | 'object' | 'replication' | 'submit'>
  readonly tunnels: Pick<RegionTunnels, 'open'>
  readonly log: Logger
}

/** Questions to the hub, with the bodies that they bring, at once; more clients are told to come again. */
const fetchesAtOnce = 256
/** Keys of which is remembered when they were read last, or compared with the hub. */
const mostRemembered = 100_000

interface Counted {
  reads: Record<CacheState, number>
  fetchedBytes: number
  evictedVersions: number
}

class AccessChanged extends StorageError {
  constructor() {
    super(
      'UNAVAILABLE',
      'Who may do what in the bucket has just changed at the hub of this edge. Try again.',
      {
        retryAfterMs: 1_000,
      },
    )
  }
}

/** A map that forgets what was used the longest ago. */
class Recent {
  readonly #times = new Map<string, number>()

  get(name: string): number | undefined {
    return this.#times.get(name)
  }

  set(name: string, ms: number): void {
    this.#times.delete(name)
    this.#times.set(name, ms)
    if (this.#times.size <= mostRemembered) return
    const [oldest] = this.#times.keys()
    if (oldest !== undefined) this.#times.delete(oldest)
  }
}

/**
 * Reads of an edge. While the hub can be reached each is compared with it by version, so an edge never serves what the hub has replaced; a body
 * is fetched once and kept. When it cannot, the edge serves what it holds and says how old that may be. What the edge itself has
 * changed and not handed over is served as it is.
 */
export class ReadThrough implements EdgeReads {
  readonly #options: ReadThroughOptions
  readonly #hub: Hub
  readonly #stopping = new AbortController()
  readonly #flights = new Map<string, Promise<EdgeLook>>()
  /** By the wall clock: when the hub last said that this is what it has. */
  readonly #compared = new Recent()
  /** When the hub of a bucket last answered. */
  readonly #heard = new Map<number, number>()
  readonly #used = new Recent()
  readonly #counted = new Map<string, Counted>()

  constructor(options: ReadThroughOptions) {
    this.#options = options
    this.#hub = new Hub(options.tunnels, options.clock)
  }

  stop(): void {
    this.#stopping.abort(new StorageError('CANCELLED', 'the region stops'))
  }

  /** When a key was read last; undefined: not by this process, or long ago. */
  usedMs(bucketId: number, key: string): number | undefined {
    return this.#used.get(`${bucketId}/${key}`)
  }

  evicted(bucket: string, versions: number): void {
    this.#countOf(bucket).evictedVersions += versions
  }

  traffic(): readonly EdgeTraffic[] {
    return [...this.#counted].map(([bucket, { reads, ...counted }]) => ({
      ...{ bucket, ...counted },
      reads: { ...reads },
    }))
  }

  async look(
    bucketId: number,
    key: string,
    version: VersionId | 'null' | undefined,
    withBody: boolean,
    signal: AbortSignal,
  ): Promise<EdgeLook | undefined> {
    const { catalog, clock } = this.#options
    const place = this.#placeOf(bucketId)
    if (place === undefined) return undefined
    this.#used.set(`${bucketId}/${key}`, clock.now())
    if (catalog.replication.isUnshipped(bucketId, key)) return this.#count(place.bucket, { state: 'hit' })
    const shown = version === undefined || version === 'null' ? (version ?? '') : hex(version)
    const name = `${bucketId}/${withBody}/${shown}/${key}`
    let flight = this.#flights.get(name)
    if (flight === undefined) {
      if (this.#flights.size >= fetchesAtOnce)
        throw new StorageError('SLOW_DOWN', 'This edge fetches as much from its hub as it can. Try again.')
      // Goes on when its first client leaves: others may wait for it, and what has come is kept.
      flight = this.#find(place, bucketId, key, version, withBody).finally(() => this.#flights.delete(name))
      this.#flights.set(name, flight)
      flight.catch(() => undefined)
    }
    return this.#count(place.bucket, await unlessGone(flight, signal))
  }

  async list(
    bucketId: number,
    query: ListQuery,
    signal: AbortSignal,
  ): Promise<(EdgeAnswer & { readonly page: ObjectListing }) | undefined> {
    const { catalog, clock } = this.#options
    const place = this.#placeOf(bucketId)
    if (place === undefined) return undefined
    const { prefix, delimiter, after, limit } = query
    try {
      const asked = this.#hub.list(place.rule.primary, place.bucket, { prefix, delimiter, after, limit })
      const { page: told, access } = await unlessGone(asked, signal)
      this.#checkAccess(bucketId, access)
      const here = this.#options.regionId
      const objects = told.objects.map((object) => ({
        ...object,
        owner: accountFrom(object.owner, place.rule.primary, here),
      }))
      const page = { ...told, objects }
      this.#heard.set(bucketId, clock.now())
      return this.#count(place.bucket, {
        state: 'miss',
        page: mergeListing(page, this.#ownKeys(bucketId, query), query),
      })
    } catch (reason) {
      if (signal.aborted || reason instanceof AccessChanged) throw reason
      this.#note(place.bucket, reason)
      const heardMs = this.#heard.get(bucketId)
      return this.#count(place.bucket, {
        ...{ state: 'stale', page: catalog.listObjects(bucketId, query) },
        ...(heardMs === undefined ? {} : { staleMs: Math.max(0, clock.now() - heardMs) }),
      })
    }
  }

  /** As many that are there as a page may have, and all between them that are gone. */
  #ownKeys(bucketId: number, { prefix, after, limit }: ListQuery): OwnKey[] {
    const { catalog } = this.#options
    const found: OwnKey[] = []
    for (let last = after, present = 0; present <= limit; ) {
      const keys = catalog.replication.unshippedKeys(bucketId, prefix, last, limit + 1)
      for (const key of keys) {
        const record = catalog.object(bucketId, key)
        const isThere = record !== undefined && !record.deleteMarker
        found.push(isThere ? { key, record } : { key })
        if (isThere) present++
      }
      const end = keys.at(-1)
      if (end === undefined || keys.length <= limit) break
      last = end
    }
    return found
  }

  /** What the hub has now may be seen by fewer than what it had when it last told this edge who may see it: that is on its way here. */
  #checkAccess(bucketId: number, told: string | undefined): void {
    const { catalog, regionId } = this.#options
    const bucket = catalog.bucketById(bucketId)
    if (told === undefined || bucket === undefined) return
    if (catalog.replication.access(bucket, regionId).tag !== told) throw new AccessChanged()
  }

  #placeOf(bucketId: number): { readonly bucket: string; readonly rule: ReplicationRule } | undefined {
    const { catalog, regionId } = this.#options
    const rule = catalog.replication.rule(bucketId)
    if (rule?.edge?.regions.includes(regionId) !== true) return undefined
    const bucket = catalog.bucketById(bucketId)?.name
    return bucket === undefined ? undefined : { bucket, rule }
  }

  async #find(
    { bucket, rule }: { readonly bucket: string; readonly rule: ReplicationRule },
    bucketId: number,
    key: string,
    version: VersionId | 'null' | undefined,
    withBody: boolean,
  ): Promise<EdgeLook> {
    const { catalog, clock } = this.#options
    const named = version === undefined ? {} : { version }
    const command = { type: 'cache-version', bucketId, key, ...named } as const
    try {
      const askedMs = clock.now()
      const { entry, access } = await this.#hub.find(rule.primary, bucket, key, version)
      this.#checkAccess(bucketId, access)
      this.#heard.set(bucketId, askedMs)
      this.#compared.set(`${bucketId}/${key}`, askedMs)
      const local = catalog.object(bucketId, key, version)
      if (entry === undefined) {
        if (local !== undefined) await catalog.submit(command)
        return { state: 'miss' }
      }
      const record = catalog.replication.recordOf(entry, rule.primary, this.#options.regionId)
      if (record.key !== key) throw new StorageError('PROTOCOL_ERROR', 'the hub tells of another key')
      if (local !== undefined && hex(local.versionId) === hex(record.versionId)) {
        if (!isDeepStrictEqual(local.attributes, record.attributes))
          await catalog.submit({ ...command, entry })
        return { state: 'hit' }
      }
      if (!withBody && !record.deleteMarker) return { state: 'miss', record }
      const isHeld = catalog.replication.hasVersion(bucketId, key, record.versionId)
      const fetched = isHeld ? undefined : await this.#fetch(rule.primary, bucket, entry)
      try {
        const layout: { layout?: Layout } = fetched === undefined ? {} : { layout: fetched.layout }
        await catalog.submit({ ...command, entry, ...layout })
      } finally {
        fetched?.settle()
      }
      if (!isHeld) this.#countOf(bucket).fetchedBytes += record.byteLength
      return { state: 'miss' }
    } catch (reason) {
      if (this.#stopping.signal.aborted || reason instanceof AccessChanged) throw reason
      this.#note(bucket, reason)
      return this.#stale(bucketId, key, catalog.object(bucketId, key, version))
    }
  }

  async #fetch(hub: number, bucket: string, entry: Uint8Array): Promise<Fetched> {
    const { catalog, tunnels, clock } = this.#options
    const { change } = catalog.replication.decode(entry)
    if (change.type !== 'put') throw new StorageError('PROTOCOL_ERROR', 'an entry that brings no version')
    const peer = new TunnelPeer(tunnels, clock, hub)
    const options = { ...this.#options, linkClass: 'read' as const }
    return fetchVersion(options, peer, bucket, change.version, this.#stopping.signal)
  }

  /** What the edge holds is the hub's as of some moment: the last comparison, or else when the version was made. UNAVAILABLE. */
  #stale(bucketId: number, key: string, local: ObjectRecord | undefined): EdgeLook {
    if (local === undefined) {
      throw new StorageError(
        'UNAVAILABLE',
        'This edge does not hold the object, and its hub cannot be reached. Try again.',
        { retryAfterMs: 5_000 },
      )
    }
    const sinceMs = this.#compared.get(`${bucketId}/${key}`) ?? local.modifiedMs
    return { state: 'stale', staleMs: Math.max(0, this.#options.clock.now() - sinceMs) }
  }

  #note(bucket: string, reason: unknown): void {
    const error = reason instanceof UnfetchableVersion ? reason : StorageError.from(reason)
    this.#options.log.debug(
      { bucket, err: error },
      'the hub could not be asked: the edge serves what it holds',
    )
  }

  #count<T extends EdgeAnswer>(bucket: string, answer: T): T {
    this.#countOf(bucket).reads[answer.state]++
    return answer
  }

  #countOf(bucket: string): Counted {
    const known = this.#counted.get(bucket)
    if (known !== undefined) return known
    const counted = { reads: { hit: 0, miss: 0, stale: 0 }, fetchedBytes: 0, evictedVersions: 0 }
    this.#counted.set(bucket, counted)
    return counted
  }
}

const hex = (bytes: Uint8Array): string => Buffer.from(bytes).toString('hex')

async function unlessGone<T>(work: Promise<T>, signal: AbortSignal): Promise<T> {
  signal.throwIfAborted()
  const over = new AbortController()
  const gone = new Promise<never>((_, reject) => {
    const stop = (): void => reject(StorageError.from(signal.reason, 'CANCELLED'))
    signal.addEventListener('abort', stop, { once: true, signal: over.signal })
  })
  gone.catch(() => undefined)
  try {
    return await Promise.race([work, gone])
  } finally {
    over.abort()
  }
}
