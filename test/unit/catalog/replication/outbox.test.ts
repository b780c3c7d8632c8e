import assert from 'node:assert/strict'
import { test } from 'node:test'
import { MemoryTables } from '../../../../core/catalog/memory-tables.ts'
import { applyEntries, stateHash } from '../../../../core/catalog/state-machine.ts'
import { verifyRows } from '../../../../core/catalog/verify.ts'
import type { Command } from '../../../../core/contract/catalog.ts'
import { StorageError } from '../../../../core/contract/errors.ts'
import {
  chunkedObject,
  emptyObject,
  etagOf,
  extentOf,
  inlineObject,
  putCommand,
} from '../../../kit/catalog-commands.ts'
import {
  contentOf,
  placed,
  ruleOf,
  ship,
  type TestRegion,
  testRegion,
} from '../../../kit/replicated-buckets.ts'

const codeOf = (code: string) => (error: unknown) => error instanceof StorageError && error.code === code

function pair(rule = ruleOf(), versioned = false) {
  const here = testRegion(1)
  const there = testRegion(2)
  const id = here.catalog.run({ type: 'create-bucket', name: 'b', owner: 'root' }).id
  const copy = there.catalog.run({ type: 'create-bucket', name: 'b', owner: 'root' }).id
  if (versioned) here.catalog.run({ type: 'set-versioning', bucketId: id, state: 'enabled' })
  here.catalog.run({ type: 'set-replication', bucketId: id, rule })
  there.catalog.run({ type: 'set-replication', bucketId: copy, rule })
  return { here, there, id, copy }
}

const put = (region: TestRegion, bucketId: number, key: string, size = 0, seed = 0) =>
  region.catalog.run(
    putCommand(
      bucketId,
      key,
      size === 0
        ? emptyObject(etagOf(seed))
        : chunkedObject(extentOf(region.newWriteId(), size), etagOf(seed)),
    ),
  )
const remove = (region: TestRegion, bucketId: number, key: string, version?: Uint8Array) =>
  region.catalog.run({
    type: 'delete-objects',
    bucketId,
    owner: 'root',
    items: [version === undefined ? { key } : { key, version }],
  })
const lsns = (region: TestRegion, bucketId: number, after = 0) =>
  region.catalog.replication
    .entries(bucketId, after, 1000, 1 << 24)
    .map(({ lsn, bytes }) => `${lsn} ${region.catalog.replication.decode(bytes).change.type}`)
const sound = (...regions: TestRegion[]) => {
  for (const { tables } of regions) assert.deepEqual(verifyRows(tables), [])
}

test('every change of a replicated bucket is one entry, dense and in order; a bucket without a rule has none', () => {
  const { here, id } = pair(ruleOf(), true)
  const other = here.catalog.run({ type: 'create-bucket', name: 'other', owner: 'root' }).id
  put(here, other, 'x')
  const { versionId } = put(here, id, 'a', 100)
  here.catalog.run({ type: 'set-object-tags', bucketId: id, key: 'a', tags: { t: '1' } })
  remove(here, id, 'a')
  assert.ok(versionId instanceof Uint8Array)
  remove(here, id, 'a', versionId)
  here.catalog.run({ type: 'set-versioning', bucketId: id, state: 'suspended' })
  assert.deepEqual(lsns(here, id), ['1 put', '2 attributes', '3 put', '4 purge', '5 versioning'])
  assert.equal(here.catalog.replication.outbox(other), undefined)
  sound(here)
})

