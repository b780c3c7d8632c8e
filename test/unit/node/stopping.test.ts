import assert from 'node:assert/strict'
import { test } from 'node:test'
import { silentLogger } from '../../../core/contract/logger.ts'
import { realEnvironment } from '../../../core/node/environment.ts'
import { startSchedule } from '../../../core/node/maintenance.ts'
import { StopStack } from '../../../core/node/stop-stack.ts'

const { clock } = realEnvironment

test('parts stop in the reverse order, once', async () => {
  const order: string[] = []
  const parts = new StopStack(clock, silentLogger)
  for (const name of ['first', 'second', 'third']) {
    parts.push(name, 1000, async () => void order.push(name))
  }
  const [failed] = await Promise.all([parts.stop(), parts.stop()])
  assert.deepEqual(order, ['third', 'second', 'first'])
  assert.deepEqual(failed, [])
})

test('a part that hangs or fails is named and does not keep the others', async () => {
  const order: string[] = []
  const parts = new StopStack(clock, silentLogger)
  parts.push('first', 1000, async () => void order.push('first'))
  parts.push('hangs', 20, () => new Promise(() => undefined))
  parts.push('fails', 1000, async () => {
    throw new Error('no')
  })
  assert.deepEqual(await parts.stop(), ['fails', 'hangs'])
  assert.deepEqual(order, ['first'])
})

test('what takes long to start is told aloud, with its time', () => {
  const told: unknown[] = []
  const tell =
    (level: string) =>
    (fields: object): void =>
      void told.push([level, fields])
  let nowMs = 100
  const parts = new StopStack(
    { ...clock, monotonic: () => nowMs },
    { ...silentLogger, debug: tell('debug'), info: tell('info') },
  )
  nowMs += 40
  parts.push('quick', 1000, async () => undefined)
  nowMs += 2500
  parts.push('slow', 1000, async () => undefined)
  assert.deepEqual(told, [
    ['debug', { part: 'quick', durationMs: 40 }],
    ['info', { part: 'slow', durationMs: 2500 }],
  ])
})

test('recurring work never overlaps itself and stops when told, also in the middle', async () => {
  let running = 0
  let runs = 0
  let aborted = false
  const schedule = startSchedule(
    [
      {
        name: 'work',
        intervalMs: 1,
        firstDelayMs: 0,
        async run(signal) {
          running++
          assert.equal(running, 1)
          runs++
          if (runs === 3) {
            await clock.sleep(60_000, signal).catch(() => {
              aborted = true
            })
          }
          running--
        },
      },
    ],
    clock,
    silentLogger,
  )
  while (runs < 3) await clock.sleep(1)
  await schedule.stop()
  assert.equal(runs, 3)
  assert.equal(aborted, true)
})

test('failing work is tried again, later each time, and told', async () => {
  const delays: number[] = []
  let failures = 0
  const schedule = startSchedule(
    [
      {
        name: 'work',
        intervalMs: 10,
        firstDelayMs: 0,
        async run() {
          throw new Error('disk')
        },
        onFailure: () => failures++,
      },
    ],
    {
      ...clock,
      async sleep(delayMs, signal) {
        delays.push(delayMs)
        if (delays.length > 4) return clock.sleep(60_000, signal)
      },
    },
    silentLogger,
  )
  while (delays.length < 5) await clock.sleep(1)
  await schedule.stop()
  assert.deepEqual(delays, [0, 2000, 4000, 8000, 16_000])
  assert.equal(failures, 4)
})
