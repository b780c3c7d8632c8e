import type { ClusterMap, PlacementNode, PlacementTable } from '../../contract/cluster-map.ts'
import { placementGroupCount } from '../../contract/ids.ts'
import { arrange, nobody } from './arrange.ts'
import { type Domains, domainsOf } from './domains.ts'

const nobodyOnDisk = 0xffff

/** Who holds each placement group under one map. */
export interface Placement {
  /** Of the map. */
  readonly epoch: number
  /** Of each group: the map's `replicas`, or the number of nodes when there are fewer; 0 when nobody may hold anything. */
  readonly copies: number
  /** Those that may hold something, ascending by name. */
  readonly nodes: readonly PlacementNode[]
  /** Names, the primary first; the same array at each call. */
  holders(group: number): readonly string[]
  /** Ascending. */
  groupsOf(name: string): readonly number[]
  /** As the next map carries it. */
  readonly table: PlacementTable
}

/** Nodes that may hold chunks under a map. */
export const holdersAllowed = ({ nodes }: ClusterMap): readonly PlacementNode[] =>
  nodes.filter(({ state, weight }) => state === 'active' && weight > 0)

/** Where the chunks are to be. The same on every node; computed when the map changes. */
export function placementOf(map: ClusterMap): Placement {
  return place(map.epoch, holdersAllowed(map), map.replicas, map.groups)
}

/** Where they may still be while they move. */
export function placementBefore({ moving }: ClusterMap): Placement | undefined {
  if (moving === undefined) return undefined
  const nodes = moving.nodes.filter(({ weight }) => weight > 0)
  return place(moving.fromEpoch, nodes, moving.replicas, moving.groups)
}

function place(
  epoch: number,
  nodes: readonly PlacementNode[],
  replicas: number,
  table: PlacementTable | undefined,
): Placement {
  const copies = Math.min(replicas, nodes.length)
  const before = table === undefined ? undefined : readTable(table, nodes, placementGroupCount, copies)
  // A whole table is taken as it is: it is what the nodes agreed on, whatever this version would have made of it.
  const holders =
    before === undefined || before.includes(nobody)
      ? arrange(domainsOf(nodes, replicas), placementGroupCount, before)
      : before
  return tablePlacement(epoch, nodes, copies, holders)
}

/** The table of a map whose nodes have changed, by the one before: as much as possible stays where it is. */
export function rearrange(map: ClusterMap, before: Placement): PlacementTable {
  const nodes = holdersAllowed(map)
  const copies = Math.min(map.replicas, nodes.length)
  const held = readTable(before.table, nodes, placementGroupCount, copies)
  return tablePlacement(
    map.epoch,
    nodes,
    copies,
    arrange(domainsOf(nodes, map.replicas), placementGroupCount, held),
  ).table
}

/** For measurements: who holds each of any number of groups, without names. */
export function arrangeGroups(domains: Domains, groupCount: number, before?: Int32Array): Int32Array {
  return arrange(domains, groupCount, before)
}

/** Holders as positions in `nodes`; `nobody` for one that is not among them, or that is named twice. */
export function readTable(
  table: PlacementTable,
  nodes: readonly PlacementNode[],
  groupCount: number,
  copies: number,
): Int32Array {
  const positions = new Map(nodes.map(({ name }, index) => [name, index]))
  const known = Int32Array.from(table.nodes, (name) => positions.get(name) ?? nobody)
  const view = new DataView(table.holders.buffer, table.holders.byteOffset, table.holders.byteLength)
  const holders = new Int32Array(groupCount * copies).fill(nobody)
  const most = Math.floor(view.byteLength / 2)
  for (let group = 0; group < groupCount; group++) {
    const start = group * copies
    let count = 0
    for (let copy = 0; copy < table.copies && count < copies; copy++) {
      const at = group * table.copies + copy
      const node = at < most ? (known[view.getUint16(at * 2, true)] ?? nobody) : nobody
      if (node === nobody || holders.subarray(start, start + count).includes(node)) continue
      holders[start + count++] = node
    }
  }
  return holders
}

function tablePlacement(
  epoch: number,
  nodes: readonly PlacementNode[],
  copies: number,
  holders: Int32Array,
): Placement {
  const byGroup = Array.from({ length: placementGroupCount }, (_, group) =>
    Array.from(holders.subarray(group * copies, (group + 1) * copies), (node) => nodes[node]?.name ?? ''),
  )
  const byNode = new Map<string, number[]>(nodes.map(({ name }) => [name, []]))
  for (const [group, names] of byGroup.entries()) for (const name of names) byNode.get(name)?.push(group)
  return {
    epoch,
    copies,
    nodes,
    holders: (group) => byGroup[group] ?? [],
    groupsOf: (name) => byNode.get(name) ?? [],
    get table() {
      const bytes = new Uint8Array(holders.length * 2)
      const view = new DataView(bytes.buffer)
      for (const [at, node] of holders.entries())
        view.setUint16(at * 2, node === nobody ? nobodyOnDisk : node, true)
      return { nodes: nodes.map(({ name }) => name), copies, holders: bytes }
    },
  }
}
