import assert from 'node:assert/strict'
import test from 'node:test'
import { FakeClock } from '../../kit/fake-clock.ts'
import { type ClientReport, Machine, openTestQos, percentile, runClient } from '../../kit/qos-bench.ts'
import { seededRandom } from '../../kit/random.ts'

// Whole systems on a virtual clock: the real admission in front of a machine that serves first come, first served. The
// numbers are exact repeats from a seed, so they may be asserted.

const warmMs = 2000
const measuredMs = 10_000

/** Nine modest tenants and one with ten connections for each of theirs or as many as they have. */
async function neighbours(greedyConnections: number, section: unknown): Promise<readonly ClientReport[]> {
  const clock = new FakeClock()
  const qos = openTestQos(clock, section)
  const machine = new Machine(clock, seededRandom(7), 4, 2)
  const fromMs = clock.monotonic() + 2000
  const untilMs = fromMs + 4000
  const reports = Array.from({ length: 10 }, (_, index) =>
    runClient(clock, qos.admission, machine, {
      tenant: `t${index}`,
      connections: index === 0 ? greedyConnections : 8,
      fromMs,
      untilMs,
    }),
  )
  await clock.advance(7000)
  qos.close()
  return reports
}

test('a tenant that asks ten times as much moves the p99 of the others by less than 20 %', async () => {
  const rows: string[] = []
  const others = (reports: readonly ClientReport[]) =>
    reports.slice(1).flatMap(({ latenciesMs }) => latenciesMs)
  const measure = async (name: string, section: unknown) => {
    const quiet = await neighbours(8, section)
    const greedy = await neighbours(80, section)
    const [before, after] = [percentile(others(quiet), 0.99), percentile(others(greedy), 0.99)]
    const share = (greedy[0]?.completed ?? 0) / greedy.reduce((sum, { completed }) => sum + completed, 0)
    rows.push(
      `${name.padEnd(22)} p99 of the others ${before.toFixed(1)} -> ${after.toFixed(1)} ms ` +
        `(${((after / before - 1) * 100).toFixed(0)} %), share of the greedy one ${(share * 100).toFixed(1)} %`,
    )
    return { moved: after / before - 1, share }
  }
  // As it is with no fair order: so many may work that nobody ever waits in the queue.
  const without = await measure('without fair order', { concurrency: { limit: 100_000 } })
  const fair = await measure('as configured', {})
  console.log(rows.join('\n'))
  assert.ok(without.moved > 0.5, 'the load is no test at all')
  assert.ok(fair.moved < 0.2, rows.join('\n'))
  assert.ok(Math.abs(fair.share - 0.1) < 0.01, rows.join('\n'))
})

test('weights between tenants divide what there is', async () => {
  const clock = new FakeClock()
  const qos = openTestQos(clock, { tenantWeights: { gold: 3 } })
  const machine = new Machine(clock, seededRandom(3), 4, 2)
  const fromMs = clock.monotonic() + warmMs
  const untilMs = fromMs + measuredMs
  const run = (tenant: string) =>
    runClient(clock, qos.admission, machine, { tenant, connections: 60, fromMs, untilMs })
  const gold = run('gold')
  const plain = run('plain')
  await clock.advance(warmMs + measuredMs + 2000)
  const ratio = gold.completed / plain.completed
  assert.ok(Math.abs(ratio / 3 - 1) < 0.05, `${ratio}`)
  qos.close()
})

test('a reservation is met within 5 % beside a crowd of heavier weight; what it leaves is shared by weight', async () => {
  const clock = new FakeClock()
  const reservation = 400
  const qos = openTestQos(clock, {
    classes: { bulk: { weight: 1, reservation }, interactive: { weight: 100 } },
    rules: [{ class: 'bulk', tenant: 'batch' }],
  })
  // 2,000 a second in all.
  const machine = new Machine(clock, seededRandom(5), 4, 2)
  const fromMs = clock.monotonic() + warmMs
  const untilMs = fromMs + measuredMs
  const common = { fromMs, untilMs }
  const crowd = runClient(clock, qos.admission, machine, { tenant: 'crowd', connections: 200, ...common })
  const batch = runClient(clock, qos.admission, machine, { tenant: 'batch', connections: 40, ...common })
  await clock.advance(warmMs + measuredMs + 2000)
  const perSecond = batch.completed / 10
  console.log(`reservation ${reservation}/s: got ${perSecond}/s, the crowd ${crowd.completed / 10}/s`)
  // Plus its weight's share of the rest: about 16 a second.
  assert.ok(perSecond >= reservation * 0.95 && perSecond <= reservation * 1.05 + 20, `${perSecond}`)
  qos.close()
})

