import assert from 'node:assert/strict'
import { test } from 'node:test'
import { createDirectCatalog } from '../../../core/catalog/direct-catalog.ts'
import { checkEntry } from '../../../core/catalog/entry-schema.ts'
import { MemoryTables } from '../../../core/catalog/memory-tables.ts'
import type { ClusterMap, ClusterNode } from '../../../core/contract/cluster-map.ts'
import { StorageError } from '../../../core/contract/errors.ts'
import { seededEnvironment } from '../../kit/catalog-driver.ts'

const node = (name: string, incarnation = name, voter = true): ClusterNode => ({
  name,
  zone: '',
  rack: '',
  weight: 1,
  incarnation: Buffer.from(incarnation.padEnd(16, '.')).toString('hex'),
  state: 'active',
  voter,
  control: '10.0.0.1:9001',
  transports: { tcp: '10.0.0.1:9003' },
})
const mapOf = (epoch: number, ...nodes: readonly ClusterNode[]): ClusterMap => ({ epoch, replicas: 3, nodes })

function openDirect() {
  const catalog = createDirectCatalog({
    tables: new MemoryTables(),
    environment: seededEnvironment(7),
    regionId: 1,
  })
  const set = (map: ClusterMap) => catalog.run({ type: 'set-cluster-map', map })
  const refused = (map: ClusterMap, code: string): void => {
    const before = catalog.clusterMap()
    assert.throws(
      () => set(map),
      (error) => error instanceof StorageError && error.code === code,
    )
    assert.deepEqual(catalog.clusterMap(), before)
  }
  return { catalog, set, refused }
}

const [a, b, c, d] = ['a', 'b', 'c', 'd'].map((name) => node(name)) as [
  ClusterNode,
  ClusterNode,
  ClusterNode,
  ClusterNode,
]

test('a map follows the one in force, and of two that were made from the same one the second is refused', () => {
  const { catalog, set, refused } = openDirect()
  assert.deepEqual(catalog.clusterMap(), { epoch: 0, replicas: 1, nodes: [] })
  set(mapOf(1, a, b, c))
  assert.deepEqual(catalog.clusterMap(), mapOf(1, a, b, c))
  refused(mapOf(1, a, b, c), 'CONFLICT')
  refused(mapOf(3, a, b, c), 'CONFLICT')
  set(mapOf(2, a, b, c, d))
  refused(mapOf(2, a, b), 'CONFLICT')
})

test('voters come and go one at a time; one that lost its data is replaced in its seat', () => {
  const { set, refused } = openDirect()
  refused(mapOf(1), 'INVALID_ARGUMENT')
  set(mapOf(1, a, b, c))
  refused(mapOf(2, a), 'INVALID_ARGUMENT')
  refused(mapOf(2, a, b, d), 'INVALID_ARGUMENT')
  refused(mapOf(2, node('a', 'new'), node('b', 'new'), c), 'INVALID_ARGUMENT')
  set(mapOf(2, a, b, node('c', 'new disk')))
  set(mapOf(3, a, b, node('c', 'new disk'), node('d', 'd', false)))
  set(mapOf(4, a, b, node('c', 'new disk'), d))
  set(mapOf(5, a, b, d))
  refused(mapOf(6, node('a', 'a', false), node('b', 'b', false), d), 'INVALID_ARGUMENT')
})

test('a map from outside is checked before it may enter the log', () => {
  const { catalog } = openDirect()
  const entry = (map: unknown) => catalog.propose({ type: 'set-cluster-map', map: map as ClusterMap })
  checkEntry(entry(mapOf(1, a, b)))
  for (const wrong of [
    mapOf(1, b, a),
    mapOf(1, a, a),
    { ...mapOf(1, a), replicas: 6 },
    mapOf(1, { ...a, name: 'A' }),
    mapOf(1, { ...a, weight: Number.NaN }),
    mapOf(1, { ...a, incarnation: 'ab' }),
    { ...mapOf(1, a), extra: 1 },
  ]) {
    assert.throws(() => checkEntry(entry(wrong)), /no log entry/)
  }
})
