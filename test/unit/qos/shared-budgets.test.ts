import assert from 'node:assert/strict'
import { test } from 'node:test'
import { type BudgetKind, BudgetTable } from '../../../core/qos/budget-table.ts'
import { SharedBudgets, shareIntervalMs } from '../../../core/qos/shared-budgets.ts'
import { FakeClock } from '../../kit/fake-clock.ts'

const perSecond = 1000

/** Gateways of one region that ask for a tenant's budget at rates of their own; what is not there is refused at once. */
function region(names: readonly string[]) {
  const clock = new FakeClock()
  const cut = new Set<string>()
  const gateways = new Map(
    names.map((name) => {
      const table = (kind: BudgetKind) =>
        new BudgetTable(kind, [{ tenant: '*', requests: perSecond, bytesIn: 0, bytesOut: 0, burst: 50 }], 100)
      const tables = {
        tenant: table('tenant'),
        accessKey: table('accessKey'),
        bucket: table('bucket'),
        class: table('class'),
      }
      const shared: SharedBudgets = new SharedBudgets(clock, tables, {
        others: () => (cut.has(name) ? [] : names.filter((other) => other !== name && !cut.has(other))),
        send(message) {
          for (const [other, gateway] of gateways) {
            if (other !== name && !cut.has(other) && !cut.has(name)) gateway.shared.hear(name, message)
          }
        },
      })
      return [name, { shared, table: tables.tenant, asked: 0, served: 0 }] as const
    }),
  )
  /** Runs for so long; `rates` are requests per second by gateway. Resolves with what each has served. */
  const run = async (seconds: number, rates: Readonly<Record<string, number>>) => {
    const served = new Map(names.map((name) => [name, 0]))
    const owed = new Map(names.map((name) => [name, 0]))
    for (let ms = 0; ms < seconds * 1000; ms++) {
      for (const [name, { table }] of gateways) {
        let due = (owed.get(name) ?? 0) + (rates[name] ?? 0) / 1000
        for (; due >= 1; due--) {
          const budget = table.of('greedy', clock.monotonic())
          assert.ok(budget?.requests)
          budget.asked++
          if (budget.requests.waitMs(clock.monotonic()) > 0) continue
          budget.requests.take(1, clock.monotonic())
          served.set(name, (served.get(name) ?? 0) + 1)
        }
        owed.set(name, due)
      }
      await clock.advance(1)
      if (ms % shareIntervalMs === 0) for (const { shared } of gateways.values()) shared.tick()
    }
    return served
  }
  return { run, cut, gateways, clock }
}

const sum = (served: ReadonlyMap<string, number>): number =>
  [...served.values()].reduce((all, one) => all + one, 0)
const within = (value: number, wanted: number, part: number): boolean =>
  Math.abs(value - wanted) <= wanted * part

test("a limit is the region's: three gateways that are all asked for too much serve it together", async () => {
  const { run } = region(['a', 'b', 'c'])
  await run(2, { a: 2000, b: 2000, c: 2000 })
  const total = sum(await run(10, { a: 2000, b: 2000, c: 2000 }))
  assert.ok(within(total, 10 * perSecond, 0.02), `${total} of ${10 * perSecond}`)
})

test('a budget goes where it is asked for, whatever the gateway', async () => {
  const { run } = region(['a', 'b', 'c'])
  await run(2, { a: 5000 })
  const alone = sum(await run(10, { a: 5000 }))
  // The tenth that is split evenly: two thirds of it lie with gateways that nobody asks.
  assert.ok(within(alone, 10 * perSecond * (1 - 0.1 * (2 / 3)), 0.02), `${alone}`)
  const uneven = await run(10, { a: 3000, b: 1000 })
  assert.ok(sum(uneven) <= 10 * perSecond * 1.02, `${sum(uneven)}`)
  assert.ok((uneven.get('a') ?? 0) > 2 * (uneven.get('b') ?? 0), 'who is asked for more has more of it')
})

test('when the load moves to another gateway the budget follows it, and is not spent twice', async () => {
  const { run } = region(['a', 'b'])
  await run(3, { a: 3000 })
  const moved = await run(1, { b: 3000 })
  assert.ok((moved.get('b') ?? 0) > 0.6 * perSecond, `${moved.get('b')} in the first second`)
  assert.ok(sum(moved) <= 1.1 * perSecond, `${sum(moved)}`)
})

test('a gateway that is gone or cut off takes no part of the budget with it', async () => {
  const { run, cut } = region(['a', 'b'])
  await run(3, { a: 1500, b: 1500 })
  cut.add('b')
  await run(1, { a: 1500 })
  const served = await run(5, { a: 1500 })
  assert.ok(within(served.get('a') ?? 0, 5 * perSecond, 0.02), `${served.get('a')}`)
})

test('what is no message changes nothing, and what is told counts for two seconds', async () => {
  const { gateways, clock } = region(['a', 'b'])
  const a = gateways.get('a')
  assert.ok(a)
  const shareOf = (): number => a.table.of('greedy', clock.monotonic())?.share ?? Number.NaN
  assert.equal(shareOf(), 0.5)
  for (const text of [
    '',
    '{',
    '[]',
    '{"truncated":1}',
    '{"truncated":false,"demands":[["tenant","x",-1]]}',
  ]) {
    a.shared.hear('b', Buffer.from(text))
  }
  a.shared.hear('b', new Uint8Array(300_000))
  a.shared.tick()
  assert.equal(shareOf(), 0.5)
  a.shared.hear('b', Buffer.from('{"truncated":false,"demands":[["tenant","greedy",9]]}'))
  a.shared.tick()
  assert.ok(shareOf() < 0.06)
  await clock.advance(2500)
  a.shared.tick()
  assert.equal(shareOf(), 0.5)
  a.shared.stop()
  assert.equal(shareOf(), 1)
})
