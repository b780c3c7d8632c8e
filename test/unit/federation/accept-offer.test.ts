import assert from 'node:assert/strict'
import { test } from 'node:test'
import { type GroupRecord, groupEpochOf, ruleEpochsOfGroup } from '../../../core/contract/failover.ts'
import { defaultEdge, type ReplicationRule } from '../../../core/contract/replication.ts'
import { acceptOffer } from '../../../federation/replication/accept-offer.ts'
import { ruleOf, type TestRegion, testRegion } from '../../kit/replicated-buckets.ts'

const edges = ruleOf({ mode: 'multi', edge: { ...defaultEdge, regions: [2], priorities: [], pinned: [] } })

function place(region: TestRegion, rule: ReplicationRule = edges) {
  const { catalog } = region
  const bucketId = catalog.run({ type: 'create-bucket', name: 'b', owner: 'root' }).id
  catalog.run({ type: 'set-replication', bucketId, rule, versioning: 'off' })
  const options = {
    regionId: region.id,
    catalog: {
      bucket: catalog.bucket.bind(catalog),
      replication: catalog.replication,
      failover: catalog.failover,
      submit: async (command: Parameters<typeof catalog.run>[0]) => catalog.run(command),
    },
  }
  return {
    catalog,
    options: options as Parameters<typeof acceptOffer>[0],
    kept: () => catalog.replication.rule(bucketId),
  }
}

test('an edge that tells of a newer rule changes nothing at its hub: neither members nor quotas', async () => {
  const { options, kept } = place(testRegion(1))
  const before = kept()
  const edge = { ...defaultEdge, regions: [2, 3], priorities: [], pinned: [] }
  for (const told of [
    { ...edges, epoch: 2, members: [1, 2, 3], edge },
    { ...edges, epoch: 2, edge: { ...edge, regions: [2], quotaBytes: defaultEdge.quotaBytes * 2 } },
  ]) {
    await assert.rejects(acceptOffer(options, 2, { bucket: 'b', rule: told }), { code: 'ACCESS_DENIED' })
    assert.deepEqual(kept(), before)
  }
  assert.equal(
    await acceptOffer(options, 2, { bucket: 'b', rule: edges }),
    true,
    'the rule that both have is followed',
  )
})

test('what the hub says of a newer rule is taken over at the edge', async () => {
  const { options, kept } = place(testRegion(2))
  const edge = { ...defaultEdge, regions: [2, 3], priorities: [], pinned: [] }
  assert.equal(
    await acceptOffer(options, 1, { bucket: 'b', rule: { ...edges, epoch: 2, members: [1, 2, 3], edge } }),
    true,
  )
  assert.deepEqual(kept()?.members, [1, 2, 3])
})

test('where one region writes, a copy changes no rule: neither makes itself the primary, nor takes a member in', async () => {
  const single = ruleOf({ members: [1, 2, 3] })
  for (const here of [1, 3]) {
    const { options, kept } = place(testRegion(here), single)
    await assert.rejects(
      acceptOffer(options, 2, { bucket: 'b', rule: { ...single, epoch: 2, primary: 2 } }),
      {
        code: 'ACCESS_DENIED',
      },
    )
    const larger = { ...single, epoch: 2, members: [1, 2, 3, 4] }
    assert.equal(await acceptOffer(options, 2, { bucket: 'b', rule: larger }), false, 'told by hearsay')
    assert.deepEqual(kept()?.members, [1, 2, 3])
    assert.deepEqual([kept()?.primary, kept()?.epoch], [1, 1])
  }
  const { options, kept } = place(testRegion(3), single)
  assert.equal(
    await acceptOffer(options, 1, { bucket: 'b', rule: { ...single, epoch: 2, members: [1, 3] } }),
    true,
    'the primary says so',
  )
  assert.deepEqual(kept()?.members, [1, 3])
})

test('a bucket of a failover group leaves it, and follows another region, only as the primary of the group says', async () => {
  const members = [1, 2, 3]
  const record: GroupRecord = {
    ...{ name: 'g', regions: members, witnesses: [], buckets: ['b'], syncBuckets: [] },
    ...{ automatic: true, flapMs: 60_000, leaseMs: 8_000 },
    ...{ primary: 1, epoch: 10, revision: 0, automaticMs: 0, reigns: [] },
  }
  const { catalog, options, kept } = place(testRegion(1), ruleOf({ members }))
  catalog.run({ type: 'put-group', record })
  const inGroup = kept() ?? assert.fail()
  assert.equal(inGroup.group, 'g')
  const { group: _, ...alone } = inGroup
  const offer = (source: number, rule: ReplicationRule) => acceptOffer(options, source, { bucket: 'b', rule })
  const denied = { code: 'ACCESS_DENIED' }
  // Without a vote.
  await assert.rejects(offer(2, { ...alone, epoch: inGroup.epoch + 1, primary: 2 }), denied)
  await assert.rejects(offer(2, { ...inGroup, epoch: inGroup.epoch + 1, primary: 2 }), denied)
  await assert.rejects(offer(2, { ...alone, epoch: inGroup.epoch + 1_000_000_000, primary: 2 }), denied)
  // It may have won one that this region has not heard of.
  const next = (groupEpochOf(inGroup.epoch) + 1) * ruleEpochsOfGroup
  await assert.rejects(offer(2, { ...inGroup, epoch: next, primary: 2 }), { code: 'CONFLICT' })
  assert.deepEqual(kept(), inGroup)
  catalog.run({ type: 'put-group', record: { ...record, primary: 2, epoch: 11 } })
  assert.equal(await offer(2, { ...inGroup, epoch: next, primary: 2 }), true)
  assert.equal(kept()?.primary, 2)
  await assert.rejects(offer(3, { ...alone, epoch: next + 1, primary: 3 }), denied)
  assert.equal(await offer(2, { ...alone, epoch: next + 1, primary: 2 }), true)
  assert.equal(kept()?.group, undefined)
})

