import assert from 'node:assert/strict'
import { test } from 'node:test'
import { completeMove, mustComplete } from '../../../core/cluster/placement/change-map.ts'
import type { ClusterMap } from '../../../core/contract/cluster-map.ts'
import { withArrival, withOwnEntry, withSeatKept, withVoters } from '../../../core/node/cluster/map-upkeep.ts'

const entry = (name: string, incarnation = name) => ({
  name,
  zone: '',
  rack: '',
  weight: 1,
  incarnation: Buffer.from(incarnation.padEnd(16, '.')).toString('hex'),
  control: `${name}:9005`,
  transports: { tcp: `${name}:9003` },
})
const empty: ClusterMap = { epoch: 0, replicas: 3, nodes: [] }
const anybody = () => true

/** Everything that the nodes and the coordinator would do by themselves, until nobody has anything to do. */
function settle(start: ClusterMap, isHere: (name: string) => boolean = anybody): ClusterMap {
  let map = start
  for (let step = 0; step < 50; step++) {
    const next =
      completeMove(map, mustComplete(map)) ??
      withVoters(map, isHere) ??
      map.nodes.reduce<ClusterMap | undefined>(
        (found, { name }) => found ?? withArrival(map, name),
        undefined,
      )
    if (next === undefined) return map
    assert.equal(next.epoch, map.epoch + 1)
    const before = new Set(map.nodes.filter(({ voter }) => voter).map(({ name }) => name))
    const after = new Set(next.nodes.filter(({ voter }) => voter).map(({ name }) => name))
    const changes =
      [...before].filter((name) => !after.has(name)).length +
      [...after].filter((name) => !before.has(name)).length
    assert.ok(changes <= 1, 'one voter at a time')
    map = next
  }
  throw new Error('it never comes to rest')
}
const region = (...names: readonly string[]): ClusterMap =>
  settle(names.reduce((map, name) => withOwnEntry(map, entry(name)) ?? map, empty))
const voters = ({ nodes }: ClusterMap): readonly string[] =>
  nodes.filter(({ voter }) => voter).map(({ name }) => name)

test('nodes join, arrive, and three of them vote; five from five on', () => {
  assert.deepEqual(voters(region('a', 'b', 'c')), ['a', 'b', 'c'])
  const four = region('a', 'b', 'c', 'd')
  assert.deepEqual(voters(four), ['a', 'b', 'c'])
  assert.deepEqual(
    four.nodes.map(({ state }) => state),
    ['active', 'active', 'active', 'active'],
  )
  assert.equal(voters(region('a', 'b', 'c', 'd', 'e')).length, 5)
  assert.equal(voters(region('a', 'b', 'c', 'd', 'e', 'f', 'g')).length, 5)
})

test('an entry that is right is left alone', () => {
  const map = region('a', 'b', 'c')
  for (const name of ['a', 'b', 'c']) assert.equal(withOwnEntry(map, entry(name)), undefined)
})

test('a node that lost its disk takes its seat again, and no chunk changes its place', () => {
  const map = region('a', 'b', 'c')
  const next = withOwnEntry(map, entry('b', 'new disk'))
  assert.ok(next)
  assert.equal(next.moving, undefined)
  assert.deepEqual(voters(next), ['a', 'b', 'c'])
  assert.notEqual(next.nodes[1]?.incarnation, map.nodes[1]?.incarnation)
  assert.deepEqual(next.groups, map.groups)
})

test('the slot of a node that was taken out, or lost its disk, is not that of whoever comes next', () => {
  const map = region('a', 'b', 'c')
  const slots = ({ nodes }: ClusterMap) => nodes.map(({ slot }) => slot ?? assert.fail())
  assert.equal(new Set(slots(map)).size, 3)
  const gone = map.nodes.find(({ name }) => name === 'b')?.slot
  const without = { ...map, nodes: map.nodes.filter(({ name }) => name !== 'b') }
  for (const joining of [entry('d'), entry('b', 'new disk')]) {
    const next = withOwnEntry(without, joining) ?? assert.fail()
    assert.ok(!slots(next).includes(gone ?? assert.fail()))
  }
  // The process of before may still be somewhere.
  const again = withOwnEntry(map, entry('b', 'new disk')) ?? assert.fail()
  assert.ok(!slots(again).includes(gone ?? assert.fail()))
  assert.equal(new Set(slots(again)).size, 3)
})