test('a copy has the very versions, markers, metadata and part tables of its source', () => {
  const { here, there, id } = pair(ruleOf(), true)
  put(here, id, 'a', 5000, 1)
  put(here, id, 'a', 10, 2)
  remove(here, id, 'a')
  here.catalog.run(putCommand(id, 'i', inlineObject(here.newWriteId(), new Uint8Array([1, 2, 3]))))
  const { uploadId } = here.catalog.run({
    type: 'create-upload',
    bucketId: id,
    key: 'm',
    owner: 'root',
    initiator: 'root',
    attributes: {
      contentType: 'text/x',
      systemHeaders: { 'cache-control': 'no-store' },
      userMetadata: { a: 'b' },
      storageClass: 'STANDARD_IA',
      tags: { t: 'u' },
    },
  })
  const upload = { bucketId: id, key: 'm', uploadId }
  for (const number of [1, 2]) {
    const layout = { kind: 'chunks', extents: [extentOf(here.newWriteId(), 3000)] } as const
    here.catalog.run({ type: 'put-part', ...upload, number, byteLength: 3000, etag: etagOf(number), layout })
  }
  const parts = [1, 2].map((number) => ({ number, etag: etagOf(number) }))
  here.catalog.run({ type: 'complete-upload', ...upload, parts, etag: `${etagOf(9)}-2` })
  here.catalog.run({ type: 'set-object-tags', bucketId: id, key: 'm', tags: { later: 'yes' } })
  ship(here, there, 'b', 3)
  assert.deepEqual(contentOf(there, 'b'), contentOf(here, 'b'))
  assert.equal(contentOf(there, 'b').length, 5)
  assert.equal(there.catalog.bucket('b')?.versioning, 'enabled')
  const record = there.catalog.object(there.catalog.bucket('b')?.id ?? 0, 'i')
  assert.ok(record?.layout.kind === 'inline')
  assert.deepEqual(there.catalog.inlineBody(record.layout.writeId), new Uint8Array([1, 2, 3]))
  sound(here, there)
})

test('what came from another region is not told on (loop prevention by origin)', () => {
  const { here, there, id, copy } = pair(ruleOf({ mode: 'multi' }))
  ship(here, there, 'b')
  ship(there, here, 'b')
  put(here, id, 'a', 10)
  ship(here, there, 'b')
  assert.equal(ship(there, here, 'b'), 0)
  put(there, copy, 'c', 10)
  ship(there, here, 'b')
  assert.equal(ship(here, there, 'b'), 0)
  assert.deepEqual(contentOf(there, 'b'), contentOf(here, 'b'))
  sound(here, there)
})

test('only the primary takes writes, and the copy says where it is', () => {
  const { there, copy } = pair()
  assert.throws(
    () => put(there, copy, 'a'),
    (error) =>
      error instanceof StorageError && error.code === 'NOT_PRIMARY' && error.details['PrimaryRegion'] === '1',
  )
  assert.throws(() => remove(there, copy, 'a'), codeOf('NOT_PRIMARY'))
  assert.equal(there.catalog.replication.outbox(copy), undefined)
})

test('entries of a region that lost the primary are refused at the commit, and so is its next client (T37)', () => {
  const { here, there, id, copy } = pair()
  put(here, id, 'a')
  ship(here, there, 'b')
  there.catalog.run({ type: 'set-replication', bucketId: copy, rule: ruleOf({ primary: 2, epoch: 2 }) })
  put(here, id, 'late')
  const cursor = there.catalog.replication.cursor(copy, 1)
  const after = cursor?.received.lsn ?? 0
  const entries = here.catalog.replication.entries(id, after, 10, 1 << 20).map(({ bytes }) => ({ bytes }))
  const command = { bucketId: copy, source: 1, logId: cursor?.logId ?? '', after, entries }
  assert.throws(() => there.catalog.run({ type: 'apply-remote', ...command }), codeOf('STALE_EPOCH'))
  here.catalog.run({ type: 'set-replication', bucketId: id, rule: ruleOf({ primary: 2, epoch: 2 }) })
  assert.throws(() => put(here, id, 'more'), codeOf('NOT_PRIMARY'))
  // An epoch is never used twice (T38).
  assert.throws(
    () => here.catalog.run({ type: 'set-replication', bucketId: id, rule: ruleOf({ primary: 1, epoch: 2 }) }),
    codeOf('CONFLICT'),
  )
})

test('what the old primary wrote and did not hand over outlives the first synchronization from the new one (T37)', () => {
  const { here, there, id, copy } = pair()
  put(here, id, 'a', 10)
  ship(here, there, 'b')
  const orphan = put(here, id, 'only-here', 10)
  const rule = ruleOf({ primary: 2, epoch: 2 })
  there.catalog.run({ type: 'set-replication', bucketId: copy, rule })
  here.catalog.run({ type: 'set-replication', bucketId: id, rule })
  put(there, copy, 'new', 10)
  ship(there, here, 'b')
  assert.equal(orphan.versionId, 'null')
  assert.ok(here.catalog.object(id, 'only-here') !== undefined)
  assert.ok(here.catalog.object(id, 'new') !== undefined)
  sound(here, there)
})

