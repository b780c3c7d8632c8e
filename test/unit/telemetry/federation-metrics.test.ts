import assert from 'node:assert/strict'
import test from 'node:test'
import type { SharedRegion } from '../../../core/contract/sharing.ts'
import { registerFederationMetrics } from '../../../core/telemetry/federation-metrics.ts'
import { createNodeMetrics } from '../../../core/telemetry/metrics.ts'

const region = (regionId: number, name: string, keysLagMs: number): SharedRegion => ({
  ...{ regionId, name, keysLagMs, isConnected: true, heardMs: 0, accepts: [], isAccepting: [] },
  ...{ keysGiven: 1, keysTaken: 0, keysProblem: '' },
})

test('a region that calls itself like another one hides nothing of it', async () => {
  const metrics = createNodeMetrics({}, '1.2.3')
  const regions = [region(1, 'north', 0), region(2, 'south', 600_000), region(3, 'south', 0)]
  const publications = [2, 3].map((regionId) => ({
    ...{
      name: 'demo',
      digest: 'ab'.repeat(32),
      regionId,
      state: 'accepted' as const,
      reason: '',
      serves: [],
    },
  }))
  registerFederationMetrics(metrics.registry, () => ({ regions, publications }))
  const lines = (await metrics.scrape())
    .split('\n')
    .filter((line) => /^pando_federation_(keys_lag_seconds|policies)/.test(line))
  assert.deepEqual(lines, [
    'pando_federation_keys_lag_seconds{region="north"} 0',
    'pando_federation_keys_lag_seconds{region="south (2)"} 600',
    'pando_federation_keys_lag_seconds{region="south (3)"} 0',
    'pando_federation_policies{region="south (2)",state="accepted"} 1',
    'pando_federation_policies{region="south (3)",state="accepted"} 1',
  ])
})
