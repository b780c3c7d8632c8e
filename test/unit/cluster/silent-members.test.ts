import assert from 'node:assert/strict'
import { test } from 'node:test'
import { MapFence } from '../../../core/cluster/chunks/map-fence.ts'
import { RegionHolds } from '../../../core/cluster/chunks/region-holds.ts'
import { StorageError } from '../../../core/contract/errors.ts'
import { silentLogger } from '../../../core/contract/logger.ts'
import type { RegionPeers } from '../../../core/contract/region-peers.ts'
import { startSchedule } from '../../../core/node/maintenance.ts'
import { FakeClock } from '../../kit/fake-clock.ts'

const minuteMs = 60_000
const idBytes = 10

/** Others that answer that they hold nothing, when they are there. */
function regionOf(members: readonly string[], isUp: (member: string, nowMs: number) => boolean) {
  const clock = new FakeClock(0)
  const asked: string[] = []
  const peers: Pick<RegionPeers, 'request' | 'serve'> = {
    serve: () => () => undefined,
    request: async (member, topic, question) => {
      asked.push(member)
      if (!isUp(member, clock.monotonic())) throw new StorageError('PEER_UNREACHABLE', `no way to ${member}`)
      return new Uint8Array(topic === 'chunks.fence' ? 8 : question.length / idBytes)
    },
  }
  const writes = {
    isInFlight: () => false,
    isPinned: () => false,
    oldestInFlight: () => undefined,
    begin: () => new Uint8Array(idBytes),
    settle: () => undefined,
  }
  const holds = new RegionHolds({
    ...{ peers, writes, clock, members: () => members },
    slotOf: (member) => members.indexOf(member),
    caughtUp: async () => undefined,
  })
  const fence = new MapFence({ peers, writes, clock, members: () => members })
  return { clock, asked, holds, fence }
}

const pass = async (clock: FakeClock, minutes: number): Promise<void> => {
  for (let minute = 0; minute < minutes; minute++) await clock.advance(minuteMs)
}

for (const [how, intervalMs] of [
  ['every 5 s', 5000],
  ['every 6 h', 6 * 3_600_000],
] as const) {
  test(`garbage is freed again after two silences that overlap, collected ${how}`, async () => {
    // c is dead from the start. d restarts for a minute just when c would be left out: the work fails once more, and waits its longest.
    const { clock, holds } = regionOf(['b', 'c', 'd'], (member, nowMs) =>
      member === 'c' ? false : member !== 'd' || nowMs < 4_080_000 || nowMs >= 4_140_000,
    )
    let collected = 0
    const schedule = startSchedule(
      [
        {
          name: 'collection',
          intervalMs,
          firstDelayMs: 5000,
          async run(signal) {
            await holds.held([new Uint8Array(idBytes)], signal)
            collected++
          },
        },
      ],
      clock,
      silentLogger,
    )
    await pass(clock, 24 * 60)
    assert.ok(collected > 0, 'the one node that is dead holds up nothing for ever')
    await schedule.stop()
    holds.stop()
    assert.equal(clock.pending, 0, 'nothing is asked any more')
  })
}

test('a fence that is asked for every six hours is passed without the one node that is dead', async () => {
  const { clock, fence } = regionOf(['b', 'c'], (member) => member !== 'c')
  fence.adopt(0)
  assert.equal(await fence.passedEverywhere(0), false)
  await pass(clock, 6 * 60)
  assert.equal(await fence.passedEverywhere(0), true)
  fence.stop()
})

test('a node that was there for half an hour between two questions has not been silent meanwhile', async () => {
  const { clock, holds } = regionOf(['b', 'c'], (member, nowMs) => {
    const minute = nowMs / minuteMs
    return member !== 'c' || (minute >= 20 && minute < 50)
  })
  const ids = [new Uint8Array(idBytes)]
  await assert.rejects(holds.held(ids), { code: 'UNAVAILABLE' })
  await pass(clock, 90)
  await assert.rejects(holds.held(ids), { code: 'UNAVAILABLE' })
  await pass(clock, 60)
  assert.deepEqual(await holds.held(ids), [false])
  holds.stop()
})

test('who is silent is asked every ten minutes, and no more once it has answered', async () => {
  let isUp = false
  const { clock, holds, asked } = regionOf(['c'], () => isUp)
  await assert.rejects(holds.held([new Uint8Array(idBytes)]), { code: 'UNAVAILABLE' })
  await pass(clock, 60)
  assert.equal(asked.length, 7)
  isUp = true
  await pass(clock, 60)
  assert.equal(asked.length, 8)
  assert.equal(clock.pending, 0)
})

test('what a node has begun is held when it missed one part of a question, though it answered the next', async () => {
  let questions = 0
  const { holds, clock } = regionOf(['c'], () => ++questions > 1)
  const slotZero = Array.from({ length: 5000 }, () => new Uint8Array(idBytes))
  const held = await holds.heldUnowned(slotZero)
  assert.ok(held.every((isHeld) => isHeld))
  holds.stop()
  await pass(clock, 20)
  assert.equal(clock.pending, 0)
})
