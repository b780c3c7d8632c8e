import type { ClusterMap, ClusterNode } from '../../contract/cluster-map.ts'
import { StorageError } from '../../contract/errors.ts'
import { changeMap } from './change-map.ts'

/**
 * The maps that lead from the last one that a node knows to one in which it is the only voter, one voter at a time. Those in `kept` stay as
 * nodes that hold chunks and may vote again later; the others are taken out, and what they held is looked for everywhere.
 * INVALID_REQUEST when the map does not know this node, or knows it with another disk.
 */
export function recoveryMaps(
  map: ClusterMap,
  self: { readonly name: string; readonly incarnation: string },
  kept: ReadonlySet<string>,
): readonly ClusterMap[] {
  const own = map.nodes.find(({ name }) => name === self.name)
  if (own?.incarnation !== self.incarnation) {
    throw new StorageError(
      'INVALID_REQUEST',
      own === undefined
        ? `${self.name} is not in the cluster map that it holds: it was taken out of the region`
        : `${self.name} has not got back yet what it lost: it is in the cluster map with another disk`,
    )
  }
  const maps: ClusterMap[] = []
  let last = map
  const setVoter = (changed: ClusterNode, voter: boolean): void => {
    const nodes = last.nodes.map((node) => (node.name === changed.name ? { ...node, voter } : node))
    last = { ...last, epoch: last.epoch + 1, nodes }
    maps.push(last)
  }
  if (!own.voter) setVoter(own, true)
  for (const node of map.nodes) if (node.voter && node.name !== self.name) setVoter(node, false)
  const nodes = last.nodes
    .filter(({ name }) => name === self.name || kept.has(name))
    .map((node): ClusterNode => (node.name === self.name ? { ...node, state: 'active' } : node))
  maps.push(changeMap(last, { nodes }, { force: true }))
  return maps
}
