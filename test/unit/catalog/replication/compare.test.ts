import assert from 'node:assert/strict'
import { test } from 'node:test'
import { verifyRows } from '../../../../core/catalog/verify.ts'
import type { ReplicatedVersion, ReplicationRule } from '../../../../core/contract/replication.ts'
import { emptyObject, etagOf, plainAttributes, putCommand } from '../../../kit/catalog-commands.ts'
import { forgeChange } from '../../../kit/forged-change.ts'
import { contentOf, ruleOf, ship, type TestRegion, testRegion } from '../../../kit/replicated-buckets.ts'

function pair(rule: ReplicationRule = ruleOf()) {
  const here = testRegion(1)
  const there = testRegion(2)
  const id = here.catalog.run({ type: 'create-bucket', name: 'b', owner: 'root' }).id
  there.catalog.run({ type: 'create-bucket', name: 'b', owner: 'root' })
  for (const region of [here, there]) region.catalog.run({ type: 'set-replication', bucketId: id, rule })
  return { here, there, id }
}

const put = (region: TestRegion, id: number, key: string) =>
  region.catalog.run(putCommand(id, key, emptyObject(etagOf(1))))

/** One whole comparison, as entries; the number of its ranges. */
function compare(region: TestRegion, id: number): number {
  for (let ranges = 1; ; ranges++) {
    if (region.catalog.run({ type: 'compare-content', bucketId: id }).done) return ranges
  }
}

const seenBy = (region: TestRegion, id: number, source: number) => {
  const found = region.catalog.replication.cursor(id, source)?.comparison
  assert.ok(found !== undefined, 'something was compared')
  return found
}

/** What the copy asks for, sent and applied. */
function repair(from: TestRegion, to: TestRegion, id: number): number {
  const { differing } = seenBy(to, id, from.id)
  for (const range of differing) from.catalog.run({ type: 'send-range', bucketId: id, ...range })
  ship(from, to, 'b')
  return differing.length
}

function isAgreed(from: TestRegion, to: TestRegion, id: number): boolean {
  const root = from.catalog.replication.outbox(id)?.compared?.root
  const { agreed } = seenBy(to, id, from.id)
  return root !== undefined && agreed !== undefined && Buffer.compare(root, agreed.root) === 0
}

/** A version that its source never made. */
function strange(region: TestRegion, ms: number): ReplicatedVersion {
  const id = Buffer.alloc(16)
  id.writeUIntBE(ms, 0, 6)
  id.writeUInt16BE(region.id, 8)
  return {
    ...{ versionId: new Uint8Array(id), isNull: false, deleteMarker: false, owner: 'root', byteLength: 0 },
    ...{ etag: etagOf(9), attributes: plainAttributes, bodies: [] },
  }
}

test('a comparison goes over all keys in bounded steps, and equal copies have its root', () => {
  const { here, there, id } = pair()
  for (let number = 0; number < 700; number++) put(here, id, `key-${number}`)
  ship(here, there, 'b')
  assert.ok(compare(here, id) >= 3)
  // What is written while the entries are on their way is in none of them.
  put(here, id, 'key-10')
  put(here, id, 'other')
  ship(here, there, 'b')
  const seen = seenBy(there, id, 1)
  assert.deepEqual([seen.differences, seen.differing], [0, []])
  assert.ok(isAgreed(here, there, id))
  compare(here, id)
  const before = seenBy(there, id, 1).agreed?.root
  ship(here, there, 'b')
  assert.notDeepEqual(seenBy(there, id, 1).agreed?.root, before, 'another content has another root')
  assert.ok(isAgreed(here, there, id))
})

