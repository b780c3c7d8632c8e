import assert from 'node:assert/strict'
import test from 'node:test'
import type { PlannedClass } from '../../../core/contract/policy.ts'
import { planBounds, type QosPlan } from '../../../core/contract/qos.ts'
import { FakeClock } from '../../kit/fake-clock.ts'
import {
  type ClientReport,
  Machine,
  openTestQos,
  qosConfig,
  requestOf,
  runClient,
} from '../../kit/qos-bench.ts'
import { seededRandom } from '../../kit/random.ts'

// What a policy has said is over when it is rolled back: the classes have what the operator gave them.

const least = Number.MIN_VALUE

/** What two classes with equal weights get in 10 s, 20 s after a policy with such a plan for `bulk` was rolled back. */
async function afterRollback(
  planned: Partial<PlannedClass>,
  options: { readonly limit?: number; readonly bulk?: unknown } = {},
): Promise<readonly [interactive: ClientReport, bulk: ClientReport]> {
  const { limit = 4, bulk = {} } = options
  const clock = new FakeClock()
  const qos = openTestQos(clock, {
    concurrency: { limit },
    classes: {
      interactive: { weight: 1, queueTimeout: '3s' },
      bulk: { weight: 1, queueTimeout: '3s', ...(bulk as object) },
    },
    rules: [{ class: 'bulk', bucket: 'bulk' }],
  })
  qos.decideBy({
    ...qos.fallback,
    plan: ({ classes }) => ({
      policy: 'wild@1',
      reason: 0,
      classes: classes.map(({ weight, reservation, limit }, index) => {
        return { weight, reservation, limit, burst: 0, ...(index === 1 ? planned : {}) }
      }),
    }),
  })
  for (let round = 0; round < 6; round++) {
    for (const bucket of ['plain', 'bulk']) {
      const ticket = qos.admission.admit(requestOf(`of ${bucket}`, { bucket }))
      const end = (): void => ticket.end(0, 0)
      if (ticket.turn === undefined) end()
      else ticket.turn.then(end, end)
    }
    await clock.advance(100)
  }
  qos.decideBy(qos.fallback)
  await clock.advance(20_000)
  const machine = new Machine(clock, seededRandom(1), limit, 2)
  const fromMs = clock.monotonic() + 1000
  const untilMs = fromMs + 10_000
  const run = (bucket: string): ClientReport =>
    runClient(clock, qos.admission, machine, {
      tenant: `of ${bucket}`,
      connections: 20,
      request: { bucket },
      fromMs,
      untilMs,
    })
  const reports = [run('plain'), run('bulk')] as const
  await clock.advance(12_000)
  qos.close()
  return reports
}

for (const weight of [least, 1e-6, 1e6, Number.MAX_VALUE]) {
  for (const limit of [1, 4]) {
    test(`a weight of ${weight} does not outlive its plan, with ${limit} at a time`, async () => {
      const [interactive, bulk] = await afterRollback({ weight }, { limit })
      const ratio = bulk.completed / interactive.completed
      assert.ok(Math.abs(ratio - 1) < 0.05, `${interactive.completed} and ${bulk.completed}`)
    })
  }
}

for (const limit of [least, 1e-6, Number.MAX_VALUE]) {
  test(`a limit of ${limit} does not outlive its plan, and lifts no limit of the operator`, async () => {
    const [, bulk] = await afterRollback({ limit }, { bulk: { limit: 50 } })
    assert.ok(Math.abs(bulk.completed / 500 - 1) <= 0.05, `${bulk.completed} in 10 s`)
  })
}

for (const reservation of [least, 1e-6]) {
  test(`a reservation of ${reservation} does not outlive its plan`, async () => {
    const options = { bulk: { weight: 0.01, reservation: 300 } }
    const [, undisturbed] = await afterRollback({}, options)
    const [, bulk] = await afterRollback({ reservation }, options)
    assert.ok(undisturbed.completed > 3000, `${undisturbed.completed} in 10 s`)
    const ratio = bulk.completed / undisturbed.completed
    assert.ok(Math.abs(ratio - 1) < 0.05, `${bulk.completed} of ${undisturbed.completed}`)
  })
}

