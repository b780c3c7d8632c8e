import assert from 'node:assert/strict'
import { test } from 'node:test'
import { simulateLink } from './link.sim.ts'

const faults = 25

test('a link with one sound transport fails no request, whatever becomes of the others', async (context) => {
  const total = { requests: 0, resent: 0, forcedSwitches: 0, chosenSwitches: 0 }
  for (let seed = 1; seed <= 4; seed++) {
    const run = await simulateLink(seed, faults, { sparedTransport: 'tcp' })
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
  for (let seed = 101; seed <= 103; seed++) {
    const run = await simulateLink(seed, faults)
    failed += run.failed
    requests += run.requests
  }
  context.diagnostic(`${requests} requests, ${failed} ended with an error of the path`)
  assert.ok(failed > 0, 'nothing ever broke')
})

test('one seed is one run', async () => {
  assert.deepEqual(await simulateLink(7, 5), await simulateLink(7, 5))
})
