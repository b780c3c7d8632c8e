import { createHash } from 'node:crypto'
import type { Catalog } from '../../core/contract/catalog.ts'
import { StorageError } from '../../core/contract/errors.ts'
import { forgetfulReason } from '../../core/contract/forgotten-rule.ts'
import type { Layout } from '../../core/contract/object-model.ts'
import {
  type CursorState,
  isRetryTableFull,
  type LogPoint,
  type OutboxEntry,
  type PulledEntry,
  type ReplicatedVersion,
  type RetryRecord,
  replicationLimits,
} from '../../core/contract/replication.ts'
import type { Tracer } from '../../core/contract/trace.ts'
import { ApplyTraces } from './apply-traces.ts'
import { BatchFetch, mostEntryBytes, type ReadyEntry } from './batch-fetch.ts'
import { type Fetched, type FetchOptions, fetchVersion, UnfetchableVersion } from './fetch-version.ts'
import { FetchWindow } from './fetch-window.ts'
import { type PeerRegion, type PullReply, pullLimits } from './peer.ts'
import { type ConflictOptions, type ConflictOutcome, decideConflict } from './resolve-conflict.ts'
import { takeRun } from './take-run.ts'

export interface FollowerOptions extends FetchOptions {
  readonly catalog: Pick<Catalog, 'bucket' | 'replication' | 'submit'>
  /** Versions whose bodies are on their way at once. */
  readonly fetchesAtOnce?: number
  /** Asks for the next entries while the last ones are being applied, and fetches their bodies. */
  readonly pullsAhead?: boolean
  /** Absent: of what several regions wrote at once the latest lasts. */
  readonly conflicts?: ConflictOptions
  readonly onConflict?: (source: number, outcome: ConflictOutcome) => void
  /** Absent: nothing is traced here. */
  readonly tracer?: Tracer
  /** Told what went into the catalog: entries, and bytes of bodies that were fetched for them. */
  readonly onApplied?: (source: number, entries: number, bodyBytes: number) => void
}

/**
 * Bodies on their way at once, as long as they are not larger than `fetchBytesAtOnce` together, or one alone. A small one spends most
 * of its time waiting for the disk, which makes many durable at once.
 */
const defaultFetches = 128
const fetchBytesAtOnce = 48 * 1024 * 1024
const firstRetryMs = 1_000
const mostRetryMs = 5 * 60_000
/** After this an entry is a dead letter: an operator has to look at it. */
const deadAfterMs = 24 * 3_600_000
/** Rows of the retry table that are read at once. */
const retryPage = 256
/** Entries that one call tries again; what is due and left waits for the next. */
const retriesAtOnce = 256

/** An answer, checked, with the bodies of its entries on their way. */
type Begun =
  | Extract<PullReply, { readonly kind: 'start' }>
  | (Extract<PullReply, { readonly kind: 'entries' }> & {
      readonly batch: BatchFetch
      readonly spans: ApplyTraces | undefined
    })

/** Entries that come behind `after`. */
interface RunPlace {
  readonly bucketId: number
  readonly logId: string
  readonly after: number
  readonly run: readonly ReadyEntry[]
  readonly spans: ApplyTraces | undefined
}

interface PullAhead {
  readonly logId: string
  readonly at: LogPoint
  readonly told: CursorState
  readonly stop: AbortController
  /** Undefined: it failed, and is asked again. */
  readonly reply: Promise<Begun | undefined>
}

const isSamePoint = (left: LogPoint, right: LogPoint): boolean =>
  left.lsn === right.lsn && Buffer.compare(left.chain, right.chain) === 0

/**
 * Follows the outbox of one bucket in another region: asks for what comes behind the cursor, fetches bodies, and hands both to
 * this region's catalog, which applies the entries and moves the cursor in one transaction. Whatever is lost on the way, the cursor
 * says where to go on.
 */
export class Follower {
  readonly bucket: string
  readonly source: number
  /** What differs from the source was asked for again. */
  hasAsked = false
  /** What the source was told with the last question that was answered. */
  told: CursorState | undefined
  /** The question behind the entries that are being applied, asked already. */
  #ahead: PullAhead | undefined
  readonly #options: FollowerOptions
  readonly #window: FetchWindow

