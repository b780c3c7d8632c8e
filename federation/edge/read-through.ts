import { isDeepStrictEqual } from 'node:util'
import { accountFrom } from '../../core/contract/accounts.ts'
import type { Catalog, ListQuery, ObjectListing } from '../../core/contract/catalog.ts'
import type { CacheState, EdgeAnswer, EdgeLook, EdgeReads, EdgeTraffic } from '../../core/contract/edge.ts'
import { StorageError } from '../../core/contract/errors.ts'
import type { Logger } from '../../core/contract/logger.ts'
import type { ObjectRecord, VersionId } from '../../core/contract/object-model.ts'
import type { ReplicationRule } from '../../core/contract/replication.ts'
import type { RegionTunnels } from '../../core/contract/tunnel.ts'
import {
  type Fetched,
  type FetchOptions,
  fetchVersion,
  isOverloaded,
  isPathError,
  UnfetchableVersion,
} from '../replication/fetch-version.ts'
import { TunnelPeer } from '../replication/tunnel-peer.ts'
import { KeyReads, type VersionFetch } from './key-reads.ts'
import { mergeListing, type OwnKey } from './merge-listing.ts'
import { type Numbered, Questions } from './questions.ts'
import { Hub, type Told } from './wire.ts'

export interface ReadThroughOptions extends FetchOptions {
  readonly regionId: number
  readonly catalog: Pick<Catalog, 'bucketById' | 'listObjects' | 'object' | 'replication' | 'submit'>
  readonly tunnels: Pick<RegionTunnels, 'open'>
  readonly log: Logger
}

/** Questions to the hub at once, and bodies on their way from it; more clients are told to come again. */
const questionsAtOnce = 256
const fetchesAtOnce = 256
/** How often one read asks when other answers overtake what it was told, or when that has gone before it was fetched. */
const mostTries = 8
/** Keys of which is remembered when they were read last, or compared with the hub. */
const mostRemembered = 100_000

interface Counted {
  reads: Record<CacheState, number>
  fetchedBytes: number
  evictedVersions: number
}

/** For the client: the hub can be reached, so what the edge holds is no answer. */
class TryAgain extends StorageError {}

const accessChanged = (): TryAgain =>
  new TryAgain(
    'UNAVAILABLE',
    'Who may do what in the bucket has just changed at the hub of this edge. Try again.',
    { retryAfterMs: 1_000 },
  )

const busy = (): TryAgain =>
  new TryAgain('SLOW_DOWN', 'This edge fetches as much from its hub as it can. Try again.')

/** A hub, or a way to it, that takes no more at once is not gone: what the edge holds may have been replaced. */
const ifBusy = (reason: unknown): never => {
  throw isOverloaded(reason) ? busy() : reason
}

/** One object that a client asks for. */
interface Wanted {
  readonly bucket: string
  readonly rule: ReplicationRule
  readonly bucketId: number
  readonly key: string
  readonly version: VersionId | 'null' | undefined
  readonly withBody: boolean
}

/** What the hub has: as an entry, absent: nothing. */
interface Answer {
  readonly askedMs: number
  readonly entry?: Uint8Array
}

