import assert from 'node:assert/strict'
import { test } from 'node:test'
import fc from 'fast-check'
import { changeMap, completeMove } from '../../../core/cluster/placement/change-map.ts'
import { domainsOf } from '../../../core/cluster/placement/domains.ts'
import { logOfShare } from '../../../core/cluster/placement/hash.ts'
import { arrangeGroups, placementBefore, placementOf } from '../../../core/cluster/placement/placement.ts'
import { quotasOf } from '../../../core/cluster/placement/quotas.ts'
import type { ClusterMap, ClusterNode, PlacementNode } from '../../../core/contract/cluster-map.ts'
import { placementGroupCount } from '../../../core/contract/ids.ts'
import { carryOver, loadsOf, movedCopies, shapedNodes } from '../../kit/placement-load.ts'

const runs = { numRuns: 60 }
/** Small enough that hundreds of maps cost little, large enough that balance means something. */
const groups = 512

const nodesFrom = (
  count: number,
  zones: number,
  racks: number,
  weights: readonly number[],
): PlacementNode[] =>
  shapedNodes({ nodes: count, zones, racksPerZone: racks }).map((node, index) => ({
    ...node,
    weight: weights[index % weights.length] ?? 1,
  }))
const someNodes = (weights: readonly number[]) =>
  fc
    .record({
      count: fc.integer({ min: 1, max: 40 }),
      zones: fc.integer({ min: 0, max: 6 }),
      racks: fc.integer({ min: 0, max: 4 }),
      weights: fc.array(fc.constantFrom(...weights), { minLength: 1, maxLength: 7 }),
    })
    .map(({ count, zones, racks, weights: some }) => nodesFrom(count, zones, racks, some))
const someReplicas = fc.integer({ min: 1, max: 5 })

const distinct = (values: readonly string[]): number => new Set(values).size
const zoneOf = ({ zone, name }: PlacementNode): string => (zone === '' ? `/${name}` : zone)
const rackOf = (node: PlacementNode): string => `${zoneOf(node)}/${node.rack === '' ? node.name : node.rack}`

/** The laws of one arrangement: whole, distinct, and spread as far as the zones and racks go. */
function check(nodes: readonly PlacementNode[], replicas: number, holders: Int32Array): void {
  const copies = Math.min(replicas, nodes.length)
  assert.equal(holders.length, groups * copies)
  const zones = distinct(nodes.map(zoneOf))
  for (let group = 0; group < groups; group++) {
    const held = [...holders.subarray(group * copies, (group + 1) * copies)].map((index) => {
      const node = nodes[index]
      assert.ok(node, `group ${group} has a holder that is no node: ${index}`)
      return node
    })
    assert.equal(distinct(held.map(({ name }) => name)), copies, 'one node holds a group twice')
    assert.equal(distinct(held.map(zoneOf)), Math.min(copies, zones), 'copies share a zone that need not')
    if (zones === 1) {
      const racks = distinct(nodes.map(rackOf))
      assert.equal(distinct(held.map(rackOf)), Math.min(copies, racks), 'copies share a rack that need not')
    }
  }
}

test('every group has its copies at different nodes, in different zones, then in different racks', () => {
  fc.assert(
    fc.property(someNodes([1, 1, 2, 0.5, 10]), someReplicas, (nodes, replicas) => {
      check(nodes, replicas, arrangeGroups(domainsOf(nodes, replicas), groups))
    }),
    runs,
  )
})

test('the same nodes give the same placement, and a placement that fits is not touched', () => {
  fc.assert(
    fc.property(someNodes([1, 3, 0.2]), someReplicas, (nodes, replicas) => {
      const domains = domainsOf(nodes, replicas)
      const once = arrangeGroups(domains, groups)
      assert.deepEqual(arrangeGroups(domainsOf(nodes, replicas), groups), once)
      assert.deepEqual(arrangeGroups(domains, groups, once), once)
    }),
    runs,
  )
})

