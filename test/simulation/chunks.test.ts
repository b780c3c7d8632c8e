import assert from 'node:assert/strict'
import { test } from 'node:test'
import { runApart } from './apart.ts'
import type { ChunksRun } from './chunk-pieces.ts'

const simulation = new URL('./chunks.sim.js', import.meta.url)

test('no acknowledged chunk is lost while nodes and disks come and go, and healed all is in its place', async (context) => {
  const total = { writes: 0, reads: 0, wipes: 0, rots: 0, kills: 0, moves: 0, fetched: 0, freed: 0, stale: 0 }
  const calls = Array.from({ length: 40 }, (_, index) => [1 + index, 40])
  for (const run of await runApart<ChunksRun>(simulation, 'simulateChunks', calls)) {
    for (const name of Object.keys(total) as (keyof typeof total)[]) total[name] += run[name]
  }
  context.diagnostic(JSON.stringify(total))
  // A run in which nothing happened proves nothing.
  assert.ok(
    total.wipes > 20 &&
      total.rots > 10 &&
      total.moves > 10 &&
      total.fetched > 300 &&
      total.freed > 30 &&
      total.stale > 10,
    JSON.stringify(total),
  )
})

test('one seed is one run', async () => {
  const [one, other] = await runApart<ChunksRun>(simulation, 'simulateChunks', [
    [5, 15],
    [5, 15],
  ])
  assert.deepEqual(one, other)
})
