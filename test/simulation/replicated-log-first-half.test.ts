import { test } from 'node:test'
import { provesMuch } from './replicated-log-runs.ts'
import { small } from './replicated-log-shapes.ts'

/** Two files of five thousand, so that two cores do ten thousand. */
const count = Number(process.env['PANDO_SMALL_SEEDS'] ?? 5000)

test('small regions, the first half of ten thousand: nothing acknowledged is lost, nothing shown is taken back', {
  timeout: 900_000,
}, async (t) => {
  await provesMuch(t, { shape: small, steps: 20, first: 1, count }, ['voterChanges'])
})
