import type { WriteOwner } from '../../contract/catalog.ts'
import {
  fragmentId,
  fragmentLength,
  fragmentOf,
  type Stripe,
  stripeOf,
  stripeWidth,
} from '../../contract/erasure.ts'
import { StorageError } from '../../contract/errors.ts'
import { chunkId, type WriteId } from '../../contract/ids.ts'
import {
  type Damage,
  damageTopic,
  decodeDamage,
  decodeFragments,
  fragmentTopic,
  sendDamage,
} from './damage-messages.ts'
import { Fetcher } from './fetcher.ts'
import { countFragments, findCopies } from './find-copies.ts'
import { fragmentHolder, isHolderOf, ownStripe } from './fragment-places.ts'
import { type ChunkLayout, groupOf } from './layout.ts'
import { freeLeftovers } from './leftovers.ts'
import type { DamagedCopy } from './peers.ts'
import { RecentChunks } from './recent-chunks.ts'
import type { RepairParts, RepairStatus } from './repair-parts.ts'

const defaultIntervalMs = 6 * 3_600_000
const defaultRetryMs = 5000
const mostRetryMs = 300_000
const defaultChecksPerSecond = 20_000
const writesBatch = 256
const lookupsAtOnce = 64
const surveysAtOnce = 16
/** Reports that wait to be looked at; beyond that a whole round finds them. */
const mostReports = 8192
/** Kept for one node that is away, and for so many; a later round of theirs finds the rest. */
const mostUntold = 16_384
const mostNodesUntold = 64
const reportsAtOnce = 1024
/** After a peer has come back there is more to come; one round for all of it. */
const settleMs = 2000
const reportRoundsMs = 60_000
/** After a round with a reason comes another one: the entries of writes that were under way then were not to be seen yet. */
const confirmMs = 600_000

/**
 * Makes this node complete: it walks everything that must exist, looks for what it has to hold, and fetches what is not there. After a
 * change of the map, when it was away, when a read or a write tells of a missing or damaged copy, and slowly all the time.
 */
export class Repair {
  readonly #parts: RepairParts
  readonly #stopping = new AbortController()
  readonly #fetcher: Fetcher
  /** For nodes that are away. */
  readonly #untold = new Map<string, Damage[]>()
  readonly #reports = new Map<string, Damage>()
  /** What could not be repaired a moment ago: each try reports what else is damaged of the chunk, and whoever has that tries in turn. */
  readonly #failed = new RecentChunks(mostReports, reportRoundsMs)
  #running: readonly Promise<void>[] = []
  #isWoken = true
  #isKnown = false
  #wakeUp: AbortController | undefined
  #state: RepairStatus['state'] = 'idle'
  #completeFor: number | undefined
  #isComplete = false
  /** But for what is lost. */
  #hasWhatIsLeft = false
  #lastReportRoundMs = Number.NEGATIVE_INFINITY
  #problem = ''
  #round = { checked: 0, missing: 0, unresolved: 0, lost: 0 }
  #rounds = 0
  #leftovers = 0
  #freed = 0
  /** The table for which nothing of others is left here. */
  #cleanFor: ChunkLayout | undefined
  #reportsCame: (() => void) | undefined
  readonly #undo: (() => void)[] = []

