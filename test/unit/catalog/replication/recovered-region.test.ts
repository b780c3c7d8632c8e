import assert from 'node:assert/strict'
import { test } from 'node:test'
import type { GroupRecord } from '../../../../core/contract/failover.ts'
import { chunkedObject, etagOf, extentOf, putCommand } from '../../../kit/catalog-commands.ts'
import { follow } from '../../../kit/followed-buckets.ts'
import { ruleOf, ship, type TestRegion, testRegion } from '../../../kit/replicated-buckets.ts'

function put(region: TestRegion, keys: readonly string[]): void {
  const bucketId = region.catalog.bucket('b')?.id ?? 0
  for (const key of keys) {
    const object = chunkedObject(extentOf(region.newWriteId(), 100), etagOf(1))
    region.catalog.run(putCommand(bucketId, key, object))
  }
}

const keysOf = ({ catalog }: TestRegion): readonly string[] =>
  catalog
    .listObjects(catalog.bucket('b')?.id ?? 0, { prefix: '', delimiter: '', after: '', limit: 100 })
    .objects.map(({ key }) => key)

/** A region with a bucket, some of which is there; with one seed two of them are the same to the byte. */
function regionWithKeys(id: number, keys: readonly string[]): TestRegion {
  const region = testRegion(id)
  const { id: bucketId } = region.catalog.run({ type: 'create-bucket', name: 'b', owner: 'root' })
  region.catalog.run({ type: 'set-replication', bucketId, rule: ruleOf() })
  put(region, keys)
  return region
}

test('what a recovered region writes at places that it had given before is taken over by who had read those', async () => {
  const before = ['k1', 'k2', 'k3']
  const lost = regionWithKeys(1, before)
  const survivor = regionWithKeys(1, before)
  const two = regionWithKeys(2, [])
  ship(lost, two, 'b')
  put(lost, ['lost 1', 'lost 2', 'lost 3', 'lost 4', 'lost 5'])
  ship(lost, two, 'b')
  const bucketId = survivor.catalog.bucket('b')?.id ?? 0
  assert.equal(
    survivor.catalog.replication.outbox(bucketId)?.id,
    lost.catalog.replication.outbox(bucketId)?.id,
    'the survivor is the region as it was some changes ago',
  )
  while (survivor.catalog.replication.outbox(bucketId)?.backfill !== undefined) {
    survivor.catalog.run({ type: 'backfill', bucketId })
  }
  survivor.catalog.run({ type: 'recover-region' })
  put(survivor, ['a new 1', 'a new 2'])
  const reasons = await follow(survivor, two)
  for (const key of keysOf(survivor)) assert.ok(keysOf(two).includes(key), `${key} came over`)
  assert.deepEqual(reasons, ['it followed another outbox'])
  put(survivor, ['a new 3'])
  assert.deepEqual(await follow(survivor, two), [])
  assert.ok(keysOf(two).includes('a new 3'))
})

test('nobody synchronizes with the recovered primary of a group: a copy keeps what it has until another region leads', async () => {
  const one = testRegion(1)
  const two = testRegion(2)
  for (const { catalog } of [one, two]) {
    const { id: bucketId } = catalog.run({ type: 'create-bucket', name: 'b', owner: 'root' })
    catalog.run({ type: 'set-replication', bucketId, rule: ruleOf() })
  }
  put(one, ['k1'])
  ship(one, two, 'b')
  const record: GroupRecord = {
    ...{ name: 'g', regions: [1, 2], witnesses: [3], buckets: ['b'], syncBuckets: [] },
    ...{ automatic: true, flapMs: 60_000, leaseMs: 8_000 },
    ...{ primary: 1, epoch: 4, revision: 0, automaticMs: 0, reigns: [] },
  }
  one.catalog.run({ type: 'put-group', record })
  assert.deepEqual(await follow(one, two), [])
  one.catalog.run({ type: 'recover-region' })
  await assert.rejects(follow(one, two), /UNAVAILABLE: this region was recovered/)
  assert.equal(two.catalog.replication.cursor(two.catalog.bucket('b')?.id ?? 0, 1)?.synchronizing, false)
})

test('each outbox of a recovered region gets an id of its own, and goes on where it was', () => {
  const region = regionWithKeys(1, ['k1'])
  const { id: other } = region.catalog.run({ type: 'create-bucket', name: 'c', owner: 'root' })
  region.catalog.run({ type: 'set-replication', bucketId: other, rule: ruleOf() })
  const bucketId = region.catalog.bucket('b')?.id ?? 0
  const both = () => [bucketId, other].map((id) => region.catalog.replication.outbox(id) ?? assert.fail())
  const before = both()
  region.catalog.run({ type: 'recover-region' })
  const after = both()
  assert.equal(new Set([...before, ...after].map(({ id }) => id)).size, 4)
  assert.deepEqual(
    after.map(({ id: _, ...rest }) => rest),
    before.map(({ id: _, ...rest }) => rest),
  )
  for (const { id } of after) assert.match(id, /^[0-9a-f]{24}$/)
})