for (const [what, section, tenant] of [
  ['a tenant', { budgets: [{ tenant: 'a', requests: 500 }] }, 'a'],
  ['every tenant of a pattern', { budgets: [{ tenant: 'team-*', requests: 500 }] }, 'team-a'],
  ['an access key', { budgets: [{ accessKey: 'a-key', requests: 500 }] }, 'a'],
  ['a bucket', { budgets: [{ bucket: 'bucket', requests: 500 }] }, 'a'],
  ['a class', { budgets: [{ class: 'interactive', requests: 500 }] }, 'a'],
  ['a class in cost units', { classes: { interactive: { limit: 500 } } }, 'a'],
] as const) {
  test(`the limit of ${what} is kept within 2 % over 10 s`, async () => {
    const clock = new FakeClock()
    const qos = openTestQos(clock, section)
    const machine = new Machine(clock, seededRandom(9), 8, 2)
    const fromMs = clock.monotonic()
    const report = runClient(clock, qos.admission, machine, {
      tenant,
      connections: 50,
      fromMs,
      untilMs: fromMs + measuredMs,
    })
    await clock.advance(measuredMs + 2000)
    assert.ok(Math.abs(report.completed / 5000 - 1) <= 0.02, `${report.completed} in 10 s`)
    assert.equal(report.shed, 0)
    qos.close()
  })
}

test('tenants of a limited bucket share it evenly, and who uses another bucket is not slowed', async () => {
  const clock = new FakeClock()
  const qos = openTestQos(clock, { budgets: [{ bucket: 'slow', requests: 100 }] })
  const machine = new Machine(clock, seededRandom(11), 8, 2)
  const fromMs = clock.monotonic() + warmMs
  const untilMs = fromMs + measuredMs
  const run = (tenant: string, connections: number, bucket: string) =>
    runClient(clock, qos.admission, machine, { tenant, connections, request: { bucket }, fromMs, untilMs })
  const greedy = run('greedy', 100, 'slow')
  const modest = run('modest', 4, 'slow')
  const other = run('other', 4, 'fast')
  await clock.advance(warmMs + measuredMs + 2000)
  assert.ok(Math.abs((greedy.completed + modest.completed) / 1000 - 1) <= 0.02)
  assert.ok(modest.completed > 450, `${modest.completed} of 500`)
  assert.ok(percentile(other.latenciesMs, 0.99) < 10)
  qos.close()
})

test('the limit of concurrency finds a machine that gains from concurrency, and one that does not', async () => {
  const saturate = async (workers: number, serviceMs: number): Promise<[number, number]> => {
    const clock = new FakeClock()
    const qos = openTestQos(clock)
    const machine = new Machine(clock, seededRandom(13), workers, serviceMs)
    const untilMs = clock.monotonic() + 12_000
    // First somebody alone, as every server has it: what a request takes on the idle machine is learnt.
    const alone = { tenant: 'first', connections: 1, fromMs: 0, untilMs: 2500 }
    runClient(clock, qos.admission, machine, alone)
    await clock.advance(1500)
    for (const tenant of ['a', 'b']) {
      runClient(clock, qos.admission, machine, { tenant, connections: 200, fromMs: 0, untilMs })
    }
    await clock.advance(6000)
    const busyMs = machine.busyMs
    await clock.advance(3000)
    const { concurrencyLimit } = qos.inspection.status()
    qos.close()
    return [concurrencyLimit, (machine.busyMs - busyMs) / 3000 / workers]
  }
  const [one, oneBusy] = await saturate(1, 0.5)
  const [wide, wideBusy] = await saturate(100, 20)
  const percent = (share: number) => `${(share * 100).toFixed(1)} %`
  console.log(`one worker: limit ${one}, busy ${percent(oneBusy)}; a hundred: ${wide}, ${percent(wideBusy)}`)
  assert.ok(one <= 32, `${one}`)
  assert.ok(oneBusy > 0.98, `${oneBusy}`)
  assert.ok(wide >= 100, `${wide}`)
  assert.ok(wideBusy > 0.98, `${wideBusy}`)
})
