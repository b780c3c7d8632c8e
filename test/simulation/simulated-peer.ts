import type { ClusterPeer } from '../../core/cluster/chunks/peers.ts'
import { StorageError } from '../../core/contract/errors.ts'
import { groupOfChunk } from '../../core/contract/ids.ts'
import type { RequestOptions } from '../../core/contract/transport.ts'
import type { MemoryStore } from '../kit/memory-store.ts'

export interface PeerWorld {
  /** The node as it is now; undefined: it cannot be reached. `moved`: what it knows of moves. */
  readonly find: () => { readonly disk: MemoryStore; readonly moved: Uint32Array } | undefined
  /** Of one request. */
  readonly delay: () => Promise<void>
  readonly isUsable: boolean
  /** A write by an old map was refused. */
  readonly onStale: () => void
}

/** Another node's chunks: what a link and the session at its other end would say. */
export function simulatedPeer(world: PeerWorld): ClusterPeer {
  const find = () => {
    const node = world.find()
    if (node === undefined) throw new StorageError('PEER_UNREACHABLE', 'no way there')
    return node
  }
  const request = async <T>(work: (disk: MemoryStore) => Promise<T>): Promise<T> => {
    find()
    await world.delay()
    const answer = await work(find().disk)
    find()
    return answer
  }
  const checkMap = (id: Uint8Array, options: RequestOptions | undefined): void => {
    if ((options?.mapEpoch ?? 0) >= (find().moved[groupOfChunk(id)] ?? 0)) return
    world.onStale()
    throw new StorageError('STALE_MAP', 'a newer map is known there')
  }
  return {
    distance: 3,
    isUsable: world.isUsable,
    p50Ms: 1,
    chunks: {
      inFlight: 0,
      put: (id, buffer, byteLength, options) =>
        request(async (disk) => {
          checkMap(id, options)
          await disk.put(id, buffer, byteLength)
        }),
      get: (id, offset, length) => request((disk) => disk.get(id, offset, length)),
      has: (id) => request((disk) => disk.has(id)),
      delete: (id, options) =>
        request(async (disk) => {
          checkMap(id, options)
          return disk.delete(id)
        }),
    },
  }
}
