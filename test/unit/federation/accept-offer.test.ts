import assert from 'node:assert/strict'
import { test } from 'node:test'
import { defaultEdge } from '../../../core/contract/replication.ts'
import { acceptOffer } from '../../../federation/replication/accept-offer.ts'
import { ruleOf, type TestRegion, testRegion } from '../../kit/replicated-buckets.ts'

const rule = ruleOf({ mode: 'multi', edge: { ...defaultEdge, regions: [2], priorities: [], pinned: [] } })

function place(region: TestRegion) {
  const { catalog } = region
  const bucketId = catalog.run({ type: 'create-bucket', name: 'b', owner: 'root' }).id
  catalog.run({ type: 'set-replication', bucketId, rule, versioning: 'off' })
  const options = {
    regionId: region.id,
    catalog: {
      bucket: catalog.bucket.bind(catalog),
      replication: catalog.replication,
      submit: async (command: Parameters<typeof catalog.run>[0]) => catalog.run(command),
    },
  }
  return {
    options: options as Parameters<typeof acceptOffer>[0],
    kept: () => catalog.replication.rule(bucketId),
  }
}

test('an edge that tells of a newer rule changes nothing at its hub: neither members nor quotas', async () => {
  const { options, kept } = place(testRegion(1))
  const before = kept()
  const edge = { ...defaultEdge, regions: [2, 3], priorities: [], pinned: [] }
  for (const told of [
    { ...rule, epoch: 2, members: [1, 2, 3], edge },
    { ...rule, epoch: 2, edge: { ...edge, regions: [2], quotaBytes: defaultEdge.quotaBytes * 2 } },
  ]) {
    await assert.rejects(acceptOffer(options, 2, { bucket: 'b', rule: told }), { code: 'ACCESS_DENIED' })
    assert.deepEqual(kept(), before)
  }
  assert.equal(
    await acceptOffer(options, 2, { bucket: 'b', rule }),
    true,
    'the rule that both have is followed',
  )
})

test('what the hub says of a newer rule is taken over at the edge', async () => {
  const { options, kept } = place(testRegion(2))
  const edge = { ...defaultEdge, regions: [2, 3], priorities: [], pinned: [] }
  assert.equal(
    await acceptOffer(options, 1, { bucket: 'b', rule: { ...rule, epoch: 2, members: [1, 2, 3], edge } }),
    true,
  )
  assert.deepEqual(kept()?.members, [1, 2, 3])
})
