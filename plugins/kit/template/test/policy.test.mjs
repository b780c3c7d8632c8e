import assert from 'node:assert/strict'
import test from 'node:test'
import { checkVectors, openPolicy } from '../pdk/lib/plugins/kit/open-project.js'

test('every golden vector holds', () => {
  const wrong = checkVectors().filter(({ difference }) => difference !== undefined)
  assert.deepEqual(wrong, [])
})

test('the size from which an upload is bulk can be set', () => {
  const policy = openPolicy({ settings: { bulkBytes: 1000 } })
  const asked = (byteLength) => policy.ask('classify', { operation: 'write', key: 'a', byteLength }).status
  assert.equal(asked(999), 'abstain')
  assert.equal(asked(1000), 'decided')
})

test('the fuller the machine, the longer backups wait', () => {
  const policy = openPolicy()
  const delays = [0.7, 0.8, 0.9, 1].map(
    (utilisation) => policy.ask('admit', { classIndex: 'bulk', utilisation }).decision.delayMs,
  )
  assert.deepEqual(
    delays,
    delays.toSorted((a, b) => a - b),
  )
})

// Fuel counts instructions, so the number is the same on every machine: a change shows up here before it costs anyone time.
test('a decision stays cheap', () => {
  const { fuel } = openPolicy().ask('classify', { operation: 'write', key: 'backup/x', byteLength: 1 })
  assert.ok(fuel < 500, `${fuel} fuel; the host stops a call at 5000`)
})
