import assert from 'node:assert/strict'
import test from 'node:test'
import fc from 'fast-check'
import { Gcra } from '../../../core/qos/gcra.ts'

/** Takes one whenever it may, looking every `everyMs`; how many were taken in `forMs`. */
function drain(budget: Gcra, fromMs: number, forMs: number, everyMs: number): number {
  let taken = 0
  for (let now = fromMs; now < fromMs + forMs; now += everyMs) {
    while (budget.waitMs(now) <= 0) {
      budget.take(1, now)
      taken++
    }
  }
  return taken
}

test('over 10 s a limit is kept within 2 %, whatever the rate and however late the timers', () => {
  fc.assert(
    fc.property(
      fc.integer({ min: 100, max: 20_000 }),
      fc.double({ min: 0.5, max: 60, noNaN: true }),
      (rate, everyMs) => {
        const taken = drain(new Gcra(rate, 100), 5000, 10_000, everyMs)
        assert.ok(Math.abs(taken / (rate * 10) - 1) <= 0.02, `${taken} of ${rate * 10}`)
      },
    ),
    { numRuns: 50 },
  )
})

test('a pause of any length earns the burst and nothing more', () => {
  const budget = new Gcra(1000, 100)
  drain(budget, 0, 5000, 1)
  const after = drain(budget, 3_600_000, 1, 1)
  assert.ok(after >= 100 && after <= 102, String(after))
})

test('what was taken beyond the burst is waited for before anything else is given', () => {
  const budget = new Gcra(1000, 100)
  budget.take(5000, 0)
  assert.equal(budget.waitMs(0), 4900)
  assert.ok(budget.tokens(0) < 0)
  assert.equal(budget.waitMs(4900), 0)
})

test('a refund gives the time back', () => {
  const budget = new Gcra(1000, 0)
  budget.take(1000, 0)
  budget.refund(1000)
  assert.equal(budget.waitMs(0), 0)
})

test('a new rate keeps the debt as an amount', () => {
  const budget = new Gcra(100, 0)
  budget.take(100, 0)
  assert.equal(budget.waitMs(0), 1000)
  budget.change(1000, 0, 0)
  assert.ok(Math.abs(budget.waitMs(0) - 100) < 1e-6)
})
