import assert from 'node:assert/strict'
import { test } from 'node:test'
import { verifyRows } from '../../../../core/catalog/verify.ts'
import { StorageError } from '../../../../core/contract/errors.ts'
import { defaultEdge, type EdgeRule, replicationLimits } from '../../../../core/contract/replication.ts'
import {
  chunkedObject,
  emptyObject,
  etagOf,
  extentOf,
  plainAttributes,
  putCommand,
} from '../../../kit/catalog-commands.ts'
import { placed, ruleOf, type TestRegion, testRegion } from '../../../kit/replicated-buckets.ts'

/** Region 1 is the hub, region 2 its edge. */
function pair(part: Partial<EdgeRule> = {}, versioned = false) {
  const hub = testRegion(1)
  const edge = testRegion(2)
  const rule = ruleOf({
    mode: 'multi',
    edge: { ...defaultEdge, regions: [2], priorities: [], pinned: [], ...part },
  })
  const [hubId, id] = [hub, edge].map(
    ({ catalog }) => catalog.run({ type: 'create-bucket', name: 'b', owner: 'root' }).id,
  )
  assert.ok(hubId !== undefined && id !== undefined)
  if (versioned) hub.catalog.run({ type: 'set-versioning', bucketId: hubId, state: 'enabled' })
  const versioning = versioned ? 'enabled' : 'off'
  hub.catalog.run({ type: 'set-replication', bucketId: hubId, rule })
  edge.catalog.run({ type: 'set-replication', bucketId: id, rule, versioning })
  return { hub, edge, hubId, id, rule }
}

const put = (region: TestRegion, bucketId: number, key: string, size = 0, tags = {}) => {
  const object =
    size === 0 ? emptyObject(etagOf(1)) : chunkedObject(extentOf(region.newWriteId(), size), etagOf(1))
  return region.catalog.run(
    putCommand(bucketId, key, { ...object, attributes: { ...plainAttributes, tags } }),
  )
}
const remove = (region: TestRegion, bucketId: number, key: string, version?: Uint8Array | 'null') =>
  region.catalog.run({
    ...{ type: 'delete-objects', bucketId, owner: 'root' },
    items: [version === undefined ? { key } : { key, version }],
  })

/** One question of the hub and what follows; what it was given, `type key`. */
function ask({ hub, edge, hubId, id }: ReturnType<typeof pair>, limit = 256): string[] {
  const { replication } = edge.catalog
  while (replication.outbox(id)?.backfill !== undefined) edge.catalog.run({ type: 'backfill', bucketId: id })
  const outbox = replication.outbox(id)
  assert.ok(outbox !== undefined)
  const logId = outbox.id
  if (hub.catalog.replication.cursor(hubId, 2) === undefined) {
    const at = { lsn: 0, chain: new Uint8Array(32) }
    hub.catalog.run({ type: 'set-cursor', bucketId: hubId, source: 2, logId, at })
  }
  const lsn = hub.catalog.replication.cursor(hubId, 2)?.watermark ?? 0
  edge.catalog.run({ type: 'acknowledge-outbox', bucketId: id, region: 1, logId, lsn })
  edge.catalog.run({ type: 'stage-outbox', bucketId: id, askedFrom: lsn })
  const rows = replication.entries(id, lsn, limit, 1 << 24)
  if (rows.length === 0) return []
  const entries = rows.map(({ bytes }) => placed(hub, bytes))
  hub.catalog.run({ type: 'apply-remote', bucketId: hubId, source: 2, logId, after: lsn, entries })
  return rows.map(({ bytes }) => {
    const { change } = replication.decode(bytes)
    return 'key' in change ? `${change.type} ${change.key}` : change.type
  })
}

function drain(regions: ReturnType<typeof pair>): string[] {
  const order: string[] = []
  for (;;) {
    const given = ask(regions)
    order.push(...given)
    if (given.length === 0) return order.filter((one) => one !== 'range')
  }
}

const sound = (...regions: TestRegion[]) => {
  for (const { tables } of regions) assert.deepEqual(verifyRows(tables), [])
}
const codeOf = (code: string) => (error: unknown) => error instanceof StorageError && error.code === code

