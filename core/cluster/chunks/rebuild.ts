import type { ChunkBuffer, ChunkStore } from '../../contract/chunk-store.ts'
import type { Clock } from '../../contract/clock.ts'
import {
  type Fragment,
  fragmentId,
  fragmentLength,
  type Stripe,
  stripeWidth,
} from '../../contract/erasure.ts'
import { StorageError } from '../../contract/errors.ts'
import type { ChunkId } from '../../contract/ids.ts'
import { fragmentReaders } from './fragment-places.ts'
import type { ChunkLayout } from './layout.ts'
import type { ClusterPeers, DamagedCopy, PeerView } from './peers.ts'
import { type CopyFailure, copyError, isDamage } from './replica-errors.ts'

export interface RebuildParts {
  readonly self: string
  readonly local: Pick<ChunkStore, 'acquire' | 'get' | 'recompute'>
  readonly peers: ClusterPeers
  readonly layout: () => ChunkLayout
  readonly order: (views: readonly PeerView[]) => readonly number[]
  readonly clock: Clock
  readonly damaged: (copy: DamagedCopy) => void
}

/** Bytes [start, end) of one fragment of a chunk. */
export interface FragmentRange {
  /** Of the chunk. */
  readonly id: ChunkId
  readonly stripe: Stripe
  readonly fragment: number
  readonly start: number
  readonly end: number
  readonly qosClass: number | undefined
}

const getDeadlineMs = 10_000
/** A further fragment is asked for when those that were do not come for so long. */
const hedgeAfterMs = 250
/** Each holds several buffers of the pool and waits for more: so many at a time leave room for everybody else. */
const atOnce = 4
/** An error does not name everybody in a large region: those who should have it come first. */
const mostNamed = 64

interface Source extends Fragment {
  readonly buffer: ChunkBuffer | undefined
}

/** Computes what is missing of a chunk of any k of its other fragments. */
export class Rebuilder {
  readonly #parts: RebuildParts
  #running = 0
  readonly #waiting: (() => void)[] = []
  /** Fragments, or ranges of them, that were computed. */
  rebuilt = 0

  constructor(parts: RebuildParts) {
    this.#parts = parts
  }

  /** CHUNK_NOT_FOUND when no fragment is anywhere, CORRUPT_CHUNK when too few are left, UNAVAILABLE when that is not certain. */
  async rebuild(range: FragmentRange, signal: AbortSignal): Promise<ChunkBuffer> {
    while (this.#running >= atOnce) await this.#turn(signal)
    this.#running++
    try {
      signal.throwIfAborted()
      return await this.#compute(range, signal)
    } finally {
      this.#running--
      this.#waiting.shift()?.()
    }
  }

  #turn(signal: AbortSignal): Promise<void> {
    return new Promise((resolve, reject) => {
      const wake = (): void => {
        signal.removeEventListener('abort', onAbort)
        resolve()
      }
      const onAbort = (): void => {
        const at = this.#waiting.indexOf(wake)
        if (at >= 0) this.#waiting.splice(at, 1)
        // Whoever woke us meant one that goes on.
        else this.#waiting.shift()?.()
        reject(new StorageError('CANCELLED', 'the read was cancelled', { cause: signal.reason }))
      }
      signal.addEventListener('abort', onAbort, { once: true })
      this.#waiting.push(wake)
    })
  }

