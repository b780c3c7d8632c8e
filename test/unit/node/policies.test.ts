import assert from 'node:assert/strict'
import { test } from 'node:test'
import { createDirectCatalog } from '../../../core/catalog/direct-catalog.ts'
import { MemoryTables } from '../../../core/catalog/memory-tables.ts'
import { sha256 } from '../../../core/catalog/policy-rows.ts'
import type { TransportCandidate } from '../../../core/contract/policy.ts'
import type { DeployedVersion, PolicyDeployment } from '../../../core/contract/policy-deployment.ts'
import { CatalogPolicyStore } from '../../../core/node/policies/catalog-policy-store.ts'
import { LatencyGuard } from '../../../core/node/policies/latency-guard.ts'
import { createPathFallbacks } from '../../../core/node/policies/policy-fallbacks.ts'
import { seededEnvironment } from '../../kit/catalog-driver.ts'
import { makeInput } from '../../kit/policies/policy-region.ts'

const builtinOf = (name: string, mark: number) => {
  const wasm = Uint8Array.of(0, 0x61, 0x73, 0x6d, mark)
  return { name, wasm, digest: sha256(wasm) }
}

function openStore(builtin: readonly ReturnType<typeof builtinOf>[], tables = new MemoryTables()) {
  const catalog = createDirectCatalog({ tables, environment: seededEnvironment(1), regionId: 1 })
  const store = new CatalogPolicyStore({
    catalog: { ...catalog, onPolicyDeployment: () => () => undefined },
    builtin,
    startedMs: 5,
  })
  return { catalog, store, tables }
}

const version = (digest: string): DeployedVersion => ({ digest, percent: 100, config: '{}', sinceMs: 1 })
const named = ({ policies }: PolicyDeployment) => policies.map(({ name }) => name)

test('built-in policies are asked last, and are not in the log until something about them changes', async () => {
  const fair = builtinOf('fair', 1)
  const { catalog, store } = openStore([fair])
  assert.deepEqual(named(store.deployment()), ['fair'])
  assert.equal(store.deployment().epoch, 0)
  assert.equal((await store.getPackage(fair.digest))?.wasm, fair.wasm)
  const own = builtinOf('own', 2)
  await store.putPackage(own.digest, { wasm: own.wasm })
  const { policies } = store.deployment()
  await store.deploy({
    epoch: 1,
    policies: [...policies, { name: 'own', versions: [version(own.digest)], history: [] }],
  })
  assert.deepEqual(named(store.deployment()), ['own', 'fair'])
  assert.deepEqual(named(catalog.policyDeployment()), ['own'])
  assert.equal(catalog.policyPackage(fair.digest), undefined)
})

test('a built-in policy that was taken out stays out, and its module is in the region for a rollback', async () => {
  const fair = builtinOf('fair', 1)
  const { catalog, store, tables } = openStore([fair])
  await store.deploy({
    epoch: 1,
    policies: [{ name: 'fair', versions: [], history: [version(fair.digest)] }],
  })
  assert.deepEqual(store.deployment().policies[0]?.versions, [])
  assert.deepEqual(catalog.policyPackage(fair.digest)?.wasm, fair.wasm)
  // An upgrade brings another module of that name: what the region decided stands.
  const upgraded = openStore([builtinOf('fair', 9)], tables)
  assert.deepEqual(upgraded.store.deployment().policies[0]?.versions, [])
  assert.deepEqual((await upgraded.store.getPackage(fair.digest))?.wasm, fair.wasm)
})

test('an upgrade replaces a built-in policy that nobody has touched', async () => {
  const { tables } = openStore([builtinOf('fair', 1)])
  const next = builtinOf('fair', 2)
  const { store } = openStore([next], tables)
  assert.equal(store.deployment().policies[0]?.versions[0]?.digest, next.digest)
})

test('a deployment out of bounds does not reach the log', async () => {
  const { store } = openStore([])
  const bad = { ...version('ab'.repeat(32)), config: 'x'.repeat(16_385) }
  await assert.rejects(
    store.deploy({ epoch: 1, policies: [{ name: 'demo', versions: [bad], history: [] }] }),
    { code: 'INVALID_ARGUMENT' },
  )
  await assert.rejects(store.deploy({ epoch: 5, policies: [] }), { code: 'CONFLICT' })
})

test('a class that misses its target is a reason against a version only if it did not miss it before', () => {
  let p99Ms = 10
  const guard = new LatencyGuard(
    () => [
      { name: 'interactive', p99Ms },
      { name: 'bulk', p99Ms: 1_000_000 },
    ],
    (name) => (name === 'interactive' ? 20 : 0),
  )
  assert.equal(guard.missed(), undefined)
  p99Ms = 41
  assert.match(guard.missed() ?? '', /interactive is 41 ms, its target 20 ms/)
  guard.remember()
  assert.equal(guard.missed(), undefined)
})

test('without a policy a path is kept while it is up, and the best state wins otherwise', () => {
  const { select } = createPathFallbacks()
  const choose = (states: readonly TransportCandidate['state'][], currentIndex = -1) => {
    const { index, fallbackIndex } = select(
      makeInput('select', {
        currentIndex,
        candidates: states.map((state) => ({ transport: 'tcp', state })),
      }),
    )
    return [index, fallbackIndex]
  }
  assert.deepEqual(choose(['down', 'degraded', 'up']), [2, 1])
  assert.deepEqual(choose(['up', 'up'], 1), [1, 0])
  assert.deepEqual(choose(['up', 'degraded'], 1), [0, 1])
  assert.deepEqual(choose(['down']), [0, -1])
})

test('without a policy the later of two writes wins, and of the same moment the higher region', () => {
  const { resolve } = createPathFallbacks()
  const decide = (first: object, second: object) =>
    resolve(makeInput('resolve', { versions: [first, second] })).outcome
  assert.equal(decide({ hlc: '5', region: 1 }, { hlc: '4', region: 2 }), 'first')
  assert.equal(decide({ hlc: '4', region: 1 }, { hlc: '5', region: 2 }), 'second')
  assert.equal(decide({ hlc: '5', region: 1 }, { hlc: '5', region: 2 }), 'second')
  assert.equal(decide({ hlc: '5', region: 3 }, { hlc: '5', region: 2 }), 'first')
})
