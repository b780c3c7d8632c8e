import assert from 'node:assert/strict'
import { test } from 'node:test'
import { verifyRows } from '../../../../core/catalog/verify.ts'
import type { ReplicationRule } from '../../../../core/contract/replication.ts'
import { defaultEdge } from '../../../../core/contract/replication.ts'
import { emptyObject, etagOf, putCommand } from '../../../kit/catalog-commands.ts'
import { follow } from '../../../kit/followed-buckets.ts'
import { contentOf, ruleOf, ship, type TestRegion, testRegion } from '../../../kit/replicated-buckets.ts'

const codeOf = (code: string) => (error: unknown) => (error as { code?: string }).code === code

function regionsOf(count: number, rule: Partial<ReplicationRule> = {}, versioning = true): TestRegion[] {
  const regions = Array.from({ length: count }, (_, at) => testRegion(at + 1))
  const members = regions.map(({ id }) => id)
  for (const region of regions) join(region, ruleOf({ mode: 'multi', members, ...rule }), versioning)
  return regions
}

function join({ catalog }: TestRegion, rule: ReplicationRule, versioning = true): void {
  const { id } = catalog.run({ type: 'create-bucket', name: 'b', owner: 'root' })
  if (versioning) catalog.run({ type: 'set-versioning', bucketId: id, state: 'enabled' })
  catalog.run({ type: 'set-replication', bucketId: id, rule })
}

const idOf = (region: TestRegion): number => region.catalog.bucket('b')?.id ?? 0
const numbers = (region: TestRegion) => region.catalog.replication.tombstones(idOf(region), region.id)
const held = (region: TestRegion): number => numbers(region)?.held ?? 0
const put = (region: TestRegion, key: string) =>
  region.catalog.run(putCommand(idOf(region), key, emptyObject(etagOf(1))))

/** The newest version of a key, for good. */
function purge(region: TestRegion, key: string): void {
  const record = region.catalog.object(idOf(region), key)
  assert.ok(record !== undefined, 'there is something to delete')
  const items = [{ key, version: record.isNull ? ('null' as const) : record.versionId }]
  region.catalog.run({ type: 'delete-objects', bucketId: idOf(region), owner: 'root', items })
}

/** Tells what it has taken over, and forgets what it may; the steps that took. */
function tend(region: TestRegion): number {
  const bucketId = idOf(region)
  region.catalog.run({ type: 'tell-passed', bucketId })
  for (let steps = 1; ; steps++) {
    if (region.catalog.run({ type: 'collect-tombstones', bucketId }).done) return steps
  }
}

function shipAll(regions: readonly TestRegion[]): void {
  for (const from of regions) for (const to of regions) if (from !== to) ship(from, to, 'b')
}

/** Until nothing changes. */
function settle(regions: readonly TestRegion[]): void {
  for (let round = 0; round < 4; round++) {
    shipAll(regions)
    for (const region of regions) tend(region)
  }
}

function assertEqual(regions: readonly TestRegion[]): void {
  for (const region of regions) {
    assert.deepEqual(contentOf(region, 'b'), contentOf(regions[0] as TestRegion, 'b'))
    assert.deepEqual(verifyRows(region.tables), [])
  }
}

test('deletes that every region has, and nothing old on its way, are forgotten everywhere', () => {
  const regions = regionsOf(3)
  const [one, two, three] = regions as [TestRegion, TestRegion, TestRegion]
  put(one, 'a')
  put(one, 'b')
  shipAll(regions)
  purge(two, 'a')
  purge(three, 'b')
  shipAll(regions)
  assert.deepEqual(regions.map(held), [2, 2, 2])
  settle(regions)
  assert.deepEqual(regions.map(held), [0, 0, 0])
  assert.deepEqual(
    regions.map((region) => numbers(region)?.collected),
    [2, 2, 2],
  )
  assertEqual(regions)
  assert.deepEqual(contentOf(one, 'b'), [])
  // Nothing is told for ever: the places of what was told are no deletes.
  const heads = regions.map((region) => region.catalog.replication.outbox(idOf(region))?.head.lsn)
  settle(regions)
  assert.deepEqual(
    regions.map((region) => region.catalog.replication.outbox(idOf(region))?.head.lsn),
    heads,
  )
})

