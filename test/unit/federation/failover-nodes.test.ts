import assert from 'node:assert/strict'
import { test } from 'node:test'
import { createDirectCatalog } from '../../../core/catalog/direct-catalog.ts'
import { MemoryTables } from '../../../core/catalog/memory-tables.ts'
import { StorageError } from '../../../core/contract/errors.ts'
import type { GroupRecord } from '../../../core/contract/failover.ts'
import type { FailoverAdministration } from '../../../core/contract/failover-admin.ts'
import { silentLogger } from '../../../core/contract/logger.ts'
import { FailoverAgent } from '../../../federation/failover/agent.ts'
import type { Answer, Question, VoteQuestion } from '../../../federation/failover/peer.ts'
import { regionNodes } from '../../../federation/failover/region-nodes.ts'
import { FakeClock, fakeEnvironment } from '../../kit/fake-clock.ts'
import { MemoryRegion } from '../../kit/memory-region-peers.ts'
import { noFailover } from '../../kit/no-failover.ts'

const group: GroupRecord = {
  ...{ name: 'g', regions: [1, 2], witnesses: [3], buckets: [], syncBuckets: [] },
  ...{ automatic: false, flapMs: 60_000, leaseMs: 8_000 },
  ...{ primary: 1, epoch: 1, revision: 1, automaticMs: 0, reigns: [] },
}

/** Region 1 has two nodes with one log; regions 2 and 3 are one process each. */
function federation() {
  const clock = new FakeClock()
  const state = { voters: ['a', 'b'], isLogWritable: true, stuck: '', answerAfterMs: 0 }
  const all = new Map<number, FailoverAgent>()
  const network = new MemoryRegion({ clock })
  const peers = {
    connected: () => [],
    async ask(region: number, question: Question): Promise<Answer> {
      return all.get(region)?.answer(1, question) ?? assert.fail()
    },
  }
  const catalogOf = (regionId: number) =>
    createDirectCatalog({
      tables: new MemoryTables(),
      environment: fakeEnvironment(clock, regionId),
      regionId,
    })
  for (const regionId of [2, 3]) {
    const environment = fakeEnvironment(clock, regionId)
    const catalog = catalogOf(regionId)
    all.set(regionId, new FailoverAgent({ regionId, catalog, peers, environment, log: silentLogger }))
  }
  const direct = catalogOf(1)
  const catalog: typeof direct = {
    ...direct,
    async submit(command) {
      if (!state.isLogWritable) throw new StorageError('UNAVAILABLE', 'a majority of the nodes is gone')
      return direct.run(command)
    },
  }
  const nodeOf = (self: string, administration: FailoverAdministration) => {
    const nodes = regionNodes({ self, peers: network.join(self), voters: () => state.voters, clock })
    const colleagues = {
      isActing: nodes.isActing,
      async held() {
        const told = await nodes.held()
        await clock.sleep(state.answerAfterMs)
        return told
      },
    }
    const environment = fakeEnvironment(clock, 10)
    const own: typeof catalog = {
      ...catalog,
      async submit(command) {
        if (state.stuck === self) throw new StorageError('UNAVAILABLE', 'the disk of this node is full')
        return catalog.submit(command)
      },
    }
    const agent = new FailoverAgent({
      ...{ regionId: 1, catalog: own, peers, environment, log: silentLogger, colleagues },
    })
    return { agent, shared: nodes.serve(agent, administration) }
  }
  const asked: string[] = []
  const administrationOf = (self: string): FailoverAdministration => ({
    ...noFailover,
    async remove(name) {
      asked.push(`${self} ${name}`)
    },
  })
  const a = nodeOf('a', administrationOf('a'))
  const b = nodeOf('b', administrationOf('b'))
  const close = async (): Promise<void> => {
    const agents = [a.agent, b.agent, ...all.values()]
    const ended = Promise.all(agents.map((agent) => agent.stop()))
    await clock.advance(20_000)
    await ended
  }
  const begin = async (): Promise<GroupRecord> => {
    const defined = a.agent.define(group)
    await clock.advance(10)
    await defined
    await clock.advance(2_000)
    return a.agent.known('g')?.record ?? assert.fail()
  }
  return { clock, state, a, b, asked, begin, close }
}

