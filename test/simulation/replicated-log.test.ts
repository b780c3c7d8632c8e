import assert from 'node:assert/strict'
import { test } from 'node:test'
import { type ReplicatedLogReport, simulateReplicatedLog } from './replicated-log.sim.ts'

const steps = 40
/** Of each of the two series: what two shared cores do in a few minutes. PANDO_SEEDS=10000 for the large run, some minutes of a free core. */
const seedsEach = Number(process.env['PANDO_SEEDS'] ?? 250)
for (const [first, name] of [
  [1, 'B1, B3, B4, B8, B11'],
  [100_001, 'B2, B12, B13'],
] as const) {
  test(`${name}: the replicated log loses nothing acknowledged and takes back nothing shown, from seed ${first} on`, {
    timeout: 900_000,
  }, async (t) => {
    await provesMuch(t, first, seedsEach)
  })
}

async function provesMuch(
  t: { diagnostic(message: string): void },
  first: number,
  count: number,
): Promise<void> {
  const total: Record<string, number> = {}
  const stackDepth = Error.stackTraceLimit
  // Errors are part of the protocol here, by the million.
  Error.stackTraceLimit = 0
  try {
    for (let seed = first; seed < first + count; seed++) {
      const report: ReplicatedLogReport = await simulateReplicatedLog(seed, steps)
      for (const [name, value] of Object.entries(report)) total[name] = (total[name] ?? 0) + value
    }
  } finally {
    Error.stackTraceLimit = stackDepth
  }
  t.diagnostic(`${count} seeds: ${JSON.stringify(total)}`)
  // A run in which nothing happened proves nothing.
  for (const [name, value] of Object.entries(total)) {
    if (name !== 'undecided') assert.ok(value > count / 10, `${name}: only ${value}`)
  }
  assert.ok((total['generations'] ?? 0) > count * 1.5, 'the log is hardly ever founded anew')
  assert.ok((total['undecided'] ?? 0) < count / 50, 'too often nobody may decide')
}

test('one seed is one run', async () => {
  assert.deepEqual(await simulateReplicatedLog(7, steps), await simulateReplicatedLog(7, steps))
})
