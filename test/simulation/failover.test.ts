import assert from 'node:assert/strict'
import { test } from 'node:test'
import { simulateFailover } from './failover.sim.ts'

const steps = 600
/** PANDO_SEEDS=10000 for the large run. */
const seeds = Number(process.env['PANDO_SEEDS'] ?? 3)
/** Of these a few runs alone have losses. */
const firstSeed = 1026

test('T35, T37, T38: one region acknowledges in an epoch, sync writes survive, what is lost is listed, and somebody leads in the end', {
  timeout: 900_000,
}, async (t) => {
  const total: Record<string, number> = {}
  for (let seed = firstSeed; seed < firstSeed + seeds; seed++) {
    const report = await simulateFailover(seed, steps)
    for (const [name, value] of Object.entries(report)) total[name] = (total[name] ?? 0) + value
  }
  t.diagnostic(`${seeds} seeds: ${JSON.stringify(total)}`)
  // A run in which nothing happened proves nothing.
  const happens = ['acknowledged', 'refused', 'faults', 'reigns', 'lost', 'listed']
  for (const name of seeds < 50 ? happens : [...happens, 'planned']) {
    assert.ok((total[name] ?? 0) > 0, `${name}: none`)
  }
})

test('one seed is one run', async () => {
  assert.deepEqual(await simulateFailover(5, 150), await simulateFailover(5, 150))
})