test('a batch that comes twice, or from another place than the cursor, changes nothing (T1, T2, T34)', () => {
  const { here, there, id, copy } = pair()
  ship(here, there, 'b')
  put(here, id, 'a', 10)
  put(here, id, 'a', 20)
  put(here, id, 'c', 30)
  const cursor = there.catalog.replication.cursor(copy, 1)
  const after = cursor?.received.lsn ?? 0
  const rows = here.catalog.replication.entries(id, after, 10, 1 << 20)
  const batch = (from: number, count: number) => ({
    type: 'apply-remote' as const,
    ...{ bucketId: copy, source: 1, logId: cursor?.logId ?? '', after: after + from },
    entries: rows.slice(from, from + count).map(({ bytes }) => placed(there, bytes)),
  })
  assert.throws(() => there.catalog.run(batch(1, 2)), codeOf('CONFLICT'))
  assert.equal(there.catalog.run(batch(0, 2)).applied, 2)
  const before = contentOf(there, 'b')
  assert.equal(there.catalog.run(batch(0, 2)).applied, 0)
  assert.throws(() => there.catalog.run(batch(0, 3)), codeOf('CONFLICT'))
  assert.deepEqual(contentOf(there, 'b'), before)
  assert.equal(there.catalog.run(batch(2, 1)).applied, 1)
  assert.deepEqual(contentOf(there, 'b'), contentOf(here, 'b'))
  sound(here, there)
})

test('a body is kept until every member has it, whatever became of its object (T3)', () => {
  const { here, there, id } = pair(ruleOf({ members: [1, 2, 3] }))
  const third = testRegion(3)
  const copy = third.catalog.run({ type: 'create-bucket', name: 'b', owner: 'root' }).id
  third.catalog.run({ type: 'set-replication', bucketId: copy, rule: ruleOf({ members: [1, 2, 3] }) })
  put(here, id, 'a', 1000)
  put(here, id, 'a', 2000)
  remove(here, id, 'a')
  const trim = () => here.catalog.run({ type: 'trim-outbox', bucketId: id })
  ship(here, there, 'b')
  trim()
  // Of all configured members, also of one that has never asked (T6, T7).
  assert.equal(here.catalog.garbage(10).length, 0)
  assert.equal(here.catalog.writes(null, 10).length, 2)
  sound(here)
  ship(here, third, 'b')
  trim()
  assert.equal(here.catalog.garbage(10).length, 2)
  assert.equal(here.catalog.writes(null, 10).length, 0)
  assert.equal(here.catalog.replication.outbox(id)?.rowBytes, 0)
  assert.equal(here.catalog.replication.outbox(id)?.bodyBytes, 0)
  assert.deepEqual(contentOf(third, 'b'), [])
  sound(here, there, third)
})

test('an entry that fails waits by itself; what follows on its key waits behind it, all else goes on (T4, T10, T22)', () => {
  const { here, there, id, copy } = pair()
  ship(here, there, 'b')
  put(here, id, 'a', 10, 1)
  put(here, id, 'b', 10, 2)
  remove(here, id, 'a')
  put(here, id, 'c', 10, 3)
  const cursor = () => there.catalog.replication.cursor(copy, 1)
  const after = cursor()?.received.lsn ?? 0
  const rows = here.catalog.replication.entries(id, after, 10, 1 << 20)
  const entries = rows.map(({ bytes }, at) =>
    at === 0 ? { bytes, failure: 'no route' } : placed(there, bytes),
  )
  const command = { bucketId: copy, source: 1, logId: cursor()?.logId ?? '', after, entries }
  assert.deepEqual(there.catalog.run({ type: 'apply-remote', ...command }), { applied: 2, retries: 2 })
  assert.equal(cursor()?.received.lsn, after + 4)
  assert.equal(cursor()?.watermark, after)
  assert.equal(there.catalog.object(copy, 'c')?.etag, etagOf(3))
  const retry = (lsn: number, rest: object) =>
    there.catalog.run({ type: 'retry-remote', bucketId: copy, source: 1, lsn, ...rest })
  assert.throws(() => retry(after + 3, {}), codeOf('CONFLICT'))
  assert.equal(retry(after + 1, { failure: { reason: 'no route', nextMs: 1, dead: true } }).applied, false)
  assert.deepEqual([cursor()?.retries, cursor()?.dead, cursor()?.watermark], [2, 1, after])
  assert.equal(there.catalog.replication.retries(copy, 1, 0, 10)[0]?.reason, 'no route')
  const { layout } = placed(there, rows[0]?.bytes ?? new Uint8Array())
  assert.equal(retry(after + 1, { layout }).applied, true)
  assert.equal(retry(after + 3, {}).applied, true)
  assert.deepEqual([cursor()?.retries, cursor()?.dead, cursor()?.watermark], [0, 0, after + 4])
  assert.deepEqual(contentOf(there, 'b'), contentOf(here, 'b'))
  sound(here, there)
})