test('a placement that the racks keep from its quotas is not touched either', () => {
  const nodes = nodesFrom(19, 3, 4, [1, 0.2, 0.2, 0.2])
  const domains = domainsOf(nodes, 4)
  const once = arrangeGroups(domains, groups)
  const quotas = quotasOf(domains, groups, new Int32Array(nodes.length))
  assert.ok(loadsOf(once, nodes.length).some((load, node) => load > (quotas[node] ?? 0)))
  assert.deepEqual(arrangeGroups(domains, groups, once), once)
})

test('where zones and racks cannot have what weights ask for, arranging ends soon', () => {
  const zones = [0, 0, 0, 2, 0, 3, 0, 3, 1, 2, 1, 3, 3, 0, 0, 0, 0, 0, 0, 2, 0, 0, 0]
  const weights = [
    5.69, 8.45, 5.64, 7.98, 2.63, 0.9, 5.78, 6.49, 7.61, 1.48, 2.86, 7.91, 16.94, 5.69, 8.4, 9.17,
  ]
  const more = [17.55, 2.41, 6.71, 1.24, 5.51, 9.8, 2.78]
  const nodes = zones.map(
    (zone, index): PlacementNode => ({
      name: `n${String(index).padStart(4, '0')}`,
      zone: `z${zone}`,
      rack: [0, 13, 14].includes(index) ? '' : 'r0',
      weight: [...weights, ...more][index] ?? 1,
    }),
  )
  const domains = domainsOf(nodes, 6)
  const before = process.cpuUsage()
  const holders = arrangeGroups(domains, 4096)
  const { user } = process.cpuUsage(before)
  // A look takes half a second; for as long as it takes the node does nothing else.
  assert.ok(user < 1e7, `${user / 1e6} s`)
  for (let group = 0; group < 4096; group++) {
    assert.equal(new Set(holders.subarray(group * 6, group * 6 + 6)).size, 6, 'one node holds a group twice')
  }
})

test('with equal weights nobody holds more than the mean rounded up', () => {
  fc.assert(
    fc.property(fc.integer({ min: 1, max: 60 }), fc.integer({ min: 1, max: 5 }), (count, replicas) => {
      const nodes = nodesFrom(count, 0, 0, [1])
      const loads = loadsOf(arrangeGroups(domainsOf(nodes, replicas), groups), count)
      const mean = (groups * Math.min(count, replicas)) / count
      assert.ok(Math.max(...loads) <= Math.ceil(mean), `${Math.max(...loads)} with a mean of ${mean}`)
      assert.ok(Math.min(...loads) >= Math.floor(mean), `${Math.min(...loads)} with a mean of ${mean}`)
    }),
    runs,
  )
})

test('in zones of one size the balance is the same, and weights are shares', () => {
  for (const [zones, perZone, racks] of [
    [2, 5, 0],
    [3, 4, 2],
    [4, 10, 5],
    [7, 3, 1],
  ] as const) {
    const nodes = nodesFrom(zones * perZone, zones, racks, [1])
    const loads = loadsOf(arrangeGroups(domainsOf(nodes, 3), 4096), nodes.length)
    const mean = (4096 * 3) / nodes.length
    assert.ok(Math.max(...loads) / mean <= 1.05, `${zones} zones: ${Math.max(...loads) / mean}`)
  }
  const nodes = nodesFrom(20, 0, 0, [1, 2, 1, 4])
  const loads = loadsOf(arrangeGroups(domainsOf(nodes, 3), 4096), nodes.length)
  const total = nodes.reduce((sum, { weight }) => sum + weight, 0)
  for (const [index, { weight }] of nodes.entries()) {
    assert.ok(Math.abs((loads[index] ?? 0) - (4096 * 3 * weight) / total) <= 1.01)
  }
})

const names = (nodes: readonly PlacementNode[]): readonly string[] => nodes.map(({ name }) => name)

function change(
  before: readonly PlacementNode[],
  after: readonly PlacementNode[],
  replicas: number,
  groupCount: number,
) {
  const [from, to] = [domainsOf(before, replicas), domainsOf(after, replicas)]
  const old = arrangeGroups(from, groupCount)
  const holders = arrangeGroups(to, groupCount, carryOver(old, from, to))
  const moved = movedCopies(
    { names: names(before), copies: from.copies, holders: old },
    { names: names(after), copies: to.copies, holders },
  )
  return { old, holders, moved }
}

