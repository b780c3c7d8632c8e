import assert from 'node:assert/strict'
import { test } from 'node:test'
import { verifyRows } from '../../../../core/catalog/verify.ts'
import { StorageError } from '../../../../core/contract/errors.ts'
import type { GroupRecord } from '../../../../core/contract/failover.ts'
import { isBucketName } from '../../../../core/gateway/s3/target.ts'
import { chunkedObject, etagOf, extentOf, putCommand } from '../../../kit/catalog-commands.ts'
import { ruleOf, ship, type TestRegion, testRegion } from '../../../kit/replicated-buckets.ts'

const codeOf = (code: string) => (error: unknown) => error instanceof StorageError && error.code === code

const firstEpoch = 10

/** Five regions that hold one `sync` bucket as a group; the first is its primary. */
function five(name = 'b') {
  const regions = [1, 2, 3, 4, 5].map((id) => testRegion(id))
  const members = regions.map(({ id }) => id)
  const record: GroupRecord = {
    ...{ name: 'g', regions: members, witnesses: [], buckets: [name], syncBuckets: [name] },
    ...{ automatic: true, flapMs: 60_000, leaseMs: 8_000 },
    ...{ primary: 1, epoch: firstEpoch, revision: 0, automaticMs: 0, reigns: [] },
  }
  const ids = regions.map(({ catalog }) => {
    const { id } = catalog.run({ type: 'create-bucket', name, owner: 'root' })
    catalog.run({ type: 'set-replication', bucketId: id, rule: ruleOf({ members }) })
    return id
  })
  const [one, ...others] = regions
  assert.ok(one !== undefined)
  one.catalog.run({ type: 'put-group', record })
  const made = one.catalog.failover.group('g')?.record
  const rule = one.catalog.replication.rule(ids[0] ?? 0)
  assert.ok(made !== undefined && rule !== undefined)
  for (const [at, { catalog }] of others.entries()) {
    catalog.run({ type: 'put-group', record: made })
    catalog.run({ type: 'set-replication', bucketId: ids[at + 1] ?? 0, rule })
  }
  return { regions, one, others, bucketId: ids[0] ?? 0 }
}

const put = (region: TestRegion, bucketId: number, key: string, groupEpoch?: number) =>
  region.catalog.run({
    ...putCommand(bucketId, key, chunkedObject(extentOf(region.newWriteId(), 100), etagOf(1))),
    ...(groupEpoch === undefined ? {} : { groupEpoch }),
  })

const keysOf = ({ catalog }: TestRegion): readonly string[] =>
  catalog
    .listObjects(catalog.bucket('b')?.id ?? 0, { prefix: '', delimiter: '', after: '', limit: 100 })
    .objects.map(({ key }) => key)

/** The record of the epoch that a region has won. */
function takenBy(region: TestRegion, epoch: number): GroupRecord {
  region.catalog.run({ type: 'vote-group', name: 'g', epoch, primary: region.id })
  return region.catalog.run({ type: 'take-group', name: 'g', epoch, cause: 'automatic' }).record
}

test('a write of a group commits in its own epoch only, and not once the primary has voted for another', () => {
  const { one, others, bucketId } = five()
  put(one, bucketId, 'a', firstEpoch)
  assert.throws(() => put(one, bucketId, 'b'), codeOf('STALE_EPOCH'))
  assert.throws(() => put(one, bucketId, 'b', firstEpoch - 1), codeOf('STALE_EPOCH'))
  const [two] = others
  assert.ok(two !== undefined)
  assert.throws(() => put(two, two.catalog.bucket('b')?.id ?? 0, 'b', firstEpoch), codeOf('NOT_PRIMARY'))
  one.catalog.run({ type: 'vote-group', name: 'g', epoch: firstEpoch + 1, primary: 2 })
  assert.throws(() => put(one, bucketId, 'b', firstEpoch), codeOf('UNAVAILABLE'))
  assert.deepEqual(keysOf(one), ['a'])
})

test('a vote is given once for an epoch, and survives as it was', () => {
  const { others } = five()
  const [two] = others
  assert.ok(two !== undefined)
  const vote = (epoch: number, primary: number) =>
    two.catalog.run({ type: 'vote-group', name: 'g', epoch, primary })
  vote(firstEpoch + 2, 3)
  vote(firstEpoch + 2, 3)
  assert.throws(() => vote(firstEpoch + 2, 4), codeOf('STALE_EPOCH'))
  assert.throws(() => vote(firstEpoch + 1, 4), codeOf('STALE_EPOCH'))
  assert.throws(() => vote(firstEpoch + 3, 9), codeOf('INVALID_ARGUMENT'))
  assert.deepEqual(two.catalog.failover.group('g')?.ballot, { epoch: firstEpoch + 2, primary: 3 })
})

