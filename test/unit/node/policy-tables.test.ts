import assert from 'node:assert/strict'
import { test } from 'node:test'
import { silentLogger } from '../../../core/contract/logger.ts'
import { configSchema } from '../../../core/node/config/schema.ts'
import { openNodePolicies } from '../../../core/node/policies/node-policies.ts'
import { openQos } from '../../../core/qos/open-qos.ts'
import { createNodeMetrics } from '../../../core/telemetry/metrics.ts'
import { policyModule } from '../../kit/policies/assemble.ts'
import { makeInput } from '../../kit/policies/policy-region.ts'
import { qosConfig } from '../../kit/qos-bench.ts'
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

test('policies learn the names that a new configuration of the quality of service brings', async () => {
  const region = await startS3Region()
  const { policies, node } = configSchema.parse({})
  const qos = openQos({ config: qosConfig(), environment: systemEnvironment, log: silentLogger })
  const { decisions, backend, close } = await openNodePolicies({
    config: { ...policies, builtin: [] },
    node,
    catalog: region.catalog,
    qos,
    classTargetMs: () => 0,
    environment: systemEnvironment,
    log: silentLogger,
    registry: createNodeMetrics({}, 'test').registry,
  })
  try {
    const { digest } = await backend.push({ wasm: policyModule(looksForTenant) }, '{}')
    await backend.activate({ name: 'test-policy', digest, config: '{}' })
    const verdict = () => decisions.admit(makeInput('admit')).verdict
    assert.equal(verdict(), 'admit')
    qos.reconfigure(qosConfig({ budgets: [{ tenant: 'a:1', requests: 100 }] }))
    const end = performance.now() + 10_000
    while (verdict() !== 'shed' && performance.now() < end)
      await new Promise((resolve) => setTimeout(resolve, 10))
    assert.equal(verdict(), 'shed')
  } finally {
    await close()
    qos.close()
    await region.close()
  }
})