  constructor(options: FollowerOptions, bucket: string, source: number) {
    this.#options = options
    this.#window = new FetchWindow({
      ...{ atOnce: options.fetchesAtOnce ?? defaultFetches, bytesAtOnce: fetchBytesAtOnce },
    })
    this.bucket = bucket
    this.source = source
  }

  #bucketId(): number {
    const bucket = this.#options.catalog.bucket(this.bucket)
    if (bucket === undefined) throw new StorageError('NO_SUCH_BUCKET', 'the bucket is not here')
    return bucket.id
  }

  cursor(): CursorState | undefined {
    const bucket = this.#options.catalog.bucket(this.bucket)
    return bucket === undefined ? undefined : this.#options.catalog.replication.cursor(bucket.id, this.source)
  }

  /**
   * One question and what follows from its answer. True: there may be more. Rejects with path errors, and with what the catalog says;
   * nothing is lost by calling it again.
   */
  async step(peer: PeerRegion, signal: AbortSignal, mayAsk = true): Promise<boolean> {
    try {
      return await this.#step(peer, signal, mayAsk)
    } catch (reason) {
      await this.#dropAhead()
      throw reason
    }
  }

  async #step(peer: PeerRegion, signal: AbortSignal, mayAsk: boolean): Promise<boolean> {
    const bucketId = this.#bucketId()
    // Whoever is asked would begin a full synchronization, each time.
    if (this.#options.catalog.replication.isForgetful(bucketId))
      throw new StorageError('UNAVAILABLE', forgetfulReason)
    const cursor = this.cursor()
    const place = cursor?.received ?? { lsn: 0, chain: new Uint8Array(32) }
    if (cursor !== undefined && isRetryTableFull(cursor)) {
      await this.#dropAhead()
      return this.#askWhetherLetGo(peer, bucketId, cursor, signal)
    }
    const ahead = this.#ahead
    const isAhead = ahead !== undefined && cursor?.logId === ahead.logId && isSamePoint(ahead.at, place)
    if (!isAhead) await this.#dropAhead()
    const early = isAhead ? await ahead.reply : undefined
    this.#ahead = undefined
    if (early !== undefined) this.told = ahead?.told
    const answer =
      early ??
      this.#begin(peer, bucketId, place, await this.#pull(peer, bucketId, cursor, place, signal), signal)
    if (answer.kind === 'start') {
      await this.#begins(bucketId, answer)
      return true
    }
    const { batch, entries, head, chain, spans } = answer
    try {
      if (cursor === undefined) throw new StorageError('PROTOCOL_ERROR', 'entries without a place to begin')
      const last = { lsn: place.lsn + entries.length, chain }
      if (this.#options.pullsAhead === true && entries.length > 0 && head > last.lsn) {
        const told = this.told
        const stop = new AbortController()
        const either = AbortSignal.any([signal, stop.signal])
        const next = this.#pull(peer, bucketId, cursor, last, either).then((answer) =>
          this.#begin(peer, bucketId, last, answer, either),
        )
        const reply = next.catch(() => undefined)
        this.#ahead = { logId: cursor.logId, at: last, told: cursor, stop, reply }
        this.told = told
      }
      for (let next = await batch.take(); next !== undefined; next = await batch.take()) {
        const after = place.lsn + next.first
        await this.#take(peer, { bucketId, logId: cursor.logId, after, spans }, next.run, signal)
      }
    } finally {
      await batch.giveUp()
      spans?.giveUp()
    }
    // The answer to the last of them is the acknowledgement, which is worth a question of its own.
    if (entries.length > 0) return true
    const ranges = cursor.comparison?.differing ?? []
    if (ranges.length === 0 || this.hasAsked || !mayAsk) return false
    this.hasAsked = true
    await peer.repair({ bucket: this.bucket, ranges }, signal)
    return true
  }

  /**
   * The catalog takes no more entries: only what waits can go on. The source hears how far this region is, and may have let it go meanwhile, since
   * it keeps nothing for ever: then the full synchronization, which brings all that waits, too, begins. What waits is never tried behind an
   * error, so there is none.
   */
  async #askWhetherLetGo(
    peer: PeerRegion,
    bucketId: number,
    cursor: CursorState,
    signal: AbortSignal,
  ): Promise<boolean> {
    const answer = await this.#pull(peer, bucketId, cursor, cursor.received, signal, 1).catch(() => undefined)
    signal.throwIfAborted()
    if (answer?.kind !== 'start') return false
    await this.#begins(bucketId, answer)
    return true
  }

  async #begins(bucketId: number, { logId, at }: Extract<PullReply, { kind: 'start' }>): Promise<void> {
    await this.#options.catalog.submit({ type: 'set-cursor', bucketId, source: this.source, logId, at })
  }

  /** What was asked for ahead is not what comes next. */
  async #dropAhead(): Promise<void> {
    const ahead = this.#ahead
    this.#ahead = undefined
    ahead?.stop.abort(new StorageError('CANCELLED', 'another place is asked for'))
    const begun = await ahead?.reply
    if (begun?.kind !== 'entries') return
    await begun.batch.giveUp()
    begun.spans?.giveUp()
  }

  /** Checks an answer and fetches what its entries need. PROTOCOL_ERROR. */
  #begin(peer: PeerRegion, bucketId: number, place: LogPoint, reply: PullReply, signal: AbortSignal): Begun {
    if (reply.kind === 'start') return reply
    const { entries } = reply
    const chain = entries.reduce<Uint8Array>(
      (so, bytes) => createHash('sha256').update(so).update(bytes).digest(),
      place.chain,
    )
    if (Buffer.compare(chain, reply.chain) !== 0) {
      throw new StorageError('PROTOCOL_ERROR', 'the entries that came are not those of the outbox')
    }
    const fetchAs = (
      how: Pick<FetchOptions, 'linkClass' | 'traceParent'>,
      version: ReplicatedVersion,
      stop: AbortSignal,
    ) => this.#fetch(peer, version, stop, how)
    const linkClass = this.cursor()?.synchronizing === true ? 'full-sync' : 'bulk'
    const wanted = entries.map((bytes) => this.#wanted(bucketId, bytes))
    const spans = this.#tracesOf(reply, wanted)
    const batch = new BatchFetch({
      ...{ entries, signal, window: this.#window, wanted },
      fetch(version, stop) {
        const fetch = (traceParent?: string) =>
          fetchAs({ linkClass, ...(traceParent === undefined ? {} : { traceParent }) }, version, stop)
        return spans === undefined ? fetch() : spans.fetch(version, fetch)
      },
    })
    return { ...reply, batch, spans }
  }

  #tracesOf(
    { traces = [], entries }: Extract<PullReply, { readonly kind: 'entries' }>,
    wanted: readonly (ReplicatedVersion | undefined)[],
  ): ApplyTraces | undefined {
    const { tracer } = this.#options
    if (tracer === undefined || traces.length === 0) return undefined
    const { bucket, source } = this
    const decode = (bytes: Uint8Array): OutboxEntry | undefined => this.#decode(bytes)
    return new ApplyTraces({ tracer, traces, entries, wanted, bucket, source, decode })
  }

  #pull(
    peer: PeerRegion,
    bucketId: number,
    cursor: CursorState | undefined,
    after: LogPoint,
    signal: AbortSignal,
    limit: number = pullLimits.entries,
  ): Promise<PullReply> {
    this.told = cursor
    return peer.pull(
      {
        bucket: this.bucket,
        logId: cursor?.logId ?? '',
        after,
        watermark: cursor?.watermark ?? 0,
        dead: cursor === undefined || cursor.dead === 0 ? [] : this.#deadLetters(bucketId),
        limit,
      },
      signal,
    )
  }

  /** The first that were given up: the source shows their versions as failed. */
  #deadLetters(bucketId: number): readonly number[] {
    const found: number[] = []
    for (const { lsn, dead } of this.#waiting(bucketId)) {
      if (found.length >= replicationLimits.deadTold) break
      if (dead) found.push(lsn)
    }
    return found
  }

  /** Undefined: not an entry that this software knows; the catalog says what becomes of it. */
  #decode(bytes: Uint8Array | undefined): OutboxEntry | undefined {
    try {
      return bytes === undefined ? undefined : this.#options.catalog.replication.decode(bytes)
    } catch {
      return undefined
    }
  }

  #take(
    peer: PeerRegion,
    place: Omit<RunPlace, 'run'>,
    run: readonly ReadyEntry[],
    signal: AbortSignal,
  ): Promise<void> {
    const { bucketId, after } = place
    const { conflicts, catalog, onConflict } = this.#options
    const isAsked = conflicts !== undefined && catalog.replication.rule(bucketId)?.mode === 'multi'
    return takeRun(run, {
      apply: (entries, at) => this.#apply({ ...place, after: after + at, run: entries }),
      decode: (bytes) => (isAsked ? this.#decode(bytes) : undefined),
      fetch: (version) => this.#fetch(peer, version, signal),
      conflict: (entry) => conflicts && decideConflict(conflicts, catalog, bucketId, this.source, entry),
      told: (outcome) => onConflict?.(this.source, outcome),
    })
  }

  async #apply({ bucketId, logId, after, run, spans }: RunPlace): Promise<void> {
    const pulled = run.map((entry) => entry.pulled)
    const [first] = pulled
    // The longest come alone.
    const isLong = first !== undefined && pulled.length === 1 && first.bytes.length > mostEntryBytes
    const entries = isLong ? [await this.#bringInParts(bucketId, logId, after + 1, first)] : pulled
    await this.#options.catalog.submit({
      ...{ type: 'apply-remote', bucketId, source: this.source, logId, after, entries },
    })
    spans?.applied(run)
    const bodyBytes = run.reduce(
      (sum, { fetched }) => sum + (fetched === undefined ? 0 : layoutBytes(fetched.layout)),
      0,
    )
    this.#options.onApplied?.(this.source, entries.length, bodyBytes)
  }

  /** An entry that a record of the region's log has no room for goes ahead of the command that applies it. */
  async #bringInParts(
    bucketId: number,
    logId: string,
    lsn: number,
    { bytes, ...rest }: PulledEntry,
  ): Promise<PulledEntry> {
    const { entryPartBytes } = replicationLimits
    const place = { bucketId, source: this.source, logId, lsn }
    for (let part = 0; part * entryPartBytes < bytes.length; part++) {
      const piece = bytes.subarray(part * entryPartBytes, (part + 1) * entryPartBytes)
      await this.#options.catalog.submit({ type: 'put-entry-part', ...place, part, bytes: piece })
    }
    const inParts = new Uint8Array(createHash('sha256').update(bytes).digest())
    return { ...rest, bytes: new Uint8Array(0), inParts }
  }

  /** The version that an entry brings, unless it is here as it should be. */
  #wanted(bucketId: number, bytes: Uint8Array): ReplicatedVersion | undefined {
    const change = this.#decode(bytes)?.change
    if (change?.type !== 'put') return undefined
    const { replication } = this.#options.catalog
    return replication.isWanted(bucketId, change.key, change.version) ? change.version : undefined
  }

  /** What is wrong with the version itself lets the others pass; what is wrong with the way, or with this region, does not. */
  async #fetch(
    peer: PeerRegion,
    version: ReplicatedVersion,
    signal: AbortSignal,
    how: Pick<FetchOptions, 'linkClass' | 'traceParent'> = {},
  ): Promise<Fetched | { readonly failure: string }> {
    try {
      return await fetchVersion({ ...this.#options, ...how }, peer, this.bucket, version, signal)
    } catch (reason) {
      if (!(reason instanceof UnfetchableVersion) || signal.aborted) throw reason
      return { failure: reason.message.slice(0, replicationLimits.reasonChars) }
    }
  }

  /** Tries again what waits in the retry table and is due; true when something was applied. */
  async retry(peer: PeerRegion, signal: AbortSignal, again: 'due' | 'all' = 'due'): Promise<boolean> {
    const bucketId = this.#bucketId()
    const { catalog, clock } = this.#options
    // Where several regions write, changes of a key stand for themselves; elsewhere what follows waits for the first.
    const isOrdered = catalog.replication.rule(bucketId)?.mode !== 'multi'
    const keys = new Set<string>()
    let tries = 0
    let applied = false
    for (const retry of this.#waiting(bucketId)) {
      // One that is of no key, or cannot be read, may be of any.
      const isHeldUp = isOrdered && (keys.has(retry.key) || keys.has(''))
      keys.add(retry.key)
      if (isHeldUp) continue
      if (again === 'due' && (retry.dead || retry.nextMs > clock.now())) continue
      if (await this.#retryOne(peer, bucketId, retry, signal)) applied = true
      if (++tries >= retriesAtOnce && again === 'due') break
    }
    return applied
  }

  /** The whole retry table, which is bounded, page by page. */
  *#waiting(bucketId: number): Generator<RetryRecord> {
    for (let after = 0; ; ) {
      const page = this.#options.catalog.replication.retries(bucketId, this.source, after, retryPage)
      yield* page
      const last = page.at(-1)
      if (last === undefined) return
      after = last.lsn
    }
  }

  async #retryOne(
    peer: PeerRegion,
    bucketId: number,
    retry: RetryRecord,
    signal: AbortSignal,
  ): Promise<boolean> {
    const { catalog, clock } = this.#options
    const { lsn } = retry
    const version = this.#wanted(bucketId, retry.bytes)
    const outcome = version === undefined ? undefined : await this.#fetch(peer, version, signal)
    const nextMs = clock.now() + Math.min(firstRetryMs * 2 ** Math.min(retry.attempts, 20), mostRetryMs)
    const dead = clock.now() - retry.sinceMs > deadAfterMs
    const command = { type: 'retry-remote', bucketId, source: this.source, lsn } as const
    if (outcome !== undefined && 'failure' in outcome) {
      await catalog.submit({ ...command, failure: { reason: outcome.failure, nextMs, dead } })
      return false
    }
    try {
      const layout: { layout?: Layout } = outcome === undefined ? {} : { layout: outcome.layout }
      const { applied } = await catalog.submit({ ...command, ...layout })
      const still = catalog.replication.retries(bucketId, this.source, lsn - 1, 1)[0]
      if (!applied && still?.lsn === lsn) {
        await catalog.submit({ ...command, failure: { reason: still.reason, nextMs, dead } })
      }
      return applied
    } finally {
      outcome?.settle()
    }
  }
}

const layoutBytes = (layout: Layout): number =>
  layout.kind === 'chunks' ? layout.extents.reduce((sum, { byteLength }) => sum + byteLength, 0) : 0
