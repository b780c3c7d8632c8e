import type { Command, CommandResult } from '../contract/catalog.ts'
import type { ClusterMap } from '../contract/cluster-map.ts'
import { StorageError } from '../contract/errors.ts'
import type { ApplyContext } from './apply-context.ts'
import { readClusterMap, writeClusterMap } from './cluster-map-row.ts'
import { writeSlots } from './writer-slots.ts'

type SetClusterMap = Extract<Command, { type: 'set-cluster-map' }>

/**
 * One voter at a time: any majority of the voters before and any majority of those after then have a member in common, which
 * is what keeps an acknowledged entry from being forgotten while the set changes (Ongaro, "Consensus: bridging theory and
 * practice", 2014, section 4.1). The first map of a region names as many as it likes: there is nothing to forget before it.
 */
export function setClusterMap(context: ApplyContext, { map }: SetClusterMap): CommandResult<SetClusterMap> {
  const current = readClusterMap(context)
  if (map.epoch !== current.epoch + 1) {
    throw new StorageError(
      'CONFLICT',
      `the cluster map has epoch ${current.epoch}, and ${map.epoch} does not follow it: another change came first`,
    )
  }
  const slots = map.nodes.flatMap(({ slot }) => slot ?? [])
  if (new Set(slots).size < slots.length) {
    throw new StorageError('INVALID_ARGUMENT', 'two nodes of a cluster map have the same slot')
  }
  const before = votersOf(current)
  const after = votersOf(map)
  if (after.size === 0) throw new StorageError('INVALID_ARGUMENT', 'a cluster map names at least one voter')
  const changed = [...before].filter((voter) => !after.has(voter)).length
  const added = [...after].filter((voter) => !before.has(voter)).length
  // A voter that comes back without its data is replaced in one step: it is the same seat.
  if (before.size > 0 && Math.max(changed, added) > 1) {
    throw new StorageError('INVALID_ARGUMENT', 'a cluster map changes one voter at a time')
  }
  if (before.size > 0 && changed === 1 && added === 1 && !isSameSeat(current, map)) {
    throw new StorageError('INVALID_ARGUMENT', 'a cluster map adds a voter or removes one, not both')
  }
  writeClusterMap(context, map)
  writeSlots(context, map)
  return {}
}

const votersOf = ({ nodes }: ClusterMap): ReadonlySet<string> =>
  new Set(nodes.filter(({ voter }) => voter).map(({ name, incarnation }) => `${name} ${incarnation}`))

/** The same names vote before and after. */
function isSameSeat(before: ClusterMap, after: ClusterMap): boolean {
  const names = ({ nodes }: ClusterMap): string =>
    nodes
      .filter(({ voter }) => voter)
      .map(({ name }) => name)
      .join(' ')
  return names(before) === names(after)
}
