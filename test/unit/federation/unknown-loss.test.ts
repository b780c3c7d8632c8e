import assert from 'node:assert/strict'
import { test } from 'node:test'
import { StorageError } from '../../../core/contract/errors.ts'
import type { GroupRecord } from '../../../core/contract/failover.ts'
import { silentLogger } from '../../../core/contract/logger.ts'
import { createFailoverAdministration } from '../../../federation/failover/administration.ts'
import { FailoverAgent } from '../../../federation/failover/agent.ts'
import { etagOf, inlineObject, putCommand } from '../../kit/catalog-commands.ts'
import { FakeClock, fakeEnvironment } from '../../kit/fake-clock.ts'
import { ruleOf, ship, testRegion } from '../../kit/replicated-buckets.ts'

test('a failover whose loss nobody knows wants a word for any loss: a number, 0 too, is not enough', async () => {
  const clock = new FakeClock()
  const [one, copy] = [testRegion(1), testRegion(2)]
  const record: GroupRecord = {
    ...{ name: 'g', regions: [1, 2], witnesses: [], buckets: ['b'], syncBuckets: [] },
    ...{ automatic: false, flapMs: 60_000, leaseMs: 8_000 },
    ...{ primary: 1, epoch: 10, revision: 0, automaticMs: 0, reigns: [] },
  }
  const [bucketId = 0, copyId = 0] = [one, copy].map(({ catalog }) => {
    const { id } = catalog.run({ type: 'create-bucket', name: 'b', owner: 'root' })
    catalog.run({ type: 'set-replication', bucketId: id, rule: ruleOf() })
    return id
  })
  one.catalog.run({ type: 'put-group', record })
  copy.catalog.run({ type: 'put-group', record: one.catalog.failover.group('g')?.record ?? assert.fail() })
  const rule = one.catalog.replication.rule(bucketId) ?? assert.fail()
  copy.catalog.run({ type: 'set-replication', bucketId: copyId, rule })
  one.catalog.run({
    ...putCommand(bucketId, 'a', inlineObject(one.newWriteId(), Buffer.from('a'), etagOf(1))),
    groupEpoch: 10,
  })
  ship(one, copy, 'b')
  // The primary is down, and this node has heard nothing of it since it started.
  const ask = async () => {
    throw new StorageError('UNAVAILABLE', 'it is down')
  }
  const agent = new FailoverAgent({
    ...{ regionId: 2, catalog: copy.catalog, peers: { connected: () => [], ask } },
    ...{ environment: fakeEnvironment(clock, 2), log: silentLogger },
  })
  const administration = createFailoverAdministration({
    ...{ agent, isJoined: () => true, seen: () => undefined },
  })
  const plan = await administration.plan('g', 2)
  assert.deepEqual([plan.kind, plan.lossEntries, plan.blockers], ['forced', -1, []])
  const run = (acceptLoss: number) =>
    administration.run({ group: 'g', to: 2, acceptLoss, isPrimaryDown: true })
  for (const acceptLoss of [-1, 0, 1_000_000]) {
    await assert.rejects(run(acceptLoss), { code: 'INVALID_ARGUMENT', message: /--accept-loss all/ })
  }
  assert.equal(agent.voter.state('g')?.record.primary, 1)
  assert.equal((await run(Number.MAX_SAFE_INTEGER)).primary, 2)
  const ended = agent.stop()
  await clock.advance(1_000)
  await ended
})