test('an entry that this version cannot read is kept for one that can', () => {
  const { here, there, id, copy } = pair()
  ship(here, there, 'b')
  put(here, id, 'z', 10)
  const cursor = there.catalog.replication.cursor(copy, 1)
  const after = cursor?.received.lsn ?? 0
  const entries = [{ bytes: new Uint8Array([1, 2, 3]) }]
  const command = { bucketId: copy, source: 1, logId: cursor?.logId ?? '', after, entries }
  assert.deepEqual(there.catalog.run({ type: 'apply-remote', ...command }), { applied: 0, retries: 1 })
  assert.equal(there.catalog.replication.cursor(copy, 1)?.watermark, after)
})

test('a source whose clock is ahead is refused, and no time goes back behind a peer that is trusted (T36)', () => {
  const { here, there, id, copy } = pair()
  ship(here, there, 'b')
  here.clock.nowMs += 50_000
  put(here, id, 'a')
  ship(here, there, 'b')
  assert.ok(there.catalog.lastTimeMs() >= here.catalog.lastTimeMs())
  here.clock.nowMs += 3_600_000
  put(here, id, 'future')
  assert.throws(() => ship(here, there, 'b'), codeOf('CLOCK_SKEW'))
  assert.equal(there.catalog.object(copy, 'future'), undefined)
})

test('two regions that write agree, in whatever order they hear of each other (T18, T31)', () => {
  const { here, there, id, copy } = pair(ruleOf({ mode: 'multi' }), true)
  ship(here, there, 'b')
  ship(there, here, 'b')
  const { versionId: version } = put(here, id, 'k', 10, 1)
  there.clock.nowMs += 1000
  put(there, copy, 'k', 10, 2)
  here.clock.nowMs += 2000
  remove(here, id, 'k')
  here.catalog.run({ type: 'set-object-acl', bucketId: id, key: 'k', version, acl: 'x' })
  ship(there, here, 'b')
  ship(here, there, 'b')
  assert.deepEqual(contentOf(there, 'b'), contentOf(here, 'b'))
  assert.equal(contentOf(here, 'b').length, 3)
  sound(here, there)
})

test('in an unversioned bucket that several regions write, what was deleted never comes back (T20, T21)', () => {
  const regions = [testRegion(1), testRegion(2), testRegion(3)] as const
  const rule = ruleOf({ mode: 'multi', members: [1, 2, 3] })
  for (const { catalog } of regions) {
    const { id } = catalog.run({ type: 'create-bucket', name: 'b', owner: 'root' })
    catalog.run({ type: 'set-replication', bucketId: id, rule })
  }
  const [one, two, three] = regions
  const all = () => {
    for (const from of regions) for (const to of regions) if (from !== to) ship(from, to, 'b')
  }
  all()
  put(one, 1, 'k', 10, 1)
  put(one, 1, 'other', 10, 1)
  ship(one, two, 'b')
  two.clock.nowMs += 1000
  put(two, 1, 'k', 10, 2)
  remove(two, 1, 'k')
  // The third hears of the delete before it hears of what was deleted.
  ship(two, three, 'b')
  ship(one, three, 'b')
  assert.equal(three.catalog.object(1, 'k'), undefined)
  all()
  for (const { catalog } of regions) assert.equal(catalog.object(1, 'k'), undefined)
  three.clock.nowMs += 5000
  put(three, 1, 'k', 10, 3)
  all()
  for (const region of regions) {
    assert.equal(region.catalog.object(1, 'k')?.etag, etagOf(3))
    assert.deepEqual(contentOf(region, 'b'), contentOf(one, 'b'))
  }
  sound(...regions)
})

