import type { ChunkBuffer, ChunkStore } from '../../contract/chunk-store.ts'
import {
  type Fragment,
  fragmentId,
  fragmentLength,
  parityOffset,
  type Stripe,
  stripeBufferBytes,
  stripeWidth,
} from '../../contract/erasure.ts'
import { type ErrorCode, StorageError } from '../../contract/errors.ts'
import type { ChunkId } from '../../contract/ids.ts'
import type { ReplicaAcks, RequestOptions } from '../../contract/transport.ts'
import type { BegunTurn } from './chunk-turns.ts'
import { inTurns } from './find-copies.ts'
import { fragmentHolder, fragmentReaders } from './fragment-places.ts'
import type { ChunkLayout } from './layout.ts'
import { toldEpoch } from './moved-groups.ts'
import { type OwnPuts, slowerThanQuorum } from './own-puts.ts'
import { type FragmentRange, Rebuilder, type RebuildParts } from './rebuild.ts'
import type { CopyReader, CopyReads } from './region-read.ts'
import { type CopyFailure, copyError, isDamage, readError, writeError } from './replica-errors.ts'
import type { Stragglers } from './stragglers.ts'

export interface StripedChunksParts extends RebuildParts {
  readonly local: Pick<ChunkStore, 'acquire' | 'delete' | 'get' | 'has' | 'put' | 'recompute'>
  readonly stragglers: Stragglers
  readonly ownPuts: OwnPuts
  readonly reads: CopyReads
  readonly putDeadlineMs: number
}

const getDeadlineMs = 10_000
const hasDeadlineMs = 5000
/** The holder of a fragment may take so many of its medians, within bounds, before the fragment is computed of others too. */
const hedgeMedians = 8
const leastHedgeMs = 25
const mostHedgeMs = 400
/** What is said when the others are too few: the fragment itself may be left where nobody looks first. */
const mayBeElsewhere: readonly ErrorCode[] = ['CHUNK_NOT_FOUND', 'CORRUPT_CHUNK', 'UNAVAILABLE']

/**
 * Chunks that are kept as fragments. A write is acknowledged when one fragment more than are needed to read it is durable (`quorum`),
 * or all (`all`), or just as many as are needed (`one`); what was not reached is brought by repair. A read takes the data fragment
 * that has the bytes; around one that is missing, damaged, slow or out of reach the bytes are computed of k others.
 */
export class StripedChunks {
  readonly #parts: StripedChunksParts
  readonly rebuilder: Rebuilder

  constructor(parts: StripedChunksParts) {
    this.#parts = parts
    this.rebuilder = new Rebuilder(parts)
  }