test('what an edge writes goes to its hub by priority, and in order among equals', () => {
  const regions = pair({
    priorities: [{ prefix: 'alarm/' }, { tag: 'urgent=yes' }, { storageClass: 'STANDARD', prefix: 'log/' }],
  })
  const { edge, id } = regions
  for (const key of ['video/1', 'log/1', 'alarm/1', 'video/2']) put(edge, id, key, 100)
  put(edge, id, 'video/3', 100, { urgent: 'yes' })
  put(edge, id, 'video/4', 100, { urgent: 'no' })
  put(edge, id, 'alarm/2', 100)
  assert.deepEqual(edge.catalog.replication.backlog(id)?.waitingByPriority, [2, 1, 1, 3])
  sound(edge)
  assert.deepEqual(drain(regions), [
    'put alarm/1',
    'put alarm/2',
    'put video/3',
    'put log/1',
    'put video/1',
    'put video/2',
    'put video/4',
  ])
  const backlog = edge.catalog.replication.backlog(id)
  assert.deepEqual([backlog?.entries, backlog?.bytes, backlog?.oldestMs], [0, 0, undefined])
  sound(edge, regions.hub)
})

test('changes of one key keep their order, whatever their tags say', () => {
  const regions = pair({ priorities: [{ tag: 'urgent=yes' }] })
  const { edge, id } = regions
  put(edge, id, 'a', 10)
  put(edge, id, 'b', 10)
  put(edge, id, 'a', 20, { urgent: 'yes' })
  put(edge, id, 'c', 10, { urgent: 'yes' })
  assert.deepEqual(drain(regions), ['put c', 'put a', 'put b', 'put a'])
  assert.equal(regions.hub.catalog.object(regions.hubId, 'a')?.byteLength, 20)
  sound(edge, regions.hub)
})

test('what becomes urgent overtakes all but the few hundred changes that have a place already', () => {
  const regions = pair({ priorities: [{ prefix: 'alarm/' }] })
  const { edge, id } = regions
  for (let number = 0; number < 2000; number++) put(edge, id, `video/${number}`)
  assert.equal(ask(regions).length, 256)
  put(edge, id, 'alarm/1')
  const at = drain(regions).indexOf('put alarm/1')
  assert.ok(at >= 0 && at < replicationLimits.stagedEntries, `it came as number ${at}`)
})

test('large bodies do not fill the way: one more goes when the hub has come to the head', () => {
  const regions = pair({ priorities: [{ prefix: 'alarm/' }] })
  const { edge, id } = regions
  for (let number = 0; number < 10; number++) put(edge, id, `video/${number}`, 40 * 1024 * 1024)
  assert.deepEqual(ask(regions), ['range', 'put video/0'])
  put(edge, id, 'alarm/1', 10)
  assert.deepEqual(drain(regions).slice(0, 2), ['put alarm/1', 'put video/1'])
  sound(edge, regions.hub)
})

test('at the quota in bytes writes are refused and reads go on; nothing that waits is dropped', () => {
  const regions = pair({ quotaBytes: 1024 * 1024 })
  const { edge, id, hub, hubId } = regions
  let taken = 0
  assert.throws(() => {
    for (;;) {
      put(edge, id, `k${taken}`, 100_000)
      taken++
    }
  }, codeOf('INSUFFICIENT_STORAGE'))
  assert.equal(taken, 10)
  assert.equal(edge.catalog.object(id, 'k3')?.byteLength, 100_000)
  for (let number = 0; number < 3; number++)
    assert.throws(() => put(edge, id, 'more', 100_000), codeOf('INSUFFICIENT_STORAGE'))
  assert.equal(drain(regions).length, taken)
  put(edge, id, 'more', 100_000)
  drain(regions)
  for (let number = 0; number < taken; number++)
    assert.equal(hub.catalog.object(hubId, `k${number}`)?.byteLength, 100_000)
  sound(edge, hub)
})

test('at the quota in age writes are refused until the hub has the oldest', () => {
  const regions = pair({ quotaAgeMs: 60_000, priorities: [{ prefix: 'alarm/' }] })
  const { edge, id, hub } = regions
  put(edge, id, 'video/1')
  put(edge, id, 'alarm/1')
  edge.clock.nowMs += 30_000
  put(edge, id, 'alarm/2')
  edge.clock.nowMs += 40_000
  hub.clock.nowMs = edge.clock.nowMs
  assert.throws(() => put(edge, id, 'alarm/3'), codeOf('INSUFFICIENT_STORAGE'))
  assert.throws(() => remove(edge, id, 'alarm/1'), codeOf('INSUFFICIENT_STORAGE'))
  // What has a place in the outbox keeps its age.
  assert.deepEqual(
    [1, 2].flatMap(() => ask(regions, 1)),
    ['range', 'put alarm/1'],
  )
  assert.throws(() => put(edge, id, 'alarm/3'), codeOf('INSUFFICIENT_STORAGE'))
  drain(regions)
  put(edge, id, 'alarm/3')
})

