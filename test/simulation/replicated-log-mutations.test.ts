import assert from 'node:assert/strict'
import { test } from 'node:test'
import { runApart } from './apart.ts'
import { type Caught, toldOf } from './many-runs.ts'
import { mutations } from './replicated-log-mutations.ts'

for (const { name, known } of mutations) {
  test(`caught: ${name}`, { timeout: 300_000 }, async (t) => {
    const module = new URL('./replicated-log-mutations.js', import.meta.url)
    const [found] = await runApart<Caught | undefined>(module, 'caught', [[name]])
    assert.ok(found !== undefined, 'no seed shows it')
    t.diagnostic(toldOf(found, known))
  })
}
