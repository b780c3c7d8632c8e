import { createHash } from 'node:crypto'
import type { Catalog } from '../../core/contract/catalog.ts'
import type { ChunkBuffer, ChunkStore } from '../../core/contract/chunk-store.ts'
import type { Clock } from '../../core/contract/clock.ts'
import { stripeOf } from '../../core/contract/erasure.ts'
import { StorageError } from '../../core/contract/errors.ts'
import { recoveredReason } from '../../core/contract/failover.ts'
import { forgetfulReason } from '../../core/contract/forgotten-rule.ts'
import { isMesh, mayBegin } from '../../core/contract/has-begun.ts'
import { chunkId } from '../../core/contract/ids.ts'
import type { Logger } from '../../core/contract/logger.ts'
import type { BucketRecord } from '../../core/contract/object-model.ts'
import { backgroundClass } from '../../core/contract/qos.ts'
import type { MemberState, ReplicationRule } from '../../core/contract/replication.ts'
import type { OutboxTraces } from '../../core/contract/trace.ts'
import type { WriteRegistry } from '../../core/contract/write-registry.ts'
import {
  type BodyRequest,
  type Offer,
  type OffersReply,
  type OffersRequest,
  type PullReply,
  type PullRequest,
  pullLimits,
  type RepairRequest,
} from './peer.ts'

export interface SourceOptions {
  /** Of this region. */
  readonly regionId: number
  readonly catalog: Pick<
    Catalog,
    'barrier' | 'bucket' | 'bucketById' | 'failover' | 'replication' | 'submit' | 'writeOwner'
  >
  readonly chunks: Pick<ChunkStore, 'get'>
  /** Of the store's buffers that may be on their way to other regions at once; what is beyond is copied. 0 when absent. */
  readonly lentBytes?: number
  readonly writes: Pick<WriteRegistry, 'pin'>
  readonly clock: Clock
  readonly log: Logger
  /** Absent: nothing is traced here. */
  readonly outboxTraces?: Pick<OutboxTraces, 'expected' | 'recall' | 'size'>
}

/** A part of a body. Who takes it calls `release` once, when it looks at the bytes no more. */
export interface LentPiece {
  readonly bytes: Uint8Array
  readonly release: () => void
}

/** A typed array would come out as an object with a field for every byte. */
const packedBytes = (_name: string, value: unknown): unknown =>
  value instanceof Uint8Array ? Buffer.from(value).toString('base64') : value

/** Looks at the heads again after this while an answer waits. */
const lookMs = 50
/** Entries do not wait longer for their traces. */
const mostTraceWaitMs = 100

/** The answers of this region to a member that pulls. Each sees what its rules share with it, and nothing else. */
export class ReplicationSource {
  readonly #options: SourceOptions
  #lentBytes = 0

  constructor(options: SourceOptions) {
    this.#options = options
  }

  async offers(peer: number, request: OffersRequest, signal: AbortSignal): Promise<OffersReply> {
    const { clock } = this.#options
    const waitMs = Math.min(request.waitMs, pullLimits.waitMs)
    const until = clock.monotonic() + waitMs
    for (;;) {
      const page = this.#offersTo(peer, request.after)
      const tag = createHash('sha256').update(JSON.stringify(page, packedBytes)).digest('base64')
      if (tag !== request.seen || request.after !== '' || clock.monotonic() >= until) {
        return { ...page, tag, nowMs: clock.now() }
      }
      await clock.sleep(lookMs, signal)
    }
  }