/** `again`: others have been told newer things; `fetch`: the body is not here. */
type Settled = EdgeLook | 'again' | { readonly fetch: ObjectRecord }

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
  readonly #questions = new Questions<Answer>(questionsAtOnce, busy)
  /** Of keys that are being read, by bucket and key. */
  readonly #keys = new Map<string, KeyReads>()
  #fetching = 0
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
    const wanted = { ...place, bucketId, key, version, withBody }
    return this.#count(place.bucket, await this.#read(wanted, signal))
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
      const { page: told, access } = await unlessGone(asked.catch(ifBusy), signal)
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
      if (signal.aborted || reason instanceof TryAgain) throw reason
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
    if (catalog.replication.access(bucket, regionId).tag !== told) throw accessChanged()
  }

  #placeOf(bucketId: number): { readonly bucket: string; readonly rule: ReplicationRule } | undefined {
    const { catalog, regionId } = this.#options
    const rule = catalog.replication.rule(bucketId)
    if (rule?.edge?.regions.includes(regionId) !== true) return undefined
    const bucket = catalog.bucketById(bucketId)?.name
    return bucket === undefined ? undefined : { bucket, rule }
  }

  async #read(wanted: Wanted, signal: AbortSignal): Promise<EdgeLook> {
    const { bucketId, key, version } = wanted
    const name = `${bucketId}/${key}`
    const reads = this.#keys.get(name) ?? new KeyReads()
    this.#keys.set(name, reads)
    reads.users++
    try {
      return await this.#readNow(wanted, reads, signal)
    } catch (reason) {
      if (signal.aborted || this.#stopping.signal.aborted || reason instanceof TryAgain) throw reason
      this.#note(wanted.bucket, reason)
      return this.#stale(bucketId, key, this.#options.catalog.object(bucketId, key, version))
    } finally {
      this.#leave(name, reads)
    }
  }

  #leave(name: string, reads: KeyReads): void {
    if (--reads.users === 0) this.#keys.delete(name)
  }

  async #readNow(wanted: Wanted, reads: KeyReads, signal: AbortSignal): Promise<EdgeLook> {
    const { bucketId, key, version } = wanted
    const shown = version === undefined || version === 'null' ? (version ?? '') : hex(version)
    /** A version that was to be fetched and is not here. */
    let missed: string | undefined
    for (let tries = 0; tries < mostTries; tries++) {
      const asked = this.#questions.ask(`${bucketId}/${shown}/${key}`, () => this.#ask(wanted))
      const answer = await unlessGone(asked, signal)
      let settled = await reads.inTurn(() => this.#settle(wanted, reads, answer))
      if (typeof settled === 'object' && 'fetch' in settled) {
        const id = hex(settled.fetch.versionId)
        try {
          await unlessGone(this.#join(wanted, reads, answer, settled.fetch), signal)
        } catch (reason) {
          // It may have been replaced at the hub before its body was asked for: then there is another one.
          if (signal.aborted || reason instanceof TryAgain || isPathError(reason) || id === missed)
            throw reason
          missed = id
          continue
        }
        settled = await reads.inTurn(() => this.#settle(wanted, reads, answer))
        if (typeof settled === 'object' && 'state' in settled) return { ...settled, state: 'miss' }
        if (settled !== 'again' && id === missed) break
        missed = id
      }
      if (typeof settled === 'object' && 'state' in settled) return settled
    }
    throw new TryAgain('UNAVAILABLE', 'The object changes faster than this edge can follow. Try again.', {
      retryAfterMs: 1_000,
    })
  }

  async #ask({ bucket, rule, bucketId, key, version }: Wanted): Promise<Answer> {
    const askedMs = this.#options.clock.now()
    const told: Told<{ readonly entry?: Uint8Array }> = await this.#hub
      .find(rule.primary, bucket, key, version)
      .catch(ifBusy)
    this.#checkAccess(bucketId, told.access)
    this.#heard.set(bucketId, askedMs)
    return { askedMs, ...(told.entry === undefined ? {} : { entry: told.entry }) }
  }

  /** Compares what is here with what the hub told, and makes it the same, but for a body. In the turn of the key. */
  async #settle(wanted: Wanted, reads: KeyReads, { number, told }: Numbered<Answer>): Promise<Settled> {
    const { catalog, regionId } = this.#options
    const { rule, bucketId, key, version, withBody } = wanted
    if (catalog.replication.isUnshipped(bucketId, key)) return { state: 'hit' }
    const isCurrent = version === undefined
    // Somebody who asked later has brought here what he was told.
    if (isCurrent && reads.settledCurrent > number) return { state: 'hit' }
    const isLate = reads.settled > number
    const command = { type: 'cache-version', bucketId, key, ...(isCurrent ? {} : { version }) } as const
    const { entry, askedMs } = told
    const local = catalog.object(bucketId, key, version)
    if (entry === undefined) {
      if (local !== undefined) {
        if (isLate) return 'again'
        await catalog.submit(command)
      }
      reads.take(number, isCurrent)
      reads.giveUp(number, isCurrent || version === 'null' ? version : hex(version))
      return { state: 'miss' }
    }
    const record = catalog.replication.recordOf(entry, rule.primary, regionId)
    if (record.key !== key) throw new StorageError('PROTOCOL_ERROR', 'the hub tells of another key')
    const isHere = local !== undefined && hex(local.versionId) === hex(record.versionId)
    if (!isHere && !withBody && !record.deleteMarker) return { state: 'miss', record }
    if (!isHere || !isDeepStrictEqual(local.attributes, record.attributes)) {
      if (isLate) return 'again'
      if (!isHere && !catalog.replication.hasVersion(bucketId, key, record.versionId))
        return { fetch: record }
      await catalog.submit({ ...command, entry })
    }
    reads.take(number, isCurrent)
    this.#compared.set(`${bucketId}/${key}`, askedMs)
    return { state: isHere ? 'hit' : 'miss' }
  }

  /** The one fetch of a version: it goes on when its first client leaves, since others may wait for it, and what has come is kept. */
  #join(wanted: Wanted, reads: KeyReads, answer: Numbered<Answer>, record: ObjectRecord): Promise<void> {
    const id = hex(record.versionId)
    const { number, told } = answer
    const { entry } = told
    if (entry === undefined) throw new RangeError('there is nothing to fetch')
    if (this.#options.catalog.replication.hasVersion(wanted.bucketId, wanted.key, record.versionId))
      return Promise.resolve()
    const currentNumber = wanted.version === undefined ? number : 0
    const known = reads.fetches.get(id)
    if (known !== undefined) {
      known.currentNumber = Math.max(known.currentNumber, currentNumber)
      if (number > known.number) Object.assign(known, { number, entry, isGone: false })
      return known.done
    }
    if (this.#fetching >= fetchesAtOnce) throw busy()
    this.#fetching++
    reads.users++
    const about = { isNull: record.isNull, entry, number, currentNumber, isGone: false }
    const fetch: VersionFetch = Object.assign(about, {
      done: Promise.resolve()
        .then(() => this.#bring(wanted, reads, about, record))
        .finally(() => {
          this.#fetching--
          reads.fetches.delete(id)
          this.#leave(`${wanted.bucketId}/${wanted.key}`, reads)
        }),
    })
    fetch.done.catch(() => undefined)
    reads.fetches.set(id, fetch)
    return fetch.done
  }

  async #bring(
    { bucket, rule, bucketId, key }: Wanted,
    reads: KeyReads,
    about: Omit<VersionFetch, 'done'>,
    { versionId, byteLength }: ObjectRecord,
  ): Promise<void> {
    const { catalog } = this.#options
    const fetched = await this.#fetch(rule.primary, bucket, about.entry)
    try {
      await reads.inTurn(async () => {
        if (about.isGone || catalog.replication.hasVersion(bucketId, key, versionId)) return
        const isCurrent = about.currentNumber > reads.settledCurrent
        const newest = catalog.object(bucketId, key)
        // A newer answer than all that told of it says that another one is the newest.
        const isNewer = newest === undefined || Buffer.compare(versionId, newest.versionId) > 0
        if (isNewer && about.number < reads.settledCurrent) return
        // By its id it takes the place of nothing.
        const named = isCurrent ? {} : { version: versionId }
        const { entry } = about
        const { layout } = fetched
        await catalog.submit({ type: 'cache-version', bucketId, key, ...named, entry, layout })
        if (isCurrent) reads.take(about.currentNumber, true)
        this.#countOf(bucket).fetchedBytes += byteLength
      })
    } finally {
      fetched.settle()
    }
  }

  async #fetch(hub: number, bucket: string, entry: Uint8Array): Promise<Fetched> {
    const { catalog, tunnels, clock } = this.#options
    const { change } = catalog.replication.decode(entry)
    if (change.type !== 'put') throw new StorageError('PROTOCOL_ERROR', 'an entry that brings no version')
    const peer = new TunnelPeer(tunnels, clock, hub)
    const options = { ...this.#options, linkClass: 'read' as const }
    return fetchVersion(options, peer, bucket, change.version, this.#stopping.signal).catch(ifBusy)
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