test('any change of nodes leaves a placement that obeys the laws', () => {
  fc.assert(
    fc.property(
      someNodes([1, 2]),
      fc.array(fc.boolean(), { minLength: 1, maxLength: 40 }),
      fc.array(fc.constantFrom(1, 2, 5), { minLength: 1, maxLength: 9 }),
      fc.integer({ min: 0, max: 4 }),
      someReplicas,
      (nodes, stays, weights, zones, replicas) => {
        const left = nodes.filter((_, index) => index === 0 || stays[index % stays.length] === true)
        const after = left.map((node, index) => ({
          ...node,
          weight: weights[index % weights.length] ?? 1,
          zone: zones === 0 ? node.zone : `z${index % zones}`,
        }))
        const { holders } = change(nodes, after, replicas, groups)
        check(after, replicas, holders)
      },
    ),
    runs,
  )
})

/** Of the least there is to move, and one copy of a group. */
const within = (moved: number, least: number): boolean => moved <= Math.max(least * 1.01, least + 1)

test('a node that joins takes its share and nothing else moves; of one that leaves only its share does', () => {
  for (const [count, zones, racks] of [
    [3, 0, 0],
    [4, 0, 0],
    [5, 0, 0],
    [12, 3, 2],
    [40, 4, 5],
    [100, 5, 4],
    [300, 0, 0],
  ] as const) {
    const all = nodesFrom(count + 1, zones, racks, [1])
    const nodes = all.slice(0, count)
    const joined = change(nodes, all, 3, 4096)
    const share = loadsOf(joined.holders, all.length)[count] ?? 0
    assert.ok(within(joined.moved, share), `${count} nodes: ${joined.moved} moved for ${share}`)
    for (const gone of [0, count >> 1, count - 1]) {
      if (count === 3) continue
      const left = change(nodes, nodes.toSpliced(gone, 1), 3, 4096)
      const held = loadsOf(left.old, count)[gone] ?? 0
      assert.ok(within(left.moved, held), `${count} nodes: ${left.moved} moved for ${held}`)
    }
  }
})

test('ten thousand nodes without zones and with: max/mean at most 1.05, and the least moves', () => {
  for (const [zones, racks] of [
    [0, 0],
    [10, 25],
  ] as const) {
    const all = nodesFrom(10_001, zones, racks, [1])
    const nodes = all.slice(0, 10_000)
    const { old, holders, moved } = change(nodes, all, 3, 65_536)
    const mean = (65_536 * 3) / 10_000
    assert.ok(Math.max(...loadsOf(old, 10_000)) / mean <= 1.05)
    assert.ok(Math.max(...loadsOf(holders, 10_001)) / mean <= 1.05)
    assert.ok(within(moved, loadsOf(holders, 10_001)[10_000] ?? 0), `${moved}`)
  }
})

test('groups of one node have their other copies all over the region', () => {
  const nodes = nodesFrom(30, 0, 0, [1])
  const holders = arrangeGroups(domainsOf(nodes, 3), 4096)
  const beside = new Map<number, number>()
  for (let start = 0; start < holders.length; start += 3) {
    const held = holders.subarray(start, start + 3)
    if (!held.includes(0)) continue
    for (const node of held) if (node !== 0) beside.set(node, (beside.get(node) ?? 0) + 1)
  }
  assert.equal(beside.size, 29)
  assert.ok(Math.max(...beside.values()) < 3 * Math.min(...beside.values()))
})

test('the logarithm is one', () => {
  for (let share = 1; share <= 2 ** 32; share *= 3) {
    assert.ok(Math.abs(logOfShare(share - 1) - Math.log(share / 2 ** 32)) < 1e-4)
  }
})

const clusterNode = (name: string, more: Partial<ClusterNode> = {}): ClusterNode => ({
  name,
  zone: '',
  rack: '',
  weight: 1,
  incarnation: '0'.repeat(32),
  state: 'active',
  voter: true,
  control: '10.0.0.1:9001',
  transports: {},
  ...more,
})
const firstMap: ClusterMap = {
  epoch: 1,
  replicas: 3,
  nodes: ['a', 'b', 'c'].map((name) => clusterNode(name)),
}