test('a process whose seat another one has taken does not take it back, and never gets its old slot again', () => {
  const map = region('a', 'b', 'c')
  const slotIn = ({ nodes }: ClusterMap) => nodes.find(({ name }) => name === 'b')?.slot ?? assert.fail()
  const first = withOwnEntry(map, entry('b', 'one')) ?? assert.fail()
  const second = withOwnEntry(first, entry('b', 'two')) ?? assert.fail()
  // It still runs, and so does the other one.
  assert.equal(withSeatKept(second, entry('b', 'one')), undefined)
  assert.equal(withSeatKept(second, entry('b', 'two')), undefined)
  assert.equal(
    withSeatKept(second, { ...entry('b', 'two'), control: 'elsewhere:9005' })?.nodes[1]?.control,
    'elsewhere:9005',
  )
  // It was started again: what it began before it lost its seat may have been freed since.
  const third = withOwnEntry(second, entry('b', 'one')) ?? assert.fail()
  assert.equal(new Set([first, second, third].map(slotIn)).size, 3)
  // The same for one that was taken out.
  const without = { ...first, epoch: first.epoch + 1, nodes: first.nodes.filter(({ name }) => name !== 'b') }
  assert.equal(withSeatKept(without, entry('b', 'one')), undefined)
  assert.notEqual(slotIn(withOwnEntry(without, entry('b', 'one')) ?? assert.fail()), slotIn(first))
})

test('a node that loses its disk while chunks move is not complete any more', () => {
  const map = region('a', 'b', 'c')
  const joined = withOwnEntry(map, entry('d'))
  const moving = joined && withArrival(joined, 'd')
  const some = moving && completeMove(moving, ['a', 'b'])
  assert.deepEqual(some?.moving?.complete, ['a', 'b'])
  assert.deepEqual(some && withOwnEntry(some, entry('b', 'new disk'))?.moving?.complete, ['a'])
})

test('a node that has moved says where it is; what was set by hand stays', () => {
  const map = region('a', 'b', 'c')
  const byHand = { ...map, nodes: map.nodes.map((node) => ({ ...node, zone: 'z', weight: 2 })) }
  const next = withOwnEntry(byHand, { ...entry('b'), control: 'elsewhere:9005' })
  assert.deepEqual(
    next?.nodes.map(({ control, zone, weight }) => [control, zone, weight]),
    [
      ['a:9005', 'z', 2],
      ['elsewhere:9005', 'z', 2],
      ['c:9005', 'z', 2],
    ],
  )
})

test('a voter that leaves is replaced before it goes', () => {
  const map = region('a', 'b', 'c', 'd')
  const leaving: ClusterMap = {
    ...map,
    nodes: map.nodes.map((node) => (node.name === 'b' ? { ...node, state: 'draining' as const } : node)),
  }
  const first = withVoters(leaving, anybody)
  assert.deepEqual(first && voters(first), ['a', 'b', 'c', 'd'])
  assert.deepEqual(voters(settle(leaving)), ['a', 'c', 'd'])
})

test('nobody votes who is not here, and nobody stops voting before another can', () => {
  const map = region('a', 'b', 'c', 'd')
  const leaving: ClusterMap = {
    ...map,
    nodes: map.nodes.map((node) => (node.name === 'b' ? { ...node, state: 'draining' as const } : node)),
  }
  assert.equal(
    withVoters(leaving, (name) => name !== 'd'),
    undefined,
  )
})