test('a node borrows the lease from the acting one, counts it from before it asked, and loses it when nobody answers', async () => {
  const { clock, state, a, b, begin, close } = federation()
  const record = await begin()
  assert.equal(a.agent.mayAcknowledge(record), true)
  assert.equal(b.agent.mayAcknowledge(record), true)
  state.answerAfterMs = 1_500
  for (let look = 0; look < 100; look++) {
    await clock.advance(100)
    assert.ok(b.agent.leaseLeftMs(record) <= a.agent.leaseLeftMs(record), 'what is borrowed is never more')
  }
  assert.equal(b.agent.mayAcknowledge(record), true)
  // It is cut off, and nobody is left to ask.
  state.voters = []
  await clock.advance(record.leaseMs)
  assert.equal(b.agent.mayAcknowledge(record), false)
  await close()
})

test('an acting node whose log takes nothing lets the lease go, though the other voters would grant it', async () => {
  const { clock, state, a, b, begin, close } = federation()
  const record = await begin()
  state.isLogWritable = false
  await clock.advance(record.leaseMs * 1.5 + 500)
  assert.equal(a.agent.mayAcknowledge(record), false)
  assert.equal(b.agent.mayAcknowledge(record), false)
  state.isLogWritable = true
  await clock.advance(5_000)
  assert.equal(b.agent.mayAcknowledge(record), true)
  await close()
})

test('what one node has granted binds the vote of another, and a node that starts counts anew', async () => {
  const { clock, state, b, begin, close } = federation()
  await begin()
  const question: VoteQuestion = {
    ...{ kind: 'vote', group: 'g', epoch: 2, primary: 2, knows: 1 },
    ...{ isProbe: false, isHandover: false, positions: [] },
  }
  // All grants were given by the other node.
  const refused = await b.agent.answer(2, question)
  assert.equal(refused.isGranted, false)
  assert.match(refused.reason, /region 1 holds it/)
  state.isLogWritable = false
  await clock.advance(group.leaseMs + 2_500)
  state.isLogWritable = true
  const granted = await b.agent.answer(2, question)
  assert.equal(granted.isGranted, true, granted.reason)
  assert.equal(b.agent.voter.holder('g'), 2)
  await close()
})

test('what an operator asks of one node the acting one does', async () => {
  const { clock, state, a, b, asked, begin, close } = federation()
  await begin()
  const during = async (work: Promise<unknown>): Promise<unknown> => {
    const settled = work.then(
      () => 'done',
      (reason: unknown) => StorageError.from(reason).code,
    )
    await clock.advance(100)
    return settled
  }
  assert.equal(await during(b.shared.administration.remove('g')), 'done')
  assert.equal(await during(a.shared.administration.remove('g')), 'done')
  assert.deepEqual(asked, ['a g', 'a g'])
  // The first one has heard of another that goes before it; the second one has not.
  await clock.advance(1_000)
  state.voters = ['b', 'a']
  assert.equal(await during(b.shared.administration.remove('g')), 'done')
  assert.deepEqual(asked, ['a g', 'a g', 'b g'])
  await close()
})

test('a node that has a connection and does not answer, as one that starts, keeps nobody from acting', async () => {
  const { clock, state, b, begin, close } = federation()
  const record = await begin()
  state.voters = ['starting', 'b']
  await clock.advance(3 * record.leaseMs)
  assert.equal(b.agent.mayAcknowledge(record), true)
  await close()
})

test('an acting node from which the log takes nothing, as one with a full disk, leaves it to another one', async () => {
  const { clock, state, a, b, begin, close } = federation()
  const record = await begin()
  state.stuck = 'a'
  for (let look = 0; look < 120; look++) {
    await clock.advance(250)
    assert.equal(b.agent.mayAcknowledge(record), true, `after ${look * 250} ms`)
  }
  state.stuck = ''
  await clock.advance(record.leaseMs)
  assert.equal(a.agent.mayAcknowledge(record), true)
  assert.equal(b.agent.mayAcknowledge(record), true)
  await close()
})