test('who has voted for a later primary takes nothing in from the one before, so that no late copy counts', () => {
  const { one, others, bucketId } = five()
  put(one, bucketId, 'a', firstEpoch)
  const [two] = others
  assert.ok(two !== undefined)
  ship(one, two, 'b')
  assert.deepEqual(keysOf(two), ['a'])

  two.catalog.run({ type: 'vote-group', name: 'g', epoch: firstEpoch + 1, primary: 5 })
  put(one, bucketId, 'late', firstEpoch)
  const before = two.catalog.failover.positions('g', 2)
  assert.throws(() => ship(one, two, 'b'), codeOf('STALE_EPOCH'))
  assert.deepEqual(two.catalog.failover.positions('g', 2), before, 'what the candidate was told is still so')
  assert.deepEqual(keysOf(two), ['a'])
  const targetId = two.catalog.bucket('b')?.id ?? 0
  const logId = one.catalog.replication.outbox(bucketId)?.id ?? ''
  const at = { lsn: 0, chain: new Uint8Array(32) }
  assert.throws(
    () => two.catalog.run({ type: 'set-cursor', bucketId: targetId, source: 1, logId, at }),
    codeOf('STALE_EPOCH'),
  )
})

test('what a former primary had not handed over is listed, and kept beside the bucket', () => {
  const { one, others, bucketId } = five()
  const [two] = others
  assert.ok(two !== undefined)
  put(one, bucketId, 'handed', firstEpoch)
  ship(one, two, 'b')
  put(one, bucketId, 'lost', firstEpoch)

  two.catalog.run({ type: 'vote-group', name: 'g', epoch: firstEpoch + 1, primary: 2 })
  const { record } = two.catalog.run({
    ...{ type: 'take-group', name: 'g', epoch: firstEpoch + 1, cause: 'automatic' },
  })
  assert.equal(record.primary, 2)
  assert.deepEqual(
    record.reigns.at(-1)?.taken.map(({ bucket, from }) => ({ bucket, from })),
    [{ bucket: 'b', from: 1 }],
  )
  put(two, two.catalog.bucket('b')?.id ?? 0, 'later', firstEpoch + 1)

  // The former primary is back, and hears of it.
  one.catalog.run({ type: 'put-group', record })
  assert.throws(() => put(one, bucketId, 'never', firstEpoch), codeOf('NOT_PRIMARY'))
  const rule = two.catalog.replication.rule(two.catalog.bucket('b')?.id ?? 0)
  assert.ok(rule !== undefined)
  while (!one.catalog.run({ type: 'list-losses', name: 'g', bucketId }).done);
  assert.deepEqual(
    one.catalog.failover.losses(bucketId, 10).map(({ key, kind, epoch }) => ({ key, kind, epoch })),
    [{ key: 'lost', kind: 'put', epoch: firstEpoch }],
  )
  one.catalog.run({ type: 'set-replication', bucketId, rule })
  ship(two, one, 'b')
  assert.deepEqual(keysOf(one), ['handed', 'later'])
  const aside = one.catalog.bucket('b.lost')
  assert.ok(aside !== undefined)
  assert.notEqual(one.catalog.object(aside.id, 'lost'), undefined)
  for (const { tables } of [one, two]) assert.deepEqual(verifyRows(tables), [])
})

test('what is kept beside a bucket of a long name is in one that clients can name', () => {
  for (const name of [
    `${'n'.repeat(57)}-tails`,
    `${'n'.repeat(57)}.tails`,
    'n'.repeat(63),
    `${'n.'.repeat(31)}n`,
  ]) {
    assert.ok(isBucketName(name), name)
    const { one, others, bucketId } = five(name)
    const [two = assert.fail()] = others
    ship(one, two, name)
    put(one, bucketId, 'lost', firstEpoch)
    one.catalog.run({ type: 'put-group', record: takenBy(two, firstEpoch + 1) })
    while (!one.catalog.run({ type: 'list-losses', name: 'g', bucketId }).done);
    const rule = two.catalog.replication.rule(two.catalog.bucket(name)?.id ?? 0) ?? assert.fail()
    one.catalog.run({ type: 'set-replication', bucketId, rule })
    ship(two, one, name)
    const aside = one.catalog.buckets().find(({ lostOf }) => lostOf === bucketId) ?? assert.fail(name)
    assert.ok(isBucketName(aside.name), `nobody can ask for '${aside.name}'`)
    assert.notEqual(one.catalog.object(aside.id, 'lost'), undefined)
  }
})

