import { type ChunkId, chunkIdBytes, maxChunkBytes } from './ids.ts'

/**
 * Erasure coding: a chunk is kept as k data fragments and m parity fragments at k + m nodes, and any k of them give it back. Fragments
 * are chunks of their own in the stores of the nodes. What there is and where follows from the write's row in the catalog
 * (scheme and lengths) and the cluster map.
 */
export interface ErasureScheme {
  /** k, 1 to 16. */
  readonly dataFragments: number
  /** m, 1 to 8. */
  readonly parityFragments: number
}

/** One chunk under a scheme. */
export interface Stripe extends ErasureScheme {
  /** Of a whole data fragment, a multiple of the page. The first ones are whole, one is shorter, the rest is empty: not stored. */
  readonly fragmentBytes: number
  /** Of the whole chunk. */
  readonly byteLength: number
}

/** Fragments of one stripe and those to compute of them. */
export interface FragmentCode {
  readonly scheme: ErasureScheme
  /** k different ones. One that is shorter than the targets goes on with zeros. */
  readonly sources: readonly Fragment[]
  /** All of one length. */
  readonly targets: readonly Fragment[]
}

export interface Fragment {
  readonly fragment: number
  readonly bytes: Uint8Array
}

export const mostDataFragments = 16
export const mostParityFragments = 8
export const mostFragments = mostDataFragments + mostParityFragments
/** Fragments begin at pages, so that each can be written from where it stands in its chunk's buffer. */
export const fragmentPageBytes = 4096

export const stripeWidth = ({ dataFragments, parityFragments }: ErasureScheme): number =>
  dataFragments + parityFragments

/** Smaller bodies are cut into fewer fragments instead: each of them costs a record at every node. */
const leastFragmentBytes = 64 * 1024

/**
 * How long the data fragments of a body's chunks are: a power of two, so large that a chunk and its parity fill one buffer, smaller
 * for bodies that do not need that, and where chunks are to have `chunkBytes` at most. `byteLength` undefined: not known yet.
 */
export function fragmentBytesOf(
  scheme: ErasureScheme,
  byteLength: number | undefined,
  chunkBytes: number = maxChunkBytes,
): number {
  const { dataFragments } = scheme
  const floor = (bytes: number): number => 2 ** Math.floor(Math.log2(Math.max(fragmentPageBytes, bytes)))
  const most = Math.min(floor(maxChunkBytes / stripeWidth(scheme)), floor(chunkBytes / dataFragments))
  if (byteLength === undefined) return most
  const wanted = 2 ** Math.ceil(Math.log2(Math.max(1, byteLength / dataFragments)))
  return Math.min(most, Math.max(leastFragmentBytes, wanted))
}

/** The stripe of one chunk of a write. */
export function stripeOf(
  { chunkBytes, byteLength }: { readonly chunkBytes: number; readonly byteLength: number },
  { dataFragments, parityFragments }: ErasureScheme,
  index: number,
): Stripe {
  return {
    dataFragments,
    parityFragments,
    fragmentBytes: chunkBytes / dataFragments,
    byteLength: Math.min(chunkBytes, byteLength - index * chunkBytes),
  }
}

/** 0: the fragment is all zeros and not stored. Parity is as long as the first data fragment. */
export function fragmentLength(
  { dataFragments, fragmentBytes, byteLength }: Stripe,
  fragment: number,
): number {
  const start = fragment < dataFragments ? fragment * fragmentBytes : 0
  return Math.min(fragmentBytes, Math.max(0, byteLength - start))
}

/** Behind the data in a chunk's buffer. */
export const parityOffset = (byteLength: number): number =>
  Math.ceil(byteLength / fragmentPageBytes) * fragmentPageBytes

/** What a chunk's buffer needs so that its parity can be computed in it. */
export function stripeBufferBytes(stripe: Stripe): number {
  return parityOffset(stripe.byteLength) + stripe.parityFragments * parityOffset(fragmentLength(stripe, 0))
}

const fragmentAt = chunkIdBytes - 4

/** A fragment's id is its chunk's with the fragment's number (from 1) in the first byte of the index. */
export function fragmentId(id: ChunkId, fragment: number): ChunkId {
  const copy = Uint8Array.from(id)
  copy[fragmentAt] = fragment + 1
  return copy
}

/** Undefined: a whole chunk. */
export function fragmentOf(id: ChunkId): number | undefined {
  const number = id[fragmentAt] ?? 0
  return number === 0 ? undefined : number - 1
}

/** The chunk that a fragment belongs to. */
export function wholeId(id: ChunkId): ChunkId {
  const copy = Uint8Array.from(id)
  copy[fragmentAt] = 0
  return copy
}

/** `4+2`; undefined: it is none, or one that is not supported. */
export function parseScheme(text: string): ErasureScheme | undefined {
  const found = /^([1-9][0-9]?)\+([1-9])$/.exec(text)
  const scheme = { dataFragments: Number(found?.[1]), parityFragments: Number(found?.[2]) }
  const isKnown = scheme.dataFragments <= mostDataFragments && scheme.parityFragments <= mostParityFragments
  return found !== null && isKnown ? scheme : undefined
}

export const showScheme = ({ dataFragments, parityFragments }: ErasureScheme): string =>
  `${dataFragments}+${parityFragments}`
