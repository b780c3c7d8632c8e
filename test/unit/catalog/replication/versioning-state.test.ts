import assert from 'node:assert/strict'
import { test } from 'node:test'
import { decodeOutboxEntry, encodeOutboxEntry } from '../../../../core/catalog/replication/entry-codec.ts'
import type { VersioningState } from '../../../../core/contract/object-model.ts'
import { defaultEdge } from '../../../../core/contract/replication.ts'
import { emptyObject, etagOf, putCommand } from '../../../kit/catalog-commands.ts'
import { ruleOf, ship, type TestRegion, testRegion } from '../../../kit/replicated-buckets.ts'

type Set = Exclude<VersioningState, 'off'>

function regions(count: number, before: readonly (Set | undefined)[] = []): TestRegion[] {
  const members = Array.from({ length: count }, (_, at) => at + 1)
  return members.map((region) => {
    const made = testRegion(region)
    const bucketId = made.catalog.run({ type: 'create-bucket', name: 'b', owner: 'root' }).id
    const state = before[region - 1]
    if (state !== undefined) made.catalog.run({ type: 'set-versioning', bucketId, state })
    made.catalog.run({ type: 'set-replication', bucketId, rule: ruleOf({ mode: 'multi', members }) })
    return made
  })
}

const idOf = ({ catalog }: TestRegion): number => catalog.bucket('b')?.id ?? assert.fail('no bucket')
const stateOf = ({ catalog }: TestRegion): VersioningState | undefined => catalog.bucket('b')?.versioning

function set(region: TestRegion, state: Set): void {
  region.catalog.run({ type: 'set-versioning', bucketId: idOf(region), state })
}

function compare(region: TestRegion): void {
  while (!region.catalog.run({ type: 'compare-content', bucketId: idOf(region) }).done);
}

test('of two changes of versioning that cross the later one lasts in both regions', () => {
  for (const first of ['suspended', 'enabled'] as const) {
    const [one, two] = regions(2) as [TestRegion, TestRegion]
    ship(one, two, 'b')
    ship(two, one, 'b')
    const last = first === 'suspended' ? 'enabled' : 'suspended'
    set(one, first)
    two.clock.nowMs += 5_000
    set(two, last)
    ship(one, two, 'b')
    ship(two, one, 'b')
    assert.deepEqual([stateOf(one), stateOf(two)], [last, last])
  }
})

test('a full synchronization that begins with an older state does not take a newer one back', () => {
  const [one, two] = regions(2, ['suspended', 'suspended']) as [TestRegion, TestRegion]
  ship(one, two, 'b')
  ship(two, one, 'b')
  two.clock.nowMs += 5_000
  set(two, 'enabled')
  const key = 'key'
  two.catalog.run(putCommand(idOf(two), key, emptyObject(etagOf(1))))
  one.clock.nowMs += 60_000
  one.catalog.run({ type: 'start-full-sync', bucketId: idOf(one), region: 2 })
  ship(one, two, 'b')
  assert.equal(stateOf(two), 'enabled')
  two.catalog.run(putCommand(idOf(two), key, emptyObject(etagOf(2))))
  const listing = { prefix: '', delimiter: '', keyMarker: '', limit: 10 }
  assert.equal(two.catalog.listVersions(idOf(two), listing).versions.length, 2, 'both writes are kept')
  ship(two, one, 'b')
  assert.equal(stateOf(one), 'enabled')
})

test('what a region has heard it tells a third one as it heard it, and a later change of that one lasts', () => {
  const [one, two, three] = regions(3) as [TestRegion, TestRegion, TestRegion]
  set(one, 'enabled')
  ship(one, two, 'b')
  three.clock.nowMs += 5_000
  set(three, 'suspended')
  two.clock.nowMs += 60_000
  two.catalog.run({ type: 'start-full-sync', bucketId: idOf(two), region: 3 })
  ship(two, three, 'b')
  for (const [from, to] of [
    [one, three],
    [three, one],
    [three, two],
    [two, one],
  ] as const) {
    ship(from, to, 'b')
  }
  assert.deepEqual([one, two, three].map(stateOf), ['suspended', 'suspended', 'suspended'])
})