test('what a former primary had not handed over is kept also where its successor has written the key since, or freed it', () => {
  const { one, others, bucketId } = five()
  const [two] = others
  assert.ok(two !== undefined)
  const twoId = two.catalog.bucket('b')?.id ?? 0
  for (const key of ['written', 'freed', 'both']) put(one, bucketId, key, firstEpoch)
  ship(one, two, 'b')
  const lost = ['written', 'freed', 'both'].map((key) => put(one, bucketId, key, firstEpoch).modifiedMs)
  const free = (key: string) =>
    two.catalog.run({
      ...{ type: 'delete-objects', bucketId: twoId, owner: 'root', items: [{ key }] },
      groupEpoch: firstEpoch + 1,
    })
  const record = takenBy(two, firstEpoch + 1)
  two.clock.nowMs = one.clock.nowMs + 1_000
  put(two, twoId, 'written', firstEpoch + 1)
  free('freed')
  put(two, twoId, 'both', firstEpoch + 1)
  one.catalog.run({ type: 'put-group', record })
  while (!one.catalog.run({ type: 'list-losses', name: 'g', bucketId }).done);
  const rule = two.catalog.replication.rule(twoId)
  assert.ok(rule !== undefined)
  one.catalog.run({ type: 'set-replication', bucketId, rule })
  // The synchronization begins behind the write of `both`, and comes to its delete before it comes to the key.
  const isTelling = () => two.catalog.replication.outbox(twoId)?.backfill !== undefined
  while (isTelling()) two.catalog.run({ type: 'backfill', bucketId: twoId })
  two.catalog.run({ type: 'start-full-sync', bucketId: twoId, region: 1 })
  free('both')
  ship(two, one, 'b')
  assert.deepEqual(keysOf(one), ['written'])
  const listed = one.catalog.failover.losses(bucketId, 10).map(({ key }) => key)
  assert.deepEqual(listed.toSorted(), ['both', 'freed', 'written'])
  const aside = one.catalog.bucket('b.lost')?.id ?? assert.fail()
  for (const key of listed) assert.ok(lost.includes(one.catalog.object(aside, key)?.modifiedMs ?? 0), key)
  for (const { tables } of [one, two]) assert.deepEqual(verifyRows(tables), [])
})

test('nothing of a successor is taken in before the losses are listed', () => {
  const { one, others, bucketId } = five()
  const [two] = others
  assert.ok(two !== undefined)
  ship(one, two, 'b')
  put(one, bucketId, 'lost', firstEpoch)
  const record = takenBy(two, firstEpoch + 1)
  one.catalog.run({ type: 'put-group', record })
  const rule = two.catalog.replication.rule(two.catalog.bucket('b')?.id ?? 0)
  assert.ok(rule !== undefined)
  one.catalog.run({ type: 'set-replication', bucketId, rule })
  assert.throws(() => ship(two, one, 'b'), codeOf('CONFLICT'))
})

test('a former primary that follows nobody yet holds no whole bucket, and is not made the primary', () => {
  const { one, others, bucketId } = five()
  const [two] = others
  assert.ok(two !== undefined)
  ship(one, two, 'b')
  const record = takenBy(two, firstEpoch + 1)
  put(two, two.catalog.bucket('b')?.id ?? 0, 'of the successor', firstEpoch + 1)
  one.catalog.run({ type: 'put-group', record })
  while (!one.catalog.run({ type: 'list-losses', name: 'g', bucketId }).done);
  assert.deepEqual(
    one.catalog.failover.positions('g', 1).map(({ isWhole }) => isWhole),
    [false],
    'its own outbox is of a reign that has ended',
  )
  one.catalog.run({ type: 'vote-group', name: 'g', epoch: firstEpoch + 2, primary: 1 })
  assert.throws(() => takenBy(one, firstEpoch + 2), codeOf('CONFLICT'))
})

