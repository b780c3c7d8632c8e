import assert from 'node:assert/strict'
import { test } from 'node:test'
import { ReadBudget } from '../../../core/gateway/s3/read-budget.ts'
import { FakeClock } from '../../kit/fake-clock.ts'

test('reads get half of the pool, and reading ahead half of that', async () => {
  const budget = new ReadBudget(1600, new FakeClock())
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
  const budget = new ReadBudget(100, new FakeClock())
  assert.equal(budget.take(1000), undefined)
  assert.notEqual(budget.take(1), undefined)
})

test('the more is on its way to clients the smaller are the pieces; what is read ahead does not count', () => {
  const kibibyte = 1024
  const mebibyte = 1024 * kibibyte
  const budget = new ReadBudget(16 * mebibyte, new FakeClock())
  const most = (): number => budget.pieceBytes(mebibyte)
  assert.ok(budget.takeAhead(2 * mebibyte))
  assert.equal(budget.take(3 * mebibyte), undefined)
  assert.equal(most(), mebibyte)
  budget.sendAhead(mebibyte)
  assert.equal(most(), 256 * kibibyte)
  assert.equal(budget.pieceBytes(100), 100)
  budget.giveAhead(mebibyte)
  assert.equal(most(), 256 * kibibyte)
  assert.equal(budget.take(2 * mebibyte), undefined)
  assert.equal(most(), 64 * kibibyte)
  budget.give(3 * mebibyte)
  assert.equal(most(), mebibyte)
})

test('where nothing is left, readers go that have not taken their piece for five seconds: the oldest, and no more than it takes', async () => {
  const clock = new FakeClock()
  const budget = new ReadBudget(800, clock)
  const cut: string[] = []
  const over = new Map<string, () => void>()
  const send = (name: string): void => {
    assert.equal(budget.take(100), undefined)
    const taken = budget.send(100, () => cut.push(name))
    over.set(name, () => {
      taken()
      budget.give(100)
    })
  }
  for (const name of ['first', 'second', 'third']) {
    send(name)
    await clock.advance(1000)
  }
  send('fast')
  await clock.advance(10_000)
  assert.deepEqual(cut, [], 'nobody waits')
  over.get('fast')?.()
  send('fast')
  let served = false
  const waits = budget.take(150)?.then(() => {
    served = true
  })
  assert.deepEqual(cut, ['first', 'second'])
  over.get('first')?.()
  await clock.advance(0)
  assert.equal(served, false)
  over.get('second')?.()
  await waits
  const next = budget.take(200)
  assert.ok(next)
  assert.deepEqual(cut, ['first', 'second', 'third'])
  over.get('third')?.()
  await clock.advance(4_900)
  assert.deepEqual(cut, ['first', 'second', 'third'], 'the other one has some time left')
  await clock.advance(200)
  assert.deepEqual(cut, ['first', 'second', 'third', 'fast'])
  over.get('fast')?.()
  await next
})
