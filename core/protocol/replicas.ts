import type { ChunkBuffer } from '../contract/chunk-store.ts'
import type { Clock } from '../contract/clock.ts'
import { StorageError } from '../contract/errors.ts'
import type { ChunkId } from '../contract/ids.ts'
import type {
  ChunkPeer,
  ReplicaSet,
  ReplicatedGetOptions,
  ReplicatedPut,
  ReplicatedPutOptions,
  RequestOptions,
} from '../contract/transport.ts'

/** What balancing looks at: a Link has all of it. */
export interface ReplicaView {
  /** 0 same host, 1 same rack, 2 same zone, 3 same region, 4 another region. */
  readonly distance: number
  readonly isUsable: boolean
  readonly inFlight: number
  /** Median of its last reads; 0 = not known. */
  readonly p50Ms: number
}

/**
 * In which order replicas are asked: the nearest first, and among equally near ones the better of two drawn at random
 * (Mitzenmacher, "The power of two choices in randomized load balancing", 1996), so that not everybody runs to the one that
 * looked best a moment ago. Those that cannot be reached come last. Indexes into `replicas`, each once.
 */
export function orderReplicas(replicas: readonly ReplicaView[], random: () => number): readonly number[] {
  const left = replicas.map((view, index) => ({ ...view, index }))
  const order: number[] = []
  while (left.length > 0) {
    const usable = left.filter(({ isUsable }) => isUsable)
    const pool = usable.length > 0 ? usable : left
    const nearest = Math.min(...pool.map(({ distance }) => distance))
    const near = pool.filter(({ distance }) => distance === nearest)
    const one = near[Math.floor(random() * near.length)]
    const others = near.filter((view) => view !== one)
    const two = others[Math.floor(random() * others.length)]
    const chosen = one !== undefined && two !== undefined && costOf(two) < costOf(one) ? two : one
    if (chosen === undefined) break
    order.push(chosen.index)
    left.splice(left.indexOf(chosen), 1)
  }
  return order
}

/** Expected wait: one more behind those under way. A replica that nobody has measured is worth a try. */
const costOf = ({ inFlight, p50Ms }: ReplicaView): number => (inFlight + 1) * Math.max(p50Ms, 0.001)

/**
 * Reads from the first peer; from the next one too when it has not answered within `hedgeAfterMs`, and at once when it failed.
 * The first sound answer wins, the others are cancelled and give their memory back. Rejects with the first error when all
 * have failed; CANCELLED by the signal.
 */
export async function hedgedGet(
  peers: readonly ChunkPeer[],
  clock: Clock,
  id: ChunkId,
  offset: number,
  length: number,
  options: ReplicatedGetOptions = {},
): Promise<ChunkBuffer> {
  const { hedgeAfterMs, ...request } = options
  if (peers.length === 0) throw new StorageError('INVALID_ARGUMENT', 'there is no replica to read from')
  return new Promise((resolve, reject) => {
    const running = new Map<ChunkPeer, AbortController>()
    let next = 0
    let failures = 0
    let firstError: StorageError | undefined
    let isSettled = false
    let timer: AbortController | undefined

    const settle = (): void => {
      isSettled = true
      timer?.abort()
      for (const abort of running.values()) abort.abort()
    }
    const start = (): void => {
      const peer = peers[next++]
      if (peer === undefined) return
      const abort = new AbortController()
      running.set(peer, abort)
      const signals = [abort.signal, ...(request.signal === undefined ? [] : [request.signal])]
      peer.get(id, offset, length, { ...request, signal: AbortSignal.any(signals) }).then(
        (buffer) => {
          running.delete(peer)
          if (isSettled) buffer.release()
          else {
            settle()
            resolve(buffer)
          }
        },
        (reason: unknown) => {
          running.delete(peer)
          if (isSettled) return
          firstError ??= StorageError.from(reason)
          failures++
          const isCancelled = request.signal?.aborted === true
          if (failures === peers.length || isCancelled) {
            settle()
            reject(isCancelled ? StorageError.from(reason) : firstError)
          } else if (running.size === 0) start()
        },
      )
      arm()
    }
    /** One hedge at a time: a slow region is not made slower by asking everybody. */
    const arm = (): void => {
      timer?.abort()
      if (hedgeAfterMs === undefined || next >= peers.length) return
      timer = new AbortController()
      clock.sleep(hedgeAfterMs, timer.signal).then(
        () => {
          if (!isSettled) start()
        },
        () => undefined,
      )
    }
    start()
  })
}

/** The chunk at several peers, over whatever reaches each of them. */
export function createReplicaSet(peers: readonly ChunkPeer[], clock: Clock): ReplicaSet {
  return {
    sessions: peers,
    put: (id, buffer, byteLength, options) =>
      putToAll(peers, (peer, request) => peer.put(id, buffer, byteLength, request), options),
    get: (id, offset, length, options) => hedgedGet(peers, clock, id, offset, length, options),
  }
}

function putToAll(
  peers: readonly ChunkPeer[],
  put: (peer: ChunkPeer, options: RequestOptions) => Promise<void>,
  { acks, ...request }: ReplicatedPutOptions,
): ReplicatedPut {
  const wanted = acks === 'all' ? peers.length : acks === 'one' ? 1 : Math.floor(peers.length / 2) + 1
  let acknowledge: () => void = () => undefined
  let refuse: (error: StorageError) => void = () => undefined
  const acknowledged = new Promise<void>((resolve, reject) => {
    acknowledge = resolve
    refuse = reject
  })
  // Whoever only waits for `settled` has not forgotten an error: it is in there.
  acknowledged.catch(() => undefined)
  let durable = 0
  let failed = 0
  let firstError: StorageError | undefined
  if (peers.length === 0) refuse(new StorageError('INVALID_ARGUMENT', 'there is no replica to write to'))
  const settled = Promise.all(
    peers.map(async (peer): Promise<{ readonly error?: StorageError }> => {
      try {
        await put(peer, request)
        durable++
        if (durable === wanted) acknowledge()
        return {}
      } catch (reason) {
        const error = StorageError.from(reason)
        firstError ??= error
        failed++
        if (failed > peers.length - wanted) refuse(firstError)
        return { error }
      }
    }),
  )
  return { acknowledged, settled }
}
