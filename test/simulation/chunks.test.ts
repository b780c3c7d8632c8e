import assert from 'node:assert/strict'
import { test } from 'node:test'
import { simulateChunks } from './chunks.sim.ts'

test('no acknowledged chunk is lost while nodes and disks come and go, and healed all is in its place', async (context) => {
  const total = { writes: 0, reads: 0, wipes: 0, kills: 0, moves: 0, fetched: 0, freed: 0, stale: 0 }
  for (let seed = 1; seed <= 40; seed++) {
    const run = await simulateChunks(seed, 40)
    for (const name of Object.keys(total) as (keyof typeof total)[]) total[name] += run[name]
  }
  context.diagnostic(JSON.stringify(total))
  // A run in which nothing happened proves nothing.
  assert.ok(
    total.wipes > 20 && total.moves > 10 && total.fetched > 300 && total.freed > 30 && total.stale > 10,
    JSON.stringify(total),
  )
})

test('one seed is one run', async () => {
  assert.deepEqual(await simulateChunks(5, 15), await simulateChunks(5, 15))
})