  #offersTo(peer: number, after: string): Pick<OffersReply, 'offers' | 'truncated'> {
    const { catalog } = this.#options
    const { replication } = catalog
    const shared = replication
      .ruledBuckets(0, Number.MAX_SAFE_INTEGER)
      .flatMap((id): Offer[] => {
        const bucket = catalog.bucketById(id)
        const rule = replication.rule(id)
        if (bucket === undefined || rule === undefined || !rule.members.includes(peer)) return []
        if (replication.isForgetful(id)) return []
        const outbox = replication.outbox(id)
        return [
          {
            bucket: bucket.name,
            rule,
            owner: bucket.owner,
            ...(rule.edge?.regions.includes(peer) === true ? this.#toldToEdge(bucket) : {}),
            ...(outbox === undefined || !this.#isWritten(rule)
              ? {}
              : {
                  log: { id: outbox.id, head: this.#headOf(id, outbox.head.lsn), headTime: outbox.headTime },
                }),
          },
        ]
      })
      .filter(({ bucket }) => bucket > after)
      .toSorted((left, right) => (left.bucket < right.bucket ? -1 : 1))
    let bytes = 0
    const beyond = shared.findIndex(({ access = [] }, at) => {
      bytes += access.reduce((sum, { value }) => sum + (value?.length ?? 0), 0)
      return at >= pullLimits.offers || (at > 0 && bytes > pullLimits.offeredBytes)
    })
    return { offers: beyond < 0 ? shared : shared.slice(0, beyond), truncated: beyond >= 0 }
  }

  #toldToEdge(bucket: BucketRecord): Pick<Offer, 'access' | 'versioning'> {
    const { catalog, regionId } = this.#options
    const access = catalog.replication.accessSettings(bucket, regionId)
    return { versioning: bucket.versioning, ...(access === undefined ? {} : { access }) }
  }

  /** What waits at an edge has no place in the outbox yet, and is to come. */
  #headOf(bucketId: number, head: number): number {
    return head + (this.#options.catalog.replication.backlog(bucketId)?.waiting ?? 0)
  }

