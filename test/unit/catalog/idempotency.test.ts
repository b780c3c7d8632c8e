import assert from 'node:assert/strict'
import { test } from 'node:test'
import { stateHash } from '../../../core/catalog/state-machine.ts'
import { verifyRows } from '../../../core/catalog/verify.ts'
import { type Idempotency, idempotencyLimits } from '../../../core/contract/catalog.ts'
import { StorageError } from '../../../core/contract/errors.ts'
import type { GroupRecord } from '../../../core/contract/failover.ts'
import { chunkedObject, etagOf, extentOf, inlineObject, putCommand } from '../../kit/catalog-commands.ts'
import { ruleOf, ship, type TestRegion, testRegion } from '../../kit/replicated-buckets.ts'

const codeOf = (code: string) => (error: unknown) => error instanceof StorageError && error.code === code

/** Keys of one access key, told apart by a number. */
function keyOf(number: number, request = 1, scope = 1): Idempotency {
  const key = Buffer.alloc(idempotencyLimits.keyBytes)
  key.writeUInt32BE(number)
  return {
    scope: new Uint8Array(idempotencyLimits.scopeBytes).fill(scope),
    key: Uint8Array.from(key),
    request: new Uint8Array(idempotencyLimits.keyBytes).fill(request),
  }
}

function regionWith(versioning: boolean): { region: TestRegion; bucketId: number } {
  const region = testRegion(1)
  const { id: bucketId } = region.catalog.run({ type: 'create-bucket', name: 'b', owner: 'root' })
  if (versioning) region.catalog.run({ type: 'set-versioning', bucketId, state: 'enabled' })
  return { region, bucketId }
}

const put = (region: TestRegion, bucketId: number, idempotency: Idempotency, more: object = {}) =>
  region.catalog.run({
    ...putCommand(bucketId, 'k', inlineObject(region.newWriteId(), Buffer.from('body'), etagOf(7))),
    ...{ idempotency, ...more },
  })

const versionsOf = ({ catalog }: TestRegion, bucketId: number): number =>
  catalog.listVersions(bucketId, { prefix: '', delimiter: '', keyMarker: '', limit: 1000 }).versions.length

test('a write that is asked for again is one write with one answer, and its second body is nobody’s', () => {
  const { region, bucketId } = regionWith(true)
  const first = put(region, bucketId, keyOf(1))
  assert.equal(first.first, undefined)
  const extent = extentOf(region.newWriteId(), 100)
  const again = region.catalog.run({
    ...putCommand(bucketId, 'k', chunkedObject(extent, etagOf(7))),
    idempotency: keyOf(1),
  })
  assert.deepEqual(again, { ...first, first: { etag: etagOf(7) } })
  assert.equal(versionsOf(region, bucketId), 1)
  assert.equal(region.catalog.writeOwner(extent.writeId), undefined)
  // A key is one access key's own, and for one request.
  assert.equal(put(region, bucketId, keyOf(1, 1, 2)).first, undefined)
  assert.throws(() => put(region, bucketId, keyOf(1, 2)), codeOf('IDEMPOTENCY_KEY_REUSED'))
  assert.equal(versionsOf(region, bucketId), 2)
  assert.deepEqual(verifyRows(region.tables.reader), [])
})

test('a conditional write that was done is answered as done, and one that was refused may be tried again', () => {
  const { region, bucketId } = regionWith(false)
  const only = { preconditions: { ifNoneMatch: '*' } }
  const first = put(region, bucketId, keyOf(1), only)
  assert.deepEqual(put(region, bucketId, keyOf(1), only), { ...first, first: { etag: etagOf(7) } })
  assert.throws(() => put(region, bucketId, keyOf(2), only), codeOf('PRECONDITION_FAILED'))
  const remove = (number: number, ...keys: string[]) =>
    region.catalog.run({
      ...{ type: 'delete-objects', bucketId, owner: 'root' },
      ...{ items: keys.map((key) => ({ key })), idempotency: keyOf(number) },
    })
  const gone = remove(3, 'k', 'other')
  assert.equal(put(region, bucketId, keyOf(2), only).first, undefined, 'what was refused had not been done')
  // The delete that is asked for again does not take what was written since.
  assert.deepEqual(remove(3, 'k', 'other'), { ...gone, first: {} })
  assert.ok(region.catalog.object(bucketId, 'k') !== undefined)
})

