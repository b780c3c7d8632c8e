import { setMaxListeners } from 'node:events'
import type { Catalog } from '../../core/contract/catalog.ts'
import { StorageError } from '../../core/contract/errors.ts'
import type { Logger } from '../../core/contract/logger.ts'
import { type CursorState, isRetryTableFull } from '../../core/contract/replication.ts'
import type { ReplicationReport } from '../../core/contract/replication-admin.ts'
import type { RegionTunnels } from '../../core/contract/tunnel.ts'
import { acceptOffer } from './accept-offer.ts'
import type { FetchOptions } from './fetch-version.ts'
import { Follower, type FollowerOptions } from './follower.ts'
import type { Offer, PeerRegion } from './peer.ts'
import type { ConflictOutcome } from './resolve-conflict.ts'
import { replicationStatus, type SeenHead } from './status.ts'
import { tendOutbox } from './tend-outbox.ts'
import { TunnelPeer } from './tunnel-peer.ts'

export interface ReplicatorOptions
  extends FetchOptions,
    Pick<FollowerOptions, 'conflicts' | 'onApplied' | 'onConflict' | 'pullsAhead' | 'tracer'> {
  readonly regionId: number
  readonly catalog: Pick<Catalog, 'bucket' | 'bucketById' | 'failover' | 'replication' | 'submit'>
  readonly tunnels: Pick<RegionTunnels, 'connected' | 'onChange' | 'open'>
  readonly log: Logger
  /** Whether this node does the work of its region now: one node pulls, any node answers. */
  isCoordinator(): boolean
}

/** What one region has taken over from another since the process began. */
export interface Traffic {
  entries: number
  bytes: number
  /** Of keys that both had written without having seen each other, as far as this region decided: how often which outcome. */
  readonly conflicts: Partial<Record<ConflictOutcome, number>>
}

/** Buckets of one source that are followed at once. */
const bucketsAtOnce = 4
/** How long the other region may keep an answer back when nothing has changed. */
const waitMs = 1_000
const tendMs = 250
/** Time-outs and the like are looked for with every so many rounds. */
const lateEvery = 40
const firstPauseMs = 200
const mostPauseMs = 10_000
const askAgainMs = 60_000
/** Buckets that one region may share with another: whoever tells of more is not asked for the rest. */
const mostOffered = 100_000

/** The other region does not keep to what it may tell of. */
class BadOffers extends StorageError {
  constructor(region: number, reason: string) {
    super('PROTOCOL_ERROR', `region ${region} ${reason}`)
  }
}

/** Whether a bucket of this region has a rule that names the other one. */
function isShared({ replication }: Pick<Catalog, 'replication'>, id: number, region: number): boolean {
  return replication.rule(id)?.members.includes(region) === true
}

/** The work of replication of one region: follows what others write, and looks after what it keeps for them. */
export class Replicator {
  readonly #options: ReplicatorOptions
  readonly #stopping = new AbortController()
  readonly #peers = new Map<number, PeerWork>()
  /** Of regions that have gone. */
  readonly #ending = new Set<Promise<void>>()
  readonly #traffic = new Map<number, Traffic>()
  readonly #tending: Promise<void>
  readonly #unsubscribe: () => void

