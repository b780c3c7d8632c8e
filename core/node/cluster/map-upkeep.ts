import { changeMap } from '../../cluster/placement/change-map.ts'
import { hashText } from '../../cluster/placement/hash.ts'
import { type ClusterMap, type ClusterNode, nodeSlotCount } from '../../contract/cluster-map.ts'

/** What a node says of itself; the rest of its entry is decided by the region. */
export type OwnEntry = Omit<ClusterNode, 'state' | 'voter' | 'slot'>

/** The entry of this very process; undefined when it was taken out, or another process of its name has the seat by now. */
export const seatOf = (
  map: ClusterMap,
  own: Pick<OwnEntry, 'name' | 'incarnation'>,
): ClusterNode | undefined =>
  map.nodes.find(({ name, incarnation }) => name === own.name && incarnation === own.incarnation)

/**
 * The map in which this node's entry is right, or undefined when it is. A node that is not in the map joins; one that lost its disk
 * takes its seat again with a new incarnation and what it held is copied to it; one that has moved says where it is. Zone, rack
 * and weight are taken from its configuration when it joins, and changed by hand after that.
 */
export function withOwnEntry(map: ClusterMap, entry: OwnEntry): ClusterMap | undefined {
  const known = map.nodes.find(({ name }) => name === entry.name)
  if (known === undefined) {
    const joining: ClusterNode = {
      ...entry,
      state: 'joining',
      voter: false,
      slot: freeSlot(map, entry.incarnation),
    }
    return changeMap(map, { nodes: byName([...map.nodes, joining]) })
  }
  const { incarnation, control, transports } = entry
  const isRight =
    known.incarnation === incarnation &&
    known.control === control &&
    JSON.stringify(sorted(known.transports)) === JSON.stringify(sorted(transports))
  if (isRight) return undefined
  const isSame = known.incarnation === incarnation
  const slot = isSame ? known.slot : freeSlot(map, incarnation)
  const changed: ClusterNode = { ...known, incarnation, control, transports }
  const next = changeMap(map, { nodes: replaced(map, slot === undefined ? changed : { ...changed, slot }) })
  if (isSame || next.moving === undefined) return next
  // What it once had of its new chunks it has lost.
  const complete = next.moving.complete.filter((name) => name !== entry.name)
  return { ...next, moving: { ...next.moving, complete } }
}

/**
 * The same for a process that runs. One that was taken out of the map, or has lost its seat to another process of its name, stays out: it joins
 * anew when it is started again, and not before. Two processes would take the seat from each other without end.
 */
export const withSeatKept = (map: ClusterMap, own: OwnEntry): ClusterMap | undefined =>
  seatOf(map, own) === undefined ? undefined : withOwnEntry(map, own)

/** The map in which a node that has joined holds chunks; undefined when there is nothing to do. CONFLICT while chunks move. */
export function withArrival(map: ClusterMap, name: string): ClusterMap | undefined {
  const known = map.nodes.find((node) => node.name === name)
  if (known?.state !== 'joining') return undefined
  return changeMap(map, { nodes: replaced(map, { ...known, state: 'active' }) })
}

/**
 * The map with the voters that a region of so many nodes should have: three, or five from five nodes on, none of them on a node that
 * is leaving. One step at a time, which is what the catalog takes; undefined when there is nothing to do, or when it has to wait for voters that are
 * away. `isHere`: a node that answers, and follows the log.
 */
export function withVoters(map: ClusterMap, isHere: (name: string) => boolean): ClusterMap | undefined {
  const staying = map.nodes.filter(({ state }) => state === 'active')
  const wanted = staying.length >= 5 ? 5 : Math.min(staying.length, 3)
  const voting = staying.filter(({ voter }) => voter)
  if (voting.length < wanted) {
    const next = staying.find(({ name, voter }) => !voter && isHere(name))
    if (next !== undefined) return ifConfirmed(map, { ...next, voter: true }, isHere)
  }
  const leaving = map.nodes.find(({ voter, state }) => voter && state === 'draining')
  if (leaving !== undefined && voting.length >= wanted && voting.length > 0) {
    return ifConfirmed(map, { ...leaving, voter: false }, isHere)
  }
  return undefined
}

function ifConfirmed(
  map: ClusterMap,
  changed: ClusterNode,
  isHere: (name: string) => boolean,
): ClusterMap | undefined {
  const nodes = replaced(map, changed)
  return isMajorityHere(nodes, isHere) ? changeMap(map, { nodes }) : undefined
}

/**
 * Whether a majority of the voters among these nodes is there. A change of the voters is confirmed by a majority of those after it, too, and
 * nothing behind it is confirmed without it: with one of three voters away, taking another one out would stop the region, two of whose nodes are well.
 */
export function isMajorityHere(nodes: readonly ClusterNode[], isHere: (name: string) => boolean): boolean {
  const voters = nodes.filter(({ voter }) => voter)
  return 2 * voters.filter(({ name }) => isHere(name)).length > voters.length
}

/**
 * One that nobody has. Not the lowest: a node that was taken out, or the process from before its disk was replaced, may still be somewhere with
 * writes under way, and they must not pass for those of whoever comes next. Nor for its own, when it comes back: their chunks may be gone by
 * then. So the epoch counts, too.
 */
export function freeSlot({ nodes, epoch }: Pick<ClusterMap, 'nodes' | 'epoch'>, incarnation: string): number {
  const taken = new Set(nodes.map(({ slot }) => slot))
  // The catalog refuses it: there are no more nodes than slots.
  if (taken.size >= nodeSlotCount) return nodeSlotCount
  let slot = hashText(`${incarnation} ${epoch}`) % nodeSlotCount
  while (taken.has(slot)) slot = (slot + 1) % nodeSlotCount
  return slot
}

export const replaced = (map: ClusterMap, changed: ClusterNode): readonly ClusterNode[] =>
  map.nodes.map((node) => (node.name === changed.name ? changed : node))

const byName = (nodes: readonly ClusterNode[]): readonly ClusterNode[] =>
  nodes.toSorted((one, other) => (one.name < other.name ? -1 : 1))

const sorted = (record: Readonly<Record<string, string>>): readonly (readonly [string, string])[] =>
  Object.entries(record).toSorted(([one], [other]) => (one < other ? -1 : 1))