test('only who holds the whole of a bucket becomes its primary', () => {
  const { one, others, bucketId } = five()
  put(one, bucketId, 'a', firstEpoch)
  const [two] = others
  assert.ok(two !== undefined)
  const take = () =>
    two.catalog.run({ type: 'take-group', name: 'g', epoch: firstEpoch + 1, cause: 'by-hand' })
  assert.throws(take, codeOf('STALE_EPOCH'), 'without a vote')
  two.catalog.run({ type: 'vote-group', name: 'g', epoch: firstEpoch + 1, primary: 2 })
  assert.throws(take, codeOf('CONFLICT'), 'without a synchronized copy')
})

test('a vote is refused when another node of the region has granted the lease since its node looked', () => {
  const { others } = five()
  const [two] = others
  assert.ok(two !== undefined)
  const grant = () =>
    two.catalog.run({ type: 'grant-lease', name: 'g', epoch: firstEpoch, primary: 1 }).record.leaseMs
  const seen = () => two.catalog.failover.group('g')?.grant?.at ?? 0
  const vote = (epoch: number, grantedAt: number) =>
    two.catalog.run({ type: 'vote-group', name: 'g', epoch, primary: 3, grantedAt })
  assert.equal(grant(), 8_000)
  const before = seen()
  assert.ok(before > 0)
  grant()
  assert.throws(() => vote(firstEpoch + 1, before), codeOf('STALE_EPOCH'))
  assert.throws(() => vote(firstEpoch + 1, 0), codeOf('STALE_EPOCH'))
  vote(firstEpoch + 1, seen())
  // The vote is a grant to whom it is for, and the former primary gets none behind it.
  assert.equal(two.catalog.failover.group('g')?.grant?.to, 3)
  assert.throws(grant, codeOf('STALE_EPOCH'))
})

test('a grant counts as long as the longest of its epoch: an operator may have made the lease shorter since', () => {
  const { one, others } = five()
  const [two] = others
  const made = one.catalog.failover.group('g')?.record
  assert.ok(two !== undefined && made !== undefined)
  const grant = () => {
    two.catalog.run({ type: 'grant-lease', name: 'g', epoch: firstEpoch, primary: 1 })
    return two.catalog.failover.group('g')?.grant?.leaseMs
  }
  assert.equal(grant(), 8_000)
  two.catalog.run({ type: 'put-group', record: { ...made, leaseMs: 4_000, revision: 5 } })
  assert.equal(grant(), 8_000)
  two.catalog.run({ type: 'put-group', record: { ...made, leaseMs: 12_000, revision: 6 } })
  assert.equal(grant(), 12_000)
})

test('who hands over gives no vote when another node has let writes in again, even if they are stopped anew', () => {
  const { one, bucketId } = five()
  const freeze = (isFrozen: boolean) =>
    one.catalog.run({ type: 'freeze-group', name: 'g', epoch: firstEpoch, isFrozen }).at
  const vote = (frozenAt: number) =>
    one.catalog.run({ type: 'vote-group', name: 'g', epoch: firstEpoch + 1, primary: 2, frozenAt })
  const first = freeze(true)
  assert.throws(() => put(one, bucketId, 'a', firstEpoch), codeOf('UNAVAILABLE'))
  freeze(false)
  put(one, bucketId, 'a', firstEpoch)
  assert.throws(() => vote(first), codeOf('STALE_EPOCH'))
  const second = freeze(true)
  assert.throws(() => vote(first), codeOf('STALE_EPOCH'))
  vote(second)
  assert.throws(() => put(one, bucketId, 'b', firstEpoch), codeOf('UNAVAILABLE'))
})

test('a vote is refused when a copy has come since the voter looked: the primary before counts it', () => {
  const { one, others, bucketId } = five()
  const [two] = others
  assert.ok(two !== undefined)
  put(one, bucketId, 'a', firstEpoch)
  ship(one, two, 'b')
  const positions = two.catalog.failover.positions('g', 2)
  const vote = (epoch: number) =>
    two.catalog.run({ type: 'vote-group', name: 'g', epoch, primary: 3, positions })
  put(one, bucketId, 'b', firstEpoch)
  ship(one, two, 'b')
  assert.throws(() => vote(firstEpoch + 1), codeOf('STALE_EPOCH'))
  assert.equal(two.catalog.failover.group('g')?.ballot.epoch, firstEpoch)
  const own = { type: 'vote-group', name: 'g', epoch: firstEpoch + 1, primary: 2, positions } as const
  two.catalog.run(own)
  assert.equal(two.catalog.failover.group('g')?.ballot.primary, 2, 'a candidate has what came since as well')
})