test('an edge never lets its hub go, however long it is away', () => {
  const regions = pair()
  const { edge, id, rule } = regions
  put(edge, id, 'a', 10)
  edge.clock.nowMs += 10 * rule.retentionMs
  edge.catalog.run({ type: 'trim-outbox', bucketId: id })
  assert.equal(edge.catalog.replication.backlog(id)?.entries, 2)
  assert.equal(edge.catalog.replication.members(id)[0]?.needsFullSync, false)
})

test('a delete at an edge is told to the hub though the edge does not hold the object', () => {
  const regions = pair()
  const { edge, id, hub, hubId } = regions
  put(hub, hubId, 'a', 10)
  put(hub, hubId, 'b', 10)
  edge.clock.nowMs = hub.clock.nowMs + 1000
  hub.clock.nowMs = edge.clock.nowMs
  remove(edge, id, 'a')
  assert.deepEqual(drain(regions), ['purge a'])
  assert.equal(hub.catalog.object(hubId, 'a'), undefined)
  assert.equal(hub.catalog.object(hubId, 'b')?.byteLength, 10)
  // What the hub writes later stays.
  remove(edge, id, 'b')
  hub.clock.nowMs = edge.clock.nowMs + 1000
  put(hub, hubId, 'b', 20)
  drain(regions)
  assert.equal(hub.catalog.object(hubId, 'b')?.byteLength, 20)
  sound(edge, hub)
})

test('a version of the hub can be deleted at an edge that does not hold it', () => {
  const regions = pair({}, true)
  const { edge, id, hub, hubId } = regions
  assert.equal(edge.catalog.bucket('b')?.versioning, 'enabled')
  const { versionId } = put(hub, hubId, 'a', 10)
  put(hub, hubId, 'a', 20)
  assert.ok(versionId instanceof Uint8Array)
  remove(edge, id, 'a', versionId)
  remove(edge, id, 'other')
  drain(regions)
  assert.equal(hub.catalog.object(hubId, 'a', versionId), undefined)
  assert.equal(hub.catalog.object(hubId, 'a')?.byteLength, 20)
  assert.equal(hub.catalog.object(hubId, 'other')?.deleteMarker, true)
  assert.throws(
    () => edge.catalog.run({ type: 'set-versioning', bucketId: id, state: 'suspended' }),
    codeOf('NOT_PRIMARY'),
  )
  sound(edge, hub)
})

test('the status of an object at an edge is pending until the hub has this very change', () => {
  const regions = pair({ priorities: [{ prefix: 'alarm/' }] })
  const { edge, id } = regions
  const { replication } = edge.catalog
  put(edge, id, 'video/1', 10)
  put(edge, id, 'alarm/1', 10)
  for (let number = 0; number < 2; number++) ask(regions, 1)
  assert.equal(replication.status(id, 'alarm/1'), 'pending')
  ask(regions, 1)
  assert.equal(replication.status(id, 'alarm/1'), 'completed')
  assert.equal(replication.status(id, 'video/1'), 'pending')
  assert.equal(replication.isUnshipped(id, 'video/1'), true)
  drain(regions)
  assert.equal(replication.status(id, 'video/1'), 'completed')
  assert.equal(replication.isUnshipped(id, 'video/1'), false)
})

test('a rule that is taken away holds no body, and leaves the objects', () => {
  const regions = pair()
  const { edge, id } = regions
  for (let number = 0; number < 1500; number++) put(edge, id, `k${number}`, 10)
  ask(regions, 10)
  remove(edge, id, 'k3')
  while (!edge.catalog.run({ type: 'set-replication', bucketId: id, rule: null }).done) sound(edge)
  sound(edge)
  assert.equal(edge.catalog.object(id, 'k4')?.byteLength, 10)
  assert.equal(edge.catalog.replication.backlog(id), undefined)
})

test('a rule with edges has one hub, for good', () => {
  const { hub, hubId, rule } = pair()
  const change = (part: object) => () =>
    hub.catalog.run({
      ...{ type: 'set-replication', bucketId: hubId },
      rule: { ...rule, epoch: rule.epoch + 1, ...part },
    })
  const { edge: _, ...plain } = rule
  assert.throws(
    () =>
      hub.catalog.run({
        ...{ type: 'set-replication', bucketId: hubId },
        rule: { ...plain, epoch: rule.epoch + 1 },
      }),
    codeOf('INVALID_ARGUMENT'),
  )
  assert.throws(change({ primary: 2 }), codeOf('INVALID_ARGUMENT'))
  assert.throws(change({ members: [1, 2, 3] }), codeOf('INVALID_ARGUMENT'))
  change({ members: [1, 2, 3], edge: { ...rule.edge, regions: [2, 3] } })()
  assert.equal(hub.catalog.replication.outbox(hubId), undefined)
})

