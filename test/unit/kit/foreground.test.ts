import assert from 'node:assert/strict'
import { test } from 'node:test'
import { assertForeground, type LoadWindow } from '../../e2e/region/foreground.ts'

const windows = (p99s: readonly number[], othersShare = 0): LoadWindow[] =>
  p99s.map((p99Ms) => ({ requests: 300, p50Ms: p99Ms / 4, p99Ms, othersShare }))
const still = { before: windows([40, 42, 39]), after: windows([50, 48, 51]) }

test('a foreground that became more than half as slow again is told, and one bad window is not', () => {
  assertForeground('moving', windows([60, 62, 64, 400, 58]), still)
  assert.throws(() => assertForeground('moving', windows([80, 62, 84, 81, 58]), still), /1\.7.x .* 1\.5x/)
})

test('windows that other programs spoilt are left out', () => {
  const spoilt = windows([300, 300, 300, 300, 300], 0.5)
  assertForeground('moving', [...windows([60, 62, 64]), ...spoilt], still)
  assert.throws(() => assertForeground('moving', [...windows([90, 92, 94]), ...spoilt], still), / 1\.5x/)
})

test('a machine on which nothing else can be told still finds what stands still', () => {
  const spoilt = windows([170, 300, 160], 0.5)
  assertForeground('moving', spoilt, still)
  assert.throws(() => assertForeground('moving', windows([900, 800, 950], 0.5), still), / 8x/)
})