test('a map of its own says who holds what; draining, joining and weightless nodes hold nothing', () => {
  const map: ClusterMap = {
    ...firstMap,
    nodes: [
      ...firstMap.nodes,
      clusterNode('d', { state: 'draining' }),
      clusterNode('e', { state: 'joining' }),
      clusterNode('f', { weight: 0 }),
    ],
  }
  const placement = placementOf(map)
  for (let group = 0; group < placementGroupCount; group++) {
    assert.deepEqual([...placement.holders(group)].sort(), ['a', 'b', 'c'])
  }
  assert.equal(placement.groupsOf('a').length, placementGroupCount)
  assert.deepEqual(placement.groupsOf('d'), [])
  const empty = placementOf({ epoch: 0, replicas: 1, nodes: [] })
  assert.deepEqual([empty.copies, empty.holders(7)], [0, []])
  assert.deepEqual(placementOf({ ...firstMap, nodes: firstMap.nodes.slice(0, 2) }).holders(1).length, 2)
})

test('a map carries its table; whoever reads it gets the same, and one that does not fit is adapted', () => {
  const four = changeMap(firstMap, { nodes: [...firstMap.nodes, clusterNode('d')] })
  assert.equal(four.epoch, 2)
  const placement = placementOf(four)
  assert.deepEqual(placement.table, four.groups)
  assert.equal(placement.groupsOf('d').length, 3072)
  // Made by hand: the node is gone and the table still names it.
  const without = placementOf({ ...four, epoch: 3, nodes: four.nodes.filter(({ name }) => name !== 'b') })
  for (let group = 0; group < placementGroupCount; group++) {
    assert.deepEqual([...without.holders(group)].sort(), ['a', 'c', 'd'])
    const [primary] = without.holders(group)
    assert.ok(primary !== undefined && placement.holders(group).includes(primary), 'the primary has the data')
  }
  // Damaged or of another shape: whole again.
  const torn = { ...four, groups: { nodes: ['a'], copies: 1, holders: new Uint8Array(10) } }
  assert.equal(new Set(placementOf(torn).holders(9)).size, 3)
})

test('a change remembers where everything was until all who must are complete', () => {
  const four = changeMap(firstMap, { nodes: [...firstMap.nodes, clusterNode('d')] })
  assert.deepEqual(placementBefore(four)?.table, placementOf(firstMap).table)
  assert.equal(four.moving?.fromEpoch, 1)
  assert.deepEqual(four.moving?.complete, [])
  assert.throws(
    () => changeMap(four, { nodes: [...four.nodes, clusterNode('e')] }),
    /CONFLICT: chunks still move/,
  )
  // What moves nothing may be changed meanwhile: a node that only joins, a voter.
  const joining = changeMap(four, { nodes: [...four.nodes, clusterNode('e', { state: 'joining' })] })
  assert.deepEqual([joining.epoch, joining.moving], [3, four.moving])
  assert.equal(completeMove(joining, []), undefined)
  const some = completeMove(joining, ['d', 'a', 'nobody'])
  assert.deepEqual([some?.epoch, some?.moving?.complete], [4, ['a', 'd']])
  assert.ok(some)
  assert.equal(completeMove(some, ['a']), undefined)
  const done = completeMove(some, ['b', 'c'])
  assert.deepEqual([done?.epoch, done?.moving], [5, undefined])
  assert.ok(done)
  assert.deepEqual(placementOf(done).table, placementOf(four).table)
  assert.equal(completeMove(done, ['a']), undefined)
})

test('a node that is lost for good can be taken out while chunks move', () => {
  const four = changeMap(firstMap, { nodes: [...firstMap.nodes, clusterNode('d')] })
  const forced = changeMap(four, { nodes: four.nodes.filter(({ name }) => name !== 'b') }, { force: true })
  assert.deepEqual(
    [forced.moving?.fromEpoch, placementBefore(forced)?.table],
    [four.epoch, placementOf(four).table],
  )
})
