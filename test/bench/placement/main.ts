// What placement costs and what it reaches: time to compute, balance, and data moved against the least possible when a node joins,
// leaves or gets another weight. Usage: npm run bench -- placement
import { domainsOf } from '../../../core/cluster/placement/domains.ts'
import { arrangeGroups } from '../../../core/cluster/placement/placement.ts'
import type { PlacementNode } from '../../../core/contract/cluster-map.ts'
import { carryOver, loadsOf, movedCopies, type Shape, shapedNodes } from '../../kit/placement-load.ts'
import { describeTraffic, regionTraffic } from '../../kit/region-traffic.ts'
import { describeMachine, formatTable } from '../machine.ts'

const replicas = 3
const shapes: readonly (Shape & { readonly groups: number })[] = [
  { nodes: 3, zones: 0, racksPerZone: 0, groups: 4096 },
  { nodes: 5, zones: 0, racksPerZone: 0, groups: 4096 },
  { nodes: 12, zones: 3, racksPerZone: 2, groups: 4096 },
  { nodes: 100, zones: 4, racksPerZone: 5, groups: 4096 },
  { nodes: 1000, zones: 5, racksPerZone: 10, groups: 4096 },
  { nodes: 1000, zones: 5, racksPerZone: 10, groups: 65_536 },
  { nodes: 10_000, zones: 0, racksPerZone: 0, groups: 4096 },
  { nodes: 10_000, zones: 0, racksPerZone: 0, groups: 65_536 },
  { nodes: 10_000, zones: 10, racksPerZone: 25, groups: 65_536 },
]

interface Arranged {
  readonly nodes: readonly PlacementNode[]
  readonly copies: number
  readonly holders: Int32Array
  readonly cpuMs: number
}

function arranged(nodes: readonly PlacementNode[], groups: number, before?: Arranged): Arranged {
  const copies = Math.min(replicas, nodes.length)
  const carried = before === undefined ? undefined : carryOver(before.holders, before, { nodes, copies })
  const start = process.cpuUsage()
  const domains = domainsOf(nodes, replicas)
  const holders = arrangeGroups(domains, groups, carried)
  const { user, system } = process.cpuUsage(start)
  return { nodes, copies, holders, cpuMs: (user + system) / 1000 }
}

const sides = ({ nodes, copies, holders }: Arranged) => ({
  names: nodes.map(({ name }) => name),
  copies,
  holders,
})

/** What must move at least: what the nodes that now hold more have gained, or what those that are gone held. */
function moved(before: Arranged, after: Arranged): { readonly moved: number; readonly least: number } {
  const heldBefore = loadsOf(before.holders, before.nodes.length)
  const loads = loadsOf(after.holders, after.nodes.length)
  const held = new Map(before.nodes.map(({ name }, index) => [name, heldBefore[index] ?? 0]))
  const kept = new Set(after.nodes.map(({ name }) => name))
  const gained = after.nodes.reduce(
    (sum, { name }, index) => sum + Math.max(0, (loads[index] ?? 0) - (held.get(name) ?? 0)),
    0,
  )
  const lost = before.nodes.reduce((sum, { name }) => sum + (kept.has(name) ? 0 : (held.get(name) ?? 0)), 0)
  // With fewer nodes than copies those of a node that goes go nowhere.
  const least = after.copies < before.copies ? gained : Math.max(gained, lost)
  return { moved: movedCopies(sides(before), sides(after)), least }
}

const show = ({ moved: some, least }: { readonly moved: number; readonly least: number }): string =>
  `${some} / ${least} (${least === 0 ? '1.000' : (some / least).toFixed(3)})`

console.log(describeMachine())
console.log(
  `\n${replicas} copies of each group; moved: copies / least possible (ratio); processor time of one thread\n`,
)
// The first run pays for compiling the code: a process that computes its first map is measured, too, but said apart.
const first = arranged(shapedNodes({ nodes: 10_000, zones: 0, racksPerZone: 0 }), 65_536)
console.log(`first map of a process, 10000 nodes, 65536 groups: ${first.cpuMs.toFixed(0)} ms\n`)
const rows = shapes.map((shape) => {
  const nodes = shapedNodes(shape)
  const fresh = arranged(nodes, shape.groups)
  const loads = loadsOf(fresh.holders, nodes.length)
  const mean = fresh.holders.length / nodes.length
  const joined = arranged(shapedNodes({ ...shape, nodes: shape.nodes + 1 }), shape.groups, fresh)
  const left = arranged(nodes.toSpliced(Math.floor(nodes.length / 2), 1), shape.groups, fresh)
  const heavier = arranged(
    nodes.map((node, index) => (index === 1 ? { ...node, weight: 2 } : node)),
    shape.groups,
    fresh,
  )
  return [
    String(shape.nodes),
    shape.zones === 0 ? '-' : `${shape.zones} x ${shape.racksPerZone}`,
    String(shape.groups),
    fresh.cpuMs.toFixed(0),
    joined.cpuMs.toFixed(0),
    mean.toFixed(2),
    (Math.max(...loads) / mean).toFixed(3),
    show(moved(fresh, joined)),
    show(moved(fresh, left)),
    show(moved(fresh, heavier)),
  ]
})
console.log(
  formatTable(
    [
      'nodes',
      'zones x racks',
      'groups',
      'ms',
      'ms (join)',
      'mean',
      'max/mean',
      'node joins',
      'node leaves',
      'weight 1 -> 2',
    ],
    rows,
  ),
)

console.log('\nWhat a node sends while nobody asks it for anything, by the real encoders and intervals:\n')
for (const count of [3, 5, 12, 100, 1000, 4096, 10_000]) console.log(describeTraffic(regionTraffic(count)))
