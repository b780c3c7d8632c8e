import assert from 'node:assert/strict'
import { test } from 'node:test'
import { simulate } from './catalog.sim.ts'

const steps = 1500
const seeds = Array.from({ length: 20 }, (_, index) => 1 + index)

test('the catalog keeps its promises through crashes, retries and clock steps, for every seed', async () => {
  const totals = { operations: 0, commits: 0, crashes: 0, retries: 0, collected: 0 }
  for (const seed of seeds) {
    const report = await simulate(seed, steps)
    for (const name of Object.keys(totals) as (keyof typeof totals)[]) totals[name] += report[name]
  }
  // A run in which nothing happened proves nothing.
  for (const [name, total] of Object.entries(totals)) {
    assert.ok(total > seeds.length * 5, `${name}: only ${total}`)
  }
})

test('one seed is one run', async () => {
  assert.deepEqual(await simulate(7, 800), await simulate(7, 800))
  assert.notEqual((await simulate(7, 800)).stateHash, (await simulate(8, 800)).stateHash)
})
