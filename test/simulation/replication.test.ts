import assert from 'node:assert/strict'
import { test } from 'node:test'
import { type ReplicationReport, simulateReplication } from './replication.sim.ts'

const steps = 300
/** PANDO_SEEDS=10000 for the large run. */
const seeds = Number(process.env['PANDO_SEEDS'] ?? 24)

test('T1, T2, T3, T4, T10, T13, T14, T20, T21, T24, T31: copies hold what their source held, whatever breaks', {
  timeout: 900_000,
}, async (t) => {
  const total: Record<string, number> = {}
  for (let seed = 1; seed <= seeds; seed++) {
    const report: ReplicationReport = await simulateReplication(seed, steps)
    for (const [name, value] of Object.entries(report)) total[name] = (total[name] ?? 0) + value
  }
  t.diagnostic(`${seeds} seeds: ${JSON.stringify(total)}`)
  // A run in which nothing happened proves nothing.
  for (const [name, value] of Object.entries(total)) {
    // Only where one region writes is a version taken from a copy; only where three do, and all is told, one leaves and comes back, begins anew,
    // or has forgotten what it was.
    const rarity =
      { repaired: 4, returned: 4, olderKept: 4, anew: 8, givenAgain: 16, recovered: 16 }[name] ?? 1
    assert.ok(value > seeds / rarity, `${name}: only ${value}`)
  }
})

test('one seed is one run', async () => {
  assert.deepEqual(await simulateReplication(7, steps), await simulateReplication(7, steps))
})
