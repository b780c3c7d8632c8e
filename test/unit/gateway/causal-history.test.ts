import assert from 'node:assert/strict'
import { test } from 'node:test'
import type { OutboxPlace } from '../../../core/contract/catalog.ts'
import type { GroupRecord } from '../../../core/contract/failover.ts'
import { judgePlace, type PlaceVerdict, placesOf } from '../../../core/gateway/s3/causal-history.ts'
import type { CausalPlace } from '../../../core/gateway/s3/causal-token.ts'
import { inlineObject, putCommand } from '../../kit/catalog-commands.ts'
import { ruleOf, ship, type TestRegion, testRegion } from '../../kit/replicated-buckets.ts'

const firstEpoch = 10
const name = 'b'
const idOf = ({ catalog }: TestRegion): number => catalog.bucket(name)?.id ?? 0

const put = (region: TestRegion, key: string, groupEpoch?: number): OutboxPlace => {
  const object = inlineObject(region.newWriteId(), Buffer.from(key))
  const { place } = region.catalog.run({
    ...putCommand(idOf(region), key, object),
    ...(groupEpoch === undefined ? {} : { groupEpoch }),
  })
  assert.ok(place !== undefined, 'a write of a replicated bucket has its place')
  return place
}

const judge = (at: TestRegion, places: readonly CausalPlace[]): PlaceVerdict[] =>
  places.map((place) => judgePlace(at.catalog, { id: idOf(at), name }, at.id, place))
const after = (
  at: TestRegion,
  written?: OutboxPlace,
  seen: readonly CausalPlace[] = [],
): readonly CausalPlace[] => placesOf(at.catalog, idOf(at), at.id, seen, written)

function regions(mode: 'single' | 'multi', ...ids: readonly number[]): TestRegion[] {
  return ids.map((id) => {
    const region = testRegion(id)
    const { id: bucketId } = region.catalog.run({ type: 'create-bucket', name, owner: 'root' })
    region.catalog.run({ type: 'set-replication', bucketId, rule: ruleOf({ mode, members: ids }) })
    return region
  })
}

test('a write is behind at the copy until its entry is applied there, and here from then on', () => {
  const [one, two] = regions('single', 1, 2)
  assert.ok(one !== undefined && two !== undefined)
  const first = put(one, 'a')
  const token = after(one, first)
  assert.deepEqual(judge(one, token), ['here'])
  assert.deepEqual(judge(two, token), ['behind'], 'the copy does not even follow yet')
  ship(one, two, name)
  assert.deepEqual(judge(two, token), ['here'])
  const second = after(one, put(one, 'b'))
  put(one, 'of another client')
  assert.ok(
    (second[0]?.lsn ?? 0) > first.lsn && (second[0]?.lsn ?? 0) < (after(one)[0]?.lsn ?? 0),
    'each write has its own place, not the head of the time',
  )
  assert.deepEqual(judge(two, second), ['behind'])
  // A read there says less than the write, a read after it as much.
  assert.deepEqual(judge(two, after(two)), ['here'])
  ship(one, two, name)
  assert.deepEqual(judge(two, second), ['here'])
  assert.deepEqual(judge(one, after(two)), ['here'])
})

test('the place of a write that had been done before takes nothing back of what its client has seen since', () => {
  const [one, two] = regions('single', 1, 2)
  assert.ok(one !== undefined && two !== undefined)
  const first = put(one, 'a')
  put(one, 'b')
  const seen = after(one)
  ship(one, two, name)
  put(one, 'c')
  assert.deepEqual(after(one, first, seen), seen, 'sent again with what was seen meanwhile')
  assert.deepEqual(after(one, first)[0]?.lsn, first.lsn, 'without a token it is the write alone')
  // The bucket is replicated anew: another log, in which the place of then may not have been reached.
  one.catalog.run({ type: 'set-replication', bucketId: idOf(one), rule: null })
  one.catalog.run({ type: 'set-replication', bucketId: idOf(one), rule: ruleOf({ members: [1, 2] }) })
  assert.notEqual(one.catalog.replication.outbox(idOf(one))?.id, seen[0]?.log)
  const late = { ...first, lsn: first.lsn + 1000 }
  assert.deepEqual(judge(one, after(one, late)), ['here'], 'a token that its own region honours')
})