test('deletes that leave markers leave one, and uploads are completed once', () => {
  const { region, bucketId } = regionWith(true)
  const remove = () =>
    region.catalog.run({
      ...{ type: 'delete-objects', bucketId, owner: 'root', items: [{ key: 'k' }], idempotency: keyOf(1) },
    })
  const marker = remove().outcomes[0]?.versionId
  assert.ok(marker !== undefined && marker !== 'null')
  assert.deepEqual(remove().outcomes[0]?.versionId, marker)
  assert.equal(versionsOf(region, bucketId), 1)

  const { uploadId } = region.catalog.run({
    ...{ type: 'create-upload', bucketId, key: 'k', owner: 'root', initiator: 'root' },
    attributes: inlineObject(region.newWriteId(), Buffer.of(1)).attributes,
  })
  const upload = { bucketId, key: 'k', uploadId }
  const layout = { kind: 'chunks', extents: [extentOf(region.newWriteId(), 10)] } as const
  region.catalog.run({ type: 'put-part', ...upload, number: 1, byteLength: 10, etag: etagOf(1), layout })
  const parts = [{ number: 1, etag: etagOf(1) }]
  const complete = () =>
    region.catalog.run({ type: 'complete-upload', ...upload, parts, etag: 'x-1', idempotency: keyOf(2) })
  const made = complete()
  // Another version on top: by the newest alone nobody would know.
  put(region, bucketId, keyOf(3))
  assert.deepEqual(complete(), { ...made, first: { etag: 'x-1' } })
  assert.equal(versionsOf(region, bucketId), 3)
})

test('answers are forgotten by time and by number, a few with each write', () => {
  const { region, bucketId } = regionWith(false)
  const rows = (): number => {
    let count = 0
    const cursor = region.tables.reader.rows(Uint8Array.of(0x18), Uint8Array.of(0x1a))
    while (cursor.next()) count++
    cursor.close()
    return count
  }
  const { answers, windowMs } = idempotencyLimits
  for (let number = 0; number < answers + 100; number++) put(region, bucketId, keyOf(number))
  // The queue's own row, and an answer and a place in the queue of each.
  assert.equal(rows(), 1 + 2 * answers)
  assert.equal(put(region, bucketId, keyOf(99)).first, undefined, 'the oldest have gone')
  assert.ok(put(region, bucketId, keyOf(answers + 99)).first !== undefined)
  region.clock.nowMs += windowMs + 1_000_000
  assert.equal(put(region, bucketId, keyOf(answers + 99)).first, undefined, 'its time is over')
  assert.ok(put(region, bucketId, keyOf(answers + 99)).first !== undefined, 'and begins anew')
  for (let number = 0; number < answers; number++)
    put(region, bucketId, keyOf(1_000_000 + number, 1, number < answers / 2 ? 1 : 2))
  assert.equal(rows(), 2 + 2 * (1 + answers), 'what is over goes with the writes of its access key')
  assert.ok(
    put(region, bucketId, keyOf(answers + 99)).first !== undefined,
    'a place that was used twice is that of the newer',
  )
})

test('what was done in a bucket that is gone was not done in the one that has its name now', () => {
  const { region, bucketId } = regionWith(false)
  put(region, bucketId, keyOf(1))
  region.catalog.run({ type: 'delete-objects', bucketId, owner: 'root', items: [{ key: 'k' }] })
  assert.ok(region.catalog.run({ type: 'delete-bucket', name: 'b' }).deleted)
  const { id } = region.catalog.run({ type: 'create-bucket', name: 'b', owner: 'root' })
  assert.equal(put(region, id, keyOf(1)).first, undefined)
  assert.ok(region.catalog.object(id, 'k') !== undefined)
  assert.ok(put(region, id, keyOf(1)).first !== undefined)
})

test('two catalogs that apply the same are the same', () => {
  const hashes = [1, 2].map(() => {
    const { region, bucketId } = regionWith(true)
    for (let round = 0; round < 20; round++) put(region, bucketId, keyOf(round % 7))
    return stateHash(region.tables.reader)
  })
  assert.equal(hashes[0], hashes[1])
})

const idOf = ({ catalog }: TestRegion): number => catalog.bucket('b')?.id ?? 0

/** Region 1 leads the bucket `b` in epoch 10, region 2 is the other one. */
function twoRegions(): readonly [TestRegion, TestRegion] {
  const [one, two] = [testRegion(1), testRegion(2)]
  const record: GroupRecord = {
    ...{ name: 'g', regions: [1, 2], witnesses: [9], buckets: ['b'], syncBuckets: [] },
    ...{ automatic: true, flapMs: 60_000, leaseMs: 8_000 },
    ...{ primary: 1, epoch: 10, revision: 0, automaticMs: 0, reigns: [] },
  }
  for (const { catalog } of [one, two]) {
    const { id: bucketId } = catalog.run({ type: 'create-bucket', name: 'b', owner: 'root' })
    catalog.run({ type: 'set-versioning', bucketId, state: 'enabled' })
    catalog.run({ type: 'set-replication', bucketId, rule: ruleOf() })
  }
  one.catalog.run({ type: 'put-group', record })
  const made = one.catalog.failover.group('g')?.record
  const rule = one.catalog.replication.rule(idOf(one))
  assert.ok(made !== undefined && rule !== undefined)
  two.catalog.run({ type: 'put-group', record: made })
  two.catalog.run({ type: 'set-replication', bucketId: idOf(two), rule })
  return [one, two]
}