  /**
   * NO_SUCH_BUCKET, ACCESS_DENIED (not a member), NO_SUCH_REPLICATION (nobody writes it here), CONFLICT (it was here before, and knows
   * nothing of that).
   */
  async pull(peer: number, request: PullRequest): Promise<PullReply> {
    const { catalog } = this.#options
    const { replication } = catalog
    // This node may be behind others of its region: what it says of the head must be as new as the question.
    await catalog.barrier()
    const { bucket, rule } = this.#shared(peer, request.bucket)
    const outbox = replication.outbox(bucket.id)
    if (outbox === undefined || !this.#isWritten(rule))
      throw new StorageError('NO_SUCH_REPLICATION', 'nobody writes the bucket here')
    this.#checkMemory(bucket.id, rule)
    const member = replication.members(bucket.id).find(({ region }) => region === peer)
    if (member === undefined) throw new StorageError('ACCESS_DENIED', `region ${peer} is no member`)
    this.checkMember(rule, member, request)
    const reason = member.needsFullSync ? 'it fell behind what is kept' : this.#cannotGoOn(bucket.id, request)
    if (reason !== undefined) return this.#start(bucket, peer, reason)
    const { watermark: lsn, logId, dead } = request
    const begins =
      member.hasBegun !== true && mayBegin(rule, this.#options.regionId, replication.cursor(bucket.id, peer))
    if (begins || lsn > member.acknowledged || dead.join() !== (member.dead ?? []).join()) {
      await catalog.submit({
        type: 'acknowledge-outbox',
        bucketId: bucket.id,
        region: peer,
        logId,
        lsn,
        dead,
      })
    }
    if ((replication.backlog(bucket.id)?.waiting ?? 0) > 0) {
      await catalog.submit({ type: 'stage-outbox', bucketId: bucket.id, askedFrom: request.after.lsn })
    }
    const limit = Math.min(request.limit, pullLimits.entries)
    const rows = replication.entries(bucket.id, request.after.lsn, limit, pullLimits.bytes)
    const last = rows.at(-1)?.lsn ?? request.after.lsn
    const place = replication.entryAt(bucket.id, last)
    if (place === undefined) throw new StorageError('LOG_TRIMMED', 'the entries went while they were read')
    const head = this.#headOf(bucket.id, replication.outbox(bucket.id)?.head.lsn ?? last)
    // Waits: everything that is told was read before.
    const traces = await this.#tracesOf(bucket.id, rows)
    return {
      ...{ kind: 'entries', entries: rows.map(({ bytes }) => bytes), head, chain: place.chain },
      ...(traces.length === 0 ? {} : { traces }),
    }
  }

  /** Positions of the entries that traced requests have written. */
  async #tracesOf(
    bucketId: number,
    rows: readonly { readonly lsn: number }[],
  ): Promise<readonly (readonly [index: number, traceParent: string])[]> {
    const { clock, outboxTraces } = this.#options
    if (outboxTraces === undefined) return []
    const isTraced = ({ lsn }: { readonly lsn: number }): boolean =>
      outboxTraces.recall(bucketId, lsn) !== undefined
    // An entry can be read a moment before the request that wrote it hears of its place.
    const expected = rows.every(isTraced) ? undefined : outboxTraces.expected(bucketId)
    if (expected !== undefined) {
      const stop = new AbortController()
      await Promise.race([expected, clock.sleep(mostTraceWaitMs, stop.signal).catch(() => undefined)])
      stop.abort()
    }
    if (outboxTraces.size === 0) return []
    return rows.flatMap(({ lsn }, index) => {
      const traceParent = outboxTraces.recall(bucketId, lsn)
      return traceParent === undefined ? [] : [[index, traceParent] as const]
    })
  }

  /** As `pull`. */
  async repair(peer: number, { bucket: name, ranges }: RepairRequest): Promise<void> {
    const { catalog, log } = this.#options
    const { bucket, rule } = this.#shared(peer, name)
    if (!this.#isWritten(rule)) throw new StorageError('NO_SUCH_REPLICATION', 'nobody writes the bucket here')
    this.#checkMemory(bucket.id, rule)
    log.warn({ bucket: name, region: peer, ranges: ranges.length }, 'a copy differs and is repaired')
    for (const range of ranges) await catalog.submit({ type: 'send-range', bucketId: bucket.id, ...range })
  }

  /**
   * CONFLICT: where several regions write, deletes are forgotten on the word of members that have them. One whose rule was taken away and
   * given again has forgotten them itself: whatever it is told from now on, of this log or another one, may be deleted already.
   */
  checkMember(rule: ReplicationRule, { region, hasBegun }: MemberState, { logId }: PullRequest): void {
    if (!isMesh(rule) || hasBegun !== true || logId !== '') return
    throw new StorageError(
      'CONFLICT',
      `region ${region} has followed the bucket before, and its rule was taken away there: take the region out of the rule here, then empty its bucket and let it come back`,
    )
  }

  #cannotGoOn(bucketId: number, { logId, after }: PullRequest): string | undefined {
    const { replication } = this.#options.catalog
    const outbox = replication.outbox(bucketId)
    if (logId === '') return 'it follows the bucket from now on'
    if (logId !== outbox?.id) return 'it followed another outbox'
    if (after.lsn > outbox.head.lsn) return 'it has come further than this outbox'
    const place = replication.entryAt(bucketId, after.lsn)
    if (place === undefined) return 'the entries that it needs are not kept any more'
    return Buffer.compare(place.chain, after.chain) === 0 ? undefined : 'its history is another one'
  }

  /** Where a region begins that cannot go on: at the start of everything, if that is still kept. */
  async #start(bucket: BucketRecord, peer: number, reason: string): Promise<PullReply> {
    const { catalog, log } = this.#options
    const { replication } = catalog
    const before = replication.members(bucket.id).find(({ region }) => region === peer)
    const outbox = replication.outbox(bucket.id)
    const isFirst = before?.needsFullSync === false && before.acknowledged === 0 && outbox?.trimmed.lsn === 0
    if (!isFirst) {
      log.warn({ bucket: bucket.name, region: peer, reason }, 'a region synchronizes a bucket in full')
      await catalog.submit({ type: 'start-full-sync', bucketId: bucket.id, region: peer })
    }
    const from = replication.members(bucket.id).find(({ region }) => region === peer)?.acknowledged ?? 0
    const place = replication.entryAt(bucket.id, from)
    const logId = replication.outbox(bucket.id)?.id
    if (place === undefined || logId === undefined) {
      throw new StorageError('UNAVAILABLE', 'the place to begin is not known yet')
    }
    return { kind: 'start', logId, at: { lsn: place.lsn, chain: place.chain }, reason }
  }

