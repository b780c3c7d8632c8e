import { placementGroupCount } from '../../contract/ids.ts'
import type { ChunkLayout } from './layout.ts'

/** A layout, and for each placement group the epoch since which its chunks are where the layout wants them. */
export interface MovedGroups {
  readonly layout: ChunkLayout
  readonly moved: Uint32Array
}

/**
 * What a node knows of moves. Of those before its start it knows nothing: then everything may have moved with the map that it found, and
 * who is behind that catches up first. Where maps were skipped, what differs has moved with the newest.
 */
export function movedGroups(before: MovedGroups | undefined, layout: ChunkLayout): MovedGroups {
  const { epoch, stripes } = layout.map
  if (before === undefined)
    return { layout, moved: new Uint32Array(placementGroupCount).fill(toldEpoch(epoch)) }
  const moved = before.moved.slice()
  const widths = (stripes ?? []).map(({ copies }) => copies)
  for (let group = 0; group < placementGroupCount; group++) {
    const isSame =
      sameHolders(before.layout.writers(group), layout.writers(group)) &&
      widths.every((width) => {
        const was = before.layout.stripe(width)?.holders(group)
        // Nothing was kept so before there were places for it.
        return was === undefined || sameOrder(was, layout.stripe(width)?.holders(group) ?? [])
      })
    if (!isSame) moved[group] = toldEpoch(epoch)
  }
  return { layout, moved }
}

/** As it fits a request (native/RPC.md). */
export const toldEpoch = (epoch: number): number => Math.min(epoch, 0xffff_ffff)

/** Copies are the same at each of their holders. */
const sameHolders = (one: readonly string[], other: readonly string[]): boolean =>
  one.length === other.length && one.every((name) => other.includes(name))

const sameOrder = (one: readonly string[], other: readonly string[]): boolean =>
  one.length === other.length && one.every((name, at) => name === other[at])