  /** `buffer` is one of the local store, with room for the parity. */
  write(
    id: ChunkId,
    buffer: ChunkBuffer,
    stripe: Stripe,
    acks: ReplicaAcks,
    qosClass: number | undefined,
  ): BegunTurn<void> {
    const { self, stragglers, damaged } = this.#parts
    const layout = this.#parts.layout()
    const refuse = (error: StorageError): BegunTurn<void> => ({
      answer: Promise.reject(error),
      settled: Promise.resolve(),
    })
    if (layout.stripe(stripeWidth(stripe)) === undefined) {
      const problem = `the cluster map has no places yet for chunks of ${stripeWidth(stripe)} fragments`
      return refuse(new StorageError('UNAVAILABLE', problem))
    }
    if (buffer.bytes.length < stripeBufferBytes(stripe)) {
      return refuse(
        new StorageError('INVALID_ARGUMENT', 'the buffer has no room for the parity of its chunk'),
      )
    }
    const fragments = cut(buffer.bytes, stripe)
    const data = fragments.filter(({ fragment }) => fragment < stripe.dataFragments)
    // What is empty is known without being stored: of what is stored so many may be lost as the code allows.
    const needed = data.length
    const wanted = acks === 'all' ? fragments.length : acks === 'one' ? needed : needed + 1
    const parity = fragments.slice(data.length)
    const coded = this.#code(stripe, data, parity)
    const abort = new AbortController()
    const options: RequestOptions = {
      deadlineMs: this.#parts.putDeadlineMs,
      signal: abort.signal,
      mapEpoch: toldEpoch(layout.map.epoch),
      ...(qosClass === undefined ? {} : { classIndex: qosClass }),
    }
    const failures: (CopyFailure & { readonly fragment: number })[] = []
    let durable = 0
    let ended = 0
    let isDecided = false
    let isStale = false
    let straggled: (() => void) | undefined
    let acknowledge: () => void = () => undefined
    let reject: (error: StorageError) => void = () => undefined
    const answer = new Promise<void>((resolve, fail) => {
      acknowledge = resolve
      reject = fail
    })
    const decide = (): void => {
      isDecided = true
      if (ended === fragments.length) return
      straggled = stragglers.add(stripe.byteLength, () => abort.abort(slowerThanQuorum))
    }
    const store = async ({ fragment, bytes }: Fragment): Promise<void> => {
      const node = fragmentHolder(layout, stripe, id, fragment)
      try {
        if (fragment >= stripe.dataFragments) await coded
        await this.#put(node, fragmentId(id, fragment), bytes, options, abort.signal, qosClass)
        ended++
        durable++
        if (durable === wanted && !isDecided) {
          acknowledge()
          decide()
        }
      } catch (reason) {
        const error = copyError(self, node, reason)
        ended++
        failures.push({ node, fragment, error })
        if (isDecided) return
        if (error.code === 'STALE_MAP') {
          isStale = true
          reject(error)
          decide()
          abort.abort()
        } else if (failures.length === fragments.length - wanted + 1) {
          reject(writeError(failures, wanted, fragments.length))
          decide()
        }
      }
    }
    const settled = Promise.allSettled([...fragments.map(store), coded]).then(() => {
      straggled?.()
      if (isStale || durable < wanted) return
      for (const { node, fragment, error } of failures) {
        if (node === '') continue
        const problem = error.code === 'CONFLICT' ? 'corrupt' : 'missing'
        damaged({ id: fragmentId(id, fragment), node, problem, stripe })
      }
    })
    return { answer, settled }
  }

