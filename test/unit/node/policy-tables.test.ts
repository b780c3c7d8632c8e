import assert from 'node:assert/strict'
import { test } from 'node:test'
import { silentLogger } from '../../../core/contract/logger.ts'
import type { QosConfig } from '../../../core/contract/qos.ts'
import { configSchema } from '../../../core/node/config/schema.ts'
import { openNodePolicies } from '../../../core/node/policies/node-policies.ts'
import { openQos, type Qos } from '../../../core/qos/open-qos.ts'
import { createNodeMetrics } from '../../../core/telemetry/metrics.ts'
import { type PolicyText, policyModule } from '../../kit/policies/assemble.ts'
import { makeInput } from '../../kit/policies/policy-region.ts'
import { qosConfig, requestOf } from '../../kit/qos-bench.ts'
import { startS3Region, systemEnvironment } from '../../kit/s3-region.ts'

/** Sheds once it was told of a tenant whose name ends in `:1`. */
const looksForTenant = {
  fields: '(global $shed (mut i32) (i32.const 0))',
  init: `(local $at i32)
    (loop $next
      (if (i32.eq (i32.load16_u (i32.add (local.get $config) (local.get $at))) (i32.const 0x313a))
        (then (global.set $shed (i32.const 2))))
      (local.set $at (i32.add (local.get $at) (i32.const 1)))
      (br_if $next (i32.lt_u (local.get $at) (i32.sub (local.get $length) (i32.const 1)))))
    i32.const 0`,
  hooks: { admit: '(i32.store8 (local.get $out) (global.get $shed)) i32.const 0' },
}

/** Sheds the tenant with index 1, and refuses more than 300 bytes of settings and names. */
const shedsTheFirst = {
  init: '(if (i32.gt_u (local.get $length) (i32.const 300)) (then (return (i32.const -3)))) i32.const 0',
  hooks: {
    admit: `(i32.store8 (local.get $out) (i32.shl (i32.eq (i32.load offset=40 (local.get $in)) (i32.const 1)) (i32.const 1)))
      i32.const 0`,
  },
}

const tenants = (...names: string[]) =>
  qosConfig({ budgets: names.map((tenant) => ({ tenant, requests: 100_000 })) })

/** A node's quality of service, which its policies see as `show` has it, and its policies. */
async function openNode(config: QosConfig, show = (qos: Qos) => qos) {
  const region = await startS3Region()
  const { policies, node } = configSchema.parse({})
  const qos = openQos({ config, environment: systemEnvironment, log: silentLogger })
  const { decisions, backend, close } = await openNodePolicies({
    config: { ...policies, builtin: [] },
    node,
    catalog: region.catalog,
    qos: show(qos),
    classTargetMs: () => 0,
    environment: systemEnvironment,
    log: silentLogger,
    registry: createNodeMetrics({}, 'test').registry,
  })
  return {
    qos,
    decisions,
    backend,
    async serve(text: PolicyText) {
      const { digest } = await backend.push({ wasm: policyModule(text) }, '{}')
      await backend.activate({ name: 'test-policy', digest, config: '{}' })
    },
    async [Symbol.asyncDispose]() {
      await close()
      qos.close()
      await region.close()
    },
  }
}

test('policies learn the names that a new configuration of the quality of service brings', async () => {
  await using node = await openNode(qosConfig())
  await node.serve(looksForTenant)
  const verdict = () => node.decisions.admit(makeInput('admit')).verdict
  assert.equal(verdict(), 'admit')
  node.qos.reconfigure(tenants('a:1'))
  const end = performance.now() + 10_000
  while (verdict() !== 'shed' && performance.now() < end)
    await new Promise((resolve) => setTimeout(resolve, 10))
  assert.equal(verdict(), 'shed')
})

test('names that come while policies start are learned, too', async () => {
  await using node = await openNode(qosConfig(), (qos) => ({
    ...qos,
    tables: () => {
      // As soon as policies have looked.
      queueMicrotask(() => qos.reconfigure(tenants('a:1')))
      return qos.tables()
    },
  }))
  await node.serve(looksForTenant)
  assert.equal(node.decisions.admit(makeInput('admit')).verdict, 'shed')
})

test('a policy never takes one tenant for another, whatever becomes of its load with new names', async () => {
  await using node = await openNode(tenants('bob', 'alice'))
  const { qos, backend } = node
  await node.serve(shedsTheFirst)
  const isShed = (tenant: string): boolean => {
    try {
      qos.admission.admit(requestOf(tenant)).end(0, 0)
      return false
    } catch {
      return true
    }
  }
  /** Until the policies have dealt with the names: in between, too, nobody else is shed. */
  const isBobShed = async (others: readonly string[], until: () => boolean) => {
    const end = performance.now() + 10_000
    for (;;) {
      for (const other of others) assert.equal(isShed(other), false, `${other} is not bob`)
      if (until()) return isShed('bob')
      assert.ok(performance.now() < end, 'it takes too long')
      await new Promise<void>((resolve) => setImmediate(resolve))
    }
  }
  const reasons = () =>
    JSON.stringify(backend.status().policies.map((policy) => Reflect.get(policy, 'failure')))
  assert.equal(await isBobShed(['alice'], () => true), true)

  qos.reconfigure(tenants('zed', 'bob', ...Array.from({ length: 100 }, (_, at) => `tenant-${at}`)))
  assert.equal(await isBobShed(['zed', 'alice'], () => reasons().includes('refused')), false)
  assert.match(reasons(), /the built-in rules decide in its place/)

  qos.reconfigure(tenants('bob', 'zed'))
  assert.equal(await isBobShed(['zed', 'alice'], () => isShed('bob')), true)
  assert.doesNotMatch(reasons(), /refused/)
})
