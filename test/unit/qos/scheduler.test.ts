import assert from 'node:assert/strict'
import test from 'node:test'
import type { AdmissionTicket } from '../../../core/contract/admission.ts'
import { StorageError } from '../../../core/contract/errors.ts'
import { FakeClock } from '../../kit/fake-clock.ts'
import { openTestQos, qosConfig, requestOf } from '../../kit/qos-bench.ts'
import { seededRandom } from '../../kit/random.ts'

const seeds = Number(process.env['PANDO_QOS_HISTORIES'] ?? 60)
const firstSeed = Number(process.env['PANDO_SEED'] ?? 1)

interface Held {
  readonly ticket: AdmissionTicket
  readonly tenant: string
  readonly class: string
  state: 'waiting' | 'running' | 'refused'
}

test('random histories: no slot leaks, nobody is forgotten, limits of every kind hold', async () => {
  for (let seed = firstSeed; seed < firstSeed + seeds; seed++) await history(seed)
})

async function history(seed: number): Promise<void> {
  const again = `PANDO_SEED=${seed} PANDO_QOS_HISTORIES=1`
  const random = seededRandom(seed)
  const clock = new FakeClock()
  const limit = 1 + random.below(6)
  const queueLimit = 5 + random.below(30)
  const isPatient = random.below(2) === 0
  const queueTimeout = isPatient ? '60s' : '3s'
  const bulkLimit = 20 + random.below(100)
  const sectionWith = (budgets: unknown) => ({
    concurrency: { limit },
    classes: {
      interactive: { queueLimit, queueTimeout },
      bulk: { queueLimit, queueTimeout, limit: bulkLimit, reservation: seed % 20 },
    },
    rules: [{ class: 'bulk', bucket: 'bulk' }],
    budgets,
  })
  const budgetsOf = () => [
    { tenant: 't1', requests: 20 },
    { bucket: 'slow', requests: 30 },
    { tenant: 't*', requests: random.pick([0, 0, 1, 0.01]), bytesOut: 1e6 },
    { class: 'bulk', requests: random.pick([0, 1, 50]) },
  ]
  const qos = openTestQos(clock, sectionWith(budgetsOf()))
  // In some, one asks far more often than the others and is mostly put off, and requests take their time.
  const isCrowded = random.below(2) === 0
  const longestDelayMs = random.pick([200, 3000])
  let asking = ''
  // A policy that does what it likes.
  qos.decideBy({
    ...qos.fallback,
    admit: () => {
      const isPutOff = isCrowded && asking === 't0' && random.below(10) > 0
      const verdict = isPutOff ? 'delay' : random.pick(['admit', 'admit', 'admit', 'delay', 'shed'] as const)
      return { policy: 'mood', reason: 0, verdict, delayMs: random.below(longestDelayMs) }
    },
    plan: ({ classes }) => {
      const number = (): number => random.pick([Number.MIN_VALUE, 1e-6, 0, 1, 10, 1e9, Number.NaN])
      const planned = () => ({ weight: number(), reservation: number(), limit: number(), burst: number() })
      return { policy: 'mood', reason: 0, classes: classes.map(planned) }
    },
  })
  const held = new Set<Held>()
  /** Refused for a full queue: only who has its part of what waits there. */
  const checkPart = (newcomer: string, name: string): void => {
    const there = [...held].filter((one) => one.state === 'waiting' && one.class === name)
    const tenants = new Set([newcomer, ...there.map(({ tenant }) => tenant)])
    const mine = there.filter(({ tenant }) => tenant === newcomer).length
    assert.ok(mine + 1 > queueLimit / tenants.size, `${newcomer} has ${mine} of ${queueLimit}; ${again}`)
  }
  const check = (): void => {
    const { classes, inFlight } = qos.inspection.status()
    const running = [...held].filter(({ state }) => state === 'running').length
    assert.equal(inFlight, running, `in flight; ${again}`)
    for (const { queued, name } of classes)
      assert.ok(queued <= queueLimit || queued === 0, `${name}; ${again}`)
    const waiting = [...held].filter(({ state }) => state === 'waiting').length
    assert.equal(
      classes.reduce((sum, each) => sum + each.queued, 0),
      waiting,
      `waiting; ${again}`,
    )
  }
  for (let step = 0; step < 300; step++) {
    if (random.below(30) === 0) {
      qos.reconfigure(qosConfig(sectionWith(random.pick([[], budgetsOf()]))))
    }
    const dice = random.below(10)
    if (dice < 5) {
      const tenant = isCrowded && random.below(3) > 0 ? 't0' : `t${random.below(4)}`
      asking = tenant
      const bucket = random.pick(['plain', 'slow', 'bulk'])
      const name = bucket === 'bulk' ? 'bulk' : 'interactive'
      try {
        const ticket = qos.admission.admit(
          requestOf(tenant, { bucket, isWaitingForClient: () => seed % 3 === 0 }),
        )
        const state = ticket.turn === undefined ? 'running' : 'waiting'
        const one: Held = { ticket, tenant, class: name, state }
        held.add(one)
        ticket.turn?.then(
          () => {
            one.state = 'running'
          },
          () => {
            one.state = 'refused'
          },
        )
      } catch (error) {
        const { code, message } = StorageError.from(error)
        assert.equal(code, 'SLOW_DOWN', again)
        if (message.includes('are waiting')) checkPart(tenant, name)
      }
    } else if (dice < (isCrowded ? 6 : 8)) {
      const one = [...held][random.below(Math.max(1, held.size))]
      if (one !== undefined) {
        if (random.below(3) === 0) one.ticket.abandon()
        one.ticket.end(0, 0)
        one.ticket.end(0, 0)
        held.delete(one)
      }
    } else if (dice === 8 && random.below(20) === 0) await clock.standStill(60_000)
    else await clock.advance(random.below(300))
    await clock.advance(0)
    check()
  }
  // Of the policy nothing is left, nor of budgets.
  qos.decideBy(qos.fallback)
  qos.reconfigure(qosConfig(sectionWith([])))
  const late = [...held].filter(({ state }) => state === 'waiting')
  // With everybody leaving as soon as they can, all who wait are served or refused in the end.
  for (let round = 0; round < 200 && held.size > 0; round++) {
    for (const one of [...held]) {
      if (one.state === 'waiting') continue
      one.ticket.end(0, 0)
      held.delete(one)
    }
    await clock.advance(100)
  }
  assert.equal(held.size, 0, `somebody was forgotten; ${again}`)
  if (isPatient) {
    assert.deepEqual(
      late.filter(({ state }) => state === 'refused'),
      [],
      `somebody waited for what is no more; ${again}`,
    )
  }
  check()
  for (const bucket of ['plain', 'bulk']) {
    const ticket = qos.admission.admit(requestOf('newcomer', { bucket }))
    const started = ticket.turn?.then(
      () => true,
      () => false,
    )
    await clock.advance(2000)
    assert.notEqual(await started, false, `a class is blocked; ${again}`)
    ticket.end(0, 0)
  }
  let started = 0
  for (let times = 0; times < 200; times++) {
    const ticket = qos.admission.admit(requestOf('newcomer', { bucket: 'bulk' }))
    ticket.turn?.catch(() => undefined)
    if (ticket.turn === undefined) started++
    else ticket.abandon()
    ticket.end(0, 0)
    if (times % 10 === 9) await clock.advance(50)
  }
  const most = bulkLimit * 1.1 + 1
  assert.ok(started <= most && started > bulkLimit / 2, `${started} of ${bulkLimit} a second; ${again}`)
  qos.close()
  await clock.advance(1000)
  assert.equal(clock.pending, 0, `a timer is left; ${again}`)
}

