import assert from 'node:assert/strict'
import { test } from 'node:test'
import { createDirectCatalog } from '../../../core/catalog/direct-catalog.ts'
import { MemoryTables } from '../../../core/catalog/memory-tables.ts'
import { StorageError } from '../../../core/contract/errors.ts'
import type { ReplicationRule } from '../../../core/contract/replication.ts'
import type { Gateway, Identity, Operation, S3Request } from '../../../core/gateway/s3/operation.ts'
import { createReplicatedWrites } from '../../../core/gateway/s3/replicated-writes.ts'
import { emptyObject, etagOf, inlineObject, putCommand } from '../../kit/catalog-commands.ts'
import { FakeClock, fakeEnvironment } from '../../kit/fake-clock.ts'
import { ruleOf } from '../../kit/replicated-buckets.ts'

/** Region 1 with a bucket; what region 2 has of it the test says. */
function gateway(rule?: Partial<ReplicationRule>) {
  const clock = new FakeClock()
  const environment = fakeEnvironment(clock, 1)
  const catalog = createDirectCatalog({ tables: new MemoryTables(), environment, regionId: 1 })
  const { id: bucketId } = catalog.run({ type: 'create-bucket', name: 'b', owner: 'root' })
  if (rule !== undefined) catalog.run({ type: 'set-replication', bucketId, rule: ruleOf(rule) })
  let confirmations = 0
  let puts = 0
  const state = { hasLease: true }
  const writes = createReplicatedWrites({
    ...{ catalog, environment, replication: { regionId: 1 } },
    failover: {
      confirm: async () => {
        confirmations++
        if (!state.hasLease) throw new StorageError('UNAVAILABLE', 'the lease has ended')
      },
    },
  } as unknown as Gateway)
  const gone = new AbortController()
  let lookCount = 0
  const { members } = catalog.replication
  catalog.replication.members = (id) => {
    lookCount++
    return members(id)
  }
  const holdOf = (
    bucket: string,
    name: string,
    headers: Record<string, string> = {},
    key: string | undefined = 'a/key',
    account = 'alice',
  ) =>
    writes.of(
      {
        ...{ key, signal: gone.signal },
        header: (asked: string) => ({ 'x-pando-replication': 'sync', ...headers })[asked],
      } as unknown as S3Request,
      { name } as Operation,
      catalog.bucket(bucket),
      { kind: 'key', account, accessKeyId: account, root: false } satisfies Identity,
    )
  const hold = (name: string, headers?: Record<string, string>, key?: string, account?: string) =>
    holdOf('b', name, headers, key, account)
  const put = () =>
    catalog.run(
      putCommand(
        bucketId,
        'a/key',
        inlineObject(new Uint8Array(10).fill(++puts), Buffer.from('key'), etagOf(1)),
      ),
    )
  const arrive = (lsn: number, dead: readonly number[] = []) => {
    const logId = catalog.replication.outbox(bucketId)?.id ?? assert.fail()
    catalog.run({ type: 'acknowledge-outbox', bucketId, region: 2, logId, lsn, dead })
  }
  /** What becomes of the answer to a write, so long after it. */
  const answered = (headers?: Record<string, string>, account?: string) => {
    const { place } = put()
    const seen: { outcome?: string } = {}
    const settled =
      hold('PutObject', headers, undefined, account)?.({ status: 200, place }) ?? assert.fail('nobody waits')
    settled.then(
      (answer) => {
        seen.outcome = `${answer.status} ${answer.headers?.['x-pando-replication']}`
      },
      (reason: unknown) => {
        seen.outcome = StorageError.from(reason).code
      },
    )
    return { seen, lsn: place?.lsn ?? assert.fail('the write has no place') }
  }
  return {
    clock,
    catalog,
    bucketId,
    hold,
    holdOf,
    looks: () => lookCount,
    put,
    arrive,
    answered,
    gone,
    state,
    confirmed: () => confirmations,
  }
}

