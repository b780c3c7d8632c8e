import assert from 'node:assert/strict'
import { test } from 'node:test'
import { ReadBudget } from '../../../core/gateway/s3/read-budget.ts'

test('reads get half of the pool, and reading ahead half of that', async () => {
  const budget = new ReadBudget(1600)
  assert.ok(budget.takeAhead(400))
  assert.ok(!budget.takeAhead(1), 'reading ahead leaves room for the pieces of others')
  assert.equal(budget.take(400), undefined)
  const order: string[] = []
  const second = budget.take(300)?.then(() => order.push('second'))
  const third = budget.take(100)?.then(() => order.push('third'))
  assert.ok(second && third, 'the share is used up')
  budget.give(200)
  await Promise.resolve()
  assert.deepEqual(order, [], 'a small piece does not overtake a large one')
  budget.give(200)
  await Promise.all([second, third])
  assert.deepEqual(order, ['second', 'third'])
  assert.ok(!budget.takeAhead(1))
})

test('one piece always fits, however small the pool', () => {
  const budget = new ReadBudget(100)
  assert.equal(budget.take(1000), undefined)
  assert.notEqual(budget.take(1), undefined)
})
