import assert from 'node:assert/strict'
import { test } from 'node:test'
import { rowKey, rowValue } from '../../../../core/catalog/tables.ts'
import type { ReplicationRule } from '../../../../core/contract/replication.ts'
import { acceptOffer } from '../../../../federation/replication/accept-offer.ts'
import { chunkedObject, etagOf, extentOf, putCommand, removal } from '../../../kit/catalog-commands.ts'
import { follow } from '../../../kit/followed-buckets.ts'
import { contentOf, ruleOf, type TestRegion, testRegion } from '../../../kit/replicated-buckets.ts'

const mesh = (part: Partial<ReplicationRule> = {}): ReplicationRule =>
  ruleOf({ mode: 'multi', members: [1, 2, 3], firstEpoch: 1, ...part })

const idOf = ({ catalog }: TestRegion): number => catalog.bucket('b')?.id ?? 0

function create(region: TestRegion): number {
  const { id } = region.catalog.run({ type: 'create-bucket', name: 'b', owner: 'root' })
  region.catalog.run({ type: 'set-versioning', bucketId: id, state: 'enabled' })
  return id
}

const set = (region: TestRegion, rule: ReplicationRule) =>
  region.catalog.run({ type: 'set-replication', bucketId: idOf(region), rule })

function member(id: number, rule = mesh(), seed = id): TestRegion {
  const region = testRegion(id, seed)
  create(region)
  set(region, rule)
  return region
}

function put(region: TestRegion, key: string): void {
  const object = chunkedObject(extentOf(region.newWriteId(), 100), etagOf(1))
  region.catalog.run(putCommand(idOf(region), key, object))
}

function purge(region: TestRegion, key: string): void {
  const version = region.catalog.object(idOf(region), key)?.versionId ?? assert.fail()
  region.catalog.run(removal(idOf(region), { key, version }))
}

function rowsOf({ tables }: TestRegion): (readonly [Uint8Array, Uint8Array])[] {
  const rows: (readonly [Uint8Array, Uint8Array])[] = []
  const cursor = tables.rows(Uint8Array.of(0), Uint8Array.of(0xff))
  while (cursor.next()) rows.push([rowKey(cursor), rowValue(cursor)])
  return rows
}

/** The rule, and the bucket with all that is in it. */
function takeAway(region: TestRegion): void {
  const { catalog } = region
  const bucketId = idOf(region)
  while (!catalog.run({ type: 'set-replication', bucketId, rule: null }).done);
  const query = { prefix: '', delimiter: '', keyMarker: '', limit: 1000 }
  for (const { key, versionId } of catalog.listVersions(bucketId, query).versions)
    catalog.run(removal(bucketId, { key, version: versionId }))
  catalog.run({ type: 'delete-bucket', name: 'b' })
}

function tend(region: TestRegion): void {
  region.catalog.run({ type: 'tell-passed', bucketId: idOf(region) })
  region.catalog.run({ type: 'collect-tombstones', bucketId: idOf(region) })
}

const held = (region: TestRegion): number =>
  region.catalog.replication.tombstones(idOf(region), region.id)?.held ?? 0

/** Region 2 has deleted 'a', and 1 and 2 have forgotten that on the word of region 3, which region 1 was never asked for an entry by. */
async function forgottenDelete(): Promise<[TestRegion, TestRegion, TestRegion]> {
  const regions: [TestRegion, TestRegion, TestRegion] = [member(1), member(2), member(3)]
  const [one, two, three] = regions
  put(one, 'a')
  await follow(one, two)
  purge(two, 'a')
  for (const to of [one, three]) await follow(two, to)
  for (const region of [one, three]) tend(region)
  await follow(one, two)
  for (const to of [one, two]) await follow(three, to)
  for (const region of [one, two]) tend(region)
  assert.equal(held(one), 0, 'region 1 has forgotten it')
  return regions
}

test('a rule that was taken away in a region, and its deletes with it, is not given there again: the log of another still has what they removed (T21)', async () => {
  const [one, , three] = await forgottenDelete()
  takeAway(three)
  create(three)
  for (const epoch of [1, 2, 9]) assert.throws(() => set(three, mesh({ epoch })), /CONFLICT.*taken away/)
  // The danger: as a region that knows nothing of its past it is handed what was deleted and is forgotten.
  const innocent = member(3, mesh(), 7)
  await follow(one, innocent)
  assert.ok(innocent.catalog.object(idOf(innocent), 'a') !== undefined)
})

test('who has forgotten a rule comes back when it has left it, and by a rule that was made anew', async () => {
  const [one, two, three] = await forgottenDelete()
  takeAway(three)
  const former = [{ region: 3, epoch: 1 }]
  const back = mesh({ epoch: 3, former })
  for (const region of [one, two]) {
    set(region, mesh({ epoch: 2, members: [1, 2], former }))
    set(region, back)
  }
  create(three)
  assert.throws(
    () => set(three, mesh({ epoch: 3, former: [{ region: 2, epoch: 1 }] })),
    /CONFLICT.*taken away/,
  )
  set(three, back)
  for (let round = 0; round < 3; round++)
    for (const from of [one, two, three])
      for (const to of [one, two, three]) if (from !== to) await follow(from, to)
  assert.deepEqual(contentOf(three, 'b'), contentOf(one, 'b'))
  assert.equal(three.catalog.object(idOf(three), 'a'), undefined)
  put(three, 'b')
  purge(three, 'b')
  takeAway(three)
  create(three)
  assert.throws(() => set(three, mesh({ epoch: 4, former })), /CONFLICT.*taken away/, 'it has left once more')
  set(three, mesh({ epoch: 1000, firstEpoch: 1000 }))
})

