import assert from 'node:assert/strict'
import { test } from 'node:test'
import { runApart } from './apart.ts'
import { mutations } from './replicated-log-mutations.ts'

for (const { name } of mutations) {
  test(`caught: ${name}`, { timeout: 300_000 }, async (t) => {
    const module = new URL('./replicated-log-mutations.js', import.meta.url)
    const [caught] = await runApart<string | undefined>(module, 'firstCaught', [[name]])
    assert.ok(caught !== undefined, 'no seed shows it')
    t.diagnostic(caught)
  })
}
