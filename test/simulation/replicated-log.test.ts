import assert from 'node:assert/strict'
import { test } from 'node:test'
import { runApart } from './apart.ts'
import { simulateReplicatedLog } from './replicated-log.sim.ts'
import type { ReplicatedLogReport } from './replicated-log-report.ts'
import { provesMuch } from './replicated-log-runs.ts'
import { large } from './replicated-log-shapes.ts'

const steps = 40
/** Of each of the two series: what a few seconds of a core do; the small regions have ten thousand. PANDO_SEEDS=10000 for the large run, some minutes of a free core. */
const count = Number(process.env['PANDO_SEEDS'] ?? 100)
for (const [first, name] of [
  [1, 'B1, B3, B4, B8, B11'],
  [100_001, 'B2, B12, B13'],
] as const) {
  test(`${name}: the replicated log loses nothing acknowledged and takes back nothing shown, from seed ${first} on`, {
    timeout: 900_000,
  }, async (t) => {
    await provesMuch(t, { shape: large, steps, first, count })
  })
}

test('one that comes back hears that others were given other entries before the stream was lost, and votes again', async () => {
  const report = await simulateReplicatedLog(5180, 150)
  assert.equal(report.wipes, 1)
  assert.equal(report.undecided, 0)
})

test('one seed is one run', async () => {
  const simulation = new URL('./replicated-log.sim.js', import.meta.url)
  const [one, other] = await runApart<ReplicatedLogReport>(simulation, 'simulateReplicatedLog', [
    [7, steps],
    [7, steps],
  ])
  assert.deepEqual(one, other)
})