  async #code(stripe: Stripe, data: readonly Fragment[], parity: readonly Fragment[]): Promise<void> {
    const { local } = this.#parts
    if (local.recompute === undefined)
      throw new StorageError('NOT_IMPLEMENTED', 'the chunk store of this node does not code')
    const sources = Array.from(
      { length: stripe.dataFragments },
      (_, fragment): Fragment => data[fragment] ?? { fragment, bytes: new Uint8Array(0) },
    )
    await local.recompute({ scheme: stripe, sources, targets: parity })
  }

  async #put(
    node: string,
    id: ChunkId,
    bytes: Uint8Array,
    options: RequestOptions,
    signal: AbortSignal,
    qosClass: number | undefined,
  ): Promise<void> {
    const { self, local, peers, ownPuts } = this.#parts
    const slice: ChunkBuffer = { bytes, release: () => undefined }
    if (node === self) return ownPuts.put(() => local.put(id, slice, bytes.length, qosClass), signal)
    const peer = node === '' ? undefined : peers(node)
    if (peer === undefined) {
      const problem = node === '' ? 'there are fewer nodes than fragments' : `there is no link to ${node}`
      throw new StorageError('PEER_UNREACHABLE', problem)
    }
    await peer.chunks.put(id, slice, bytes.length, options)
  }

  /** As ChunkStore.get. */
  async get(
    id: ChunkId,
    stripe: Stripe,
    offset: number,
    length: number,
    signal: AbortSignal | undefined,
    qosClass: number | undefined,
  ): Promise<ChunkBuffer> {
    const { fragmentBytes, byteLength } = stripe
    if (!(offset >= 0 && length >= 0 && offset <= byteLength))
      throw new StorageError('INVALID_ARGUMENT', 'the range lies outside the chunk')
    const end = Math.min(byteLength, offset + length)
    if (end === offset) return this.#parts.local.acquire(0, signal)
    const first = Math.floor(offset / fragmentBytes)
    const partOf = (fragment: number): FragmentRange => {
      const base = fragment * fragmentBytes
      const from = Math.max(0, offset - base)
      return { id, stripe, fragment, start: from, end: Math.min(fragmentBytes, end - base), qosClass }
    }
    if (end <= (first + 1) * fragmentBytes) return this.#read(partOf(first), signal)
    const whole = await this.#parts.local.acquire(end - offset, signal)
    try {
      for (let fragment = first; fragment * fragmentBytes < end; fragment++) {
        const part = partOf(fragment)
        const buffer = await this.#read(part, signal)
        whole.bytes.set(buffer.bytes, fragment * fragmentBytes + part.start - offset)
        buffer.release()
      }
      return whole
    } catch (error) {
      whole.release()
      throw error
    }
  }

  async #read(range: FragmentRange, signal: AbortSignal | undefined): Promise<ChunkBuffer> {
    const { self, peers } = this.#parts
    const { id, stripe, fragment } = range
    const layout = this.#parts.layout()
    const places = fragmentReaders(layout, stripe, id, fragment)
    const isNear = (node: string): boolean => node === self || peers(node)?.isUsable === true
    const near = places.filter(isNear).map((node) => this.#readerOf(node, range))
    const far = places.filter((node) => !isNear(node)).map((node) => this.#readerOf(node, range))
    const computed: CopyReader = {
      node: '',
      hedgeAfterMs: mostHedgeMs * 10,
      read: (abort) => this.rebuilder.rebuild(range, abort),
    }
    const outcome = await this.#parts.reads.read([...near, computed, ...far], signal)
    this.#report(layout, range, outcome.failures)
    if (outcome.buffer !== undefined) return outcome.buffer
    // What the fragments together say is more than what one of them says.
    const error = outcome.failures.find(({ node }) => node === '')?.error ?? readError(outcome.failures)
    if (!mayBeElsewhere.includes(error.code) || signal?.aborted === true) throw error
    const anyway = await this.#readAnyway(layout, places, range, signal)
    this.#report(layout, range, anyway.failures)
    if (anyway.buffer !== undefined) return anyway.buffer
    const hasAllDenied = anyway.failures.every(({ error: { code } }) => code === 'CHUNK_NOT_FOUND')
    // Whoever could not be asked may have it.
    if (error.code === 'UNAVAILABLE' || hasAllDenied) throw error
    throw readError([...outcome.failures.filter(({ node }) => node !== ''), ...anyway.failures])
  }

  /**
   * Too few others are left to compute it of. Whoever held it under an earlier map may still have it: with fewer nodes than fragments a
   * drained one keeps what has no place elsewhere.
   */
  async #readAnyway(
    layout: ChunkLayout,
    asked: readonly string[],
    range: FragmentRange,
    signal: AbortSignal | undefined,
  ): Promise<{ readonly buffer?: ChunkBuffer; readonly failures: readonly CopyFailure[] }> {
    const rest = [this.#parts.self, ...layout.others].filter((name) => !asked.includes(name))
    const failures: CopyFailure[] = []
    for (const some of inTurns(rest)) {
      const readers = some.map((node) => this.#readerOf(node, range))
      const one = await this.#parts.reads.read(readers, signal)
      failures.push(...one.failures)
      if (one.buffer !== undefined) return { buffer: one.buffer, failures }
      if (signal?.aborted === true) break
    }
    return { failures }
  }

  #readerOf(node: string, { id, fragment, start, end, qosClass }: FragmentRange): CopyReader {
    const { self, local, peers } = this.#parts
    const own = fragmentId(id, fragment)
    const peer = node === self ? undefined : peers(node)
    const p50Ms = peer?.p50Ms ?? 0
    return {
      node,
      hedgeAfterMs:
        p50Ms === 0 ? mostHedgeMs : Math.min(mostHedgeMs, Math.max(leastHedgeMs, hedgeMedians * p50Ms)),
      read: async (abort) => {
        const buffer = await (node === self
          ? local.get(own, start, end - start, abort, qosClass)
          : (peer?.chunks.get(own, start, end - start, {
              deadlineMs: getDeadlineMs,
              signal: abort,
              ...(qosClass === undefined ? {} : { classIndex: qosClass }),
            }) ?? unreachable(node)))
        if (buffer.bytes.length === end - start) return buffer
        buffer.release()
        throw new StorageError('CORRUPT_CHUNK', `a fragment of ${node} is shorter than it should be`)
      },
    }
  }

  #report(
    layout: ChunkLayout,
    { id, stripe, fragment }: FragmentRange,
    failures: readonly CopyFailure[],
  ): void {
    const { damaged } = this.#parts
    const own = fragmentId(id, fragment)
    const { moving } = layout.map
    for (const { node, error } of failures) {
      if (node === '') continue
      const isComing = moving !== undefined && !moving.complete.includes(node)
      const isHolder = fragmentHolder(layout, stripe, id, fragment) === node
      if (isDamage(error)) damaged({ id: own, node, problem: 'corrupt', stripe })
      else if (error.code === 'CHUNK_NOT_FOUND' && isHolder && !isComing)
        damaged({ id: own, node, problem: 'missing', stripe })
    }
  }

  /** Whether so many fragments are there as are needed. UNAVAILABLE when that is not certain. */
  async has(id: ChunkId, stripe: Stripe): Promise<boolean> {
    const { self, local, peers } = this.#parts
    const layout = this.#parts.layout()
    const failures: CopyFailure[] = []
    const stored = Array.from({ length: stripeWidth(stripe) }, (_, fragment) => fragment).filter(
      (fragment) => fragmentLength(stripe, fragment) > 0,
    )
    const present = await Promise.all(
      stored.map(async (fragment) => {
        for (const node of fragmentReaders(layout, stripe, id, fragment)) {
          try {
            const own = fragmentId(id, fragment)
            const has =
              node === self
                ? await local.has(own)
                : await (peers(node)?.chunks.has(own, { deadlineMs: hasDeadlineMs }) ?? unreachable(node))
            if (has) return true
          } catch (reason) {
            failures.push({ node, error: copyError(self, node, reason) })
          }
        }
        return false
      }),
    )
    const needed = stored.length - stripe.parityFragments
    if (present.filter((is) => is).length >= needed) return true
    if (failures.length > 0) throw readError(failures)
    return false
  }

  /** As ChunkStore.delete: every fragment wherever it may be; `onDeleted` is called for each that was there. */
  async delete(
    id: ChunkId,
    stripe: Stripe,
    qosClass: number | undefined,
    onDeleted: () => void,
  ): Promise<void> {
    const { self, local, peers } = this.#parts
    const layout = this.#parts.layout()
    const mapEpoch = toldEpoch(layout.map.epoch)
    const options = { mapEpoch, ...(qosClass === undefined ? {} : { classIndex: qosClass }) }
    const failures: CopyFailure[] = []
    const places = Array.from({ length: stripeWidth(stripe) }, (_, fragment) =>
      fragmentReaders(layout, stripe, id, fragment).map((node) => ({ node, own: fragmentId(id, fragment) })),
    ).flat()
    await Promise.all(
      places.map(async ({ node, own }) => {
        try {
          const is =
            node === self
              ? await local.delete(own, qosClass)
              : await (peers(node)?.chunks.delete(own, options) ?? unreachable(node))
          if (is) onDeleted()
        } catch (reason) {
          failures.push({ node, error: copyError(self, node, reason) })
        }
      }),
    )
    const serious = failures.find(({ node, error }) => node === self || error.code === 'STALE_MAP')
    if (serious !== undefined) throw serious.error
    if (failures.length > 0 && failures.length === places.length) throw writeError(failures, 1, places.length)
  }
}

/** The fragments of a chunk's buffer that are not empty: the data where it is, parity behind it. */
function cut(bytes: Uint8Array, stripe: Stripe): readonly Fragment[] {
  const parityBytes = fragmentLength(stripe, 0)
  return Array.from({ length: stripeWidth(stripe) }, (_, fragment): Fragment => {
    const length = fragmentLength(stripe, fragment)
    const at =
      fragment < stripe.dataFragments
        ? fragment * stripe.fragmentBytes
        : parityOffset(stripe.byteLength) + (fragment - stripe.dataFragments) * parityOffset(parityBytes)
    return { fragment, bytes: bytes.subarray(at, at + length) }
  }).filter(({ bytes: { length } }) => length > 0)
}

function unreachable(node: string): never {
  throw new StorageError('PEER_UNREACHABLE', `there is no link to ${node}`)
}