test('a copy that hears of a failover before it hears that the bucket is in the group follows the new primary', async () => {
  const members = [1, 2, 3]
  const { catalog, options, kept } = place(testRegion(3), ruleOf({ members }))
  const record: GroupRecord = {
    ...{ name: 'g', regions: members, witnesses: [], buckets: ['b'], syncBuckets: [] },
    ...{ automatic: true, flapMs: 60_000, leaseMs: 8_000 },
    ...{ primary: 2, epoch: 11, revision: 0, automaticMs: 0, reigns: [] },
  }
  catalog.run({ type: 'put-group', record })
  const rule = ruleOf({ members, group: 'g', primary: 2, epoch: 11 * ruleEpochsOfGroup })
  assert.equal(await acceptOffer(options, 2, { bucket: 'b', rule }), true)
  assert.equal(kept()?.primary, 2)
})

test('when a group is taken away its primary says what the rule is, and no other copy', async () => {
  const members = [1, 2, 3]
  const { catalog, options, kept } = place(testRegion(3), ruleOf({ members }))
  const record: GroupRecord = {
    ...{ name: 'g', regions: members, witnesses: [], buckets: ['b'], syncBuckets: [] },
    ...{ automatic: true, flapMs: 60_000, leaseMs: 8_000 },
    ...{ primary: 1, epoch: 10, revision: 0, automaticMs: 0, reigns: [] },
  }
  catalog.run({ type: 'put-group', record })
  const epoch = 10 * ruleEpochsOfGroup
  const rule = ruleOf({ members, epoch })
  const offer = (source: number, told: ReplicationRule) =>
    acceptOffer(options, source, { bucket: 'b', rule: told })
  assert.equal(await offer(1, { ...rule, group: 'g' }), true)
  catalog.run({ type: 'remove-group', name: 'g' })
  assert.deepEqual([kept()?.group, kept()?.epoch], [undefined, epoch])
  await assert.rejects(offer(2, { ...rule, epoch: epoch + 5, primary: 2 }), { code: 'ACCESS_DENIED' })
  assert.equal(await offer(1, { ...rule, group: 'g' }), true, 'the primary itself has not removed it yet')
  assert.equal(await offer(1, { ...rule, epoch: epoch + 1 }), true)
  assert.deepEqual([kept()?.primary, kept()?.epoch], [1, epoch + 1])
})

test('a bucket of a group that is not known here yet is made when the group is known, with its rule', async () => {
  const members = [1, 2]
  const { catalog } = testRegion(2)
  const options = {
    regionId: 2,
    catalog: {
      ...catalog,
      submit: async (command: Parameters<typeof catalog.run>[0]) => catalog.run(command),
    },
  } as Parameters<typeof acceptOffer>[0]
  const record: GroupRecord = {
    ...{ name: 'g', regions: members, witnesses: [], buckets: ['b'], syncBuckets: [] },
    ...{ automatic: false, flapMs: 60_000, leaseMs: 8_000 },
    ...{ primary: 1, epoch: 9, revision: 1, automaticMs: 0, reigns: [] },
  }
  const rule = ruleOf({ members, group: 'g', epoch: 10 * ruleEpochsOfGroup })
  const offer = () => acceptOffer(options, 1, { bucket: 'b', rule })
  await assert.rejects(offer(), { code: 'CONFLICT' })
  assert.equal(catalog.bucket('b'), undefined)
  catalog.run({ type: 'put-group', record, toldBy: 1 })
  await assert.rejects(offer(), { code: 'CONFLICT' }, 'an older record of the group')
  assert.equal(catalog.bucket('b'), undefined)
  catalog.run({ type: 'put-group', record: { ...record, epoch: 10 }, toldBy: 1 })
  assert.equal(await offer(), true)
  assert.equal(catalog.replication.rule(catalog.bucket('b')?.id ?? 0)?.group, 'g')
})
