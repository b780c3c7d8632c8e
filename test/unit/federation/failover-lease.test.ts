import assert from 'node:assert/strict'
import { test } from 'node:test'
import { createDirectCatalog } from '../../../core/catalog/direct-catalog.ts'
import { MemoryTables } from '../../../core/catalog/memory-tables.ts'
import { StorageError } from '../../../core/contract/errors.ts'
import { type GroupRecord, usableLeaseMs } from '../../../core/contract/failover.ts'
import { silentLogger } from '../../../core/contract/logger.ts'
import { FailoverAgent } from '../../../federation/failover/agent.ts'
import { campaign } from '../../../federation/failover/campaign.ts'
import type { Answer, Question } from '../../../federation/failover/peer.ts'
import { Voter } from '../../../federation/failover/voter.ts'
import { FakeClock, fakeEnvironment } from '../../kit/fake-clock.ts'

const group: GroupRecord = {
  ...{ name: 'g', regions: [1, 2], witnesses: [3], buckets: [], syncBuckets: [] },
  ...{ automatic: false, flapMs: 60_000, leaseMs: 8_000 },
  ...{ primary: 1, epoch: 1, revision: 1, automaticMs: 0, reigns: [] },
}

/** Three voters, of which region 1 is the primary; `cut` says whether it reaches the others. */
function voters() {
  const clock = new FakeClock()
  const state = { isCut: false, answerMs: new Map<number, number>() }
  const all = new Map<number, FailoverAgent>()
  for (const regionId of [1, 2, 3]) {
    const environment = fakeEnvironment(clock, regionId)
    const catalog = createDirectCatalog({ tables: new MemoryTables(), environment, regionId })
    const peers = {
      connected: () => [1, 2, 3].filter((one) => one !== regionId),
      async ask(region: number, question: Question): Promise<Answer> {
        if (state.isCut) throw new StorageError('PEER_UNREACHABLE', 'the path is cut')
        const late = state.answerMs.get(region)
        if (late !== undefined) await clock.sleep(late)
        return all.get(region)?.answer(regionId, question) ?? assert.fail()
      },
    }
    all.set(regionId, new FailoverAgent({ regionId, catalog, peers, environment, log: silentLogger }))
  }
  const agentOf = (region: number): FailoverAgent => all.get(region) ?? assert.fail()
  const close = async (): Promise<void> => {
    const ended = Promise.all([...all.values()].map((agent) => agent.stop()))
    await clock.advance(10_000)
    await ended
  }
  return { clock, state, agentOf, close }
}

test('a lease that was granted for less is not longer because the group has a longer one now', async () => {
  const { clock, state, agentOf, close } = voters()
  const one = agentOf(1)
  await one.define(group)
  const known = () => one.known('g')?.record ?? assert.fail()
  assert.equal(one.mayAcknowledge(known()), true)
  // The others never hear of it: of what they have granted they go on counting eight seconds.
  state.isCut = true
  const longer = one.define({ ...group, leaseMs: 60_000, revision: 2 })
  await clock.advance(1)
  await longer
  assert.equal(known().leaseMs, 60_000)
  assert.ok(one.leaseLeftMs(known()) <= usableLeaseMs(group.leaseMs))
  await clock.advance(group.leaseMs)
  assert.equal(agentOf(2).voter.holder('g'), undefined)
  assert.equal(one.mayAcknowledge(known()), false, 'another region may have been made the primary')
  // With the voters' answers to the new record the lease is as long as that says.
  state.isCut = false
  await clock.advance(20_000)
  assert.ok(one.leaseLeftMs(known()) > group.leaseMs)
  await close()
})

test('a region that is no voter of a group is told nothing of it', async () => {
  const { agentOf, close } = voters()
  const one = agentOf(1)
  await one.define(group)
  for (const question of [
    { kind: 'state', group: 'g' },
    { kind: 'forget', group: 'g' },
    { kind: 'hand-over', group: 'g' },
    { kind: 'renew', record: { ...group, primary: 9, regions: [1, 9] }, endpoints: [] },
  ] as const) {
    await assert.rejects(one.answer(9, question), /ACCESS_DENIED/, question.kind)
  }
  const { record } = await one.answer(2, { kind: 'state', group: 'g' })
  assert.equal(record?.primary, 1)
  await close()
})