/** The copy holds everything there was before. */
function even(rule?: Partial<ReplicationRule>) {
  const made = gateway(rule ?? {})
  const { catalog, bucketId } = made
  catalog.run({ type: 'start-full-sync', bucketId, region: 2 })
  for (let turn = 0; catalog.replication.outbox(bucketId)?.backfill !== undefined; turn++) {
    assert.ok(turn < 10, 'the full synchronization does not end')
    catalog.run({ type: 'backfill', bucketId })
  }
  return made
}

const refusal = (work: () => unknown): string => {
  try {
    work()
  } catch (reason) {
    return StorageError.from(reason).message
  }
  return 'none'
}

test('a write that asks for it is answered when another region has it, and not before', async () => {
  const { clock, answered, arrive, confirmed } = even()
  const first = answered()
  await clock.advance(5_000)
  assert.equal(first.seen.outcome, undefined)
  const second = answered()
  arrive(first.lsn)
  await clock.advance(50)
  assert.deepEqual([first.seen.outcome, second.seen.outcome], ['200 sync', undefined])
  arrive(second.lsn)
  await clock.advance(50)
  assert.equal(second.seen.outcome, '200 sync')
  assert.equal(confirmed(), 2)
  assert.equal(clock.pending, 0, 'nobody looks any more')
})

test('what does not arrive in time is answered with what is known: it is stored, and retryable', async () => {
  const { clock, answered, arrive } = even()
  const patient = answered()
  const hasty = answered({ 'x-pando-wait-ms': '700' })
  await clock.advance(800)
  assert.deepEqual([patient.seen.outcome, hasty.seen.outcome], [undefined, 'REPLICATION_PENDING'])
  await clock.advance(9_400)
  assert.equal(patient.seen.outcome, 'REPLICATION_PENDING')
  assert.equal(new StorageError('REPLICATION_PENDING', '').retryable, true)
  // The same asked again writes nothing, and waits for what was written before.
  const again = answered()
  arrive(again.lsn)
  await clock.advance(50)
  assert.equal(again.seen.outcome, '200 sync')
})

test('an entry that the other region has given up, or another log, is not there', async () => {
  const { clock, answered, arrive, catalog, bucketId } = even()
  const given = answered()
  arrive(given.lsn, [given.lsn])
  await clock.advance(11_000)
  assert.equal(given.seen.outcome, 'REPLICATION_PENDING')
  const stopped = answered()
  catalog.run({ type: 'set-replication', bucketId, rule: ruleOf({ epoch: 2, primary: 2 }) })
  await clock.advance(50)
  assert.equal(stopped.seen.outcome, 'REPLICATION_PENDING', 'another region writes: nobody will know')
})

test('a client that has gone is waited for no longer, and an ended lease acknowledges nothing', async () => {
  const { clock, answered, arrive, gone, state } = even()
  state.hasLease = false
  const fenced = answered()
  arrive(fenced.lsn)
  await clock.advance(50)
  assert.equal(fenced.seen.outcome, 'UNAVAILABLE')
  answered()
  gone.abort()
  await clock.advance(50)
  assert.equal(clock.pending, 0)
})

test('it is refused before the body is taken where no other region would get the object', () => {
  assert.match(
    refusal(() => gateway().hold('PutObject')),
    /^INVALID_ARGUMENT.*has no replication rule/,
  )
  const partly = gateway({ prefix: 'b/' })
  assert.match(
    refusal(() => partly.hold('PutObject')),
    /^INVALID_ARGUMENT.*leaves out this key/,
  )
  assert.equal(
    refusal(() => partly.hold('PutObject', {}, 'b/key')),
    'none',
  )
  const edge = { quotaBytes: 1, quotaAgeMs: 1, priorities: [], cacheBytes: 1, pinned: [] }
  const hub = gateway({ mode: 'multi', edge: { ...edge, regions: [2] } })
  assert.match(
    refusal(() => hub.hold('PutObject')),
    /^INVALID_ARGUMENT.*no other region takes over/,
  )
  assert.match(
    refusal(() => gateway({}).hold('PutObject', { 'x-pando-replication': 'now' })),
    /^INVALID_ARGUMENT.*x-pando-replication is one of default, sync/,
  )
})

