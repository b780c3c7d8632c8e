import assert from 'node:assert/strict'
import { test } from 'node:test'
import { runApart } from './apart.ts'
import type { LinkRun } from './link.sim.ts'

const faults = 25
const simulation = new URL('./link.sim.js', import.meta.url)

test('a link with one sound transport fails no request, whatever becomes of the others', async (context) => {
  const total = { requests: 0, resent: 0, forcedSwitches: 0, chosenSwitches: 0 }
  const calls = [1, 2, 3, 4].map((seed) => [seed, faults, { sparedTransport: 'tcp' }])
  for (const run of await runApart<LinkRun>(simulation, 'simulateLink', calls)) {
    assert.equal(run.failed, 0)
    for (const name of Object.keys(total) as (keyof typeof total)[]) total[name] += run[name]
  }
  context.diagnostic(`${JSON.stringify(total)}, 0 failed`)
  // A run in which nothing happened proves nothing.
  assert.ok(total.resent > 20 && total.forcedSwitches > 3 && total.chosenSwitches > 3, JSON.stringify(total))
})

test('when everything breaks each request still ends once, and the link comes back by itself', async (context) => {
  let failed = 0
  let requests = 0
  const calls = [101, 102, 103].map((seed) => [seed, faults])
  for (const run of await runApart<LinkRun>(simulation, 'simulateLink', calls)) {
    failed += run.failed
    requests += run.requests
  }
  context.diagnostic(`${requests} requests, ${failed} ended with an error of the path`)
  assert.ok(failed > 0, 'nothing ever broke')
})

test('one seed is one run', async () => {
  const [one, other] = await runApart<LinkRun>(simulation, 'simulateLink', [
    [7, 5],
    [7, 5],
  ])
  assert.deepEqual(one, other)
})