  constructor(options: ReplicatorOptions) {
    this.#options = {
      ...options,
      pullsAhead: true,
      onApplied: (source, entries, bytes) => {
        const traffic = this.#trafficOf(source)
        traffic.entries += entries
        traffic.bytes += bytes
      },
      onConflict: (source, outcome) => {
        const { conflicts } = this.#trafficOf(source)
        conflicts[outcome] = (conflicts[outcome] ?? 0) + 1
      },
    }
    this.#unsubscribe = options.tunnels.onChange(() => {
      this.#meetPeers()
      this.#partPeers()
    })
    this.#meetPeers()
    this.#tending = this.#tend()
  }

  status(): ReplicationReport {
    const { catalog, clock, regionId } = this.#options
    return replicationStatus(catalog, clock.now(), regionId, (bucket, source) =>
      this.#peers.get(source)?.seen(bucket),
    )
  }

  traffic(): readonly ({ readonly source: number } & Readonly<Traffic>)[] {
    return [...this.#traffic].map(([source, traffic]) => ({ source, ...traffic }))
  }

  #trafficOf(source: number): Traffic {
    const known = this.#traffic.get(source)
    if (known !== undefined) return known
    const traffic: Traffic = { entries: 0, bytes: 0, conflicts: {} }
    this.#traffic.set(source, traffic)
    return traffic
  }

  /** Tries everything again that waits for one bucket, dead letters too; the number of entries that still wait. */
  async retry(bucket: string, signal: AbortSignal): Promise<number> {
    const found = this.#options.catalog.bucket(bucket)
    if (found === undefined) throw new StorageError('NO_SUCH_BUCKET', `there is no bucket '${bucket}'`)
    const { clock, tunnels, catalog } = this.#options
    for (const { source, retries } of catalog.replication.cursors(found.id)) {
      if (retries === 0) continue
      const follower = new Follower(this.#options, bucket, source)
      const peer = new TunnelPeer(tunnels, clock, source)
      while (await follower.retry(peer, signal, 'all')) signal.throwIfAborted()
    }
    return catalog.replication.cursors(found.id).reduce((sum, { retries }) => sum + retries, 0)
  }

  async stop(): Promise<void> {
    this.#stopping.abort(new StorageError('CANCELLED', 'replication stops'))
    this.#unsubscribe()
    for (const region of this.#peers.keys()) this.#part(region)
    await Promise.all([this.#tending, ...this.#ending])
  }

  #meetPeers(): void {
    if (this.#stopping.signal.aborted) return
    for (const region of this.#options.tunnels.connected()) {
      if (this.#peers.has(region)) continue
      this.#peers.set(region, new PeerWork(this.#options, region))
    }
  }

  /** Who has gone and shares nothing may never come back: a region that is only away keeps what was seen of it. */
  #partPeers(): void {
    const { catalog, tunnels } = this.#options
    const connected = tunnels.connected()
    const away = [...this.#peers.keys()].filter((region) => !connected.includes(region))
    if (away.length === 0) return
    const ids = catalog.replication.ruledBuckets(0, Number.MAX_SAFE_INTEGER)
    for (const region of away) if (!ids.some((id) => isShared(catalog, id, region))) this.#part(region)
  }

  #part(region: number): void {
    const peer = this.#peers.get(region)
    if (peer === undefined) return
    this.#peers.delete(region)
    const ended = peer.stop().finally(() => this.#ending.delete(ended))
    this.#ending.add(ended)
  }

  async #tend(): Promise<void> {
    const { catalog, clock, log, regionId } = this.#options
    const { signal } = this.#stopping
    for (let round = 0; !signal.aborted; round++) {
      try {
        await clock.sleep(tendMs, signal)
        this.#meetPeers()
        if (round % lateEvery === 0) this.#partPeers()
        if (!this.#options.isCoordinator()) continue
        for (const id of catalog.replication.ruledBuckets(0, Number.MAX_SAFE_INTEGER)) {
          if (catalog.replication.rule(id) === undefined) continue
          if (catalog.replication.outbox(id) === undefined) continue
          const tend = { catalog, log, regionId, nowMs: () => clock.now() }
          await tendOutbox(tend, id, round % lateEvery === 0)
        }
      } catch (reason) {
        if (signal.aborted) return
        log.warn({ err: StorageError.from(reason) }, 'an outbox could not be looked after')
      }
    }
  }
}

const tellingOf = ({ watermark, dead }: CursorState): string => `${watermark}/${dead}`

/** What this region does with one other: asks what it has, and follows it. */
class PeerWork {
  readonly #ended: Promise<void>
  readonly #options: ReplicatorOptions
  readonly #region: number
  readonly #stopping = new AbortController()
  readonly #signal = this.#stopping.signal
  readonly #peer: PeerRegion
  /** This and all below: of buckets that the two regions share, or for a while. */
  readonly #heads = new Map<string, SeenHead>()
  readonly #active = new Map<string, Promise<void>>()
  /** What the other region has been told: applied here, and given up here. */
  readonly #told = new Map<string, string>()
  readonly #asked = new Map<string, number>()
  /** Why following a bucket was interrupted; until it goes on. */
  readonly #problems = new Map<string, string>()
  readonly #pauses = new Map<string, { readonly until: number; readonly pauseMs: number }>()

  constructor(options: ReplicatorOptions, region: number) {
    this.#options = options
    this.#region = region
    // Every fetch on its way listens to it: as many as buckets and bodies at once.
    setMaxListeners(0, this.#signal)
    this.#peer = new TunnelPeer(options.tunnels, options.clock, region)
    this.#ended = this.#run()
  }

  stop(): Promise<void> {
    this.#stopping.abort(new StorageError('CANCELLED', 'replication stops'))
    return this.#ended
  }

  seen(bucket: string): SeenHead | undefined {
    const head = this.#heads.get(bucket)
    const problem = this.#problems.get(bucket)
    return head === undefined || problem === undefined ? head : { ...head, problem }
  }

  async #run(): Promise<void> {
    const { clock, log, tunnels } = this.#options
    let tag = ''
    let pauseMs = firstPauseMs
    while (!this.#signal.aborted) {
      try {
        if (!this.#options.isCoordinator() || !tunnels.connected().includes(this.#region)) {
          tag = ''
          await clock.sleep(firstPauseMs, this.#signal)
          continue
        }
        tag = await this.#round(tag).finally(() => this.#forget())
        pauseMs = firstPauseMs
      } catch (reason) {
        if (this.#signal.aborted) break
        const about = { region: this.#region, err: StorageError.from(reason) }
        if (reason instanceof BadOffers) log.warn(about, 'a region tells of what it may not')
        else log.debug(about, 'a region does not answer')
        tag = ''
        await clock.sleep(pauseMs, this.#signal).catch(() => undefined)
        pauseMs = Math.min(pauseMs * 2, mostPauseMs)
      }
    }
    await Promise.allSettled(this.#active.values())
  }

  async #round(tag: string): Promise<string> {
    let after = ''
    let next = tag
    for (let offered = 0; ; ) {
      const request = { after, seen: after === '' ? tag : '', waitMs: this.#isBusy() ? firstPauseMs : waitMs }
      const reply = await this.#peer.offers(request, this.#signal)
      if (after === '') next = reply.tag
      for (const offer of reply.offers) {
        if (offer.bucket <= after) throw new BadOffers(this.#region, 'tells of buckets out of their order')
        after = offer.bucket
        // Nobody shares as much; what never ends would keep this region asking, and all that it shares waiting.
        if (++offered > mostOffered)
          throw new BadOffers(this.#region, `tells of more than ${mostOffered} buckets`)
        await this.#consider(offer)
      }
      if (!reply.truncated || reply.offers.length === 0) return next
    }
  }

  /** What was noted of buckets that the two regions do not share any more, or never did. */
  #forget(): void {
    for (const noted of [this.#heads, this.#told, this.#asked, this.#problems])
      for (const bucket of noted.keys()) if (!this.#shares(bucket)) noted.delete(bucket)
    // Longer than it lasts, or what fails each time would be tried as often as the first time.
    const longAgo = this.#options.clock.monotonic() - mostPauseMs
    for (const [bucket, { until }] of this.#pauses)
      if (until < longAgo && !this.#shares(bucket)) this.#pauses.delete(bucket)
  }

  #shares(bucket: string): boolean {
    const { catalog } = this.#options
    const id = catalog.bucket(bucket)?.id
    return id !== undefined && isShared(catalog, id, this.#region)
  }

  #isBusy(): boolean {
    return this.#active.size > 0 || this.#pauses.size > 0
  }

  async #consider(offer: Offer): Promise<void> {
    const { catalog, clock, log } = this.#options
    const { bucket } = offer
    const isSeen = this.#see(offer)
    const pause = this.#pauses.get(bucket)
    if (this.#active.has(bucket) || (pause !== undefined && pause.until > clock.monotonic())) return
    try {
      if (!(await acceptOffer(this.#options, this.#region, offer))) return
    } catch (reason) {
      const error = StorageError.from(reason)
      log.warn({ bucket, region: this.#region, err: error }, 'a bucket is not replicated')
      this.#problems.set(bucket, error.message)
      this.#pause(bucket)
      return
    }
    if (!isSeen) this.#see(offer)
    const id = catalog.bucket(bucket)?.id
    if (offer.log === undefined || id === undefined || this.#active.size >= bucketsAtOnce) return
    const cursor = catalog.replication.cursor(id, this.#region)
    const isEven =
      cursor !== undefined &&
      cursor.logId === offer.log.id &&
      cursor.received.lsn >= offer.log.head &&
      tellingOf(cursor) === this.#told.get(bucket) &&
      cursor.retries === cursor.dead &&
      ((cursor.comparison?.differing.length ?? 0) === 0 || !this.#mayAsk(bucket))
    if (!isEven) this.#follow(bucket)
  }

  /** Of what is not shared nothing is kept: it may be any number of names. */
  #see({ bucket, log }: Offer): boolean {
    if (log === undefined || !this.#shares(bucket)) return false
    const seenMs = this.#options.clock.now()
    this.#heads.set(bucket, { head: log.head, headMs: log.headTime.ms, seenMs })
    return true
  }

  #follow(bucket: string): void {
    const work = this.#drain(bucket).finally(() => this.#active.delete(bucket))
    this.#active.set(bucket, work)
  }

  /** Until nothing more comes; never rejects. */
  async #drain(bucket: string): Promise<void> {
    const { log } = this.#options
    const follower = new Follower(this.#options, bucket, this.#region)
    try {
      let more = true
      while (more && !this.#signal.aborted) {
        more = await follower.step(this.#peer, this.#signal, this.#mayAsk(bucket))
        this.#problems.delete(bucket)
        if (follower.hasAsked) this.#asked.set(bucket, this.#options.clock.monotonic())
        if (follower.told !== undefined) this.#told.set(bucket, tellingOf(follower.told))
      }
      await follower.retry(this.#peer, this.#signal)
      this.#tellFull(bucket, follower.cursor())
      if ((follower.cursor()?.retries ?? 0) > 0) this.#pause(bucket)
      else this.#pauses.delete(bucket)
    } catch (reason) {
      if (this.#signal.aborted) return
      const error = StorageError.from(reason)
      log.warn({ bucket, region: this.#region, err: error }, 'following a bucket was interrupted')
      this.#problems.set(bucket, error.message)
      this.#pause(bucket)
    }
  }

  #tellFull(bucket: string, cursor: CursorState | undefined): void {
    if (cursor === undefined || !isRetryTableFull(cursor)) return
    const { retries, retryBytes = 0, dead } = cursor
    const problem = `the retry table is full (${retries} entries, ${retryBytes} bytes, ${dead} of them given up): nothing more is taken in until some of them apply, or the source lets go and all is synchronized in full`
    this.#options.log.warn(
      { bucket, region: this.#region, retries, retryBytes, dead },
      'a retry table is full',
    )
    this.#problems.set(bucket, problem)
  }

  /** For what differs: an answer that helps nothing is not asked for all the time. */
  #mayAsk(bucket: string): boolean {
    const asked = this.#asked.get(bucket)
    return asked === undefined || this.#options.clock.monotonic() - asked > askAgainMs
  }

  #pause(bucket: string): void {
    const pauseMs = Math.min((this.#pauses.get(bucket)?.pauseMs ?? firstPauseMs / 2) * 2, mostPauseMs)
    this.#pauses.set(bucket, { until: this.#options.clock.monotonic() + pauseMs, pauseMs })
  }
}
