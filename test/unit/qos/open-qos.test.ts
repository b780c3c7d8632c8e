import assert from 'node:assert/strict'
import test from 'node:test'
import type { PolicyTables, QosPlan } from '../../../core/contract/qos.ts'
import { FakeClock } from '../../kit/fake-clock.ts'
import { openTestQos, qosConfig, requestOf } from '../../kit/qos-bench.ts'

test('new numbers hold at once, for those who wait too', async () => {
  const clock = new FakeClock()
  const budgets = (requests: number) => ({ budgets: [{ tenant: 'a', requests, burst: '1ms' }] })
  const qos = openTestQos(clock, budgets(1))
  qos.admission.admit(requestOf('a')).end(0, 0)
  const waiting = qos.admission.admit(requestOf('a'))
  assert.ok(waiting.turn)
  qos.reconfigure(qosConfig(budgets(1000)))
  await clock.advance(5)
  await waiting.turn
  assert.equal(qos.inspection.status().classes[0]?.queued, 0)
  qos.close()
})

test('a budget that is taken away holds nobody any more, however many wait for it', async () => {
  const clock = new FakeClock()
  const budgets = (requests: number) => ({
    budgets: [{ tenant: 'a', requests, bytesOut: 1e9, burst: '1ms' }],
  })
  const qos = openTestQos(clock, budgets(1))
  const ask = () => qos.admission.admit(requestOf('a', { operation: 'read' }))
  ask().end(0, 0)
  let started = 0
  let delayMs = 0
  qos.decideBy({
    ...qos.fallback,
    admit: () => ({ policy: 'p@1', reason: 0, verdict: delayMs > 0 ? 'delay' : 'admit', delayMs }),
  })
  const askAndCount = (): void => {
    const ticket = ask()
    ticket.turn?.then(() => {
      started++
      ticket.end(0, 0)
    })
    assert.ok(ticket.turn)
  }
  for (let index = 0; index < 20; index++) askAndCount()
  delayMs = 15_000
  askAndCount()
  delayMs = 0
  await clock.advance(2000)
  assert.equal(started, 2)
  qos.reconfigure(qosConfig(budgets(0)))
  await clock.advance(1)
  assert.equal(started, 20)
  assert.equal(ask().turn, undefined)
  await clock.advance(15_000)
  assert.equal(started, 21)
  qos.close()
})

for (const [what, budget] of [
  ['an account', { tenant: 'a', requests: 1, bytesIn: 1000, burst: '1ms' }],
  ['a class', { class: 'interactive', requests: 1, bytesIn: 1000, burst: '1ms' }],
] as const) {
  test(`a budget that ${what} is given is paid by those who wait already`, async () => {
    const clock = new FakeClock()
    const section = { concurrency: { limit: 1 } }
    const qos = openTestQos(clock, section)
    const ask = () => qos.admission.admit(requestOf('a', { operation: 'write', byteLength: 100 }))
    const first = ask()
    let started = 0
    for (let index = 0; index < 6; index++) {
      const ticket = ask()
      assert.ok(ticket.turn)
      ticket.turn.then(
        () => {
          started++
          ticket.end(1000, 0)
        },
        () => undefined,
      )
    }
    qos.reconfigure(qosConfig({ ...section, budgets: [budget] }))
    first.end(0, 0)
    await clock.advance(900)
    assert.equal(started, 1)
    await clock.advance(2000)
    assert.equal(started, 3)
    // Their bytes count, too.
    qos.reconfigure(qosConfig({ ...section, budgets: [{ ...budget, requests: 1e6, bytesIn: 500 }] }))
    await clock.advance(1500)
    assert.equal(started, 4)
    qos.close()
  })
}

