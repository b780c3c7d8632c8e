import type { ClusterMap, PlacementNode, PlacementTable } from '../../contract/cluster-map.ts'
import { placementGroupCount } from '../../contract/ids.ts'
import { arrange, nobody } from './arrange.ts'
import { domainsOf } from './domains.ts'

const nobodyOnDisk = 0xffff

/** Who holds which fragment under one map: the holders' names in the order of the fragments, empty where there is none. */
export interface StripePlacement {
  /** Fragments of a chunk. */
  readonly width: number
  /** The same array at each call. */
  holders(group: number): readonly string[]
}

/** Reads a table; holders that the map does not let hold anything stay: what they have is looked for there. */
export function readStripes(table: PlacementTable): StripePlacement {
  const { copies: width, nodes } = table
  const view = new DataView(table.holders.buffer, table.holders.byteOffset, table.holders.byteLength)
  const byGroup = Array.from({ length: placementGroupCount }, (_, group) =>
    Array.from({ length: width }, (_, at) => nodes[view.getUint16((group * width + at) * 2, true)] ?? ''),
  )
  return { width, holders: (group) => byGroup[group] ?? [] }
}

/**
 * A table of so many fragments over these nodes. A node that held a fragment of a group and still holds something of it holds the same
 * fragment: what moves is what must have a new holder, and nothing changes its number.
 */
export function arrangeStripes(
  nodes: readonly PlacementNode[],
  width: number,
  before: PlacementTable | undefined,
): PlacementTable {
  const domains = domainsOf(nodes, width)
  const { copies } = domains
  const names = nodes.map(({ name }) => name)
  const positions = new Map(names.map((name, at) => [name, at]))
  const old = before === undefined ? undefined : readStripes(before)
  const bytes = new Uint8Array(placementGroupCount * width * 2).fill(0xff)
  const table = { nodes: names, copies: width, holders: bytes }
  if (copies === 0) return table
  const held = old === undefined ? undefined : new Int32Array(placementGroupCount * copies).fill(nobody)
  if (old !== undefined && held !== undefined) {
    for (let group = 0; group < placementGroupCount; group++) {
      let count = 0
      for (const name of old.holders(group)) {
        const node = positions.get(name)
        if (node !== undefined && count < copies) held[group * copies + count++] = node
      }
    }
  }
  const arranged = arrange(domains, placementGroupCount, held)
  const view = new DataView(bytes.buffer)
  for (let group = 0; group < placementGroupCount; group++) {
    const chosen = new Set(arranged.subarray(group * copies, (group + 1) * copies))
    const places = new Array<number>(width).fill(nobody)
    for (const [at, name] of (old?.holders(group) ?? []).entries()) {
      const node = positions.get(name)
      if (node !== undefined && chosen.delete(node)) places[at] = node
    }
    for (const node of chosen) places[places.indexOf(nobody)] = node
    for (const [at, node] of places.entries())
      view.setUint16((group * width + at) * 2, node === nobody ? nobodyOnDisk : node, true)
  }
  return table
}

/** The tables of a map whose nodes have changed, by those before. */
export const rearrangeStripes = (
  nodes: readonly PlacementNode[],
  before: ClusterMap['stripes'],
): readonly PlacementTable[] | undefined => before?.map((table) => arrangeStripes(nodes, table.copies, table))

/** Whether the same node holds the same fragment everywhere. */
export function sameStripes(one: ClusterMap['stripes'], other: ClusterMap['stripes']): boolean {
  if (one === other) return true
  if (one?.length !== other?.length) return false
  return (one ?? []).every((table, at) => {
    const [now, then] = [readStripes(table), readStripes(other?.[at] ?? table)]
    if (now.width !== then.width) return false
    for (let group = 0; group < placementGroupCount; group++) {
      const was = then.holders(group)
      if (now.holders(group).some((name, place) => name !== was[place])) return false
    }
    return true
  })
}