test('that all have acknowledged a delete is not enough: who has not read what was written before keeps it (T21)', () => {
  const regions = regionsOf(3)
  const [one, two, three] = regions as [TestRegion, TestRegion, TestRegion]
  put(one, 'a')
  ship(one, two, 'b')
  purge(two, 'a')
  // Region 3 hears of the delete from 2 before it has heard of the version from 1.
  ship(two, one, 'b')
  ship(two, three, 'b')
  for (let round = 0; round < 3; round++) {
    for (const region of regions) tend(region)
    ship(two, one, 'b')
    ship(two, three, 'b')
    ship(three, one, 'b')
    ship(three, two, 'b')
    ship(one, two, 'b')
  }
  assert.equal(held(three), 1)
  ship(one, three, 'b')
  assert.deepEqual(contentOf(three, 'b'), [])
  settle(regions)
  assert.deepEqual(regions.map(held), [0, 0, 0])
  assertEqual(regions)
})

test('a region that is away holds all deletes up, and one that synchronizes in full does until it is done (T7, T21)', () => {
  const regions = regionsOf(3, { retentionMs: 1000 })
  const [one, two, three] = regions as [TestRegion, TestRegion, TestRegion]
  for (const key of ['a', 'b', 'c']) put(one, key)
  shipAll(regions)
  settle(regions)
  purge(one, 'a')
  for (let round = 0; round < 4; round++) {
    ship(one, two, 'b')
    ship(two, one, 'b')
    tend(one)
    tend(two)
  }
  assert.deepEqual([held(one), held(two)], [1, 1])
  for (const region of [one, two]) {
    region.clock.nowMs += 10_000
    put(region, 'later')
    const { dropped } = region.catalog.run({ type: 'trim-outbox', bucketId: idOf(region) })
    assert.ok(dropped.includes(3), 'it is let go')
  }
  ship(one, two, 'b')
  ship(two, one, 'b')
  tend(one)
  tend(two)
  assert.deepEqual([held(one), held(two)], [1, 1])
  three.clock.nowMs += 10_000
  // Both let it go: it hears of the delete by the synchronization.
  ship(one, three, 'b')
  assert.equal(three.catalog.object(idOf(three), 'a'), undefined)
  settle(regions)
  assert.deepEqual(regions.map(held), [0, 0, 0])
  assertEqual(regions)
})

test('a new region needs no delete that is forgotten, also when a full synchronization is under way (T20, T21)', () => {
  const regions = regionsOf(2)
  const [one, two] = regions as [TestRegion, TestRegion]
  for (let number = 0; number < 600; number++) put(one, `key-${String(number).padStart(3, '0')}`)
  settle(regions)
  // Some steps of it have been written when the keys in front of it go.
  one.catalog.run({ type: 'start-full-sync', bucketId: idOf(one), region: 2 })
  one.catalog.run({ type: 'backfill', bucketId: idOf(one) })
  purge(two, 'key-000')
  ship(two, one, 'b')
  settle(regions)
  assert.deepEqual(regions.map(held), [0, 0])
  one.catalog.run({ type: 'start-full-sync', bucketId: idOf(one), region: 2 })
  one.catalog.run({ type: 'backfill', bucketId: idOf(one) })
  purge(two, 'key-001')
  ship(two, one, 'b')
  const three = testRegion(3)
  const rule = ruleOf({ mode: 'multi', members: [1, 2, 3], epoch: 2 })
  for (const region of regions) {
    region.catalog.run({ type: 'set-replication', bucketId: idOf(region), rule })
  }
  join(three, rule)
  const { head, backfill } = one.catalog.replication.outbox(idOf(one)) ?? {}
  assert.ok(backfill !== undefined && backfill.from < (head?.lsn ?? 0), 'one is under way')
  one.catalog.run({ type: 'start-full-sync', bucketId: idOf(one), region: 3 })
  ship(one, three, 'b')
  assert.equal(three.catalog.object(idOf(three), 'key-000'), undefined)
  assert.equal(three.catalog.object(idOf(three), 'key-001'), undefined)
  const all = [one, two, three]
  settle(all)
  assert.deepEqual(all.map(held), [0, 0, 0])
  assertEqual(all)
})

