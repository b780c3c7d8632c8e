import type { Catalog, GarbageRecord, WriteOwner } from '../contract/catalog.ts'
import type { ChunkInfo, ChunkStore } from '../contract/chunk-store.ts'
import type { Clock } from '../contract/clock.ts'
import { type Stripe, stripeOf } from '../contract/erasure.ts'
import { type ChunkId, chunkId, chunkOwner, type WriteId, writeIdTime } from '../contract/ids.ts'
import type { LockFence } from '../contract/locks.ts'
import { backgroundClass } from '../contract/qos.ts'
import type { WriteRegistry } from '../contract/write-registry.ts'
import { Pace } from './pace.ts'

export interface CollectorOptions {
  readonly catalog: Pick<Catalog, 'garbage' | 'submit' | 'writeOwner'>
  readonly chunks: Pick<ChunkStore, 'delete' | 'list'>
  readonly writes: WriteRegistry
  readonly clock: Clock
  /** Ceiling of the work in the background; default 5000. */
  readonly chunksPerSecond?: number
  /**
   * A chunk is an orphan only when its write began longer ago than this. 0 (default) is right where every writer of the store
   * is in `writes`; a store that other processes write to needs more than the longest upload of a body.
   */
  readonly orphanAgeMs?: number
  /** In a region of several nodes: what the others are doing with bodies. */
  readonly elsewhere?: WritesElsewhere
  /** Where one of several nodes does it: asked before each batch; undefined: another one does. */
  readonly fence?: () => Promise<LockFence | undefined>
}

/** What `WriteRegistry` says of this process, of the other nodes of the region. */
export interface WritesElsewhere {
  /**
   * For each write, whether some other node writes or reads it. A node answers by a catalog that is at least as new as ours is now:
   * what is garbage here nobody begins to read there. UNAVAILABLE when a node did not answer that may; the signal's reason.
   */
  held(writeIds: readonly WriteId[], signal?: AbortSignal): Promise<readonly boolean[]>
  /**
   * The same of writes that nothing owns, which may be under way: only the node that began one knows. So one that does not answer holds
   * what it began as long as it is of the region.
   */
  heldUnowned(writeIds: readonly WriteId[], signal?: AbortSignal): Promise<readonly boolean[]>
  /** After it resolves our catalog shows every write that was acknowledged anywhere before the call. */
  caughtUp(): Promise<void>
  /**
   * A chunk that nothing owns, and nobody has under way, must have been seen so for this long: the entry of a write whose outcome its
   * gateway does not know may still come, however long it was under way before. Monotonic.
   */
  readonly orphanGraceMs: number
}

export interface CollectReport {
  /** Garbage rows that are gone, and the chunks deleted for them. */
  readonly writes: number
  readonly chunks: number
  /** Garbage that a reader still holds; a later round takes it. */
  readonly pinned: number
}

export interface OrphanReport {
  readonly scanned: number
  readonly deleted: number
  readonly bytes: number
}

/** Run both again and again (garbage every second or so, orphans after a start and now and then); each may fail and be repeated. */
export interface Collector {
  /** Frees all garbage there is now, in batches. */
  collect(signal?: AbortSignal): Promise<CollectReport>
  /** Looks at every chunk of the store once and deletes the orphans. */
  collectOrphans(signal?: AbortSignal): Promise<OrphanReport>
}

const garbageBatch = 128
const listBatch = 512
const deletesAtOnce = 16
/** Writes without an owner that are remembered between two looks; more wait for a later one. */
const mostSuspects = 65_536

export const chunkCount = (write: Pick<WriteOwner, 'byteLength' | 'chunkBytes'>): number =>
  write.byteLength === 0 ? 0 : Math.ceil(write.byteLength / write.chunkBytes)

/**
 * Gives space back. Chunks whose object was overwritten or deleted are named by the catalog's garbage rows: they are deleted
 * from the store first, then the rows, so that a crash in between only repeats deletes. Chunks that no row names are orphans of
 * a crash between storing a body and its entry.
 */