test('a small body is charged once, whoever else is in line', async () => {
  const clock = new FakeClock()
  const qos = openTestQos(clock, {
    budgets: [
      { tenant: 'throttled', requests: 0.001, burst: '1ms' },
      { tenant: 'a', bytesIn: 100_000, burst: '1ms' },
    ],
    classes: { interactive: { queueTimeout: '1h' } },
  })
  qos.admission.admit(requestOf('throttled')).end(0, 0)
  qos.admission.admit(requestOf('throttled')).turn?.catch(() => undefined)
  const put = () => qos.admission.admit(requestOf('a', { operation: 'write', byteLength: 10_000 }))
  for (let round = 0; round < 10; round++) {
    assert.equal(qos.inspection.status().classes[0]?.queued, 1)
    const ticket = put()
    assert.equal(ticket.turn, undefined, `it waited in round ${round}`)
    ticket.end(10_000, 0)
    await clock.advance(100)
  }
  // It pays all the same, whether it started at once or waited.
  put().end(10_000, 0)
  for (let round = 0; round < 3; round++) {
    const next = put()
    assert.ok(next.turn)
    await clock.advance(98)
    assert.equal(qos.inspection.status().classes[0]?.queued, 2)
    await clock.advance(2)
    await next.turn
    next.end(10_000, 0)
  }
  // What was charged and did not come is given back, all of it.
  await clock.advance(100)
  put().end(0, 0)
  assert.equal(put().turn, undefined)
  qos.close()
})

test('what is not valid, or needs a restart, leaves the old numbers in force', () => {
  const qos = openTestQos(new FakeClock(), { classes: { interactive: { weight: 7 } } })
  for (const section of [{ defaultClass: 'nobody' }, { classes: { mine: {} } }]) {
    assert.throws(() => qos.reconfigure(qosConfig(section)), { code: 'INVALID_CONFIG' })
  }
  assert.equal(qos.inspection.status().classes[0]?.planned.weight, 7)
  qos.close()
})

test('a class that is not defined is refused with those that are', () => {
  assert.throws(() => openTestQos(new FakeClock(), { rules: [{ class: 'bulky' }] }), {
    message: /rules\.0\.class: there is no class 'bulky'; known: interactive, bulk,/,
  })
})

test('schedulers get the plan at once and whenever it changes, within what the operator allows', async () => {
  const clock = new FakeClock()
  const qos = openTestQos(clock, { classes: { bulk: { limit: 100 } } })
  const plans: QosPlan[] = []
  const remove = qos.addPlanSink({ applyPlan: (plan) => plans.push(plan) })
  assert.deepEqual(
    plans[0]?.classes.map(({ name, weight }) => [name, weight]),
    [
      ['interactive', 100],
      ['bulk', 25],
      ['replication', 20],
      ['repair', 10],
      ['background', 5],
    ],
  )
  await clock.advance(5000)
  assert.equal(plans.length, 1, 'nothing changed, so nothing is said')
  const wild = { weight: Number.NaN, reservation: -1, limit: 1e9, burst: Number.POSITIVE_INFINITY }
  qos.decideBy({
    ...qos.fallback,
    plan: ({ classes }) => ({ policy: 'wild@1', reason: 0, classes: classes.map(() => wild) }),
  })
  assert.equal(plans[1]?.policy, 'wild@1')
  assert.deepEqual(plans[1]?.classes[1], { name: 'bulk', weight: 25, reservation: 0, limit: 100, burst: 0 })
  remove()
  qos.decideBy(qos.fallback)
  assert.equal(plans.length, 2)
  qos.close()
})

test('rules give classes before policies do, and a policy of an unknown class is not followed', () => {
  const qos = openTestQos(new FakeClock(), {
    rules: [{ class: 'bulk', bucket: 'logs-*', operations: ['write'], minBytes: '1MiB', priority: 3 }],
  })
  qos.decideBy({
    ...qos.fallback,
    classify: () => ({ policy: 'p@1', reason: 9, classIndex: 99, priority: 1 }),
  })
  const log = requestOf('a', { bucket: 'logs-1', operation: 'write', byteLength: 1 << 20 })
  qos.admission.admit(log)
  const small = requestOf('a', { bucket: 'logs-1', operation: 'write', byteLength: 100 })
  qos.admission.admit(small)
  const first = qos.inspection.explain(log.id)
  assert.deepEqual([first?.class, first?.classifiedBy, first?.priority], ['bulk', 'config', 3])
  const second = qos.inspection.explain(small.id)
  assert.deepEqual([second?.class, second?.classifiedBy, second?.classifyReason], ['interactive', 'p@1', 9])
  qos.close()
})