test('a copy that missed a primary in between claims nothing of what that one wrote, before it has begun anew', () => {
  const all = regions('single', 1, 2, 3)
  const [one, two, three] = all
  assert.ok(one !== undefined && two !== undefined && three !== undefined)
  put(one, 'a')
  for (const copy of [two, three]) ship(one, copy, name)
  const old = after(one)
  const lead = (region: TestRegion, primary: number, epoch: number) =>
    region.catalog.run({
      ...{ type: 'set-replication', bucketId: idOf(region) },
      rule: ruleOf({ members: [1, 2, 3], primary, epoch }),
    })
  for (const region of [one, two]) lead(region, 2, 2)
  const between = after(two, put(two, 'b'))
  ship(two, one, name)
  for (const region of all) lead(region, 1, 3)
  // The place that it has is the head of the log that goes on: by its number alone it would be even.
  assert.equal(three.catalog.replication.cursor(idOf(three), 1)?.watermark, old[0]?.lsn)
  assert.equal(three.catalog.object(idOf(three), 'b'), undefined)
  assert.deepEqual(judge(three, old), ['here'], 'what it says to have, it has')
  for (const token of [between, after(one), after(one, put(one, 'c'))]) {
    assert.ok(judge(three, token).some((verdict) => verdict !== 'here'))
  }
  ship(one, three, name)
  assert.ok(three.catalog.object(idOf(three), 'b') !== undefined)
  assert.deepEqual(judge(three, after(one, put(one, 'd'))), ['behind'])
  ship(one, three, name)
})

test('while a copy synchronizes in full nothing is said to be there', () => {
  const [one, two] = regions('single', 1, 2)
  assert.ok(one !== undefined && two !== undefined)
  put(one, 'a')
  const token = after(one)
  const outbox = one.catalog.replication.outbox(idOf(one))
  assert.ok(outbox !== undefined)
  // It begins at the head: by its number alone everything would be there.
  const at = outbox.head
  two.catalog.run({ type: 'set-cursor', bucketId: idOf(two), source: 1, logId: outbox.id, at })
  assert.deepEqual(judge(two, token), ['behind'])
  assert.deepEqual(after(two), [])
})

test('where several regions write, a token is a place in each of their outboxes', () => {
  const [one, two, three] = regions('multi', 1, 2, 3)
  assert.ok(one !== undefined && two !== undefined && three !== undefined)
  for (const [from, to] of [
    [one, two],
    [two, one],
    [one, three],
    [two, three],
    [three, one],
    [three, two],
  ] as const) {
    ship(from, to, name)
  }
  put(one, 'a')
  put(two, 'b')
  ship(one, two, name)
  const seen = after(two)
  assert.deepEqual(new Set(seen.map(({ region }) => region)), new Set([1, 2, 3]))
  ship(two, three, name)
  assert.deepEqual(
    judge(
      three,
      seen.filter(({ region }) => region !== 3),
    ).toSorted(),
    ['behind', 'here'],
    'what region 2 has of region 1 is not in region 3 yet',
  )
  ship(one, three, name)
  assert.deepEqual(new Set(judge(three, seen)), new Set(['here']))
  // A write says its own place and what its client had seen, not what others wrote meanwhile.
  put(one, 'c')
  ship(one, two, name)
  const written = after(two, put(two, 'd'), seen)
  assert.deepEqual(
    written.find(({ region }) => region === 1),
    seen.find(({ region }) => region === 1),
  )
})

