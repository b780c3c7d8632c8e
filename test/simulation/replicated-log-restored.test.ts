import { test } from 'node:test'
import { provesMuch } from './replicated-log-runs.ts'
import { restored } from './replicated-log-shapes.ts'

/** About one in five loses a disk, at the moment when somebody else is behind and, in half of them, the order is lost. */
const count = Number(process.env['PANDO_RESTORED_SEEDS'] ?? 1500)

test('a disk that comes back as it was earlier: nothing acknowledged is lost, nothing shown is taken back', {
  timeout: 900_000,
}, async (t) => {
  await provesMuch(t, { shape: restored, steps: 20, first: 1, count }, ['voterChanges', 'wipes', 'losses'])
})