  async #compute(range: FragmentRange, signal: AbortSignal): Promise<ChunkBuffer> {
    const { local } = this.#parts
    const { stripe, fragment, start, end } = range
    const sources = await this.#collect(range, signal)
    try {
      if (local.recompute === undefined) {
        throw new StorageError('NOT_IMPLEMENTED', 'the chunk store of this node does not code')
      }
      const target = await local.acquire(end - start, signal)
      try {
        const bytes = target.bytes.subarray(0, end - start)
        await local.recompute({ scheme: stripe, sources, targets: [{ fragment, bytes }] })
        this.rebuilt++
        return target
      } catch (error) {
        target.release()
        throw error
      }
    } finally {
      for (const { buffer } of sources) buffer?.release()
    }
  }

  /** The range of k other fragments. Nothing is held when it rejects. */
  async #collect(range: FragmentRange, signal: AbortSignal): Promise<readonly Source[]> {
    const { stripe, start } = range
    const found: Source[] = []
    const candidates: number[] = []
    for (let other = 0; other < stripeWidth(stripe); other++) {
      if (other === range.fragment) continue
      if (fragmentLength(stripe, other) > start) candidates.push(other)
      // Zeros are known without asking anybody.
      else found.push({ fragment: other, bytes: new Uint8Array(0), buffer: undefined })
    }
    // Of parity nothing is known for nothing: only data fragments end early.
    const known = found.splice(0).slice(0, stripe.dataFragments)
    const failures: CopyFailure[] = []
    const first = await this.#gather(range, this.#ordered(range, candidates), known, failures, signal, false)
    if (first.length === stripe.dataFragments) return first
    const lacking = candidates.filter((one) => !first.some(({ fragment }) => fragment === one))
    const all = await this.#gather(range, lacking, first, failures, signal, true)
    if (all.length === stripe.dataFragments) return all
    for (const { buffer } of all) buffer?.release()
    throw tooFew(failures, all.length - known.length, all.length, stripe)
  }

  /** As many as are still needed at a time; one more for each that fails or keeps us waiting. */
  #gather(
    range: FragmentRange,
    candidates: readonly number[],
    have: readonly Source[],
    failures: CopyFailure[],
    signal: AbortSignal,
    everywhere: boolean,
  ): Promise<readonly Source[]> {
    const { clock } = this.#parts
    const wanted = range.stripe.dataFragments
    const abort = new AbortController()
    const onAbort = (): void => abort.abort(signal.reason)
    signal.addEventListener('abort', onAbort, { once: true })
    return new Promise((resolve) => {
      const found = [...have]
      let next = 0
      let running = 0
      let isOver = false
      const finish = (): void => {
        if (isOver) return
        isOver = true
        signal.removeEventListener('abort', onAbort)
        abort.abort()
        resolve(found)
      }
      const start = (): void => {
        const fragment = candidates[next]
        if (fragment === undefined || isOver) return
        next++
        running++
        this.#read(range, fragment, everywhere, failures, abort.signal).then(
          (buffer) => {
            running--
            if (isOver || buffer === undefined) {
              buffer?.release()
              if (!isOver) more()
              return
            }
            found.push({ fragment, bytes: buffer.bytes, buffer })
            if (found.length === wanted) finish()
            else more()
          },
          () => {
            running--
            more()
          },
        )
      }
      const more = (): void => {
        if (signal.aborted) {
          finish()
          return
        }
        while (found.length + running < wanted && next < candidates.length) start()
        if (running === 0) finish()
      }
      const hedge = async (): Promise<void> => {
        while (!isOver && next < candidates.length) {
          await clock.sleep(hedgeAfterMs, abort.signal)
          start()
        }
      }
      if (found.length >= wanted) return finish()
      more()
      hedge().catch(() => undefined)
    })
  }

  /** Undefined: nobody has it, or not sound; who failed is among the failures. */
  async #read(
    { id, stripe, start, end, qosClass }: FragmentRange,
    fragment: number,
    everywhere: boolean,
    failures: CopyFailure[],
    signal: AbortSignal,
  ): Promise<ChunkBuffer | undefined> {
    const { self, local, peers, damaged } = this.#parts
    const layout = this.#parts.layout()
    const places = fragmentReaders(layout, stripe, id, fragment)
    const others = [self, ...layout.others].filter((name) => !places.includes(name))
    const names = everywhere ? others : places
    const own = fragmentId(id, fragment)
    const length = Math.min(end, fragmentLength(stripe, fragment)) - start
    for (const node of names) {
      try {
        const buffer = await (node === self
          ? local.get(own, start, length, signal, qosClass)
          : (peers(node)?.chunks.get(own, start, length, {
              deadlineMs: getDeadlineMs,
              signal,
              ...(qosClass === undefined ? {} : { classIndex: qosClass }),
            }) ?? unreachable(node)))
        if (buffer.bytes.length === length) return buffer
        buffer.release()
        throw new StorageError('CORRUPT_CHUNK', `a fragment of ${node} is shorter than it should be`)
      } catch (reason) {
        if (signal.aborted) return undefined
        const error = copyError(self, node, reason)
        failures.push({ node, error })
        const { moving } = layout.map
        const isComing = moving !== undefined && !moving.complete.includes(node)
        if (isDamage(error)) damaged({ id: own, node, problem: 'corrupt', stripe })
        else if (error.code === 'CHUNK_NOT_FOUND' && node === places[0] && !isComing && !everywhere)
          damaged({ id: own, node, problem: 'missing', stripe })
      }
    }
    return undefined
  }

  /** Our own first, then the better ways. */
  #ordered({ id, stripe }: FragmentRange, candidates: readonly number[]): readonly number[] {
    const { self, peers, order } = this.#parts
    const layout = this.#parts.layout()
    const placed = candidates.map((fragment) => ({
      fragment,
      node: fragmentReaders(layout, stripe, id, fragment)[0] ?? '',
    }))
    const mine = placed.filter(({ node }) => node === self)
    const others = placed.filter(({ node }) => node !== self)
    const views = others.map(({ node }): PeerView => {
      const peer = peers(node)
      if (peer === undefined) return { distance: 3, isUsable: false, inFlight: 0, p50Ms: 0 }
      const { distance, isUsable, p50Ms } = peer
      return { distance, isUsable, p50Ms, inFlight: peer.chunks.inFlight }
    })
    const ordered = order(views).flatMap((at) => others[at] ?? [])
    return [...mine, ...ordered].map(({ fragment }) => fragment)
  }
}

function unreachable(node: string): never {
  throw new StorageError('PEER_UNREACHABLE', `there is no link to ${node}`)
}

function tooFew(
  failures: readonly CopyFailure[],
  read: number,
  found: number,
  { dataFragments }: Stripe,
): StorageError {
  for (const code of ['CANCELLED', 'CLOSED', 'INVALID_ARGUMENT'] as const) {
    const own = failures.find(({ error }) => error.code === code)
    if (own !== undefined) return own.error
  }
  const uncertain = failures.find(
    ({ error }) => error.code !== 'CHUNK_NOT_FOUND' && error.code !== 'CORRUPT_CHUNK',
  )
  if (uncertain !== undefined) {
    const names = [...new Set(failures.map(({ node, error }) => `${node}: ${error.code}`))]
      .slice(0, mostNamed)
      .join('; ')
    const problem = `${found} of the ${dataFragments} fragments needed could be read (${names})`
    return new StorageError('UNAVAILABLE', problem, { cause: uncertain.error })
  }
  const [first] = failures
  const isNowhere = read === 0 && failures.every(({ error }) => error.code === 'CHUNK_NOT_FOUND')
  if (isNowhere) return new StorageError('CHUNK_NOT_FOUND', 'no fragment of the chunk is anywhere')
  const problem = `only ${found} of the ${dataFragments} fragments needed are left`
  return new StorageError('CORRUPT_CHUNK', problem, { cause: first?.error })
}
