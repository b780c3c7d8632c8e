import assert from 'node:assert/strict'
import { test } from 'node:test'
import { StorageError } from '../../../core/contract/errors.ts'
import type { GroupRecord } from '../../../core/contract/failover.ts'
import { silentLogger } from '../../../core/contract/logger.ts'
import { createFailoverAdministration } from '../../../federation/failover/administration.ts'
import { FailoverAgent } from '../../../federation/failover/agent.ts'
import type { Answer, Question } from '../../../federation/failover/peer.ts'
import { etagOf, inlineObject, putCommand } from '../../kit/catalog-commands.ts'
import { FakeClock, fakeEnvironment } from '../../kit/fake-clock.ts'
import { ruleOf, ship, testRegion } from '../../kit/replicated-buckets.ts'

/** Two regions that hold the bucket `b` as a group of which region 1 is the primary, and what an operator asks of either. */
function two() {
  const clock = new FakeClock()
  const regions = [testRegion(1), testRegion(2)] as const
  const record: GroupRecord = {
    ...{ name: 'g', regions: [1, 2], witnesses: [], buckets: ['b'], syncBuckets: [] },
    ...{ automatic: false, flapMs: 60_000, leaseMs: 8_000 },
    ...{ primary: 1, epoch: 10, revision: 0, automaticMs: 0, reigns: [] },
  }
  const ids = regions.map(({ catalog }) => {
    const { id } = catalog.run({ type: 'create-bucket', name: 'b', owner: 'root' })
    catalog.run({ type: 'set-replication', bucketId: id, rule: ruleOf() })
    return id
  })
  const [bucketId = 0, copyId = 0] = ids
  const [one, copy] = regions
  one.catalog.run({ type: 'put-group', record })
  copy.catalog.run({ type: 'put-group', record: one.catalog.failover.group('g')?.record ?? assert.fail() })
  const rule = one.catalog.replication.rule(bucketId) ?? assert.fail()
  copy.catalog.run({ type: 'set-replication', bucketId: copyId, rule })
  const agents = new Map<number, FailoverAgent>()
  for (const { id, catalog } of regions) {
    const peers = {
      connected: () => [1, 2].filter((other) => other !== id),
      ask: async (region: number, question: Question): Promise<Answer> =>
        agents.get(region)?.answer(id, question) ?? assert.fail(),
    }
    const environment = fakeEnvironment(clock, id)
    agents.set(id, new FailoverAgent({ regionId: id, catalog, peers, environment, log: silentLogger }))
  }
  const askedAt = (id: number) =>
    createFailoverAdministration({
      agent: agents.get(id) ?? assert.fail(),
      seen: () => undefined,
      isJoined: () => true,
    })
  async function settled<T>(work: Promise<T>): Promise<T> {
    await clock.advance(30_000)
    return work
  }
  /** What keeps region 2 from taking over, as each region tells it. */
  async function blockers(): Promise<readonly (readonly string[] | undefined)[]> {
    const told = await Promise.all([1, 2].map((id) => settled(askedAt(id).plan('g', 2))))
    const shown = await Promise.all([1, 2].map((id) => settled(askedAt(id).report())))
    return [
      ...told.map((plan) => plan.blockers),
      ...shown.map(([group]) => group?.members.find(({ region }) => region === 2)?.blockers),
    ]
  }
  const put = (key: string) =>
    one.catalog.run({
      ...putCommand(bucketId, key, inlineObject(one.newWriteId(), Buffer.from(key), etagOf(1))),
      groupEpoch: 10,
    })
  return { one, copy, bucketId, put, blockers, askedAt, settled }
}

test('a region that must synchronize in full is not shown as ready before it has asked and learned so', async () => {
  const { one, copy, bucketId, put, blockers, askedAt, settled } = two()
  put('a')
  ship(one, copy, 'b')
  assert.deepEqual(await blockers(), [[], [], [], []])
  one.catalog.run({ type: 'start-full-sync', bucketId, region: 2 })
  // It has a place in the outbox and applied all up to there, and has not heard that this is not enough.
  assert.deepEqual(
    copy.catalog.failover.positions('g', 2).map(({ isWhole }) => isWhole),
    [true],
  )
  const why = ['region 2 is still synchronizing in full']
  assert.deepEqual(await blockers(), [why, why, why, why])
  const refused = settled(
    askedAt(2)
      .run({ group: 'g', to: 2, acceptLoss: 0, isPrimaryDown: false })
      .then(
        () => 'done',
        (reason: unknown) => StorageError.from(reason).message,
      ),
  )
  assert.match(await refused, /UNAVAILABLE: region 2 is still synchronizing in full/)
  ship(one, copy, 'b')
  assert.deepEqual(await blockers(), [[], [], [], []])
})
