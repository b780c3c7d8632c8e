import type { PlacementNode } from '../../core/contract/cluster-map.ts'

export interface Shape {
  readonly nodes: number
  /** 0: none is named. */
  readonly zones: number
  readonly racksPerZone: number
}

/** Names as an operator would give them, ascending. */
export function shapedNodes({ nodes, zones, racksPerZone }: Shape): PlacementNode[] {
  return Array.from({ length: nodes }, (_, index) => ({
    name: `n${String(index).padStart(5, '0')}`,
    zone: zones === 0 ? '' : `z${index % zones}`,
    rack: racksPerZone === 0 ? '' : `r${Math.floor(index / Math.max(1, zones)) % racksPerZone}`,
    weight: 1,
  }))
}

/** Copies by node. */
export function loadsOf(holders: Int32Array, nodeCount: number): Int32Array {
  const loads = new Int32Array(nodeCount)
  for (const node of holders) loads[node] = (loads[node] ?? 0) + 1
  return loads
}

/** Copies that are at a node now that did not hold their group before. */
export function movedCopies(
  before: { readonly names: readonly string[]; readonly copies: number; readonly holders: Int32Array },
  after: { readonly names: readonly string[]; readonly copies: number; readonly holders: Int32Array },
): number {
  let moved = 0
  const groups = after.holders.length / after.copies
  for (let group = 0; group < groups; group++) {
    const held = new Set<string | undefined>()
    for (let copy = 0; copy < before.copies; copy++) {
      held.add(before.names[before.holders[group * before.copies + copy] ?? -1])
    }
    for (let copy = 0; copy < after.copies; copy++) {
      if (!held.has(after.names[after.holders[group * after.copies + copy] ?? -1])) moved++
    }
  }
  return moved
}

/** The holders of before as positions in other nodes, `to.copies` for each group; -1 where one is gone. */
export function carryOver(
  holders: Int32Array,
  from: { readonly nodes: readonly PlacementNode[]; readonly copies: number },
  to: { readonly nodes: readonly PlacementNode[]; readonly copies: number },
): Int32Array {
  const positions = new Map(to.nodes.map(({ name }, index) => [name, index]))
  const moved = from.nodes.map(({ name }) => positions.get(name) ?? -1)
  const groups = holders.length / from.copies
  return Int32Array.from({ length: groups * to.copies }, (_, slot) => {
    const copy = slot % to.copies
    const node = copy < from.copies ? holders[Math.floor(slot / to.copies) * from.copies + copy] : undefined
    return node === undefined ? -1 : (moved[node] ?? -1)
  })
}
