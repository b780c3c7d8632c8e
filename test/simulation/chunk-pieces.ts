import { fragmentHolder } from '../../core/cluster/chunks/fragment-places.ts'
import { type ChunkLayout, groupOf } from '../../core/cluster/chunks/layout.ts'
import {
  type ErasureScheme,
  fragmentId,
  fragmentLength,
  type Stripe,
  stripeOf,
  stripeWidth,
} from '../../core/contract/erasure.ts'
import { chunkId, type WriteId } from '../../core/contract/ids.ts'
import type { ReplicaAcks } from '../../core/contract/transport.ts'

export interface ChunksRun {
  readonly seed: number
  readonly acks: ReplicaAcks
  readonly writes: number
  readonly failedWrites: number
  readonly reads: number
  readonly unavailableReads: number
  readonly wipes: number
  readonly rots: number
  readonly kills: number
  readonly moves: number
  readonly fetched: number
  readonly freed: number
  /** Writes and deletes by an old map that were refused, and begun again. */
  readonly stale: number
}

export const copiedChunkBytes = 16
/** Of the bodies of some runs: as many losses are survived as with three copies. */
export const scheme: ErasureScheme = { dataFragments: 2, parityFragments: 2 }
export const stripedChunkBytes = scheme.dataFragments * 4096

export interface Body {
  readonly writeId: WriteId
  readonly byteLength: number
  readonly chunkBytes: number
  readonly erasure?: ErasureScheme
}

/** What is stored of a body: whole chunks at all their holders, or each fragment at its own. */
export interface Piece {
  readonly id: Uint8Array
  readonly chunk: string
  /** Pieces of the chunk that are enough to read it. */
  readonly enough: number
  readonly holders: (layout: ChunkLayout) => readonly string[]
}

export function stripeAt(body: Body, index: number): Stripe | undefined {
  return body.erasure === undefined ? undefined : stripeOf(body, body.erasure, index)
}

export function piecesOf(body: Body): readonly Piece[] {
  return Array.from({ length: Math.ceil(body.byteLength / body.chunkBytes) }, (_, index) => {
    const id = chunkId(body.writeId, index)
    const chunk = Buffer.from(id).toString('hex')
    const stripe = stripeAt(body, index)
    if (stripe === undefined)
      return [{ id, chunk, enough: 1, holders: (layout: ChunkLayout) => layout.writers(groupOf(id)) }]
    const stored = Array.from({ length: stripeWidth(stripe) }, (__, fragment) => fragment).filter(
      (fragment) => fragmentLength(stripe, fragment) > 0,
    )
    return stored.map((fragment) => ({
      id: fragmentId(id, fragment),
      chunk,
      enough: stored.length - stripe.parityFragments,
      holders: (layout: ChunkLayout) => [fragmentHolder(layout, stripe, id, fragment)],
    }))
  }).flat()
}

/** What a body has from `start` on. */
export const bytesOf = ({ writeId }: Body, start: number, length: number): Uint8Array =>
  Uint8Array.from({ length }, (_, at) => ((writeId[9] ?? 0) * 31 + (start + at) * 7) & 0xff)