test('a place that a full synchronization begins at says nothing of the deletes in front of it (T7, T21)', () => {
  const regions = regionsOf(2)
  const [one, two] = regions as [TestRegion, TestRegion]
  for (const key of ['a', 'b']) put(one, key)
  settle(regions)
  purge(one, 'a')
  one.catalog.run({ type: 'start-full-sync', bucketId: idOf(one), region: 2 })
  const { id = '', head } = one.catalog.replication.outbox(idOf(one)) ?? {}
  assert.ok(head !== undefined)
  two.catalog.run({ type: 'set-cursor', bucketId: idOf(two), source: 1, logId: id, at: head })
  purge(two, 'b')
  tend(two)
  ship(two, one, 'b')
  tend(one)
  assert.ok(held(one) >= 1, 'the other has not heard of it')
  settle(regions)
  assert.deepEqual(contentOf(two, 'b'), [])
  assert.deepEqual(regions.map(held), [0, 0])
  assertEqual(regions)
})

test('what is read once more brings nothing back that was here and is gone', () => {
  const regions = regionsOf(2)
  const [one, two] = regions as [TestRegion, TestRegion]
  put(one, 'a')
  put(one, 'b')
  const { id = '' } = one.catalog.replication.outbox(idOf(one)) ?? {}
  const start = one.catalog.replication.entryAt(idOf(one), 0)
  settle(regions)
  purge(two, 'a')
  settle(regions)
  assert.deepEqual(regions.map(held), [0, 0])
  assert.ok(start !== undefined)
  const { lsn, chain } = start
  two.catalog.run({
    ...{ type: 'set-cursor', bucketId: idOf(two), source: 1, logId: id, at: { lsn, chain } },
  })
  ship(one, two, 'b')
  assert.equal(two.catalog.object(idOf(two), 'a'), undefined)
  assert.ok(two.catalog.object(idOf(two), 'b') !== undefined)
  assertEqual(regions)
})

test('who has left a rule is not waited for, and comes back with nothing or not at all (T21)', () => {
  const regions = regionsOf(3)
  const [one, two, three] = regions as [TestRegion, TestRegion, TestRegion]
  put(one, 'a')
  put(one, 'b')
  settle(regions)
  const set = (region: TestRegion, part: Partial<ReplicationRule>) =>
    region.catalog.run({
      ...{ type: 'set-replication', bucketId: idOf(region) },
      rule: ruleOf({ mode: 'multi', ...part }),
    })
  const left = { members: [1, 2], epoch: 2, former: [{ region: 3, epoch: 1 }] }
  assert.throws(() => set(one, { members: [1, 2], epoch: 2 }), codeOf('INVALID_ARGUMENT'))
  for (const region of [one, two]) set(region, left)
  assert.throws(() => set(one, { members: [1, 2, 3], epoch: 3 }), codeOf('INVALID_ARGUMENT'))
  purge(one, 'a')
  settle([one, two])
  assert.deepEqual([held(one), held(two)], [0, 0])
  // It has not heard of any of this, and has 'a'.
  const back = { members: [1, 2, 3], epoch: 3, former: left.former }
  assert.throws(() => set(three, back), codeOf('BUCKET_NOT_EMPTY'))
  for (const region of [one, two]) set(region, back)
  put(three, 'c')
  three.catalog.run({ type: 'start-full-sync', bucketId: idOf(three), region: 1 })
  assert.throws(() => ship(three, one, 'b'), codeOf('CONFLICT'))
  assert.equal(one.catalog.object(idOf(one), 'a'), undefined)
  const anew = testRegion(3, 7)
  join(anew, ruleOf({ mode: 'multi', ...back }))
  put(anew, 'd')
  const all = [one, two, anew]
  purge(two, 'b')
  settle(all)
  assert.deepEqual(all.map(held), [0, 0, 0])
  assertEqual(all)
  assert.deepEqual(
    (contentOf(anew, 'b') as { key: string }[]).map(({ key }) => key),
    ['d'],
  )
})

test('who comes back takes nothing from a region that has not heard that it was gone (T21)', () => {
  const regions = regionsOf(3)
  const [one, two] = regions as [TestRegion, TestRegion]
  put(one, 'a')
  put(one, 'b')
  shipAll(regions)
  const set = (region: TestRegion, part: Partial<ReplicationRule>) =>
    region.catalog.run({
      ...{ type: 'set-replication', bucketId: idOf(region) },
      rule: ruleOf({ mode: 'multi', ...part }),
    })
  const former = [{ region: 3, epoch: 1 }]
  set(two, { members: [1, 2], epoch: 2, former })
  const back = { members: [1, 2, 3], epoch: 3, former }
  const anew = testRegion(3, 7)
  join(anew, ruleOf({ mode: 'multi', ...back }))
  // For region 1 it was there all the time: it may synchronize in full, with steps that are from before.
  one.catalog.run({ type: 'start-full-sync', bucketId: idOf(one), region: 3 })
  assert.throws(() => ship(one, anew, 'b'), codeOf('CONFLICT'))
  assert.deepEqual(contentOf(anew, 'b'), [])
  purge(one, 'a')
  ship(one, two, 'b')
  tend(two)
  assert.equal(held(two), 0, 'region 2 waits for nobody but region 1, and forgets')
  set(two, back)
  ship(anew, two, 'b')
  assert.equal(two.catalog.object(idOf(two), 'a'), undefined, 'what was gone is not back')
  set(one, back)
  const all = [one, two, anew]
  settle(all)
  assert.deepEqual(all.map(held), [0, 0, 0])
  assertEqual(all)
  assert.deepEqual(
    (contentOf(anew, 'b') as { key: string }[]).map(({ key }) => key),
    ['b'],
  )
})

