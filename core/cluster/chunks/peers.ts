import type { Stripe } from '../../contract/erasure.ts'
import type { ChunkPeer } from '../../contract/transport.ts'

/** Another node's chunks, and how good the way there is. */
export interface ClusterPeer {
  readonly chunks: Pick<ChunkPeer, 'put' | 'get' | 'has' | 'delete' | 'inFlight'>
  /** 0 same host, 1 same rack, 2 same zone, 3 same region. */
  readonly distance: number
  /** Whether it is worth asking first; one that is not is asked last. */
  readonly isUsable: boolean
  /** Median of its last reads; 0 = not known. */
  readonly p50Ms: number
}

/** What balancing looks at. */
export interface PeerView {
  readonly distance: number
  readonly isUsable: boolean
  readonly inFlight: number
  readonly p50Ms: number
}

/** By name; undefined: nothing is known of how to reach it. */
export type ClusterPeers = (node: string) => ClusterPeer | undefined

/** A copy that is not as it should be: for repair. */
export interface DamagedCopy {
  readonly id: Uint8Array
  /** Who should have it. */
  readonly node: string
  readonly problem: 'missing' | 'corrupt'
  /** Of a fragment: what it is one of. Absent for a fragment that its own store found damaged. */
  readonly stripe?: Stripe
}
