import assert from 'node:assert/strict'
import { test } from 'node:test'
import { createDirectCatalog } from '../../../core/catalog/direct-catalog.ts'
import { MemoryTables } from '../../../core/catalog/memory-tables.ts'
import { StorageError } from '../../../core/contract/errors.ts'
import type { GroupRecord } from '../../../core/contract/failover.ts'
import { silentLogger } from '../../../core/contract/logger.ts'
import { FailoverAgent } from '../../../federation/failover/agent.ts'
import { Voter } from '../../../federation/failover/voter.ts'
import { FakeClock, fakeEnvironment } from '../../kit/fake-clock.ts'

const group: GroupRecord = {
  ...{ name: 'g', regions: [1, 2, 3], witnesses: [], buckets: [], syncBuckets: [] },
  ...{ automatic: true, flapMs: 0, leaseMs: 8_000 },
  ...{ primary: 1, epoch: 4, revision: 1, automaticMs: 0, reigns: [] },
}

test('a hand-over gives away the lease of who hands over, not one that was granted to a third region', async () => {
  const clock = new FakeClock()
  const environment = fakeEnvironment(clock, 3)
  const catalog = createDirectCatalog({ tables: new MemoryTables(), environment, regionId: 3 })
  catalog.run({ type: 'put-group', record: group })
  const voter = new Voter({ regionId: 3, catalog, clock })
  const question = { kind: 'vote', group: 'g', isProbe: false, positions: [], knows: 4 } as const
  await clock.advance(8_001)
  const elected = await voter.vote(2, { ...question, epoch: 5, primary: 2, isHandover: false })
  assert.equal(elected.isGranted, true)
  const late = { ...question, epoch: 6, primary: 3, isHandover: true }
  const refused = await voter.vote(1, late)
  assert.equal(refused.isGranted, false)
  assert.match(refused.reason, /region 2 holds it/)
  assert.equal(voter.holder('g'), 2)
  // Its own one it gives away before its time.
  await clock.advance(8_001)
  await voter.renew(1, { ...group, epoch: 7 })
  assert.equal(voter.holder('g'), 1)
  assert.equal((await voter.vote(1, { ...late, epoch: 8, knows: 7 })).isGranted, true)
  assert.equal(voter.holder('g'), 3)
})

test('a primary that stood still while it handed over, and lost its lease, hands over nothing and writes nothing', async () => {
  const clock = new FakeClock()
  const agents = new Map<number, FailoverAgent>()
  // Its first question of a hand-over is the last one that comes through until it is let go on.
  let isStill = false
  let asked = 0
  let goOn = (): void => undefined
  const stood = new Promise<void>((resolve) => {
    goOn = resolve
  })
  for (const regionId of [1, 2, 3]) {
    const environment = fakeEnvironment(clock, regionId)
    const catalog = createDirectCatalog({ tables: new MemoryTables(), environment, regionId })
    const ask = async (to: number, question: Parameters<FailoverAgent['answer']>[1]) => {
      if (regionId === 1 && isStill) {
        // The two looks at the region that is to take over, and then the question to all.
        if (question.kind === 'state' && ++asked > 2) await stood
        if (question.kind === 'renew') throw new StorageError('UNAVAILABLE', 'it stands still')
      }
      return agents.get(to)?.answer(regionId, question) ?? assert.fail()
    }
    const peers = { connected: () => [], ask }
    agents.set(regionId, new FailoverAgent({ regionId, catalog, peers, environment, log: silentLogger }))
  }
  const agentOf = (region: number): FailoverAgent => agents.get(region) ?? assert.fail()
  // No other region campaigns: what is left to stop it is its own lease.
  const defined = agentOf(1).define({ ...group, automatic: false })
  await clock.advance(10)
  await defined
  await clock.advance(2_000)
  assert.equal(agentOf(1).mayAcknowledge(agentOf(1).known('g')?.record ?? group), true)
  isStill = true
  const handedOver = agentOf(1).handOver('g', 3)
  const refused = assert.rejects(handedOver, { code: 'UNAVAILABLE' })
  await clock.advance(7_900)
  goOn()
  await clock.advance(10)
  await refused
  const after = agentOf(1).voter.state('g')
  assert.equal(after?.isFrozen, false, 'writes are let in again, under the next lease')
  assert.equal(after?.ballot.epoch, 4, 'it has given its vote to nobody')
  const ended = Promise.all([...agents.values()].map((agent) => agent.stop()))
  await clock.advance(20_000)
  await ended
})
