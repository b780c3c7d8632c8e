import type { ClusterPeer } from '../../core/cluster/chunks/peers.ts'
import type { ChunkBuffer, ChunkStore } from '../../core/contract/chunk-store.ts'
import { StorageError } from '../../core/contract/errors.ts'
import { groupOfChunk } from '../../core/contract/ids.ts'
import type { RequestOptions } from '../../core/contract/transport.ts'

export interface StorePeer extends ClusterPeer {
  /** The node is not there. */
  isDown: boolean
  /** Requests are taken and not answered until it is false again, or until they are cancelled. */
  isStuck: boolean
  /** What it knows of moves: writes by an older map are STALE_MAP. */
  moved: Uint32Array | undefined
  /** Puts that began. */
  readonly puts: number
  /** Of puts: buffers in use right now. */
  readonly inUse: ReadonlySet<ChunkBuffer>
}

/** Another node's store as a peer, in this process, with faults. Buffers of answers are copies in the caller's own store. */
export function storePeer(node: string, store: ChunkStore, own: Pick<ChunkStore, 'acquire'>): StorePeer {
  let puts = 0
  let inFlight = 0
  const waiting = new Set<() => void>()
  const inUse = new Set<ChunkBuffer>()
  let isStuck = false
  const checkMap = (id: Uint8Array, mapEpoch = 0): void => {
    const isStale = mapEpoch !== 0 && mapEpoch < (peer.moved?.[groupOfChunk(id)] ?? 0)
    if (isStale) throw new StorageError('STALE_MAP', `${node} knows a newer map`)
  }
  const request = async <T>(options: RequestOptions | undefined, work: () => Promise<T>): Promise<T> => {
    inFlight++
    try {
      if (peer.isDown) throw new StorageError('PEER_UNREACHABLE', `no link to ${node}`)
      if (options?.signal?.aborted === true) throw new StorageError('CANCELLED', 'the request was cancelled')
      if (isStuck) {
        await new Promise<void>((resolve, reject) => {
          const cancel = (): void => {
            waiting.delete(resolve)
            reject(new StorageError('CANCELLED', 'the request was cancelled'))
          }
          waiting.add(resolve)
          options?.signal?.addEventListener('abort', cancel, { once: true })
        })
      }
      const answer = await work()
      if (peer.isDown) throw new StorageError('PEER_UNREACHABLE', `the link to ${node} broke`)
      return answer
    } finally {
      inFlight--
    }
  }
  const peer: StorePeer = {
    distance: 3,
    p50Ms: 1,
    isDown: false,
    moved: undefined,
    get isUsable() {
      return !peer.isDown
    },
    get isStuck() {
      return isStuck
    },
    set isStuck(value: boolean) {
      isStuck = value
      if (value) return
      for (const go of waiting) go()
      waiting.clear()
    },
    get puts() {
      return puts
    },
    inUse,
    chunks: {
      get inFlight() {
        return inFlight
      },
      async put(id, buffer, byteLength, options) {
        puts++
        inUse.add(buffer)
        try {
          // Only now, as late as a network may look at it.
          await request(options, async () => {
            checkMap(id, options?.mapEpoch)
            const copy = await store.acquire(byteLength, options?.signal)
            try {
              copy.bytes.set(buffer.bytes.subarray(0, byteLength))
              await store.put(id, copy, byteLength)
            } finally {
              copy.release()
            }
          })
        } finally {
          inUse.delete(buffer)
        }
      },
      get: (id, offset, length, options) =>
        request(options, async () => {
          const answer = await store.get(id, offset, length, options?.signal)
          try {
            const buffer = await own.acquire(answer.bytes.length, options?.signal)
            buffer.bytes.set(answer.bytes)
            return buffer
          } finally {
            answer.release()
          }
        }),
      has: (id, options) => request(options, () => store.has(id)),
      delete: (id, options) =>
        request(options, () => {
          checkMap(id, options?.mapEpoch)
          return store.delete(id)
        }),
    },
  }
  return peer
}