  /** NO_SUCH_VERSION when the body is none of the bucket's; the chunk store's errors. */
  async *body(peer: number, request: BodyRequest, signal: AbortSignal): AsyncGenerator<LentPiece> {
    const { catalog, chunks, writes } = this.#options
    const { bucket, rule } = this.#shared(peer, request.bucket)
    const owner = catalog.writeOwner(request.writeId)
    // Of a bucket that is shared in part the rest is none of their business, whatever number they guess.
    if (owner?.bucketId !== bucket.id || !owner.key.startsWith(rule.prefix))
      throw new StorageError('NO_SUCH_VERSION', 'the body is not here')
    const { erasure } = owner
    const unpin = writes.pin(request.writeId)
    try {
      let at = request.offset
      while (at < owner.byteLength) {
        const inChunk = at % owner.chunkBytes
        const index = Math.floor(at / owner.chunkBytes)
        const stripe = erasure === undefined ? undefined : stripeOf(owner, erasure, index)
        // No piece is of two fragments: putting it together would hold one buffer of the pool and wait for others.
        const wholeBytes = stripe?.fragmentBytes ?? owner.chunkBytes
        const length = Math.min(
          pullLimits.granuleBytes,
          wholeBytes - (inChunk % wholeBytes),
          owner.byteLength - at,
        )
        const id = chunkId(owner.writeId, index)
        const buffer = await chunks.get(id, inChunk, length, signal, backgroundClass, stripe)
        if (buffer.bytes.length !== length) {
          buffer.release()
          throw new StorageError('CORRUPT_CHUNK', 'a chunk is shorter than it should be')
        }
        yield this.#lend(buffer)
        at += length
      }
    } finally {
      unpin()
    }
  }

  /** A region that takes its bytes slowly holds a part of the pool at most. */
  #lend(buffer: ChunkBuffer): LentPiece {
    const { bytes } = buffer
    if (this.#lentBytes + bytes.length > (this.#options.lentBytes ?? 0)) {
      const copy = new Uint8Array(bytes)
      buffer.release()
      return { bytes: copy, release: () => undefined }
    }
    this.#lentBytes += bytes.length
    return {
      bytes,
      release: () => {
        this.#lentBytes -= bytes.length
        buffer.release()
      },
    }
  }

  /**
   * A primary that was recovered may have forgotten what a copy holds: a full synchronization with it would remove that there, and leave
   * nobody who may take over. One of several that write may hold what they have deleted. UNAVAILABLE.
   */
  #checkMemory(bucketId: number, { group }: ReplicationRule): void {
    const { replication } = this.#options.catalog
    if (replication.isForgetful(bucketId)) throw new StorageError('UNAVAILABLE', forgetfulReason)
    if (group === undefined || this.#options.catalog.failover.group(group)?.isRecovered !== true) return
    throw new StorageError('UNAVAILABLE', recoveredReason(group))
  }

  #isWritten({ mode, primary }: ReplicationRule): boolean {
    return mode === 'multi' || primary === this.#options.regionId
  }

  #shared(peer: number, name: string): { bucket: BucketRecord; rule: ReplicationRule } {
    const { catalog } = this.#options
    const bucket = catalog.bucket(name)
    const rule = bucket === undefined ? undefined : catalog.replication.rule(bucket.id)
    // One answer for what is not there and what is not theirs: a region learns no names that it does not share.
    if (bucket === undefined || rule === undefined || !rule.members.includes(peer)) {
      throw new StorageError('NO_SUCH_BUCKET', 'no bucket of this name is shared with the region')
    }
    return { bucket, rule }
  }
}
