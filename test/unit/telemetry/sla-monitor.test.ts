import assert from 'node:assert/strict'
import test from 'node:test'
import { Registry } from 'prom-client'
import { describeObjective } from '../../../core/cli/status.ts'
import { createSlaMonitor } from '../../../core/telemetry/sla-monitor.ts'
import { FakeClock } from '../../kit/fake-clock.ts'

const minuteMs = 60_000

function open() {
  const clock = new FakeClock()
  const registry = new Registry()
  const monitor = createSlaMonitor({
    classes: ['interactive', 'bulk'],
    objectives: { interactive: { availability: 0.99, latency: 100, latencyShare: 0.9 } },
    ...{ clock, registry },
  })
  const tell = (count: number, status: number, durationMs: number, qosClass = 0) => {
    for (let told = 0; told < count; told++)
      monitor.finished({ status, durationMs, ...(qosClass < 0 ? {} : { qosClass }) })
  }
  return { clock, registry, monitor, tell }
}

test('errors and slow answers spend the budgets of their class, each as fast as its objective says', () => {
  const { monitor, tell } = open()
  tell(980, 200, 50)
  tell(10, 503, 1)
  tell(5, 200, 500)
  tell(5, 404, 5)
  // None of these is kept or broken: refused before it had a class, another class, given up by its client.
  tell(50, 500, 5, -1)
  tell(50, 500, 5, 1)
  tell(50, 499, 5)
  const [availability, latency, ...rest] = monitor.report()
  assert.deepEqual(rest, [], 'a class without an objective has none')
  assert.equal(availability?.requests, 1000)
  assert.ok(Math.abs((availability?.budgetLeft ?? 0) - 0) < 1e-9, '1 % of errors is all that 99 % leaves')
  assert.ok(Math.abs((availability?.burnRates['5m'] ?? 0) - 1) < 1e-9)
  assert.equal(latency?.requests, 990)
  assert.ok(Math.abs((latency?.burnRates['1h'] ?? 0) - 5 / 990 / 0.1) < 1e-9)
})

test('short windows forget first, and the budget after thirty days', async () => {
  const { monitor, tell, clock } = open()
  tell(10, 500, 1)
  const rates = () => monitor.report()[0]?.burnRates
  assert.deepEqual(Object.values(rates() ?? {}).map(Math.round), [100, 100, 100, 100])
  await clock.advance(6 * minuteMs)
  tell(10, 200, 1)
  assert.deepEqual(Object.values(rates() ?? {}).map(Math.round), [0, 50, 50, 50])
  await clock.advance(31 * minuteMs)
  assert.deepEqual(Object.values(rates() ?? {}).map(Math.round), [0, 0, 50, 50])
  await clock.advance(7 * 60 * minuteMs)
  assert.deepEqual(Object.values(rates() ?? {}), [0, 0, 0, 0])
  assert.equal(monitor.report()[0]?.requests, 20)
  await clock.advance(31 * 24 * 60 * minuteMs)
  assert.equal(monitor.report()[0]?.requests, 0)
  assert.equal(monitor.report()[0]?.budgetLeft, 1)
})

test('the metrics say the same', async () => {
  const { registry, tell } = open()
  tell(98, 200, 50)
  tell(2, 500, 50)
  const text = await registry.metrics()
  for (const line of [
    'pando_slo_events_total{class="interactive",outcome="good"} 98',
    'pando_slo_events_total{class="interactive",outcome="failed"} 2',
    'pando_slo_events_total{class="bulk",outcome="slow"} 0',
    'pando_slo_target_ratio{class="interactive",objective="availability"} 0.99',
    'pando_s3_class_request_duration_seconds_count{class="interactive"} 98',
  ])
    assert.ok(text.includes(`${line}\n`), line)
  assert.match(
    text,
    /^pando_slo_burn_rate\{class="interactive",objective="availability",window="5m"\} [12]\./m,
  )
})

test('what a person reads of an objective', () => {
  const objective = { class: 'bulk', kind: 'availability', target: 0.999, requests: 10, budgetLeft: 0.879 }
  assert.equal(
    describeObjective({ ...objective, burnRate_1h: 2.12 }),
    'bulk: 99.9 % without error: 87 % of the budget left, burns 2.1 times as fast as it lasts (1 h)',
  )
  assert.equal(
    describeObjective({ ...objective, kind: 'latency', budgetLeft: -1, burnRate_1h: 0 }),
    'bulk: 99.9 % in time: the budget is overspent',
  )
  assert.equal(
    describeObjective({ ...objective, requests: 0, burnRate_1h: 0 }),
    'bulk: 99.9 % without error: no requests yet',
  )
})
