import assert from 'node:assert/strict'
import { test } from 'node:test'
import { createDirectCatalog } from '../../../core/catalog/direct-catalog.ts'
import { MemoryTables } from '../../../core/catalog/memory-tables.ts'
import type { GroupRecord } from '../../../core/contract/failover.ts'
import { silentLogger } from '../../../core/contract/logger.ts'
import { FailoverAgent } from '../../../federation/failover/agent.ts'
import { blockersOf } from '../../../federation/failover/lags.ts'
import { FakeClock, fakeEnvironment } from '../../kit/fake-clock.ts'

const group: GroupRecord = {
  ...{ name: 'g', regions: [1, 2], witnesses: [3], buckets: [], syncBuckets: [] },
  ...{ automatic: true, flapMs: 0, leaseMs: 8_000 },
  ...{ primary: 1, epoch: 1, revision: 1, automaticMs: 0, reigns: [] },
}

/** Three voters that all reach each other. */
function federation() {
  const clock = new FakeClock()
  const agents = new Map<number, FailoverAgent>()
  const catalogs = new Map<number, ReturnType<typeof createDirectCatalog>>()
  for (const regionId of [1, 2, 3]) {
    const environment = fakeEnvironment(clock, regionId)
    const catalog = createDirectCatalog({ tables: new MemoryTables(), environment, regionId })
    const peers = {
      connected: () => [],
      ask: async (region: number, question: Parameters<FailoverAgent['answer']>[1]) =>
        agents.get(region)?.answer(regionId, question) ?? assert.fail(),
    }
    catalogs.set(regionId, catalog)
    agents.set(regionId, new FailoverAgent({ regionId, catalog, peers, environment, log: silentLogger }))
  }
  const agentOf = (region: number): FailoverAgent => agents.get(region) ?? assert.fail()
  const catalogOf = (region: number) => catalogs.get(region) ?? assert.fail()
  const close = async (): Promise<void> => {
    const ended = Promise.all([...agents.values()].map((agent) => agent.stop()))
    await clock.advance(20_000)
    await ended
  }
  const begin = async (): Promise<void> => {
    const defined = agentOf(1).define(group)
    await clock.advance(10)
    await defined
    await clock.advance(2_000)
  }
  return { clock, agentOf, catalogOf, begin, close }
}

test('a primary that was recovered lets its lease go, and another region takes over with the vote of the third', async () => {
  const { clock, agentOf, catalogOf, begin, close } = federation()
  await begin()
  assert.equal(agentOf(1).mayAcknowledge(agentOf(1).known('g')?.record ?? group), true)
  catalogOf(1).run({ type: 'recover-region' })
  await clock.advance(25_000)
  for (const region of [1, 2, 3]) assert.equal(agentOf(region).known('g')?.record.primary, 2, `${region}`)
  assert.equal(agentOf(2).mayAcknowledge(agentOf(2).known('g')?.record ?? group), true)
  assert.match(blockersOf(catalogOf(1), 'g', 1).join(), /was recovered/)
  await close()
})

test('a recovered voter answers, and neither grants nor votes, in a hand-over either', async () => {
  const { agentOf, catalogOf, begin, close } = federation()
  await begin()
  catalogOf(2).run({ type: 'recover-region' })
  const record = agentOf(1).known('g')?.record ?? group
  const renewed = await agentOf(2).answer(1, { kind: 'renew', record, endpoints: [] })
  assert.equal(renewed.isGranted, false)
  assert.match(renewed.reason, /was recovered/)
  for (const isHandover of [false, true]) {
    const voted = await agentOf(2).answer(1, {
      ...{ kind: 'vote', group: 'g', epoch: record.epoch + 1, primary: 1, knows: record.epoch },
      ...{ isProbe: false, isHandover, positions: [] },
    })
    assert.equal(voted.isGranted, false)
    assert.equal(voted.ballot.epoch, record.epoch)
  }
  // Removed and made anew by the primary, the group has it as a voter again.
  await agentOf(2).answer(1, { kind: 'forget', group: 'g' })
  const anew = await agentOf(2).answer(1, { kind: 'renew', record, endpoints: [] })
  assert.equal(anew.isGranted, true)
  await close()
})
