import assert from 'node:assert/strict'
import { test } from 'node:test'
import { createDirectCatalog } from '../../../core/catalog/direct-catalog.ts'
import { MemoryTables } from '../../../core/catalog/memory-tables.ts'
import { completeMove, mustComplete, withStripes } from '../../../core/cluster/placement/change-map.ts'
import type { ReplicaAcks } from '../../../core/contract/transport.ts'
import { createClusterAdmin } from '../../../core/node/cluster/cluster-admin.ts'
import { withVoters } from '../../../core/node/cluster/map-upkeep.ts'
import { noCluster } from '../../../core/node/cluster/no-cluster.ts'
import { rejectsWith } from '../../kit/chunk-store-place.ts'
import { clusterMap } from '../../kit/cluster-maps.ts'
import { FakeClock, fakeEnvironment } from '../../kit/fake-clock.ts'

/** What operators ask of a region whose nodes do at once what a change of the map wants of them. */
function operatedRegion(names: readonly string[], width?: number, acks: ReplicaAcks = 'quorum') {
  const environment = fakeEnvironment(new FakeClock(), 1)
  const catalog = createDirectCatalog({ tables: new MemoryTables(), environment, regionId: 1 })
  const plain = clusterMap(names)
  const map = width === undefined ? plain : { ...(withStripes(plain, [width]) ?? plain), epoch: plain.epoch }
  catalog.run({ type: 'set-cluster-map', map })
  const away = new Set<string>()
  const admin = createClusterAdmin({
    catalog,
    report: () => noCluster('a').report(),
    ...{ acks, isHere: (name) => !away.has(name) },
    schemes: width === undefined ? [] : [{ dataFragments: width - 2, parityFragments: 2 }],
    onChange: () => undefined,
  })
  return {
    ...{ admin, away },
    names: () => catalog.clusterMap().nodes.map(({ name }) => name),
    voters: () => catalog.clusterMap().nodes.flatMap(({ name, voter }) => (voter ? [name] : [])),
    settle(): void {
      for (;;) {
        const now = catalog.clusterMap()
        const next = completeMove(now, mustComplete(now)) ?? withVoters(now, (name) => !away.has(name))
        if (next === undefined) return
        catalog.run({ type: 'set-cluster-map', map: next })
      }
    },
  }
}

test('a drained node leaves, and one that is not drained does not', async () => {
  const { admin, names, settle } = operatedRegion(['a', 'b', 'c', 'd'])
  await rejectsWith('INVALID_REQUEST', admin.removeNode('d', false))
  await admin.changeNode({ name: 'd', state: 'draining' })
  await rejectsWith('INVALID_REQUEST', admin.removeNode('d', false))
  settle()
  await admin.removeNode('d', false)
  assert.deepEqual(names(), ['a', 'b', 'c'])
})

test('no series of drained nodes takes fragments out of the region that have no other place', async () => {
  const { admin, names, settle } = operatedRegion(['a', 'b', 'c', 'd', 'e', 'f', 'g'], 6)
  const leave = async (name: string, force = false): Promise<void> => {
    await admin.changeNode({ name, state: 'draining' })
    settle()
    await admin.removeNode(name, force)
    settle()
  }
  await leave('g')
  for (const name of ['f', 'e', 'd']) await rejectsWith('INVALID_REQUEST', leave(name))
  assert.deepEqual(names(), ['a', 'b', 'c', 'd', 'e', 'f'])
  await admin.removeNode('f', true)
  assert.deepEqual(names(), ['a', 'b', 'c', 'd', 'e'], 'whoever says so may')
})

test('the last node that may hold chunks keeps its weight', async () => {
  const { admin, settle } = operatedRegion(['a', 'b', 'c'])
  for (const name of ['a', 'b']) {
    await admin.changeNode({ name, weight: 0 })
    settle()
  }
  await rejectsWith('INVALID_REQUEST', admin.changeNode({ name: 'c', weight: 0 }))
  await admin.changeNode({ name: 'a', weight: 1 })
  settle()
  await admin.changeNode({ name: 'c', weight: 0 })
})