test('after a failover that lost the tail, its writes are lost everywhere, and what was handed over is here', () => {
  const [one, two, three] = regions('single', 1, 2, 3)
  assert.ok(one !== undefined && two !== undefined && three !== undefined)
  const record: GroupRecord = {
    ...{ name: 'g', regions: [1, 2, 3], witnesses: [], buckets: [name], syncBuckets: [] },
    ...{ automatic: true, flapMs: 60_000, leaseMs: 8_000 },
    ...{ primary: 1, epoch: firstEpoch, revision: 0, automaticMs: 0, reigns: [] },
  }
  one.catalog.run({ type: 'put-group', record })
  const made = one.catalog.failover.group('g')?.record
  const rule = one.catalog.replication.rule(idOf(one))
  assert.ok(made !== undefined && rule !== undefined)
  for (const other of [two, three]) {
    other.catalog.run({ type: 'put-group', record: made })
    other.catalog.run({ type: 'set-replication', bucketId: idOf(other), rule })
  }
  const handed = after(one, put(one, 'handed', firstEpoch))
  ship(one, two, name)
  const lost = after(one, put(one, 'lost', firstEpoch))
  assert.deepEqual([judge(two, handed), judge(two, lost)], [['here'], ['behind']])

  const epoch = firstEpoch + 1
  two.catalog.run({ type: 'vote-group', name: 'g', epoch, primary: 2 })
  const taken = two.catalog.run({ type: 'take-group', name: 'g', epoch, cause: 'automatic' }).record
  assert.deepEqual([judge(two, handed), judge(two, lost)], [['here'], ['lost']])
  const later = after(two, put(two, 'later', epoch), handed)
  assert.deepEqual(
    later.map(({ region }) => region),
    [2],
    'a place of the former primary is in that of its successor',
  )

  // Who has heard of the failover and not followed it yet has to wait for what survived, and not for what did not.
  three.catalog.run({ type: 'put-group', record: taken })
  assert.deepEqual(
    [judge(three, handed), judge(three, lost), judge(three, later)],
    [['behind'], ['lost'], ['behind']],
  )
  const newRule = two.catalog.replication.rule(idOf(two))
  assert.ok(newRule !== undefined)
  three.catalog.run({ type: 'set-replication', bucketId: idOf(three), rule: newRule })
  assert.deepEqual(judge(three, handed), ['behind'])
  ship(two, three, name)
  assert.deepEqual(
    [judge(three, handed), judge(three, lost), judge(three, later)],
    [['here'], ['lost'], ['here']],
  )

  // The former primary hears of it: what it alone has is lost there, too.
  assert.deepEqual(judge(one, lost), ['here'], 'as long as it does not know')
  one.catalog.run({ type: 'put-group', record: taken })
  assert.deepEqual([judge(one, handed), judge(one, lost)], [['here'], ['lost']])
  while (!one.catalog.run({ type: 'list-losses', name: 'g', bucketId: idOf(one) }).done);
  one.catalog.run({ type: 'set-replication', bucketId: idOf(one), rule: newRule })
  assert.deepEqual(
    [judge(one, handed), judge(one, lost), judge(one, later)],
    [['behind'], ['lost'], ['behind']],
  )
  ship(two, one, name)
  assert.deepEqual([judge(one, handed), judge(one, lost), judge(one, later)], [['here'], ['lost'], ['here']])

  // It leads again, and its log goes on where it ended: the numbers that were lost stay lost, those behind them do not begin so.
  const again = epoch + 1
  one.catalog.run({ type: 'vote-group', name: 'g', epoch: again, primary: 1 })
  const back = one.catalog.run({ type: 'take-group', name: 'g', epoch: again, cause: 'planned' }).record
  const newest = after(one, put(one, 'newest', again), later)
  assert.equal(newest.find(({ region }) => region === 1)?.log, lost[0]?.log)
  assert.deepEqual([judge(one, lost), judge(one, newest), judge(one, later)], [['lost'], ['here'], ['here']])
  assert.deepEqual(judge(two, newest), ['behind'], 'it has not heard of it')
  two.catalog.run({ type: 'put-group', record: back })
  assert.deepEqual([judge(two, lost), judge(two, newest)], [['lost'], ['behind']])
})

test('places that nobody has told of are known as such, and not waited for', () => {
  const [one, two] = regions('single', 1, 2)
  assert.ok(one !== undefined && two !== undefined)
  put(one, 'a')
  ship(one, two, name)
  const [place] = after(one)
  assert.ok(place !== undefined)
  assert.deepEqual(judge(one, [{ ...place, lsn: place.lsn + 1 }]), ['unknown'], 'beyond its own head')
  assert.deepEqual(judge(one, [{ ...place, log: '0'.repeat(24) }]), ['unknown'], 'a log it never wrote')
  assert.deepEqual(judge(two, [{ ...place, lsn: 2 ** 48 - 1 }]), ['unknown'], 'far beyond what it has')
  assert.deepEqual(judge(two, [{ ...place, region: 9, log: '0'.repeat(24) }]), ['unknown'], 'no member')
  const future = { ...place, log: '0'.repeat(24), epoch: 2 ** 48 - 1 }
  assert.deepEqual(judge(two, [future]), ['unknown'], 'an epoch that cannot be')
  const lone = testRegion(4)
  lone.catalog.run({ type: 'create-bucket', name, owner: 'root' })
  assert.deepEqual(judge(lone, [place]), ['unknown'], 'a bucket that only has the name')
  assert.deepEqual(after(lone), [])
})
