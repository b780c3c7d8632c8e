import type {
  BodyDigest,
  ChunkBuffer,
  ChunkInfo,
  ChunkStore,
  ChunkStoreStats,
  DigestAlgorithm,
  ScrubFinding,
} from '../../contract/chunk-store.ts'
import type { Clock } from '../../contract/clock.ts'
import type { FragmentCode, Stripe } from '../../contract/erasure.ts'
import { StorageError } from '../../contract/errors.ts'
import { type ChunkId, chunkIdBytes } from '../../contract/ids.ts'
import type { Logger } from '../../contract/logger.ts'
import type { PlanSink } from '../../contract/qos.ts'
import type { Span } from '../../contract/trace.ts'
import type { ReplicaAcks, RequestOptions } from '../../contract/transport.ts'
import { type BegunTurn, ChunkTurns } from './chunk-turns.ts'
import { type CopyQuestion, copyReaders } from './copy-readers.ts'
import { CopySpan } from './copy-span.ts'
import { inTurns } from './find-copies.ts'
import { type FollowMapParts, followMap } from './follow-map.ts'
import { HeldBuffer } from './held-buffer.ts'
import { type ChunkLayout, copiesWanted, groupOf } from './layout.ts'
import { toldEpoch } from './moved-groups.ts'
import { OwnPuts, slowerThanQuorum } from './own-puts.ts'
import type { ClusterPeers, DamagedCopy, PeerView } from './peers.ts'
import type { Rebuilder } from './rebuild.ts'
import { CopyReads } from './region-read.ts'
import { type CopyFailure, copyError, isDamage, readError, writeError } from './replica-errors.ts'
import { type StragglerLimits, Stragglers } from './stragglers.ts'
import { StripedChunks } from './striped-chunks.ts'

export interface ClusterStoreParts extends FollowMapParts {
  /** Name of this node. */
  readonly self: string
  readonly local: ChunkStore
  readonly peers: ClusterPeers
  /** How many copies are durable when a write is acknowledged. */
  readonly acks: ReplicaAcks
  /** In which order equally good copies are asked: positions in `views` (core/protocol/replicas.ts has the one in use). */
  readonly order: (views: readonly PeerView[]) => readonly number[]
  readonly clock: Clock
  readonly log: Logger
  /** Told of copies that are missing or damaged and could be read around, or that a write did not reach. Must not wait. */
  readonly damaged: (copy: DamagedCopy) => void
  /** 32 MiB and 5 s unless told. */
  readonly stragglers?: StragglerLimits
  /** For one copy of a write; 15 s unless told. */
  readonly putDeadlineMs?: number
}

export interface ClusterStoreCounts {
  readonly puts: number
  /** Acknowledged although a copy failed or was given up. */
  readonly partialPuts: number
  readonly failedPuts: number
  readonly gets: number
  /** Answered by another copy because the first had failed, or was slow. */
  readonly readsAround: number
  readonly hedgedReads: number
  readonly failedGets: number
  /** Copies that are slower than their quorum, now. */
  readonly stragglers: number
  readonly stragglerBytes: number
}

const defaultStragglers: StragglerLimits = { bytes: 32 * 1024 * 1024, ms: 5000 }
const defaultPutDeadlineMs = 15_000
const hasDeadlineMs = 5000
/** A map that changes under a read makes it look again, not for ever. */
const mostLayouts = 3

/**
 * The chunks of the whole region, through one node: what it is asked for it writes to and reads from the nodes that hold the chunk's
 * placement group; with a stripe, as fragments (striped-chunks.ts). Buffers are those of the local store; `list`, `scrub` and `stats` tell of the local store alone.
 */