test('the last requests are remembered, and no more', () => {
  const qos = openTestQos(new FakeClock(), { explainRequests: 10 })
  const requests = Array.from({ length: 25 }, () => requestOf('a'))
  for (const request of requests) qos.admission.admit(request).end(0, 0)
  assert.equal(qos.inspection.recent(100).length, 10)
  assert.equal(qos.inspection.recent(1)[0]?.requestId, requests.at(-1)?.id)
  assert.equal(qos.inspection.explain(requests[0]?.id ?? ''), undefined)
  assert.equal(qos.inspection.explain(requests[20]?.id ?? '')?.outcome, 'ended')
  qos.close()
})

test('policies see the indexes of names that the configuration mentions', () => {
  const qos = openTestQos(new FakeClock(), {
    budgets: [
      { tenant: 'alice', requests: 1 },
      { tenant: 'team-*', requests: 1 },
    ],
    rules: [{ class: 'bulk', bucket: 'logs' }],
    attributes: ['tenant', 'x-job'],
  })
  const seen: unknown[] = []
  qos.decideBy({
    ...qos.fallback,
    classify: (input) => {
      seen.push([
        input.tenant,
        input.bucket,
        input.attributes[0] !== 0,
        input.attributes[1],
        input.requestHash > 0n,
      ])
      return qos.fallback.classify(input)
    },
  })
  qos.admission.admit(requestOf('alice'))
  qos.admission.admit(requestOf('stranger'))
  assert.deepEqual(qos.tables().tenants, ['', 'alice'])
  assert.deepEqual(qos.tables().buckets, ['', 'logs'])
  assert.deepEqual(seen, [
    [1, 0, true, 0, true],
    [0, 0, true, 0, true],
  ])
  qos.close()
})

test('policies are shown the indexes of the names that they know until they have learned the new ones', async () => {
  const clock = new FakeClock()
  const tenants = (...names: string[]) => ({
    budgets: names.map((tenant) => ({ tenant, requests: 1000, burst: '1ms' })),
  })
  const qos = openTestQos(clock, tenants('alice'))
  const seen: number[] = []
  qos.decideBy({
    ...qos.fallback,
    admit: (input) => {
      seen.push(input.tenant)
      return qos.fallback.admit(input)
    },
  })
  const ask = async (...names: string[]) => {
    await clock.advance(10)
    for (const name of names) qos.admission.admit(requestOf(name)).end(0, 0)
    return seen.splice(0)
  }
  const told: PolicyTables[] = []
  const end = qos.onTables((tables) => told.push(tables))
  qos.reconfigure(qosConfig(tenants('zed', 'alice')))
  assert.deepEqual(
    told.map(({ tenants }) => tenants),
    [['', 'zed', 'alice']],
  )
  assert.deepEqual(await ask('alice', 'zed'), [1, 0])
  qos.reconfigure(qosConfig(tenants('yan', 'zed', 'alice')))
  assert.ok(told[0] && told[1])
  qos.adoptTables(told[0])
  assert.deepEqual(await ask('alice', 'zed', 'yan'), [2, 1, 0])
  qos.adoptTables(told[1])
  assert.deepEqual(await ask('alice', 'zed', 'yan'), [3, 2, 1])

  // Whoever has to learn nothing is waited for no longer.
  qos.reconfigure(qosConfig(tenants('alice')))
  assert.deepEqual(await ask('alice'), [3])
  end()
  assert.deepEqual(await ask('alice'), [1])
  qos.reconfigure(qosConfig(tenants('zed', 'alice')))
  assert.deepEqual(await ask('alice'), [2])
  qos.close()
})