test('what a copy has lost comes back, and what it has alone goes', () => {
  const { here, there, id } = pair()
  for (let number = 0; number < 600; number++) put(here, id, `key-${number}`)
  ship(here, there, 'b')
  const lost = there.catalog.object(id, 'key-10')
  assert.ok(lost !== undefined)
  const { versionId } = lost
  forgeChange(there, id, 1, { type: 'purge', key: 'key-10', versionId, isNull: true })
  const alone = strange(here, here.clock.nowMs - 1000)
  forgeChange(there, id, 1, { type: 'put', key: 'key-999', version: alone }, { kind: 'empty' })
  assert.notDeepEqual(contentOf(there, 'b'), contentOf(here, 'b'))
  compare(here, id)
  ship(here, there, 'b')
  assert.equal(isAgreed(here, there, id), false)
  assert.equal(seenBy(there, id, 1).differences, 2)
  assert.equal(repair(here, there, id), 2)
  assert.deepEqual(contentOf(there, 'b'), contentOf(here, 'b'))
  assert.deepEqual(seenBy(there, id, 1).differing, [], 'it is asked for once')
  compare(here, id)
  ship(here, there, 'b')
  assert.ok(isAgreed(here, there, id))
  assert.equal(seenBy(there, id, 1).differences, 2)
  for (const { tables } of [here, there]) assert.deepEqual(verifyRows(tables), [])
})

test('where both write, each gives the other what it lacks', () => {
  const { here, there, id } = pair(ruleOf({ mode: 'multi' }))
  for (const region of [here, there]) {
    for (let number = 0; number < 20; number++) put(region, id, `${region.id}/${number}`)
  }
  ship(here, there, 'b')
  ship(there, here, 'b')
  const ms = here.clock.nowMs - 1000
  forgeChange(there, id, 1, { type: 'put', key: 'there', version: strange(there, ms) }, { kind: 'empty' })
  forgeChange(here, id, 2, { type: 'put', key: 'here', version: strange(here, ms) }, { kind: 'empty' })
  for (const region of [here, there]) {
    region.clock.nowMs += 120_000
    compare(region, id)
  }
  ship(here, there, 'b')
  ship(there, here, 'b')
  assert.ok(repair(here, there, id) === 1 && repair(there, here, id) === 1)
  assert.deepEqual(contentOf(there, 'b'), contentOf(here, 'b'))
  assert.ok(here.catalog.object(id, 'there') !== undefined && there.catalog.object(id, 'here') !== undefined)
  for (const region of [here, there]) compare(region, id)
  ship(here, there, 'b')
  ship(there, here, 'b')
  assert.ok(isAgreed(here, there, id) && isAgreed(there, here, id))
  // And both know the same root: it is over versions, not over who made them.
  assert.deepEqual(
    here.catalog.replication.outbox(id)?.compared?.root,
    there.catalog.replication.outbox(id)?.compared?.root,
  )
})

test('where one region writes, its content of a version takes the place of another under the same id', () => {
  const { here, there, id } = pair()
  put(here, id, 'a')
  ship(here, there, 'b')
  const { versionId } = here.catalog.object(id, 'a') ?? {}
  assert.ok(versionId !== undefined)
  // The copy has other bytes: a fault of its own.
  forgeChange(there, id, 1, { type: 'purge', key: 'a', versionId, isNull: true })
  const other = { ...strange(here, 0), versionId, isNull: true, etag: etagOf(2) }
  forgeChange(there, id, 1, { type: 'put', key: 'a', version: other }, { kind: 'empty' })
  assert.equal(there.catalog.object(id, 'a')?.etag, etagOf(2))
  compare(here, id)
  ship(here, there, 'b')
  assert.equal(repair(here, there, id), 1)
  assert.deepEqual(contentOf(there, 'b'), contentOf(here, 'b'))
  compare(here, id)
  ship(here, there, 'b')
  assert.ok(isAgreed(here, there, id))
  assert.equal(seenBy(there, id, 1).differences, 1, 'it is no difference any more')
  for (const { tables } of [here, there]) assert.deepEqual(verifyRows(tables), [])
})