export class ClusterChunkStore implements ChunkStore {
  readonly kind: ChunkStore['kind']
  readonly planSink?: PlanSink
  readonly discard?: (bytes: Uint8Array) => void
  readonly #parts: ClusterStoreParts
  readonly #turns = new ChunkTurns()
  readonly #reads: CopyReads
  readonly #stragglers: Stragglers
  readonly #ownPuts = new OwnPuts()
  readonly #striped: StripedChunks
  #isClosed = false
  readonly #counts = {
    puts: 0,
    partialPuts: 0,
    failedPuts: 0,
    gets: 0,
    readsAround: 0,
    hedgedReads: 0,
    failedGets: 0,
  }

  constructor(parts: ClusterStoreParts) {
    const { local, clock } = parts
    this.#parts = parts
    this.kind = local.kind
    this.#reads = new CopyReads(parts.self, clock)
    this.#stragglers = new Stragglers(clock, parts.stragglers ?? defaultStragglers)
    this.#striped = new StripedChunks({
      ...parts,
      reads: this.#reads,
      stragglers: this.#stragglers,
      ownPuts: this.#ownPuts,
      putDeadlineMs: parts.putDeadlineMs ?? defaultPutDeadlineMs,
    })
    if (local.planSink !== undefined) this.planSink = local.planSink
    const { discard } = local
    if (discard !== undefined) this.discard = (bytes) => discard.call(local, bytes)
  }

  /** What computes lost fragments, for repair. */
  get rebuilder(): Rebuilder {
    return this.#striped.rebuilder
  }

  counts(): ClusterStoreCounts {
    return { ...this.#counts, stragglers: this.#stragglers.count, stragglerBytes: this.#stragglers.bytes }
  }

  async acquire(byteLength: number, signal?: AbortSignal): Promise<ChunkBuffer> {
    return new HeldBuffer(await this.#parts.local.acquire(byteLength, signal))
  }

  /**
   * Durable at as many of the group's nodes as `acks` wants. The buffer may be released when it resolves, though other copies are
   * still on their way. UNAVAILABLE when too few nodes could be reached: then some may have it nevertheless.
   */
  async put(
    id: ChunkId,
    buffer: ChunkBuffer,
    byteLength: number,
    qosClass?: number,
    stripe?: Stripe,
    span?: Span,
    acks = this.#parts.acks,
  ): Promise<void> {
    this.#check()
    if (id.length !== chunkIdBytes) throw new StorageError('INVALID_ARGUMENT', 'a chunk id has 16 bytes')
    if (!Number.isInteger(byteLength) || byteLength < 1 || byteLength > buffer.bytes.length) {
      throw new StorageError('INVALID_ARGUMENT', `cannot store ${byteLength} of ${buffer.bytes.length} bytes`)
    }
    const release = buffer instanceof HeldBuffer ? buffer.hold() : undefined
    const inner = buffer instanceof HeldBuffer ? buffer.inner : buffer
    let last: Promise<unknown> = Promise.resolve()
    try {
      await this.#turns.take(id, () =>
        followMap(this.#parts, () => {
          const begun =
            stripe === undefined
              ? this.#write(id, inner, byteLength, acks, qosClass, span)
              : this.#striped.write(id, inner, { ...stripe, byteLength }, acks, qosClass)
          last = begun.settled
          return begun
        }),
      )
      this.#counts.puts++
    } catch (error) {
      this.#counts.failedPuts++
      throw error
    } finally {
      // A buffer of somebody else's cannot be kept behind its owner's back: its owner waits.
      if (release === undefined) await last
      else void last.then(release)
    }
  }

  #write(
    id: ChunkId,
    buffer: ChunkBuffer,
    byteLength: number,
    acks: ReplicaAcks,
    qosClass: number | undefined,
    trace: Span | undefined,
  ): BegunTurn<void> {
    const { self, local, peers } = this.#parts
    const layout = this.#parts.layout()
    const writers = layout.writers(groupOf(id))
    const wanted = copiesWanted(acks, writers.length)
    if (writers.length === 0) {
      const error = new StorageError('UNAVAILABLE', 'no node of the region may hold chunks')
      return { answer: Promise.reject(error), settled: Promise.resolve() }
    }
    const abort = new AbortController()
    const options: RequestOptions = {
      deadlineMs: this.#parts.putDeadlineMs ?? defaultPutDeadlineMs,
      signal: abort.signal,
      mapEpoch: toldEpoch(layout.map.epoch),
      ...(qosClass === undefined ? {} : { classIndex: qosClass }),
    }
    const failures: CopyFailure[] = []
    let durable = 0
    let ended = 0
    let isDecided = false
    let isStale = false
    let straggled: (() => void) | undefined
    let acknowledge: () => void = () => undefined
    let refuse: (error: StorageError) => void = () => undefined
    const answer = new Promise<void>((resolve, reject) => {
      acknowledge = resolve
      refuse = reject
    })
    const giveUp = (): void => abort.abort(slowerThanQuorum)
    /** The answer is given; what is still on its way is watched from here on. */
    const decide = (): void => {
      isDecided = true
      if (ended < writers.length) straggled = this.#stragglers.add(byteLength, giveUp)
    }
    const copy = async (node: string): Promise<void> => {
      const span = trace === undefined ? undefined : new CopySpan(trace, 'put', node === self, node, id)
      try {
        if (node === self) {
          await this.#ownPuts.put(() => local.put(id, buffer, byteLength, qosClass), abort.signal)
        } else {
          const peer = peers(node)
          if (peer === undefined) throw new StorageError('PEER_UNREACHABLE', `there is no link to ${node}`)
          await peer.chunks.put(id, buffer, byteLength, span === undefined ? options : span.told(options))
        }
        span?.end()
        ended++
        durable++
        if (durable === wanted && !isDecided) {
          acknowledge()
          decide()
        }
      } catch (reason) {
        const error = copyError(self, node, reason)
        span?.end(error)
        ended++
        failures.push({ node, error })
        if (isDecided) return
        if (error.code === 'STALE_MAP') {
          // It begins again with those who hold the chunk now: what is on its way need not arrive.
          isStale = true
          refuse(error)
          decide()
          abort.abort()
        } else if (failures.length === writers.length - wanted + 1) {
          refuse(writeError(failures, wanted, writers.length))
          decide()
        }
      }
    }
    const settled = Promise.all(writers.map(copy)).then(() => {
      straggled?.()
      if (isStale || durable < wanted || failures.length === 0) return
      this.#counts.partialPuts++
      for (const { node, error } of failures) this.#late(id, node, error)
    })
    return { answer, settled }
  }

  /** A copy of an acknowledged write is not there: its node is told to fetch it. */
  #late(id: ChunkId, node: string, error: StorageError): void {
    const { log, damaged } = this.#parts
    if (error.code === 'CONFLICT')
      log.error({ node, err: error }, 'a node has other bytes under the id of a new chunk')
    damaged({ id, node, problem: error.code === 'CONFLICT' ? 'corrupt' : 'missing' })
  }

  /**
   * From the nearest copy; around those that are missing, damaged, slow or out of reach. CHUNK_NOT_FOUND only when everybody who
   * could have it has answered that it does not; UNAVAILABLE when a node that may have it could not be asked.
   */
  async get(
    id: ChunkId,
    offset: number,
    length: number,
    signal?: AbortSignal,
    qosClass?: number,
    stripe?: Stripe,
    trace?: Span,
  ): Promise<ChunkBuffer> {
    this.#check()
    this.#counts.gets++
    if (stripe !== undefined) return this.#striped.get(id, stripe, offset, length, signal, qosClass)
    const ask = { id, offset, length, signal, qosClass, trace }
    for (let attempt = 1; ; attempt++) {
      const layout = this.#parts.layout()
      const names = layout.readers(groupOf(id))
      const outcome = await this.#reads.read(copyReaders(this.#parts, names, ask), signal)
      if (outcome.buffer !== undefined) {
        if (outcome.hedged) this.#counts.hedgedReads++
        if (outcome.failures.length > 0) this.#readAround(id, layout, outcome.failures)
        return outcome.buffer
      }
      if (layout.map.epoch !== this.#parts.layout().map.epoch && attempt < mostLayouts) continue
      const error = readError(outcome.failures)
      if (error.code !== 'CHUNK_NOT_FOUND' && error.code !== 'CORRUPT_CHUNK') {
        this.#counts.failedGets++
        throw error
      }
      const anyway = await this.#readAnyway(layout, names, ask)
      if (anyway.buffer === undefined) {
        this.#counts.failedGets++
        // Whoever could not be asked may have it.
        throw anyway.failures.length === 0 ? error : readError([...outcome.failures, ...anyway.failures])
      }
      this.#readAround(id, layout, outcome.failures)
      return anyway.buffer
    }
  }

  /** Nobody who should has it. Whoever held it under an earlier map may still: nothing is given up before it is elsewhere. */
  async #readAnyway(
    layout: ChunkLayout,
    asked: readonly string[],
    ask: CopyQuestion,
  ): Promise<{ readonly buffer?: ChunkBuffer; readonly failures: readonly CopyFailure[] }> {
    const rest = layout.others.filter((name) => !asked.includes(name))
    const self = asked.includes(this.#parts.self) || layout.others.length === 0 ? [] : [this.#parts.self]
    const failures: CopyFailure[] = []
    for (const some of inTurns([...self, ...rest])) {
      const one = await this.#reads.read(copyReaders(this.#parts, some, ask), ask.signal)
      failures.push(...one.failures)
      if (one.buffer !== undefined) return { buffer: one.buffer, failures }
      if (ask.signal?.aborted === true) break
    }
    return { failures }
  }

  #readAround(id: ChunkId, layout: ChunkLayout, failures: readonly CopyFailure[]): void {
    this.#counts.readsAround++
    const { map } = layout
    for (const { node, error } of failures) {
      if (error.code !== 'CHUNK_NOT_FOUND' && !isDamage(error)) continue
      // Who is not complete yet fetches it anyway.
      const isComing = map.moving !== undefined && !map.moving.complete.includes(node)
      if (error.code === 'CHUNK_NOT_FOUND' && (isComing || !layout.isHolder(node, groupOf(id)))) continue
      this.#parts.damaged({ id, node, problem: isDamage(error) ? 'corrupt' : 'missing' })
    }
  }

  /** Whether any node has it that should. UNAVAILABLE when none says so and one could not be asked. */
  async has(id: ChunkId, stripe?: Stripe): Promise<boolean> {
    this.#check()
    if (stripe !== undefined) return this.#striped.has(id, stripe)
    const { self, local, peers } = this.#parts
    const names = this.#parts.layout().readers(groupOf(id))
    if (names.includes(self) && (await local.has(id))) return true
    const failures: CopyFailure[] = []
    const answers = await Promise.all(
      names.map(async (node) => {
        if (node === self) return false
        try {
          return (await peers(node)?.chunks.has(id, { deadlineMs: hasDeadlineMs })) ?? unreachable(node)
        } catch (reason) {
          failures.push({ node, error: copyError(self, node, reason) })
          return false
        }
      }),
    )
    if (answers.includes(true)) return true
    if (failures.length > 0) throw readError(failures)
    if (names.length === 0) return local.has(id)
    return false
  }

  /**
   * At every node that holds the group or held it before. A node that cannot be reached frees its copy by itself, when it is back and
   * finds that nothing owns it; UNAVAILABLE when none could be reached.
   */
  async delete(id: ChunkId, qosClass?: number, stripe?: Stripe): Promise<boolean> {
    this.#check()
    let wasThere = false
    return this.#turns.take(id, () =>
      followMap(this.#parts, () => {
        const answer = (
          stripe === undefined
            ? this.#delete(id, qosClass, () => (wasThere = true))
            : this.#striped.delete(id, stripe, qosClass, () => (wasThere = true))
        ).then(() => wasThere)
        return { answer, settled: answer.catch(() => undefined) }
      }),
    )
  }

  async #delete(id: ChunkId, qosClass: number | undefined, onDeleted: () => void): Promise<void> {
    const { self, local, peers } = this.#parts
    const layout = this.#parts.layout()
    const names = layout.readers(groupOf(id))
    const failures: CopyFailure[] = []
    const mapEpoch = toldEpoch(layout.map.epoch)
    const options = { mapEpoch, ...(qosClass === undefined ? {} : { classIndex: qosClass }) }
    await Promise.all(
      names.map(async (node) => {
        try {
          const is =
            node === self
              ? await local.delete(id, qosClass)
              : ((await peers(node)?.chunks.delete(id, options)) ?? unreachable(node))
          if (is) onDeleted()
        } catch (reason) {
          failures.push({ node, error: copyError(self, node, reason) })
        }
      }),
    )
    const serious = failures.find(({ node, error }) => node === self || error.code === 'STALE_MAP')
    if (serious !== undefined) throw serious.error
    if (failures.length === names.length) throw writeError(failures, 1, names.length)
  }

  list(after: ChunkId | null, limit: number): Promise<readonly ChunkInfo[]> {
    return this.#parts.local.list(after, limit)
  }

  scrub(signal?: AbortSignal): AsyncIterable<ScrubFinding> {
    return this.#parts.local.scrub(signal)
  }

  async recompute(code: FragmentCode): Promise<void> {
    await this.#parts.local.recompute?.(code)
  }

  digest(algorithms: readonly DigestAlgorithm[]): BodyDigest {
    const digest = this.#parts.local.digest(algorithms)
    return {
      update: (buffer, offset, length) =>
        digest.update(buffer instanceof HeldBuffer ? buffer.inner : buffer, offset, length),
      finish: () => digest.finish(),
      abort: () => digest.abort(),
    }
  }

  digestNow(
    algorithms: readonly DigestAlgorithm[],
    bytes: Uint8Array,
  ): ReadonlyMap<DigestAlgorithm, Uint8Array> {
    return this.#parts.local.digestNow(algorithms, bytes)
  }

  stats(): Promise<ChunkStoreStats> {
    return this.#parts.local.stats()
  }

  /** Closes the local store too. Copies on their way are given up: repair brings them later. */
  async close(): Promise<void> {
    this.#isClosed = true
    this.#reads.close()
    this.#stragglers.giveUpAll()
    const closing = this.#parts.local.close()
    await this.#turns.idle()
    await closing
  }

  #check(): void {
    if (this.#isClosed) throw new StorageError('CLOSED', 'the chunk store is closed')
  }
}

function unreachable(node: string): never {
  throw new StorageError('PEER_UNREACHABLE', `there is no link to ${node}`)
}
