import { test } from 'node:test'
import { provesMuch } from './replicated-log-runs.ts'
import { even } from './replicated-log-shapes.ts'

const count = Number(process.env['PANDO_EVEN_SEEDS'] ?? 800)

test('two voters and four: nothing acknowledged is lost, and nobody reads what is over', {
  timeout: 900_000,
}, async (t) => {
  await provesMuch(t, { shape: even, steps: 20, first: 1, count }, ['wipes'])
})
