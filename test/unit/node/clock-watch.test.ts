import assert from 'node:assert/strict'
import { type TestContext, test } from 'node:test'
import type { Clock } from '../../../core/contract/clock.ts'
import { silentLogger } from '../../../core/contract/logger.ts'
import { ClockWatch } from '../../../core/node/cluster/clock-watch.ts'
import { FakeClock } from '../../kit/fake-clock.ts'
import { MemoryRegion } from '../../kit/memory-region-peers.ts'

const hourMs = 3_600_000

/** Nodes on one monotonic time, each with a wall clock that can be set. */
function clockedRegion(t: TestContext, names: readonly string[]) {
  const time = new FakeClock()
  const region = new MemoryRegion({ clock: time, delayMs: () => 20 })
  const nodes = names.map((name) => {
    const problems = new Map<string, string>()
    const state = { aheadMs: 0 }
    const clock: Clock = {
      now: () => time.now() + state.aheadMs,
      monotonic: () => time.monotonic() + name.charCodeAt(0) * 1_000_000,
      sleep: (delayMs, signal) => time.sleep(delayMs, signal),
    }
    const watch = new ClockWatch({
      ...{ self: name, peers: region.join(name), clock, log: silentLogger },
      health: {
        report: (problem, sentence) => void problems.set(problem, sentence),
        clear: (problem) => void problems.delete(problem),
      },
    })
    t.after(async () => {
      const stopping = watch.stop()
      await time.advance(20_000)
      await stopping
    })
    return { name, state, watch, told: () => problems.get('clock') }
  })
  const at = (name: string) => nodes.find((node) => node.name === name) ?? assert.fail(name)
  const offMs = (name: string): number => at(name).watch.clock.now() - time.now()
  return { time, region, at, offMs }
}

test('a clock that is set years ahead is that of the others at once, told of, and right again when it is set back', async (t) => {
  const { time, at, offMs } = clockedRegion(t, ['a', 'b', 'c'])
  await time.advance(1000)
  assert.deepEqual([offMs('a'), at('a').told()], [0, undefined])
  at('a').state.aheadMs = 10 * 365 * 24 * hourMs
  assert.ok(Math.abs(offMs('a')) <= 50, `${offMs('a')} ms off before anybody was asked again`)
  await time.advance(11_000)
  assert.ok(Math.abs(offMs('a')) <= 50)
  assert.match(at('a').told() ?? '', /ahead of those of most nodes/)
  assert.deepEqual([at('b').told(), at('c').told(), offMs('b'), offMs('c')], [undefined, undefined, 0, 0])
  at('a').state.aheadMs = -2 * hourMs
  await time.advance(11_000)
  assert.ok(Math.abs(offMs('a')) <= 50)
  assert.match(at('a').told() ?? '', /2h behind those of most nodes/)
  at('a').state.aheadMs = 9000
  await time.advance(11_000)
  assert.deepEqual(
    [offMs('a'), at('a').told()],
    [9000, undefined],
    'what clocks differ by anyway is left alone',
  )
})

test('a node that went away still counts: the wrong clock of two that are left convinces nobody', async (t) => {
  const { time, region, at, offMs } = clockedRegion(t, ['a', 'b', 'c'])
  at('a').state.aheadMs = hourMs
  await time.advance(11_000)
  region.cut('a', 'c')
  region.cut('b', 'c')
  await time.advance(600_000)
  assert.ok(Math.abs(offMs('a')) <= 50)
  assert.equal(offMs('b'), 0)
})

test('of two clocks that differ nobody knows which is right: both say so and keep their own', async (t) => {
  const { time, at, offMs } = clockedRegion(t, ['a', 'b'])
  at('b').state.aheadMs = hourMs
  await time.advance(11_000)
  assert.deepEqual([offMs('a'), offMs('b')], [0, hourMs])
  for (const name of ['a', 'b']) assert.match(at(name).told() ?? '', /are 1h apart, and nobody can tell/)
  at('b').state.aheadMs = 0
  await time.advance(11_000)
  for (const name of ['a', 'b']) assert.equal(at(name).told(), undefined)
})

test('of five two may be wrong, each in its own way or both alike', async (t) => {
  const { time, at, offMs } = clockedRegion(t, ['a', 'b', 'c', 'd', 'e'])
  for (const [first, second] of [
    [hourMs, -hourMs],
    [hourMs, hourMs],
    [-hourMs, -2 * hourMs],
  ] as const) {
    at('a').state.aheadMs = first
    at('b').state.aheadMs = second
    await time.advance(11_000)
    for (const name of ['a', 'b', 'c', 'd', 'e'])
      assert.ok(Math.abs(offMs(name)) <= 50, `${name} is ${offMs(name)} ms off`)
  }
})