test('conditions are refused where several regions write: none knows what the others do', () => {
  const { here, id } = pair(ruleOf({ mode: 'multi' }))
  const command = putCommand(id, 'k', emptyObject(), { ifNoneMatch: '*' })
  assert.throws(() => here.catalog.run(command), codeOf('NOT_IMPLEMENTED'))
})

test('a rule for a bucket with data brings all of it, versions and markers, in steps (T20)', () => {
  const here = testRegion(1)
  const there = testRegion(2)
  const { id } = here.catalog.run({ type: 'create-bucket', name: 'b', owner: 'root' })
  here.catalog.run({ type: 'set-versioning', bucketId: id, state: 'enabled' })
  for (let number = 0; number < 200; number++) put(here, id, `key-${number % 90}`, number % 3, number)
  remove(here, id, 'key-5')
  here.catalog.run({ type: 'set-replication', bucketId: id, rule: ruleOf() })
  assert.equal(here.catalog.replication.status(id, 'key-1'), 'pending')
  here.catalog.run({ type: 'backfill', bucketId: id })
  // Between two steps: in front of where the synchronization is, and behind it.
  put(here, id, 'key-0', 7, 1)
  remove(here, id, 'key-89')
  const { id: copy } = there.catalog.run({ type: 'create-bucket', name: 'b', owner: 'root' })
  there.catalog.run({ type: 'set-replication', bucketId: copy, rule: ruleOf() })
  ship(here, there, 'b')
  assert.deepEqual(contentOf(there, 'b'), contentOf(here, 'b'))
  assert.equal(contentOf(here, 'b').length, 203)
  assert.equal(there.catalog.replication.cursor(copy, 1)?.synchronizing, false)
  assert.equal(here.catalog.replication.status(id, 'key-1'), 'completed')
  assert.equal(there.catalog.replication.status(copy, 'key-1'), 'replica')
  put(here, id, 'key-1', 1, 1)
  assert.equal(here.catalog.replication.status(id, 'key-1'), 'pending')
  sound(here, there)
})

test('a member behind the retention is let go, told so, and synchronizes in full, purges included (T13, T14)', () => {
  const { here, there, id, copy } = pair(ruleOf({ retentionMs: 60_000 }), true)
  const { versionId } = put(here, id, 'purged', 10)
  put(here, id, 'kept', 10)
  ship(here, there, 'b')
  assert.ok(versionId instanceof Uint8Array)
  remove(here, id, 'purged', versionId)
  put(here, id, 'new', 10)
  here.clock.nowMs += 120_000
  there.clock.nowMs += 120_000
  assert.deepEqual(here.catalog.run({ type: 'trim-outbox', bucketId: id }), { done: true, dropped: [2] })
  assert.equal(here.catalog.replication.members(id)[0]?.needsFullSync, true)
  assert.equal(here.catalog.replication.status(id, 'kept'), 'pending')
  const after = there.catalog.replication.cursor(copy, 1)?.received.lsn ?? 0
  assert.throws(() => here.catalog.replication.entries(id, after, 1, 1), codeOf('LOG_TRIMMED'))
  ship(here, there, 'b')
  assert.deepEqual(contentOf(there, 'b'), contentOf(here, 'b'))
  assert.equal(here.catalog.replication.status(id, 'kept'), 'completed')
  sound(here, there)
})

test('what every member has is no reason to let one go, however long it was kept', () => {
  const { here, there, id } = pair(ruleOf({ retentionMs: 600_000 }))
  put(here, id, 'a')
  ship(here, there, 'b')
  // Nobody has trimmed for long: the coordinator was away.
  here.clock.nowMs += 700_000
  put(here, id, 'b')
  assert.deepEqual(here.catalog.run({ type: 'trim-outbox', bucketId: id }).dropped, [])
  assert.deepEqual(here.catalog.run({ type: 'trim-outbox', bucketId: id }).dropped, [])
  here.clock.nowMs += 700_000
  assert.deepEqual(here.catalog.run({ type: 'trim-outbox', bucketId: id }).dropped, [2])
})

