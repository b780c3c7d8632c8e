import type { ClusterMap, PlacementNode } from '../../contract/cluster-map.ts'
import { StorageError } from '../../contract/errors.ts'
import { holdersAllowed, placementOf, rearrange } from './placement.ts'
import { arrangeStripes, rearrangeStripes, sameStripes } from './stripes.ts'

/**
 * The map that follows another: `change` says how the nodes or the number of copies differ. Where that moves chunks, the new map
 * carries where everything was (`moving`), so that reads find it there until the new holders are complete.
 *
 * CONFLICT while chunks still move by an earlier change and this one would move more: what is in two places already would be looked
 * for in the wrong ones. A node that is lost for good may be taken out nevertheless (`force`): then holders that miss something
 * look for it everywhere.
 */
export function changeMap(
  map: ClusterMap,
  change: Partial<Pick<ClusterMap, 'nodes' | 'replicas'>>,
  options: { readonly force?: boolean } = {},
): ClusterMap {
  const { moving, groups: _, stripes: stripesBefore, ...rest } = map
  const changed: ClusterMap = { ...rest, ...change, epoch: map.epoch + 1 }
  const before = placementOf(map)
  const groups = rearrange(changed, before)
  const stripes = rearrangeStripes(holdersAllowed(changed), stripesBefore)
  const tables = { groups, ...(stripes === undefined ? {} : { stripes }) }
  const movesNothing = sameTable(groups, before.table) && sameStripes(stripes, stripesBefore)
  const isFirst = before.nodes.length === 0
  if (movesNothing || isFirst) return { ...changed, ...tables, ...(moving === undefined ? {} : { moving }) }
  if (moving !== undefined && options.force !== true) {
    throw new StorageError(
      'CONFLICT',
      'chunks still move to where the last change wants them: wait until that has ended, then change the nodes again',
    )
  }
  return {
    ...changed,
    ...tables,
    moving: {
      fromEpoch: map.epoch,
      nodes: holdersAllowed(map).map(justPlacement),
      replicas: map.replicas,
      groups: before.table,
      ...(stripesBefore === undefined ? {} : { stripes: stripesBefore }),
      complete: [],
    },
  }
}

/**
 * The map that has tables for stripes of all these widths; undefined: this one has. Nothing moves, for nothing is kept so yet.
 */
export function withStripes(map: ClusterMap, widths: readonly number[]): ClusterMap | undefined {
  const known = map.stripes ?? []
  const missing = [...new Set(widths)].filter((width) => !known.some(({ copies }) => copies === width))
  if (missing.length === 0) return undefined
  const made = missing.map((width) => arrangeStripes(holdersAllowed(map), width, undefined))
  const stripes = [...known, ...made].toSorted((one, other) => one.copies - other.copies)
  return { ...map, epoch: map.epoch + 1, stripes }
}

/** The nodes that must be complete before the move ends. */
export const mustComplete = (map: ClusterMap): readonly string[] =>
  holdersAllowed(map).map(({ name }) => name)

/**
 * The map after some nodes have reported that they hold all that this one gives them: the move ends when all do. Undefined: nothing
 * changes.
 */
export function completeMove(map: ClusterMap, names: Iterable<string>): ClusterMap | undefined {
  const { moving, ...rest } = map
  if (moving === undefined) return undefined
  const needed = mustComplete(map)
  const before = new Set(moving.complete)
  const complete = new Set([...before, ...names].filter((name) => needed.includes(name)))
  if (complete.size === before.size && complete.size < needed.length) return undefined
  const epoch = map.epoch + 1
  if (needed.every((name) => complete.has(name))) return { ...rest, epoch }
  return { ...rest, epoch, moving: { ...moving, complete: [...complete].sort() } }
}

const justPlacement = ({ name, zone, rack, weight }: PlacementNode): PlacementNode => ({
  name,
  zone,
  rack,
  weight,
})

function sameTable(one: ReturnType<typeof rearrange>, two: ReturnType<typeof rearrange>): boolean {
  return (
    one.copies === two.copies &&
    one.nodes.length === two.nodes.length &&
    one.nodes.every((name, index) => name === two.nodes[index]) &&
    Buffer.compare(one.holders, two.holders) === 0
  )
}