test('a region that has become one of several nodes counts what its one process granted last, not its last vote', async () => {
  const clock = new FakeClock()
  const environment = fakeEnvironment(clock, 3)
  const catalog = createDirectCatalog({ tables: new MemoryTables(), environment, regionId: 3 })
  const asked = {
    kind: 'vote',
    group: 'g',
    primary: 2,
    isProbe: false,
    isHandover: false,
    positions: [],
  } as const
  const alone = new Voter({ regionId: 3, catalog, clock })
  assert.equal((await alone.renew(1, group)).isGranted, true)
  await clock.advance(group.leaseMs)
  assert.equal((await alone.vote(2, { ...asked, epoch: 2, knows: 1 })).isGranted, true)
  // Region 1 was elected anew without this voter, and is granted its lease.
  assert.equal((await alone.renew(1, { ...group, epoch: 3 })).isGranted, true)

  const oneOfSeveral = new Voter({ regionId: 3, catalog, clock, isShared: true })
  assert.equal(oneOfSeveral.holder('g'), 1)
  const early = await oneOfSeveral.vote(2, { ...asked, epoch: 4, knows: 3 })
  assert.equal(early.isGranted, false)
  assert.match(early.reason, /region 1 holds it/)
  await clock.advance(group.leaseMs)
  assert.equal((await oneOfSeveral.vote(2, { ...asked, epoch: 4, knows: 3 })).isGranted, true)
})

test('a second region that says that it is the primary of the same epoch is granted nothing', async () => {
  const { agentOf, close } = voters()
  await agentOf(1).define(group)
  const { voter } = agentOf(3)
  for (const revision of [1, 2]) {
    const told = await voter.renew(2, { ...group, primary: 2, revision })
    assert.equal(told.isGranted, false)
    assert.match(told.reason, /another region is the primary of this epoch/)
    assert.deepEqual([told.record?.primary, voter.holder('g')], [1, 1])
  }
  await close()
})

/** Region 1 leads, every region may be made the primary by itself, and the last change was long ago. */
async function automatic() {
  const made = voters()
  const { clock, agentOf } = made
  const defined = agentOf(1).define({ ...group, automatic: true, flapMs: 0 })
  await clock.advance(1)
  await defined
  await clock.advance(3_000)
  const outcome = async <T>(asked: Promise<T>, withinMs: number): Promise<T | undefined> => {
    const seen: { is?: T } = {}
    asked.then((is) => Object.assign(seen, { is })).catch(() => undefined)
    for (let ms = 0; ms < withinMs && seen.is === undefined; ms += 10) await clock.advance(10)
    return seen.is
  }
  return { ...made, outcome }
}

test('a planned change does not wait for a voter that is slow', async () => {
  const { state, agentOf, outcome, close } = await automatic()
  state.answerMs.set(3, 1_900)
  const record = await outcome(agentOf(1).handOver('g', 2), 1_000)
  assert.deepEqual([record?.primary, record?.epoch], [2, 2])
  await close()
})

test('a region that is being handed the group does not offer itself as well', async () => {
  const { clock, state, agentOf, outcome, close } = await automatic()
  // A majority has voted, but the primary is slow to hear of it.
  const two = agentOf(2)
  for (const region of [2, 3]) {
    await agentOf(region).answer(1, {
      ...{ kind: 'vote', group: 'g', epoch: 2, primary: 2, knows: 1 },
      ...{ isProbe: false, isHandover: true, positions: [] },
    })
  }
  state.answerMs.set(1, 5_000)
  await clock.advance(1_500)
  assert.equal(two.known('g')?.ballot.epoch, 2)
  const taken = await outcome(two.answer(1, { kind: 'take', group: 'g', epoch: 2, outageMs: 300 }), 1_000)
  assert.equal(taken?.record?.primary, 2)
  assert.equal(taken?.record?.reigns.at(-1)?.outageMs, 300, 'as the one that handed over has counted it')
  await close()
})

test('a campaign that meets a planned change half-way leaves it its epoch', async () => {
  const { clock, state, agentOf, outcome, close } = await automatic()
  // Region 2 votes for the planned change at 530 ms, is told by the others at 800 that they would vote for it, and to take over at 850.
  state.answerMs.set(2, 70)
  for (const region of [1, 3]) state.answerMs.set(region, 300)
  const handed = agentOf(1).handOver('g', 2)
  await clock.advance(500)
  const campaigned = campaign(agentOf(2), 'g', { cause: 'automatic', isCourteous: true })
  const record = await outcome(handed, 3_000)
  const ended = await outcome(campaigned, 3_000)
  assert.equal(ended?.kind, 'lost')
  assert.deepEqual([record?.primary, record?.epoch], [2, 2])
  await close()
})