test('reads, parts of uploads, and who asks for the default wait for nothing', () => {
  const plain = gateway()
  for (const name of ['GetObject', 'HeadObject', 'ListObjectsV2', 'CreateBucket', 'GetBucketLocation'])
    assert.equal(plain.hold(name), undefined, name)
  const { hold } = even()
  for (const name of ['CreateMultipartUpload', 'UploadPart', 'UploadPartCopy'])
    assert.equal(hold(name), undefined, name)
  for (const name of ['PutObject', 'CopyObject', 'DeleteObject', 'DeleteObjects', 'CompleteMultipartUpload'])
    assert.ok(hold(name) !== undefined, name)
  assert.equal(hold('PutObject', { 'x-pando-replication': 'default' }), undefined)
})

test('writes that wait are bounded, for each account and for all together, and the others are refused before they write', async () => {
  const { clock, answered, arrive, hold } = even()
  const most = (account: string): number => {
    for (let count = 0; ; count++) {
      if (refusal(() => hold('PutObject', {}, undefined, account)) !== 'none') return count
      assert.ok(count < 10_000, 'there is no end of them')
      answered({ 'x-pando-wait-ms': '100' }, account)
    }
  }
  assert.equal(most('alice'), 512)
  assert.match(
    refusal(() => hold('PutObject')),
    /^SLOW_DOWN/,
  )
  // One account keeps nobody else from waiting; all together end somewhere, too.
  assert.deepEqual(
    ['bob', 'carol', 'dave', 'erin'].map((account) => most(account)),
    [512, 512, 512, 0],
  )
  // Who waits for nobody is served.
  assert.equal(hold('PutObject', { 'x-pando-replication': 'default' }, undefined, 'erin'), undefined)
  await clock.advance(200)
  const next = answered({}, 'erin')
  arrive(next.lsn)
  await clock.advance(50)
  assert.equal(next.seen.outcome, '200 sync', 'places are free again')
  assert.equal(clock.pending, 0)
})

test('a write that finds no place any more once it is made is told as what it is: stored, and nothing known of the other region', async () => {
  const { clock, put, hold, arrive } = even()
  const holds = Array.from({ length: 513 }, () => hold('PutObject') ?? assert.fail())
  const early = hold('PutObject') ?? assert.fail()
  const arrived = put().place ?? assert.fail()
  const { place } = put()
  const outcomes: string[] = []
  for (const one of holds)
    one({ status: 200, ...(place === undefined ? {} : { place }) }).catch((reason: unknown) =>
      outcomes.push(StorageError.from(reason).code),
    )
  await clock.advance(10)
  assert.deepEqual(outcomes, ['REPLICATION_PENDING'])
  // What is there by then needs no place.
  arrive(arrived.lsn)
  assert.equal((await early({ status: 200, place: arrived })).status, 200)
})

test('looks of a thousand buckets cost no more than those of a few', async () => {
  const { clock, catalog, holdOf, looks } = gateway()
  const lookedAt = async (buckets: number): Promise<number> => {
    for (let at = 0; at < buckets; at++) {
      const name = `b-${buckets}-${at}`
      const { id: bucketId } = catalog.run({ type: 'create-bucket', name, owner: 'root' })
      catalog.run({ type: 'set-replication', bucketId, rule: ruleOf({}) })
      const { place } = catalog.run(putCommand(bucketId, 'a/key', emptyObject(etagOf(1))))
      const held = holdOf(name, 'PutObject')?.({ status: 200, ...(place === undefined ? {} : { place }) })
      held?.catch(() => undefined)
    }
    // From here on none is new.
    await clock.advance(1_000)
    const before = looks()
    await clock.advance(4_000)
    const count = looks() - before
    await clock.advance(10_000)
    return count
  }
  const few = await lookedAt(16)
  const many = await lookedAt(200)
  assert.ok(few >= 2_000, `${few} looks: each bucket sixty times a second`)
  assert.ok(many <= few * 1.5, `${many} looks at 200 buckets, ${few} at 16`)
})