test('a free slot and a waiting request that may start never meet', async () => {
  const clock = new FakeClock()
  const qos = openTestQos(clock, { concurrency: { limit: 2 } })
  const tickets = Array.from({ length: 6 }, (_, index) => qos.admission.admit(requestOf(`t${index % 3}`)))
  assert.deepEqual(
    tickets.map(({ turn }) => turn === undefined),
    [true, true, false, false, false, false],
  )
  for (let done = 0; done < 6; done++) {
    const ticket = tickets.shift()
    await ticket?.turn
    ticket?.end(0, 0)
    assert.equal(qos.inspection.status().inFlight, Math.min(2, tickets.length))
  }
  qos.close()
})

test('whoever hangs up while waiting leaves the queue', async () => {
  const clock = new FakeClock()
  const qos = openTestQos(clock, { concurrency: { limit: 1 } })
  const first = qos.admission.admit(requestOf('a'))
  const second = qos.admission.admit(requestOf('a'))
  const third = qos.admission.admit(requestOf('a'))
  second.abandon()
  await assert.rejects(async () => second.turn, { code: 'CANCELLED' })
  first.end(0, 0)
  await third.turn
  assert.equal(qos.inspection.status().classes[0]?.queued, 0)
  second.end(0, 0)
  third.end(0, 0)
  assert.equal(qos.inspection.status().inFlight, 0)
  qos.close()
})

test('one who has waited for the time-out is shed; a process that stood still does not count', async () => {
  const clock = new FakeClock()
  const qos = openTestQos(clock, {
    concurrency: { limit: 1 },
    classes: { interactive: { queueTimeout: '2s' } },
  })
  const first = qos.admission.admit(requestOf('a'))
  const second = qos.admission.admit(requestOf('a'))
  const refused: StorageError[] = []
  second.turn?.catch((error: StorageError) => {
    refused.push(error)
  })
  await clock.advance(1500)
  await clock.standStill(3_600_000)
  assert.equal(refused.length, 0)
  await clock.advance(700)
  assert.equal(refused[0]?.code, 'SLOW_DOWN')
  assert.ok((refused[0]?.retryAfterMs ?? 0) >= 1000)
  first.end(0, 0)
  qos.close()
})