test('an acknowledgement beyond the head, of a stranger or of another outbox is refused (T5)', () => {
  const { here, id } = pair()
  put(here, id, 'a')
  const logId = here.catalog.replication.outbox(id)?.id ?? ''
  const ack = (part: object) =>
    here.catalog.run({ type: 'acknowledge-outbox', bucketId: id, region: 2, logId, lsn: 1, ...part })
  assert.throws(() => ack({ lsn: 2 }), codeOf('INVALID_ARGUMENT'))
  assert.throws(() => ack({ region: 3 }), codeOf('INVALID_ARGUMENT'))
  assert.throws(() => ack({ logId: '0'.repeat(24) }), codeOf('CONFLICT'))
  ack({})
  ack({ lsn: 0 })
  assert.equal(here.catalog.replication.members(id)[0]?.acknowledged, 1)
})

test('a replicated bucket is not deleted before its rule is gone, and then nothing of it is left', () => {
  const { here, there, id, copy } = pair()
  put(here, id, 'a', 10)
  remove(here, id, 'a')
  ship(here, there, 'b')
  assert.throws(() => here.catalog.run({ type: 'delete-bucket', name: 'b' }), codeOf('INVALID_BUCKET_STATE'))
  assert.equal(here.catalog.run({ type: 'set-replication', bucketId: id, rule: null }).done, true)
  assert.equal(there.catalog.run({ type: 'set-replication', bucketId: copy, rule: null }).done, true)
  for (const { tables } of [here, there]) {
    assert.equal(tables.rows(Uint8Array.of(0x20), Uint8Array.of(0x2e)).next(), false)
    assert.equal(tables.rows(Uint8Array.of(0x2f), Uint8Array.of(0x30)).next(), false)
  }
  assert.equal(here.catalog.garbage(10).length, 1)
  here.catalog.run({ type: 'delete-bucket', name: 'b' })
  // Whose names its policy uses is remembered as long as the bucket is there.
  assert.equal(here.tables.rows(Uint8Array.of(0x20), Uint8Array.of(0x30)).next(), false)
  put(there, copy, 'mine')
  sound(here, there)
})

test('only an empty bucket becomes a copy, and a rule names its region', () => {
  const region = testRegion(2)
  const { id } = region.catalog.run({ type: 'create-bucket', name: 'b', owner: 'root' })
  put(region, id, 'mine')
  const set = (part: object) =>
    region.catalog.run({ type: 'set-replication', bucketId: id, rule: ruleOf(part) })
  assert.throws(() => set({}), codeOf('BUCKET_NOT_EMPTY'))
  assert.throws(() => set({ members: [1, 3] }), codeOf('INVALID_ARGUMENT'))
  assert.throws(() => set({ members: [2, 1] }), codeOf('INVALID_ARGUMENT'))
})

test('of a rule with a prefix only those keys travel', () => {
  const { here, there, id, copy } = pair(ruleOf({ prefix: 'in/' }))
  put(here, id, 'in/a')
  put(here, id, 'out/a')
  ship(here, there, 'b')
  assert.ok(there.catalog.object(copy, 'in/a') !== undefined)
  assert.equal(there.catalog.object(copy, 'out/a'), undefined)
  assert.equal(here.catalog.replication.status(id, 'out/a'), undefined)
})

test('the state of two replicas of one region that applied the same entries is the same, outbox included', () => {
  const one = testRegion(1)
  const other = new MemoryTables()
  const entries: Uint8Array[] = []
  const run = (command: Command) => {
    const entry = one.catalog.propose(command)
    entries.push(entry)
    one.catalog.apply(entry)
  }
  run({ type: 'create-bucket', name: 'b', owner: 'root' })
  run(putCommand(1, 'before', emptyObject()))
  run({ type: 'set-replication', bucketId: 1, rule: ruleOf() })
  run({ type: 'backfill', bucketId: 1 })
  run(putCommand(1, 'a', chunkedObject(extentOf(one.newWriteId(), 10))))
  run({ type: 'delete-objects', bucketId: 1, owner: 'root', items: [{ key: 'a' }] })
  const { id = '', head } = one.catalog.replication.outbox(1) ?? {}
  run({ type: 'acknowledge-outbox', bucketId: 1, region: 2, logId: id, lsn: head?.lsn ?? 0 })
  run({ type: 'trim-outbox', bucketId: 1 })
  other.transact((writer) => applyEntries(writer, entries, { retainEntries: 0 }))
  assert.equal(stateHash(other), stateHash(one.tables))
  assert.equal(head?.lsn, 4)
})