test('a rule that was taken away and given again, with its epoch and an empty bucket, brings nothing back (T21)', async () => {
  const regions = regionsOf(3)
  const [one, two, three] = regions as [TestRegion, TestRegion, TestRegion]
  put(one, 'a')
  put(one, 'b')
  await follow(one, two)
  // Region 3 has it, and region 1 never hears of that.
  await follow(one, three, { isCut: true })
  purge(two, 'a')
  await follow(two, one)
  await follow(two, three)
  for (const region of [one, three]) tend(region)
  await follow(one, two)
  for (const region of [one, two]) {
    await follow(three, region)
    tend(region)
  }
  assert.deepEqual([one, two].map(held), [0, 0], 'they have the word of region 3, and forget')
  const anew = testRegion(3, 7)
  join(anew, ruleOf({ mode: 'multi', members: [1, 2, 3] }))
  for (const region of [one, two])
    await assert.rejects(follow(region, anew), /CONFLICT.*followed the bucket before/)
  for (const region of [one, two]) await follow(anew, region)
  for (const region of [one, two, anew]) assert.equal(region.catalog.object(idOf(region), 'a'), undefined)
  // The way out: it leaves the rule, and comes back.
  const former = [{ region: 3, epoch: 1 }]
  const back = ruleOf({ mode: 'multi', members: [1, 2, 3], epoch: 3, former })
  for (const region of [one, two]) {
    for (const rule of [ruleOf({ mode: 'multi', members: [1, 2], epoch: 2, former }), back]) {
      region.catalog.run({ type: 'set-replication', bucketId: idOf(region), rule })
    }
  }
  const returned = testRegion(3, 8)
  join(returned, back)
  const all = [one, two, returned]
  for (let round = 0; round < 4; round++) {
    for (const from of all) for (const to of all) if (from !== to) await follow(from, to)
    for (const region of all) tend(region)
  }
  assert.deepEqual(all.map(held), [0, 0, 0])
  assertEqual(all)
  assert.equal(contentOf(returned, 'b').length, 1)
})

test('a full synchronization with a region that begins anew brings nothing back either (T21)', async () => {
  const regions = regionsOf(3)
  const [one, two, three] = regions as [TestRegion, TestRegion, TestRegion]
  put(one, 'a')
  for (const region of [two, three]) await follow(one, region)
  purge(two, 'a')
  await follow(two, three)
  tend(three)
  await follow(three, two)
  // Region 1 has not heard of the delete: what it has now must not come to who has forgotten it.
  const anew = testRegion(3, 7)
  join(anew, ruleOf({ mode: 'multi', members: [1, 2, 3] }))
  await assert.rejects(follow(one, anew), /CONFLICT/)
  await follow(two, one)
  tend(one)
  await follow(one, two)
  tend(two)
  assert.equal(held(two), 0, 'region 2 has the word of both, and forgets')
  await assert.rejects(follow(two, anew), /CONFLICT/)
  for (const region of [one, two]) await follow(anew, region)
  for (const region of [one, two, anew]) assert.deepEqual(contentOf(region, 'b'), [])
})

test('deletes of a region that has left are told again by who remembers them, and then forgotten', () => {
  const regions = regionsOf(3)
  const [one, two, three] = regions as [TestRegion, TestRegion, TestRegion]
  put(one, 'a')
  shipAll(regions)
  purge(three, 'a')
  // Only one of the others has heard of it.
  ship(three, one, 'b')
  const rule = ruleOf({ mode: 'multi', members: [1, 2], epoch: 2, former: [{ region: 3, epoch: 1 }] })
  for (const region of [one, two]) {
    region.catalog.run({ type: 'set-replication', bucketId: idOf(region), rule })
  }
  settle([one, two])
  assert.equal(two.catalog.object(idOf(two), 'a'), undefined)
  assert.deepEqual([held(one), held(two)], [0, 0])
  assertEqual([one, two])
})