test('a full queue makes room for a tenant that has less than its part of it', async () => {
  const clock = new FakeClock()
  const qos = openTestQos(clock, {
    concurrency: { limit: 1 },
    classes: { interactive: { queueLimit: 10 } },
  })
  const running = qos.admission.admit(requestOf('greedy'))
  const refused: number[] = []
  for (let index = 0; index < 10; index++) {
    qos.admission.admit(requestOf('greedy')).turn?.catch(() => refused.push(index))
  }
  assert.throws(() => qos.admission.admit(requestOf('greedy')), { code: 'SLOW_DOWN' })
  const modest = qos.admission.admit(requestOf('modest'))
  await clock.advance(0)
  assert.deepEqual(refused, [9])
  running.end(0, 0)
  await modest.turn
  qos.close()
})

for (const [what, slots] of [
  ['an idle machine', 4],
  ['a busy one', 1],
] as const) {
  test(`requests that a policy delays keep nobody else from ${what}`, async () => {
    const clock = new FakeClock()
    const qos = openTestQos(clock, {
      concurrency: { limit: slots },
      classes: { interactive: { queueLimit: 10, queueTimeout: '30s' } },
      tenantWeights: { heavy: 9 },
    })
    let delayMs = 0
    qos.decideBy({
      ...qos.fallback,
      admit: () => ({ policy: 'p@1', reason: 0, verdict: delayMs > 0 ? 'delay' : 'admit', delayMs }),
    })
    const running = qos.admission.admit(requestOf('other'))
    delayMs = 10_000
    const refused: number[] = []
    const delayed = Array.from({ length: 10 }, (_, index) => {
      const ticket = qos.admission.admit(requestOf('greedy'))
      ticket.turn?.catch(() => refused.push(index))
      return ticket
    })
    assert.equal(qos.inspection.status().classes[0]?.queued, 10)
    assert.throws(() => qos.admission.admit(requestOf('greedy')), { code: 'SLOW_DOWN' })
    // One that is delayed, too, has its place among them.
    const slowed = qos.admission.admit(requestOf('modest'))
    delayMs = 0
    const modest = qos.admission.admit(requestOf('modest'))
    await clock.advance(0)
    if (slots > 1) {
      assert.equal(modest.turn, undefined)
      assert.deepEqual(refused, [9])
    } else {
      assert.deepEqual(refused, [9, 8])
      // Whoever has more weight has more of the queue.
      const heavy = Array.from({ length: 6 }, () => qos.admission.admit(requestOf('heavy')))
      await clock.advance(0)
      assert.deepEqual(refused, [9, 8, 7, 6, 5, 4, 3, 2])
      for (const ticket of heavy) ticket.abandon()
      await Promise.allSettled(heavy.map(({ turn }) => turn))
    }
    running.end(0, 0)
    await modest.turn
    modest.end(0, 0)
    for (const ticket of delayed) ticket.end(0, 0)
    await clock.advance(10_001)
    await slowed.turn
    slowed.end(0, 0)
    assert.equal(qos.inspection.status().classes[0]?.queued, 0)
    assert.equal(qos.inspection.status().inFlight, 0)
    qos.close()
  })
}

test('a request that waits for its client lets others go on', async () => {
  const clock = new FakeClock()
  const qos = openTestQos(clock, { concurrency: { limit: 1 } })
  const slow = qos.admission.admit(requestOf('a', { isWaitingForClient: () => true }))
  const next = qos.admission.admit(requestOf('b'))
  await clock.advance(250)
  await next.turn
  assert.equal(qos.inspection.status().inFlight, 2)
  slow.end(0, 0)
  next.end(0, 0)
  assert.equal(qos.inspection.status().inFlight, 0)
  qos.close()
})

test('a stopping node rejects whoever waits and whoever comes', async () => {
  const clock = new FakeClock()
  const qos = openTestQos(clock, { concurrency: { limit: 1 } })
  qos.admission.admit(requestOf('a'))
  const second = qos.admission.admit(requestOf('a'))
  qos.close()
  await assert.rejects(async () => second.turn, { code: 'CLOSED' })
  assert.throws(() => qos.admission.admit(requestOf('a')), { code: 'CLOSED' })
})

test('by default one tenant alone is never held up: as many as come are at work', () => {
  const clock = new FakeClock()
  const qos = openTestQos(clock)
  for (let index = 0; index < 5000; index++) {
    assert.equal(qos.admission.admit(requestOf('root')).turn, undefined)
  }
  qos.close()
})