  constructor(parts: RepairParts) {
    this.#parts = parts
    this.#fetcher = new Fetcher(parts, this.#stopping.signal, (id) => {
      this.#failed.note(id, parts.clock.monotonic())
      this.#lookSoon()
    })
  }

  /** CONFLICT when somebody serves the topic already. */
  start(): void {
    const { peers } = this.#parts
    this.#undo.push(
      peers.serve(damageTopic, { message: (_, message) => this.#take(message, decodeDamage) }),
      peers.serve(fragmentTopic, { message: (_, message) => this.#take(message, decodeFragments) }),
      // Whoever was away, we or they, may have missed writes: what they would have told us was dropped.
      peers.onChange((peer, isConnected) => {
        if (!isConnected) return
        this.#tell(peer)
        this.wake()
      }),
    )
    this.#running = [this.#walk(), this.#reported()]
  }

  /** There is a reason to look at everything again: the map has changed, or we were away. */
  wake(): void {
    this.#isWoken = true
    this.#isKnown = false
    this.#wakeUp?.abort()
  }

  /** A copy was found missing or damaged. Does not wait; what cannot be told now is found by a later round. */
  report({ node, id, problem, stripe = this.#stripeOf(id) }: DamagedCopy): void {
    const damage = { id, isCorrupt: problem === 'corrupt', ...(stripe === undefined ? {} : { stripe }) }
    if (node === this.#parts.self) this.#add(damage)
    else if (this.#parts.peers.connected().includes(node)) {
      sendDamage(this.#parts.peers, node, [damage])
    } else this.#keep(node, damage)
  }

  /**
   * A node that is away hears of it when it is back. Its own round alone would not do: the entry of a long write may come after that.
   */
  #keep(node: string, damage: Damage): void {
    const kept = this.#untold.get(node) ?? []
    if (kept.length < mostUntold) kept.push(damage)
    if (this.#untold.size < mostNodesUntold) this.#untold.set(node, kept)
  }

  #stripeOf(id: Uint8Array): Stripe | undefined {
    return fragmentOf(id) === undefined ? undefined : ownStripe(this.#parts.catalog, id)
  }

  #tell(node: string): void {
    const kept = this.#untold.get(node) ?? []
    this.#untold.delete(node)
    for (let start = 0; start < kept.length; start += reportsAtOnce) {
      sendDamage(this.#parts.peers, node, kept.slice(start, start + reportsAtOnce))
    }
  }

  status(): RepairStatus {
    const { checked, missing, unresolved, lost } = this.#round
    return {
      state: this.#state,
      complete: this.#isComplete && this.#reports.size === 0 && this.#fetcher.queuedChunks === 0,
      isKnown: this.#isKnown,
      completeFor: this.#completeFor,
      checkedChunks: checked,
      missingChunks: missing,
      unresolvedChunks: unresolved,
      lostChunks: lost,
      queuedChunks: this.#fetcher.queuedChunks + this.#reports.size,
      queuedBytes: this.#fetcher.queuedBytes,
      fetchedChunks: this.#fetcher.fetchedChunks,
      fetchedBytes: this.#fetcher.fetchedBytes,
      rounds: this.#rounds,
      leftoverChunks: this.#leftovers,
      freedLeftovers: this.#freed,
      problem: this.#problem,
    }
  }

  async stop(): Promise<void> {
    for (const undo of this.#undo.splice(0)) undo()
    this.#stopping.abort()
    this.#wakeUp?.abort()
    this.#reportsCame?.()
    await Promise.all(this.#running)
  }

  // What is reported

  #take(message: Uint8Array, decode: (message: Uint8Array) => readonly Damage[]): void {
    let damage: readonly Damage[]
    try {
      damage = decode(message)
    } catch (error) {
      this.#parts.log.warn({ err: error }, 'a node sent a report that is none')
      return
    }
    for (const one of damage) this.#add(one)
  }

  #add(damage: Damage): void {
    // Whose fragment it is nobody knows: then nobody can say what else there is of its chunk.
    if (fragmentOf(damage.id) !== undefined && damage.stripe === undefined) return
    if (!isHolderOf(this.#parts.layout(), this.#parts.self, damage.id, damage.stripe)) return
    if (this.#failed.has(damage.id, this.#parts.clock.monotonic())) return
    const key = Buffer.from(damage.id).toString('latin1')
    if (this.#reports.size >= mostReports) {
      this.wake()
      return
    }
    if (damage.isCorrupt || !this.#reports.has(key)) this.#reports.set(key, damage)
    this.#reportsCame?.()
  }

  async #reported(): Promise<void> {
    const { signal } = this.#stopping
    while (!signal.aborted) {
      if (this.#reports.size === 0) {
        await new Promise<void>((resolve) => {
          this.#reportsCame = resolve
        })
        continue
      }
      const some = [...this.#reports].slice(0, surveysAtOnce)
      await Promise.all(
        some.map(async ([key, { id, isCorrupt, stripe }]) => {
          try {
            // Whose it is nobody may know yet: the write can still be under way. Its length comes with its bytes.
            if (!isCorrupt && (await this.#parts.local.has(id))) return
            const { sources } = await this.#find(id, stripe)
            const one = { id, isCorrupt, byteLength: 0, sources }
            if (stripe !== undefined) await this.#fetcher.add({ ...one, stripe })
            else if (sources.length > 0) await this.#fetcher.add(one)
            else this.#lookSoon()
          } catch (error) {
            if (!signal.aborted) this.#parts.log.debug({ err: error }, 'a report could not be followed')
            this.#lookSoon()
          } finally {
            this.#reports.delete(key)
          }
        }),
      )
    }
  }

  /** A report led nowhere. Rounds for such reasons keep a distance: there may be many. */
  #lookSoon(): void {
    this.#isComplete = false
    this.#hasWhatIsLeft = false
    const nowMs = this.#parts.clock.monotonic()
    if (nowMs - this.#lastReportRoundMs < reportRoundsMs) return
    this.#lastReportRoundMs = nowMs
    this.wake()
  }

  #find(id: Uint8Array, stripe: Stripe | undefined) {
    return findCopies(this.#parts.self, this.#parts.layout(), this.#parts.chunkPeers, id, stripe)
  }

  // Rounds

  async #walk(): Promise<void> {
    const { clock, log, intervalMs = defaultIntervalMs, retryMs = defaultRetryMs } = this.#parts
    const { signal } = this.#stopping
    let failures = 0
    let isConfirmed = false
    while (!signal.aborted) {
      const calmMs = isConfirmed ? intervalMs : Math.min(intervalMs, confirmMs)
      const pauseMs = failures > 0 ? Math.min(mostRetryMs, retryMs * 2 ** Math.min(20, failures - 1)) : calmMs
      if (this.#isWoken) failures = 0
      else await this.#pause(pauseMs)
      if (signal.aborted) return
      const wasWoken = this.#isWoken
      this.#isWoken = false
      isConfirmed = !wasWoken && failures === 0
      try {
        if (wasWoken) await clock.sleep(settleMs, signal)
        const layout = this.#parts.layout()
        await this.#look(layout, signal)
        // Whoever woke us meanwhile knows of something that this round may have passed already.
        if (!this.#isWoken) this.#isKnown = true
        if (this.#hasWhatIsLeft && layout.map.moving === undefined) await this.#clean(layout, signal)
        // What is lost is looked for again and again: somebody may come back with it.
        const isDone = this.#isComplete && !this.#mustLookAgain() && this.#leftovers === 0
        failures = isDone ? 0 : failures + 1
      } catch (reason) {
        if (signal.aborted) return
        const error = StorageError.from(reason)
        failures++
        this.#isComplete = false
        this.#hasWhatIsLeft = false
        this.#problem = error.reason
        log.warn({ err: error }, 'a round of repair was cut short')
      } finally {
        this.#state = 'idle'
      }
    }
  }

  /** A move waits for us, and the round that was complete began too early to say so. */
  #mustLookAgain(): boolean {
    const { moving } = this.#parts.layout().map
    return moving !== undefined && this.#completeFor !== moving.fromEpoch
  }

  async #pause(ms: number): Promise<void> {
    this.#wakeUp = new AbortController()
    try {
      await this.#parts.clock.sleep(ms, AbortSignal.any([this.#wakeUp.signal, this.#stopping.signal]))
    } catch {
      // Woken.
    } finally {
      this.#wakeUp = undefined
    }
  }

  async #look(layout: ChunkLayout, signal: AbortSignal): Promise<void> {
    const { catalog, fence, log } = this.#parts
    const { moving } = layout.map
    // Behind the fence everything that was written by the map before is in the catalog, and behind the barrier we see it.
    const isFenced = moving === undefined || (await fence.passedEverywhere(moving.fromEpoch + 1))
    await catalog.barrier()
    this.#state = 'looking'
    this.#round = { checked: 0, missing: 0, unresolved: 0, lost: 0 }
    this.#fetcher.failed = 0
    let after: WriteId | null = null
    for (;;) {
      signal.throwIfAborted()
      const batch: readonly WriteOwner[] = catalog.writes(after, writesBatch)
      after = batch.at(-1)?.writeId ?? null
      if (after === null) break
      await this.#check(layout, batch, signal)
    }
    this.#state = 'fetching'
    await this.#fetcher.idle()
    this.#round.unresolved += this.#fetcher.failed
    const { missing, unresolved, lost } = this.#round
    this.#rounds++
    this.#isComplete = unresolved === 0
    // Nobody has what is lost, at the places of before neither: a move that waited for it would never end, and keep new nodes out for ever.
    this.#hasWhatIsLeft = unresolved === lost
    this.#problem = unresolved === 0 ? '' : `${unresolved} chunks could not be fetched`
    if (lost > 0) log.error({ lost }, 'chunks are nowhere in the region')
    if (missing > 0) log.info({ missing, unresolved }, 'fetched what was missing')
    if (this.#hasWhatIsLeft && isFenced && moving !== undefined) this.#completeFor = moving.fromEpoch
    if (moving === undefined) this.#completeFor = undefined
  }

  async #check(layout: ChunkLayout, batch: readonly WriteOwner[], signal: AbortSignal): Promise<void> {
    const { self, local, clock, checksPerSecond = defaultChecksPerSecond } = this.#parts
    let wanted: Wanted[] = []
    const flush = async (): Promise<void> => {
      const some = wanted
      wanted = []
      const present = await Promise.all(some.map(({ id }) => local.has(id)))
      this.#round.checked += some.length
      const missing = some.filter((_, index) => present[index] === false)
      for (let start = 0; start < missing.length; start += surveysAtOnce) {
        await Promise.all(missing.slice(start, start + surveysAtOnce).map((chunk) => this.#survey(chunk)))
        signal.throwIfAborted()
      }
      await clock.sleep((some.length * 1000) / checksPerSecond, signal)
    }
    for (const { writeId, byteLength, chunkBytes, erasure } of batch) {
      const count = byteLength === 0 ? 0 : Math.ceil(byteLength / chunkBytes)
      for (let index = 0; index < count; index++) {
        const id = chunkId(writeId, index)
        if (erasure === undefined) {
          if (!layout.isHolder(self, groupOf(id))) continue
          wanted.push({ id, byteLength: Math.min(chunkBytes, byteLength - index * chunkBytes) })
        } else
          wanted.push(...ownFragments(layout, self, id, stripeOf({ chunkBytes, byteLength }, erasure, index)))
        if (wanted.length >= lookupsAtOnce) await flush()
      }
    }
    if (wanted.length > 0) await flush()
  }

  async #survey({ id, byteLength, stripe }: Wanted): Promise<void> {
    const { catalog, local } = this.#parts
    const { sources, ...search } = await this.#find(id, stripe)
    let { isUncertain } = search
    if (stripe !== undefined) {
      const others = await countFragments(
        this.#parts,
        this.#parts.layout(),
        this.#parts.chunkPeers,
        id,
        stripe,
      )
      const spare = others.found - stripe.dataFragments
      if (sources.length > 0 || spare >= 0) {
        this.#round.missing++
        const urgency = Math.max(0, spare)
        await this.#fetcher.add({ id, byteLength, isCorrupt: false, sources, stripe, spare: urgency })
        return
      }
      isUncertain ||= others.isUncertain
    } else if (sources.length > 0) {
      this.#round.missing++
      await this.#fetcher.add({ id, byteLength, isCorrupt: false, sources })
      return
    }
    if (catalog.writeOwner(id.slice(2, 12)) === undefined || (await local.has(id))) return
    this.#round.missing++
    this.#round.unresolved++
    if (!isUncertain) this.#round.lost++
  }

  /** Copies of groups that are not ours any more, once those whose they are have them. */
  async #clean(layout: ChunkLayout, signal: AbortSignal): Promise<void> {
    if (this.#cleanFor === layout) return
    const { freed, left } = await freeLeftovers(this.#parts, layout, signal)
    this.#freed += freed
    this.#leftovers = left
    if (left === 0 && this.#parts.layout() === layout) this.#cleanFor = layout
  }
}

interface Wanted {
  readonly id: Uint8Array
  readonly byteLength: number
  readonly stripe?: Stripe
}

/** The fragments of a chunk that a node is to have: one at most. */
function ownFragments(layout: ChunkLayout, self: string, id: Uint8Array, stripe: Stripe): readonly Wanted[] {
  return Array.from({ length: stripeWidth(stripe) }, (_, fragment) => fragment)
    .filter((fragment) => fragmentHolder(layout, stripe, id, fragment) === self)
    .map((fragment) => ({
      id: fragmentId(id, fragment),
      byteLength: fragmentLength(stripe, fragment),
      stripe,
    }))
    .filter(({ byteLength }) => byteLength > 0)
}
