import assert from 'node:assert/strict'
import { test } from 'node:test'
import type { StorageError } from '../../../core/contract/errors.ts'
import { DocumentBudget } from '../../../core/gateway/s3/document-budget.ts'
import { FakeClock } from '../../kit/fake-clock.ts'

const slowDown = { code: 'SLOW_DOWN' }

test('documents that trickle give way to newcomers, the oldest first', async () => {
  const clock = new FakeClock()
  const budget = new DocumentBudget(1000, clock)
  const cut: string[] = []
  const open = (name: string) => budget.open((reason: StorageError) => cut.push(`${name} ${reason.code}`))
  const first = open('first')
  first.take(500)
  await clock.advance(1000)
  const second = open('second')
  second.take(500)
  await clock.advance(500)
  const third = open('third')
  assert.throws(() => third.take(1), slowDown, 'nobody has been at it for long')
  await clock.advance(500)
  third.take(300)
  assert.deepEqual(cut, ['first SLOW_DOWN'])
  third.take(200)
  assert.throws(() => third.take(1), slowDown, 'the second one is still new')
  await clock.advance(2000)
  assert.throws(() => second.take(1), slowDown, 'nobody is pushed out by one who is older')
  assert.deepEqual(cut, ['first SLOW_DOWN'])
})

test('what has arrived is not cut, counts until it has been used, and is given back once', async () => {
  const clock = new FakeClock()
  const budget = new DocumentBudget(1000, clock)
  const whole = budget.open(() => assert.fail('it waits for nobody'))
  whole.take(900)
  whole.arrived()
  await clock.advance(10_000)
  const next = budget.open(() => assert.fail('nobody is newer'))
  assert.throws(() => next.take(101), slowDown)
  whole.close()
  whole.close()
  next.take(1000)
  const last = budget.open(() => {})
  assert.throws(() => last.take(1), slowDown)
})

test('one document always fits, however small the budget', () => {
  const budget = new DocumentBudget(10, new FakeClock())
  const only = budget.open(() => {})
  only.take(1000)
  only.take(1000)
  assert.throws(() => budget.open(() => {}).take(1), slowDown)
})