/** What the hub says of a key, taken in at the edge as the federation does. */
function cache(
  { hub, edge, hubId, id }: ReturnType<typeof pair>,
  key: string,
  version?: Uint8Array | 'null',
) {
  const named = version === undefined ? {} : { version }
  const entry = hub.catalog.replication.versionEntry(hubId, key, version)
  if (entry === undefined) return edge.catalog.run({ type: 'cache-version', bucketId: id, key, ...named })
  const { layout } = placed(edge, entry)
  const placedAt = layout === undefined ? {} : { layout }
  return edge.catalog.run({ type: 'cache-version', bucketId: id, key, ...named, entry, ...placedAt })
}

test('what an edge keeps of its hub is what the hub has, under its ids, and is handed over to nobody', () => {
  const regions = pair()
  const { hub, edge, hubId, id } = regions
  put(hub, hubId, 'a', 100)
  cache(regions, 'a')
  assert.deepEqual(edge.catalog.object(id, 'a')?.versionId, hub.catalog.object(hubId, 'a')?.versionId)
  put(hub, hubId, 'a', 200)
  hub.catalog.run({ type: 'set-object-tags', bucketId: hubId, key: 'a', tags: { t: '1' } })
  cache(regions, 'a')
  cache(regions, 'a')
  assert.equal(edge.catalog.object(id, 'a')?.byteLength, 200)
  hub.catalog.run({ type: 'set-object-tags', bucketId: hubId, key: 'a', tags: { t: '2' } })
  cache(regions, 'a')
  assert.deepEqual(edge.catalog.object(id, 'a')?.attributes.tags, { t: '2' })
  remove(hub, hubId, 'a')
  cache(regions, 'a')
  assert.equal(edge.catalog.object(id, 'a'), undefined)
  assert.equal(edge.catalog.replication.backlog(id)?.waiting, 0)
  assert.deepEqual(drain(regions), [])
  sound(hub, edge)
})

test('what an edge has changed and not handed over is not replaced by what its hub has, nor given up', () => {
  const regions = pair()
  const { hub, edge, hubId, id } = regions
  put(hub, hubId, 'a', 100)
  const entry = hub.catalog.replication.versionEntry(hubId, 'a')
  assert.ok(entry !== undefined)
  edge.clock.nowMs = hub.clock.nowMs + 1000
  hub.clock.nowMs = edge.clock.nowMs
  put(edge, id, 'a', 300)
  assert.deepEqual(cache(regions, 'a'), { kept: false })
  const own = edge.catalog.object(id, 'a')?.versionId
  assert.ok(own !== undefined)
  const evict = { type: 'evict-versions', bucketId: id, versions: [['a', own]] } as const
  assert.deepEqual(edge.catalog.run(evict), { evicted: 0 })
  assert.equal(edge.catalog.object(id, 'a')?.byteLength, 300)
  drain(regions)
  assert.equal(hub.catalog.object(hubId, 'a')?.byteLength, 300)
  assert.deepEqual(edge.catalog.run(evict), { evicted: 1 })
  assert.equal(edge.catalog.object(id, 'a'), undefined)
  // What was given up is not deleted at the hub.
  drain(regions)
  assert.equal(hub.catalog.object(hubId, 'a')?.byteLength, 300)
  cache(regions, 'a')
  assert.equal(edge.catalog.object(id, 'a')?.byteLength, 300)
  sound(hub, edge)
})

test('of a bucket with versions the edge holds those that were read; markers and purges of the hub count', () => {
  const regions = pair({}, true)
  const { hub, edge, hubId, id } = regions
  const { versionId: first } = put(hub, hubId, 'a', 100)
  const { versionId: second } = put(hub, hubId, 'a', 200)
  assert.ok(first instanceof Uint8Array && second instanceof Uint8Array)
  cache(regions, 'a')
  assert.equal(edge.catalog.object(id, 'a', first), undefined)
  cache(regions, 'a', first)
  assert.equal(edge.catalog.object(id, 'a', first)?.byteLength, 100)
  assert.equal(edge.catalog.object(id, 'a')?.byteLength, 200)
  remove(hub, hubId, 'a', second)
  cache(regions, 'a')
  assert.equal(edge.catalog.object(id, 'a', second), undefined)
  assert.equal(edge.catalog.object(id, 'a')?.byteLength, 100)
  remove(hub, hubId, 'a')
  cache(regions, 'a')
  assert.equal(edge.catalog.object(id, 'a')?.deleteMarker, true)
  assert.throws(
    () => hub.catalog.run({ type: 'cache-version', bucketId: hubId, key: 'a' }),
    codeOf('NO_SUCH_REPLICATION'),
  )
  sound(hub, edge)
})