test('a pass over many deletes goes in bounded steps, which go on where the last one ended', () => {
  const regions = regionsOf(2)
  const [one, two] = regions as [TestRegion, TestRegion]
  for (let number = 0; number < 1200; number++) put(one, `key-${number}`)
  shipAll(regions)
  for (let number = 0; number < 1200; number++) purge(one, `key-${number}`)
  shipAll(regions)
  assert.equal(held(two), 1200)
  const bucketId = idOf(two)
  const first = two.catalog.run({ type: 'collect-tombstones', bucketId })
  assert.deepEqual(first, { collected: 1000, done: false })
  assert.equal(numbers(two)?.isSweeping, true)
  const second = two.catalog.run({ type: 'collect-tombstones', bucketId })
  assert.deepEqual(second, { collected: 200, done: true })
  assert.equal(numbers(two)?.isSweeping, false)
  settle(regions)
  assert.deepEqual(regions.map(held), [0, 0])
})

test('of the null versions of a key the newest delete is remembered, counted once and forgotten', () => {
  const regions = regionsOf(2, {}, false)
  const [one, two] = regions as [TestRegion, TestRegion]
  for (let round = 0; round < 3; round++) {
    put(one, 'a')
    shipAll(regions)
    purge(round === 1 ? two : one, 'a')
    shipAll(regions)
  }
  assert.deepEqual(regions.map(held), [1, 1])
  settle(regions)
  assert.deepEqual(regions.map(held), [0, 0])
  assertEqual(regions)
})

test('an edge forgets a delete when its hub has it; the hub remembers all', () => {
  const rule = ruleOf({
    ...{ mode: 'multi', members: [1, 2], primary: 1 },
    edge: { ...defaultEdge, regions: [2], priorities: [], pinned: [] },
  })
  const hub = testRegion(1)
  const edge = testRegion(2)
  join(hub, rule, false)
  join(edge, rule, false)
  const stage = () => {
    const askedFrom = edge.catalog.replication.outbox(idOf(edge))?.head.lsn ?? 0
    edge.catalog.run({ type: 'stage-outbox', bucketId: idOf(edge), askedFrom })
    ship(edge, hub, 'b')
  }
  put(edge, 'a')
  stage()
  purge(edge, 'a')
  tend(edge)
  assert.equal(held(edge), 1)
  stage()
  tend(edge)
  tend(hub)
  assert.deepEqual([held(edge), held(hub)], [0, 1])
})

test('however many deletes there were, a full synchronization tells of them in entries of a bounded length', () => {
  const regions = regionsOf(2, {}, false)
  const [one, two] = regions
  assert.ok(one !== undefined && two !== undefined)
  const count = 9000
  const keys = Array.from({ length: count }, (_, at) => `${'k'.repeat(100)}${at}`)
  for (const key of keys) put(one, key)
  shipAll(regions)
  assert.equal(contentOf(two, 'b').length, count)
  for (const key of keys) purge(one, key)
  // What region 2 had missed is not told one by one any more.
  const { replication } = one.catalog
  const bucketId = idOf(one)
  one.catalog.run({ type: 'start-full-sync', bucketId, region: 2 })
  const begin =
    replication.members(bucketId).find(({ region }) => region === 2)?.acknowledged ?? assert.fail()
  const { lsn, chain } = replication.entryAt(bucketId, begin) ?? assert.fail()
  const logId = replication.outbox(bucketId)?.id ?? assert.fail()
  two.catalog.run({
    ...{ type: 'set-cursor', bucketId: idOf(two), source: 1, logId, at: { lsn, chain } },
  })
  while (!one.catalog.run({ type: 'backfill', bucketId }).done);
  const entries = replication.entries(bucketId, begin, Number.MAX_SAFE_INTEGER, Number.MAX_SAFE_INTEGER)
  const longest = Math.max(...entries.map(({ bytes }) => bytes.length))
  assert.ok(longest < 300 * 1024, `${longest} bytes`)
  assert.ok(entries.length < 20, 'and not in one entry each')
  ship(one, two, 'b')
  assert.deepEqual(contentOf(two, 'b'), [])
  assert.equal(two.catalog.replication.cursor(idOf(two), 1)?.synchronizing, false)
  assert.equal(held(two), count)
})
