import assert from 'node:assert/strict'
import { test } from 'node:test'
import { type ReplicatedLogReport, simulateReplicatedLog } from './replicated-log.sim.ts'

const steps = 40
/** Seeds that once found something, with the number of steps that they needed. */
const found: readonly (readonly [seed: number, steps: number, what: string])[] = [
  [22, 60, 'a wiped first node tried to found the region again and was bound by its own promises'],
  [25, 60, 'a node far behind could not check the claims of those ahead, and was allowed no further'],
  [28, 60, 'a node without a vote that met a damaged record had nobody to ask'],
  [177, 60, 'a peer that fell silent held up a node that caught up'],
  [1434, 60, 'the voters preferred what a node with other entries had to founding the log anew'],
  [1254, 60, 'nobody noticed that a node was bound to a generation that nobody had founded'],
  [10044, 40, 'a node without a vote gave up a confirmed branch for another one'],
  [10453, 40, 'a node could not confirm a change of voters without one that has no vote any more'],
  [27, 40, 'what a row said to be confirmed was less than was known, and nobody could give a copy'],
  [3278, 40, 'a node that had skipped a damaged record took itself for complete'],
]

test('what the simulation has found once does not come back', async (t) => {
  for (const [seed, length, what] of found) {
    await t.test(`seed ${seed}: ${what}`, async () => {
      await simulateReplicatedLog(seed, length)
    })
  }
})

for (const [first, name] of [
  [1, 'B1, B3, B4, B8, B11'],
  [100_001, 'B2, B12, B13'],
] as const) {
  test(`${name}: the replicated log loses nothing acknowledged and takes back nothing shown, from seed ${first} on`, {
    timeout: 900_000,
  }, async (t) => {
    await provesMuch(t, first, 2000)
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