for (const [ours, theirs] of [
  [3, 4],
  [4, 3],
] as const) {
  test(`where several write, the same content of a version lasts in all, whoever has it (${ours}, ${theirs})`, () => {
    const { here, there, id } = pair(ruleOf({ mode: 'multi' }))
    const ms = here.clock.nowMs - 1000
    const bytes = (size: number): Uint8Array => new Uint8Array(size)
    for (const region of [here, there]) put(region, id, `of-${region.id}`)
    ship(here, there, 'b')
    ship(there, here, 'b')
    for (const [region, source, size] of [
      [here, 2, ours],
      [there, 1, theirs],
    ] as const) {
      const version = {
        ...{ ...strange(here, ms), etag: etagOf(size), byteLength: size },
        inline: bytes(size),
      }
      const layout = { kind: 'inline', writeId: region.newWriteId() } as const
      forgeChange(region, id, source, { type: 'put', key: 'x', version }, layout)
    }
    const regions = [here, there]
    for (let pass = 0; pass < 2; pass++) {
      for (const region of regions) {
        region.clock.nowMs += 120_000
        compare(region, id)
      }
      ship(here, there, 'b')
      ship(there, here, 'b')
      repair(here, there, id)
      repair(there, here, id)
    }
    assert.deepEqual(contentOf(there, 'b'), contentOf(here, 'b'))
    const etags = [etagOf(3), etagOf(4)].toSorted()
    assert.equal(here.catalog.object(id, 'x')?.etag, etags[1])
    for (const region of regions) compare(region, id)
    ship(here, there, 'b')
    ship(there, here, 'b')
    assert.ok(isAgreed(here, there, id) && isAgreed(there, here, id))
    for (const { tables } of regions) assert.deepEqual(verifyRows(tables), [])
  })
}

test('a copy in which something waits compares nothing, and does not say that it agrees', () => {
  const { here, there, id } = pair()
  put(here, id, 'a')
  ship(here, there, 'b')
  put(here, id, 'b')
  const outbox = here.catalog.replication.outbox(id)
  const after = there.catalog.replication.cursor(id, 1)?.received.lsn ?? 0
  const [row] = here.catalog.replication.entries(id, after, 1, 1 << 20)
  assert.ok(row !== undefined && outbox !== undefined)
  there.catalog.run({
    ...{ type: 'apply-remote', bucketId: id, source: 1, logId: outbox.id, after },
    entries: [{ bytes: row.bytes, failure: 'not today' }],
  })
  compare(here, id)
  ship(here, there, 'b')
  const { ranges, differences, agreed } = seenBy(there, id, 1)
  assert.deepEqual([ranges, differences, agreed], [0, 0, undefined])
})

test('a version that a member has given up is shown as failed until it is tried again', () => {
  const { here, there, id } = pair()
  ship(here, there, 'b')
  put(here, id, 'good')
  put(here, id, 'bad')
  const outbox = here.catalog.replication.outbox(id)
  const after = there.catalog.replication.cursor(id, 1)?.received.lsn ?? 0
  const rows = here.catalog.replication.entries(id, after, 10, 1 << 20)
  const bad = rows.at(-1)?.lsn ?? 0
  assert.ok(outbox !== undefined)
  const status = (key: string) => here.catalog.replication.status(id, key)
  const told = (lsn: number, dead: readonly number[]) =>
    here.catalog.run({
      ...{ type: 'acknowledge-outbox', bucketId: id, region: 2, logId: outbox.id, lsn, dead },
    })
  assert.deepEqual([status('good'), status('bad')], ['pending', 'pending'])
  told(bad - 1, [])
  assert.deepEqual([status('good'), status('bad')], ['completed', 'pending'])
  told(bad - 1, [bad])
  assert.deepEqual([status('good'), status('bad')], ['completed', 'failed'])
  assert.equal(there.catalog.replication.status(id, 'good'), undefined, 'it is not there yet')
  told(bad, [])
  assert.deepEqual([status('good'), status('bad')], ['completed', 'completed'])
})