export function createCollector(options: CollectorOptions): Collector {
  const { catalog, chunks, writes, clock } = options
  const pace = new Pace(clock, options.chunksPerSecond ?? 5000)
  const orphanAgeMs = options.orphanAgeMs ?? 0
  const { elsewhere } = options
  /** When a write that nobody owned, and nobody had under way, was first seen, by its id. */
  let suspects = new Map<string, number>()

  /** So many at once, whoever owns them: bodies of one chunk are freed as fast as the chunks of a large one. */
  async function deleteAll(doomed: Iterable<DoomedChunk>, signal: AbortSignal | undefined): Promise<number> {
    let deleted = 0
    for (const some of inGroups(doomed, deletesAtOnce)) {
      signal?.throwIfAborted()
      await pace.take(some.length, signal)
      await Promise.all(some.map(({ id, stripe }) => chunks.delete(id, backgroundClass, stripe)))
      deleted += some.length
    }
    return deleted
  }

  async function collect(signal?: AbortSignal): Promise<CollectReport> {
    const report = { writes: 0, chunks: 0, pinned: 0 }
    let after: WriteId | undefined
    for (;;) {
      signal?.throwIfAborted()
      const batch = catalog.garbage(garbageBatch, after)
      after = batch.at(-1)?.writeId
      if (after === undefined) return report
      const fence = await options.fence?.()
      if (options.fence !== undefined && fence === undefined) return report
      const held = await elsewhere?.held(
        batch.map(({ writeId }) => writeId),
        signal,
      )
      // Nobody can begin to read them any more: a pin is taken in the turn in which the object's record was read, and the
      // garbage row became visible together with the record that took its place.
      const freed = batch.filter(({ writeId }, at) => !writes.isPinned(writeId) && held?.[at] !== true)
      report.pinned += batch.length - freed.length
      report.chunks += await deleteAll(chunksOf(freed), signal)
      if (freed.length > 0) {
        const under = fence === undefined ? {} : { fence }
        await catalog.submit({ type: 'collected', writeIds: freed.map(({ writeId }) => writeId), ...under })
      }
      report.writes += freed.length
    }
  }

  /** Reads nothing that can change before it returns: no await between the checks. */
  function isOrphan(chunk: ChunkInfo, nowMs: number): boolean {
    const { writeId, index } = chunkOwner(chunk.id)
    if (writes.isInFlight(writeId) || writes.isPinned(writeId)) return false
    if (orphanAgeMs > 0 && nowMs - writeIdTime(writeId) < orphanAgeMs) return false
    const owner = catalog.writeOwner(writeId)
    return owner === undefined || index >= chunkCount(owner)
  }

  /**
   * Other nodes write to this store, and their entries come here later than their chunks. What was in flight anywhere when its chunk
   * was listed is either still so after all have answered, or its entry is visible behind a barrier.
   */
  async function ownedByNobody(
    found: readonly ChunkInfo[],
    seen: Map<string, number>,
    signal: AbortSignal | undefined,
  ): Promise<readonly ChunkInfo[]> {
    if (elsewhere === undefined || found.length === 0) return found
    const writeIds = new Map(found.map(({ id }) => [nameOf(id), chunkOwner(id).writeId]))
    const dueMs = clock.monotonic() - elsewhere.orphanGraceMs
    const isDue = (name: string): boolean => (suspects.get(name) ?? Number.POSITIVE_INFINITY) <= dueMs
    // First all nodes that may have begun one of them are known, then they are asked, then what they had finished is visible.
    await elsewhere.caughtUp()
    const held = await elsewhere.heldUnowned([...writeIds.values()], signal)
    await elsewhere.caughtUp()
    const free = new Set([...writeIds.keys()].filter((_, at) => held[at] === false))
    const nowMs = clock.monotonic()
    for (const name of free) {
      if (seen.size < mostSuspects) seen.set(name, suspects.get(name) ?? seen.get(name) ?? nowMs)
    }
    const wallMs = clock.now()
    return found.filter(
      (chunk) => free.has(nameOf(chunk.id)) && isDue(nameOf(chunk.id)) && isOrphan(chunk, wallMs),
    )
  }

  async function collectOrphans(signal?: AbortSignal): Promise<OrphanReport> {
    const report = { scanned: 0, deleted: 0, bytes: 0 }
    const seen = new Map<string, number>()
    let after: ChunkId | null = null
    for (;;) {
      signal?.throwIfAborted()
      await pace.take(listBatch, signal)
      const batch: readonly ChunkInfo[] = await chunks.list(after, listBatch)
      after = batch.at(-1)?.id ?? null
      if (after === null) {
        suspects = seen
        return report
      }
      report.scanned += batch.length
      const nowMs = clock.now()
      const orphans = await ownedByNobody(
        batch.filter((chunk) => isOrphan(chunk, nowMs)),
        seen,
        signal,
      )
      report.deleted += await deleteAll(orphans, signal)
      for (const orphan of orphans) report.bytes += orphan.byteLength
    }
  }

  return { collect, collectOrphans }
}

/** Of the chunk's write, as a key of maps. */
const nameOf = (id: ChunkId): string => Buffer.from(chunkOwner(id).writeId).toString('latin1')

interface DoomedChunk {
  readonly id: ChunkId
  /** As its write says. */
  readonly stripe?: Stripe
}

/** Of any chunk of a write: all have the same fragments, or fewer. */
function* chunksOf(garbage: readonly GarbageRecord[]): Generator<DoomedChunk> {
  for (const write of garbage) {
    const stripe = write.erasure === undefined ? {} : { stripe: stripeOf(write, write.erasure, 0) }
    const count = chunkCount(write)
    for (let index = 0; index < count; index++) yield { id: chunkId(write.writeId, index), ...stripe }
  }
}

function* inGroups<T>(items: Iterable<T>, size: number): Generator<readonly T[]> {
  let group: T[] = []
  for (const item of items) {
    group.push(item)
    if (group.length < size) continue
    yield group
    group = []
  }
  if (group.length > 0) yield group
}