test('with one of three voters away nobody takes another one out, by force or drained', async () => {
  const { admin, away, names, settle, voters } = operatedRegion(['a', 'b', 'c'])
  await admin.changeNode({ name: 'a', state: 'draining' })
  away.add('c')
  await rejectsWith('INVALID_REQUEST', admin.removeNode('a', true))
  settle()
  assert.deepEqual(voters(), ['a', 'b', 'c'], 'b alone would be no majority of b and c')
  await rejectsWith('INVALID_REQUEST', admin.removeNode('a', false))
  away.clear()
  settle()
  assert.deepEqual(voters(), ['b', 'c'])
  await admin.removeNode('a', false)
  assert.deepEqual(names(), ['b', 'c'])
})

test('with one of three holders away none of the others stops holding: bodies could not be acknowledged', async () => {
  const { admin, away, settle } = operatedRegion(['a', 'b', 'c'])
  away.add('c')
  await rejectsWith('INVALID_REQUEST', admin.changeNode({ name: 'a', state: 'draining' }))
  await rejectsWith('INVALID_REQUEST', admin.changeNode({ name: 'a', weight: 0 }))
  await rejectsWith('INVALID_REQUEST', admin.setReplicas(2))
  await admin.changeNode({ name: 'a', rack: 'r1' })
  settle()
  away.clear()
  await admin.changeNode({ name: 'a', state: 'draining' })
  // Of four, three of which hold each chunk, two are left of any.
  const four = operatedRegion(['a', 'b', 'c', 'd'])
  four.away.add('d')
  await four.admin.changeNode({ name: 'a', state: 'draining' })
})

test('who is gone for good is taken out by force, as long as the others are a majority', async () => {
  const { admin, away, names } = operatedRegion(['a', 'b', 'c'])
  away.add('c')
  await admin.removeNode('c', true)
  assert.deepEqual(names(), ['a', 'b'])
})

test('a drained node stays while chunks move: who was taken out by force may have left it the last copies', async () => {
  const { admin, away, names, settle } = operatedRegion(['a', 'b', 'c', 'd', 'e', 'f'])
  await admin.changeNode({ name: 'f', state: 'draining' })
  away.add('e')
  await admin.removeNode('e', true)
  await rejectsWith('INVALID_REQUEST', admin.removeNode('f', false))
  settle()
  await admin.removeNode('f', false)
  assert.deepEqual(names(), ['a', 'b', 'c', 'd'])
})

test('with one of six holders of 4+2 away no other one stops holding: coded bodies could not be acknowledged', async () => {
  const { admin, away, names, settle } = operatedRegion(['a', 'b', 'c', 'd', 'e', 'f'], 6)
  away.add('e')
  const refused = /without f .*\(not e\).*5 of 6 fragments.*Bring e back/
  await assert.rejects(admin.changeNode({ name: 'f', state: 'draining' }), refused)
  await assert.rejects(admin.changeNode({ name: 'f', weight: 0 }), refused)
  await assert.rejects(admin.removeNode('f', true), refused)
  // Who is gone for good may go: the other five are as many as a write needs.
  await admin.removeNode('e', true)
  settle()
  assert.deepEqual(names(), ['a', 'b', 'c', 'd', 'f'])
  await assert.rejects(admin.changeNode({ name: 'f', state: 'draining' }), /Add a node first/)
  const six = operatedRegion(['a', 'b', 'c', 'd', 'e', 'f'], 6)
  await six.admin.changeNode({ name: 'f', state: 'draining' })
})

test('where a coded body waits for all of its six fragments six nodes stay, and of seven one may go', async () => {
  const { admin } = operatedRegion(['a', 'b', 'c', 'd', 'e', 'f'], 6, 'all')
  await assert.rejects(
    admin.changeNode({ name: 'f', state: 'draining' }),
    /6 of 6 fragments.*Add a node first/,
  )
  const seven = operatedRegion(['a', 'b', 'c', 'd', 'e', 'f', 'g'], 6, 'all')
  await seven.admin.changeNode({ name: 'f', state: 'draining' })
})

test('a code that was never writable keeps nobody from leaving, as long as copies are', async () => {
  const { admin, away, settle } = operatedRegion(['a', 'b', 'c', 'd'], 6)
  await admin.changeNode({ name: 'd', state: 'draining' })
  settle()
  away.add('c')
  await rejectsWith('INVALID_REQUEST', admin.changeNode({ name: 'b', state: 'draining' }))
})