test('a retry that comes to the new primary after a failover is known there, if the write had arrived', () => {
  const [one, two] = twoRegions()
  const first = put(one, idOf(one), keyOf(1), { groupEpoch: 10 })
  const marker = one.catalog.run({
    ...{ type: 'delete-objects', bucketId: idOf(one), owner: 'root', items: [{ key: 'm' }] },
    ...{ idempotency: keyOf(2), groupEpoch: 10 },
  })
  ship(one, two, 'b')
  put(one, idOf(one), keyOf(3), { groupEpoch: 10 })

  two.catalog.run({ type: 'vote-group', name: 'g', epoch: 11, primary: 2 })
  two.catalog.run({ type: 'take-group', name: 'g', epoch: 11, cause: 'automatic' })
  const before = versionsOf(two, idOf(two))
  const again = put(two, idOf(two), keyOf(1), { groupEpoch: 11 })
  assert.deepEqual(
    [again.versionId, again.modifiedMs, again.first],
    [first.versionId, first.modifiedMs, { etag: etagOf(7) }],
  )
  const gone = two.catalog.run({
    ...{ type: 'delete-objects', bucketId: idOf(two), owner: 'root', items: [{ key: 'm' }] },
    ...{ idempotency: keyOf(2), groupEpoch: 11 },
  })
  assert.deepEqual(gone.outcomes, marker.outcomes)
  assert.throws(() => put(two, idOf(two), keyOf(1, 2), { groupEpoch: 11 }), codeOf('IDEMPOTENCY_KEY_REUSED'))
  assert.equal(versionsOf(two, idOf(two)), before, 'nothing was written twice')
  // What had not arrived is written there, as it should be.
  assert.equal(put(two, idOf(two), keyOf(3), { groupEpoch: 11 }).first, undefined)
  assert.equal(versionsOf(two, idOf(two)), before + 1)
})

test('a write that a failover has lost is made anew when it is asked for again: the answer was to what is not there', () => {
  const [one, two] = twoRegions()
  const kept = put(one, idOf(one), keyOf(1), { groupEpoch: 10 })
  ship(one, two, 'b')
  const lost = put(one, idOf(one), keyOf(2), { groupEpoch: 10 })
  two.catalog.run({ type: 'vote-group', name: 'g', epoch: 11, primary: 2 })
  const { record } = two.catalog.run({ type: 'take-group', name: 'g', epoch: 11, cause: 'automatic' })
  // The former primary comes back, follows its successor, and takes its place.
  one.catalog.run({ type: 'put-group', record })
  while (!one.catalog.run({ type: 'list-losses', name: 'g', bucketId: idOf(one) }).done);
  const rule = two.catalog.replication.rule(idOf(two)) ?? assert.fail()
  one.catalog.run({ type: 'set-replication', bucketId: idOf(one), rule })
  ship(two, one, 'b')
  assert.equal(versionsOf(one, idOf(one)), 1, 'what was lost is set aside')
  one.catalog.run({ type: 'vote-group', name: 'g', epoch: 12, primary: 1 })
  one.catalog.run({ type: 'take-group', name: 'g', epoch: 12, cause: 'planned' })

  const again = (number: number) => put(one, idOf(one), keyOf(number), { groupEpoch: 12 })
  assert.deepEqual(again(1).versionId, kept.versionId, 'what has arrived is not written twice')
  assert.equal(one.catalog.firstResult(idOf(one), keyOf(2)), undefined)
  const made = again(2)
  assert.notDeepEqual(made.versionId, lost.versionId)
  assert.equal(versionsOf(one, idOf(one)), 2)
  assert.deepEqual(again(2).versionId, made.versionId)
  assert.equal(versionsOf(one, idOf(one)), 2)
  for (const { tables } of [one, two]) assert.deepEqual(verifyRows(tables), [])
})

test('what comes from another region takes no answer back that was given here', () => {
  const [one, two] = [testRegion(1), testRegion(2)]
  for (const { catalog } of [one, two]) {
    const { id: bucketId } = catalog.run({ type: 'create-bucket', name: 'b', owner: 'root' })
    catalog.run({ type: 'set-versioning', bucketId, state: 'enabled' })
    catalog.run({ type: 'set-replication', bucketId, rule: ruleOf({ mode: 'multi' }) })
  }
  const { id: alone } = one.catalog.run({ type: 'create-bucket', name: 'alone', owner: 'root' })
  const own = put(one, alone, keyOf(1))
  const first = put(one, idOf(one), keyOf(2))
  // A key that is a namesake's, or a neighbour's who means it; and a retry that came to both regions at once.
  put(two, idOf(two), keyOf(1, 2))
  put(two, idOf(two), keyOf(2))
  const free = put(two, idOf(two), keyOf(3))
  ship(two, one, 'b')
  assert.deepEqual(put(one, alone, keyOf(1)), { ...own, first: { etag: etagOf(7) } }, 'of another bucket')
  assert.deepEqual(put(one, idOf(one), keyOf(2)).versionId, first.versionId, 'all are answered alike')
  assert.deepEqual(put(one, idOf(one), keyOf(3)).versionId, free.versionId, 'what is new here is taken over')
})