test('a rule that nobody has told of a delete by may be given again', () => {
  const three = member(3)
  put(three, 'a')
  const bucketId = idOf(three)
  while (!three.catalog.run({ type: 'set-replication', bucketId, rule: null }).done);
  set(three, mesh())
})

test('the bucket of a forgotten rule is not made by the offer of another region', async () => {
  const [, , three] = await forgottenDelete()
  takeAway(three)
  const { catalog } = three
  const options = {
    regionId: 3,
    catalog: {
      bucket: catalog.bucket.bind(catalog),
      replication: catalog.replication,
      submit: async (command: Parameters<typeof catalog.run>[0]) => catalog.run(command),
    },
  } as Parameters<typeof acceptOffer>[0]
  await assert.rejects(
    acceptOffer(options, 1, { bucket: 'b', rule: mesh({ epoch: 2 }) }),
    /CONFLICT.*taken away/,
  )
  assert.equal(catalog.bucket('b'), undefined)
  const returned = mesh({ epoch: 3, former: [{ region: 3, epoch: 2 }] })
  assert.equal(await acceptOffer(options, 1, { bucket: 'b', rule: returned }), true)
})

test('where a rule was made anew in one region alone, those who kept the old one neither take it nor are followed', async () => {
  const [one, , three] = await forgottenDelete()
  takeAway(three)
  create(three)
  const anew = mesh({ epoch: 1000, firstEpoch: 1000, primary: 3 })
  set(three, anew)
  assert.throws(() => set(one, anew), /CONFLICT.*made it anew/)
  await assert.rejects(follow(one, three), /CONFLICT.*taken away here and made anew/)
  assert.equal(three.catalog.object(idOf(three), 'a'), undefined)
})

test('two regions that each gave their bucket the rule come together: neither has known the other', async () => {
  const one = member(1, ruleOf({ mode: 'multi', epoch: 5, firstEpoch: 5 }))
  const two = member(2, ruleOf({ mode: 'multi', epoch: 8, firstEpoch: 8, primary: 2 }))
  put(one, 'a')
  put(two, 'b')
  set(one, ruleOf({ mode: 'multi', epoch: 8, firstEpoch: 8, primary: 2 }))
  for (const [from, to] of [
    [one, two],
    [two, one],
  ] as const)
    await follow(from, to)
  assert.equal(contentOf(one, 'b').length, 2)
  assert.deepEqual(contentOf(one, 'b'), contentOf(two, 'b'))
})

test('a region that has lost the last of its entries holds what the others have deleted and forgotten (T21)', async () => {
  const regions: [TestRegion, TestRegion, TestRegion] = [member(1), member(2), member(3)]
  const [one, two, three] = regions
  const exchange = async (): Promise<void> => {
    for (let round = 0; round < 4; round++) {
      for (const from of regions) for (const to of regions) if (from !== to) await follow(from, to)
      for (const region of regions) tend(region)
    }
  }
  put(one, 'a')
  await exchange()
  const saved = rowsOf(three)
  purge(two, 'a')
  await exchange()
  assert.deepEqual(regions.map(held), [0, 0, 0])
  const now = rowsOf(three)
  three.tables.transact((writer) => {
    for (const [key] of now) writer.remove(key)
    for (const [key, value] of saved) writer.put(key, value)
  })
  assert.ok(three.catalog.object(idOf(three), 'a') !== undefined)
  three.catalog.run({ type: 'recover-region' })
  for (const other of [one, two]) {
    await assert.rejects(follow(three, other), /UNAVAILABLE.*recovered/)
    assert.equal(other.catalog.object(idOf(other), 'a'), undefined)
  }
})

test('a recovered region of several that write takes no part: neither is it followed, nor does it follow, nor take writes', async () => {
  const [one, two, three] = await forgottenDelete()
  put(three, 'c')
  three.catalog.run({ type: 'recover-region' })
  assert.equal(three.catalog.replication.isForgetful(idOf(three)), true)
  assert.throws(() => put(three, 'd'), /UNAVAILABLE.*recovered/)
  for (const other of [one, two]) {
    await assert.rejects(follow(three, other), /UNAVAILABLE.*recovered/)
    await assert.rejects(follow(other, three), /UNAVAILABLE.*recovered/)
  }
  // A rule that is changed elsewhere meanwhile makes nothing good.
  set(three, mesh({ epoch: 2, rpoMs: 5000 }))
  assert.equal(three.catalog.replication.isForgetful(idOf(three)), true)
  assert.ok(three.catalog.object(idOf(three), 'c') !== undefined, 'what only it has can be read')
  takeAway(three)
  create(three)
  assert.throws(() => set(three, mesh({ epoch: 2 })), /CONFLICT.*taken away/)
  set(three, mesh({ epoch: 4, former: [{ region: 3, epoch: 2 }] }))
  put(three, 'e')
})