test('nor does the claim of a class that the light one went ahead of', async () => {
  const clock = new FakeClock()
  const qos = openTestQos(clock, {
    concurrency: { limit: 4 },
    classes: { interactive: { weight: 1, queueTimeout: '60s' }, bulk: { weight: 1, queueTimeout: '60s' } },
    rules: [{ class: 'bulk', bucket: 'bulk' }],
  })
  const { leastWeight } = planBounds
  qos.decideBy({
    ...qos.fallback,
    plan: ({ classes }) => ({
      policy: 'light@1',
      reason: 0,
      classes: classes.map((each, index) => ({ ...each, weight: index === 1 ? leastWeight : 1, burst: 0 })),
    }),
  })
  const ask = (bucket: string) => qos.admission.admit(requestOf(`of ${bucket}`, { bucket }))
  // Each ends with the one before it: whoever comes for the last slot is of the light class, again and again.
  const first = ask('bulk')
  const long = Array.from({ length: 4 }, () => ask('plain'))
  first.end(0, 0)
  for (let round = 0; round < 100; round++) {
    const light = ask('bulk')
    await light.turn
    light.end(0, 0)
  }
  assert.deepEqual(
    long.map(({ turn }) => turn === undefined),
    [true, true, true, false],
  )
  qos.decideBy(qos.fallback)
  const machine = new Machine(clock, seededRandom(3), 4, 2)
  const fromMs = clock.monotonic() + 2000
  const run = (bucket: string): ClientReport => {
    const request = { bucket }
    const untilMs = fromMs + 5000
    return runClient(clock, qos.admission, machine, {
      tenant: `of ${bucket}`,
      connections: 20,
      request,
      fromMs,
      untilMs,
    })
  }
  const [interactive, bulk] = [run('plain'), run('bulk')]
  for (const ticket of long) {
    await ticket.turn
    ticket.end(0, 0)
  }
  await clock.advance(8000)
  const ratio = bulk.completed / interactive.completed
  assert.ok(Math.abs(ratio - 1) < 0.05, `${interactive.completed} and ${bulk.completed}`)
  qos.close()
})

test('whatever a policy says, schedulers get numbers within the bounds', () => {
  const { leastWeight, mostWeight, leastRate, mostRate } = planBounds
  const wild = [least, 1e-6, 1e300, Number.MAX_VALUE, Number.NaN, Number.POSITIVE_INFINITY, -1, -least, 0]
  const qos = openTestQos(new FakeClock())
  const plans: QosPlan[] = []
  qos.addPlanSink({ applyPlan: (plan) => plans.push(plan) })
  for (const value of wild) {
    const planned = { weight: value, reservation: value, limit: value, burst: value }
    qos.decideBy({
      ...qos.fallback,
      plan: ({ classes }) => ({ policy: `wild@${value}`, reason: 0, classes: classes.map(() => planned) }),
    })
  }
  assert.equal(plans.length, wild.length + 1)
  for (const { classes, policy } of plans) {
    for (const { weight, reservation, limit, burst } of classes) {
      assert.ok(weight >= leastWeight && weight <= mostWeight, `weight ${weight} of ${policy}`)
      for (const rate of [reservation, limit]) {
        assert.ok(rate === 0 || (rate >= leastRate && rate <= mostRate), `rate ${rate} of ${policy}`)
      }
      assert.ok(burst >= 0 && burst <= mostRate, `burst ${burst} of ${policy}`)
    }
  }
  qos.close()
})

test('nor does the operator say what no scheduler can work with', () => {
  for (const [key, section] of [
    ['weight', { classes: { bulk: { weight: least } } }],
    ['reservation', { classes: { bulk: { reservation: least } } }],
    ['limit', { classes: { bulk: { limit: 1e-6 } } }],
    ['requests', { budgets: [{ tenant: 'a', requests: least }] }],
    ['tenantWeights', { tenantWeights: { a: least } }],
  ] as const) {
    assert.throws(() => qosConfig(section), { message: new RegExp(key) }, key)
  }
})

test('a weight that the operator gives a tenant does not outlive its numbers', async () => {
  const clock = new FakeClock()
  const section = (weight: number) => ({
    concurrency: { limit: 1 },
    classes: { interactive: { queueTimeout: '3s' } },
    tenantWeights: { light: weight },
  })
  const qos = openTestQos(clock, section(planBounds.leastWeight))
  const machine = new Machine(clock, seededRandom(2), 1, 2)
  const fromMs = clock.monotonic() + 600
  const untilMs = fromMs + 1000
  const run = (tenant: string): ClientReport =>
    runClient(clock, qos.admission, machine, { tenant, connections: 8, fromMs, untilMs })
  const light = run('light')
  const plain = run('plain')
  await clock.advance(500)
  qos.reconfigure(qosConfig(section(1)))
  await clock.advance(1500)
  assert.ok(
    Math.abs(light.completed / plain.completed - 1) < 0.05,
    `${light.completed} and ${plain.completed}`,
  )
  qos.close()
})