test('a change that was made after another one was heard lasts, though its clock is behind', () => {
  const [one, two] = regions(2) as [TestRegion, TestRegion]
  one.clock.nowMs += 60_000
  set(one, 'enabled')
  ship(one, two, 'b')
  set(two, 'suspended')
  ship(two, one, 'b')
  assert.deepEqual([stateOf(one), stateOf(two)], ['suspended', 'suspended'])
})

test('states from before they had a stamp come to be the same with comparisons, and any change made since lasts', () => {
  const [one, two] = regions(2, ['enabled', 'suspended']) as [TestRegion, TestRegion]
  const crossed = (): (VersioningState | undefined)[] => {
    compare(one)
    compare(two)
    ship(one, two, 'b')
    ship(two, one, 'b')
    ship(one, two, 'b')
    return [stateOf(one), stateOf(two)]
  }
  assert.deepEqual(crossed(), ['suspended', 'suspended'])
  set(one, 'enabled')
  assert.deepEqual(crossed(), ['enabled', 'enabled'])
})

test('a state that is newer than its entry is no entry: it would last for ever', () => {
  const changed = Buffer.alloc(10)
  changed.writeUIntBE(1_700_000_000_001, 0, 6)
  const entryAt = (ms: number) =>
    encodeOutboxEntry({
      ...{ lsn: 1, epoch: 1, origin: 1, time: { ms, counter: 0 } },
      change: { type: 'versioning', state: 'suspended', changed: new Uint8Array(changed) },
    })
  assert.throws(() => decodeOutboxEntry(entryAt(1_700_000_000_000)), { code: 'PROTOCOL_ERROR' })
  assert.equal(decodeOutboxEntry(entryAt(1_700_000_000_001)).change.type, 'versioning')
})

test('a change that was made while the bucket had no rule counts when it has one again', () => {
  const [one, two] = regions(2) as [TestRegion, TestRegion]
  set(one, 'enabled')
  ship(one, two, 'b')
  for (const { catalog } of [one, two]) {
    while (!catalog.run({ type: 'set-replication', bucketId: 1, rule: null }).done);
  }
  one.clock.nowMs += 5_000
  set(one, 'suspended')
  const rule = ruleOf({ mode: 'multi', epoch: 2 })
  for (const { catalog } of [one, two]) catalog.run({ type: 'set-replication', bucketId: 1, rule })
  ship(two, one, 'b')
  ship(one, two, 'b')
  assert.deepEqual([stateOf(one), stateOf(two)], ['suspended', 'suspended'])
})

test('what an edge tells of versioning does not change it at the hub', () => {
  const [hub, edge] = [testRegion(1), testRegion(2)]
  const rule = ruleOf({ mode: 'multi', edge: { ...defaultEdge, regions: [2], priorities: [], pinned: [] } })
  for (const [{ catalog }, state] of [
    [hub, 'enabled'],
    [edge, 'suspended'],
  ] as const) {
    const { id: bucketId } = catalog.run({ type: 'create-bucket', name: 'b', owner: 'root' })
    catalog.run({ type: 'set-versioning', bucketId, state })
    if (catalog === edge.catalog) catalog.run(putCommand(bucketId, 'key', emptyObject(etagOf(1))))
    catalog.run({ type: 'set-replication', bucketId, rule })
  }
  while (edge.catalog.replication.outbox(1)?.backfill !== undefined) {
    edge.catalog.run({ type: 'backfill', bucketId: 1 })
  }
  edge.catalog.run({ type: 'stage-outbox', bucketId: 1, askedFrom: 0 })
  assert.equal(ship(edge, hub, 'b') > 0, true)
  assert.equal(hub.catalog.object(1, 'key')?.key, 'key')
  assert.equal(stateOf(hub), 'enabled')
})
