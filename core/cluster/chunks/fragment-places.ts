import type { Catalog } from '../../contract/catalog.ts'
import { fragmentOf, type Stripe, stripeOf, stripeWidth } from '../../contract/erasure.ts'
import { type ChunkId, chunkOwner } from '../../contract/ids.ts'
import { type ChunkLayout, groupOf } from './layout.ts'

/** Who is to have a fragment; empty: there are fewer nodes than fragments. */
export const fragmentHolder = (layout: ChunkLayout, stripe: Stripe, id: ChunkId, fragment: number): string =>
  layout.stripe(stripeWidth(stripe))?.holders(groupOf(id))[fragment] ?? ''

/** Who may have it: the holder, then the one of before while chunks move. */
export function fragmentReaders(
  layout: ChunkLayout,
  stripe: Stripe,
  id: ChunkId,
  fragment: number,
): readonly string[] {
  const now = fragmentHolder(layout, stripe, id, fragment)
  const before = layout.stripeBefore(stripeWidth(stripe))?.holders(groupOf(id))[fragment] ?? ''
  return [...new Set([now, before])].filter((name) => name !== '')
}

/** Who may have what is stored under an id, a whole chunk or a fragment. */
export function readersOf(layout: ChunkLayout, id: ChunkId, stripe: Stripe | undefined): readonly string[] {
  const fragment = fragmentOf(id)
  if (fragment === undefined || stripe === undefined) return layout.readers(groupOf(id))
  return fragmentReaders(layout, stripe, id, fragment)
}

/** Whether the node is to have it. */
export function isHolderOf(
  layout: ChunkLayout,
  name: string,
  id: ChunkId,
  stripe: Stripe | undefined,
): boolean {
  const fragment = fragmentOf(id)
  if (fragment === undefined || stripe === undefined) return layout.isHolder(name, groupOf(id))
  return fragmentHolder(layout, stripe, id, fragment) === name
}

/** What a fragment is one of; undefined: nothing owns it (yet), or its write has no fragments. */
export function ownStripe(catalog: Pick<Catalog, 'writeOwner'>, id: ChunkId): Stripe | undefined {
  const { writeId, index } = chunkOwner(id)
  const owner = catalog.writeOwner(writeId)
  if (owner?.erasure === undefined || index * owner.chunkBytes >= owner.byteLength) return undefined
  return stripeOf(owner, owner.erasure, index)
}
