import assert from 'node:assert/strict'
import { test } from 'node:test'
import { retryKey } from '../../../../core/catalog/replication/keys.ts'
import { decodeRetry, encodeRetry } from '../../../../core/catalog/replication/rows.ts'
import { verifyRows } from '../../../../core/catalog/verify.ts'
import { StorageError } from '../../../../core/contract/errors.ts'
import type { OutboxRow } from '../../../../core/contract/replication.ts'
import { chunkedObject, etagOf, extentOf, putCommand } from '../../../kit/catalog-commands.ts'
import {
  contentOf,
  placed,
  ruleOf,
  ship,
  type TestRegion,
  testRegion,
} from '../../../kit/replicated-buckets.ts'

const source = 1

/** A copy that is even, before its source goes on in a way that the copy's software cannot read all of. */
function pair() {
  const here = testRegion(source)
  const there = testRegion(2)
  const id = here.catalog.run({ type: 'create-bucket', name: 'b', owner: 'root' }).id
  there.catalog.run({ type: 'create-bucket', name: 'b', owner: 'root' })
  for (const region of [here, there])
    region.catalog.run({ type: 'set-replication', bucketId: id, rule: ruleOf() })
  ship(here, there, 'b')
  const put = (key: string, seed: number): void => {
    const object = chunkedObject(extentOf(here.newWriteId(), 10), etagOf(seed))
    here.catalog.run(putCommand(id, key, object))
  }
  return { here, there, id, put }
}

const cursorOf = ({ catalog }: TestRegion, id: number) =>
  catalog.replication.cursor(id, source) ?? assert.fail('it follows')

const newEntries = (here: TestRegion, there: TestRegion, id: number): readonly OutboxRow[] =>
  here.catalog.replication.entries(id, cursorOf(there, id).received.lsn, 256, 1 << 20)

/** What comes from a newer build: the entries of `unread` in a format of their own. The rest is as ever. */
function take(here: TestRegion, there: TestRegion, id: number, unread: readonly number[]) {
  const rows = newEntries(here, there, id)
  const { logId, received } = cursorOf(there, id)
  const entries = rows.map(({ bytes }, at) =>
    unread.includes(at) ? { bytes: Uint8Array.of(0x92, 2, at) } : placed(there, bytes),
  )
  const command = { bucketId: id, source, logId, after: received.lsn, entries }
  there.catalog.run({ type: 'apply-remote', ...command })
  return rows
}

/** The copy's software is replaced by one that reads what waits. */
function upgrade(there: TestRegion, id: number, lsn: number, bytes: Uint8Array): void {
  there.tables.transact((writer) => {
    const key = retryKey(id, source, lsn)
    const row = writer.get(key) ?? assert.fail(`entry ${lsn} does not wait`)
    writer.put(key, encodeRetry({ ...decodeRetry(row), bytes }))
  })
}

/** In order, as often as something can be done. */
function retryAll(there: TestRegion, id: number): void {
  const { replication } = there.catalog
  for (let isDone = false; !isDone; ) {
    isDone = true
    for (const { lsn, bytes } of replication.retries(id, source, 0, 1000)) {
      try {
        const { layout } = placed(there, bytes)
        const command = { type: 'retry-remote', bucketId: id, source, lsn } as const
        const answer = there.catalog.run(layout === undefined ? command : { ...command, layout })
        if (answer.applied) isDone = false
      } catch (error) {
        assert.equal(StorageError.from(error).code, 'CONFLICT')
      }
    }
  }
}

test('what follows an entry that cannot be read waits behind it: nothing that was deleted comes back', () => {
  const { here, there, id, put } = pair()
  put('deleted', 1)
  here.catalog.run({ type: 'delete-objects', bucketId: id, owner: 'root', items: [{ key: 'deleted' }] })
  put('kept', 2)
  const [first, ...rest] = take(here, there, id, [0])
  assert.ok(first !== undefined && rest.length >= 2)
  assert.equal(cursorOf(there, id).watermark, first.lsn - 1, 'nothing of it is acknowledged')
  assert.equal(cursorOf(there, id).retries, 1 + rest.length)
  for (const { reason } of there.catalog.replication.retries(id, source, first.lsn, 10))
    assert.match(reason, /cannot be read here/)
  const [{ lsn: second } = assert.fail()] = rest
  const early = { type: 'retry-remote', bucketId: id, source, lsn: second } as const
  assert.throws(() => there.catalog.run(early), { code: 'CONFLICT' })
  upgrade(there, id, first.lsn, first.bytes)
  retryAll(there, id)
  assert.equal(cursorOf(there, id).retries, 0)
  assert.deepEqual(contentOf(there, 'b'), contentOf(here, 'b'))
  assert.deepEqual(verifyRows(there.tables), [])
})

test('a list of all there is that could not be read removes nothing that came later', () => {
  const { here, there, id, put } = pair()
  put('old', 1)
  ship(here, there, 'b')
  here.catalog.run({ type: 'send-range', bucketId: id, after: '' })
  const at = newEntries(here, there, id).length - 1
  put('new', 2)
  const rows = take(here, there, id, [at])
  const range = rows[at] ?? assert.fail()
  assert.equal(here.catalog.replication.decode(range.bytes).change.type, 'range')
  upgrade(there, id, range.lsn, range.bytes)
  retryAll(there, id)
  assert.deepEqual(contentOf(there, 'b'), contentOf(here, 'b'))
})

test('a full synchronization whose end waited is over when it has come', () => {
  const { here, there, id, put } = pair()
  put('a', 1)
  here.catalog.run({ type: 'start-full-sync', bucketId: id, region: 2 })
  const logId = here.catalog.replication.outbox(id)?.id ?? ''
  const from = here.catalog.replication.members(id)[0]?.acknowledged ?? 0
  const { lsn, chain } = here.catalog.replication.entryAt(id, from) ?? assert.fail()
  there.catalog.run({ type: 'set-cursor', bucketId: id, source, logId, at: { lsn, chain } })
  while (here.catalog.replication.outbox(id)?.backfill !== undefined)
    here.catalog.run({ type: 'backfill', bucketId: id })
  const at = newEntries(here, there, id).length - 1
  const end = take(here, there, id, [at])[at] ?? assert.fail()
  assert.equal(cursorOf(there, id).synchronizing, true)
  upgrade(there, id, end.lsn, end.bytes)
  retryAll(there, id)
  assert.equal(cursorOf(there, id).synchronizing, false)
  assert.deepEqual(contentOf(there, 'b'), contentOf(here, 'b'))
})

test('an entry that was kept unread is judged like any other when it can be read', () => {
  const { here, there, id, put } = pair()
  put('a', 1)
  const [first = assert.fail()] = take(here, there, id, [0])
  // As of another place, which the source may not speak for.
  const other = testRegion(3)
  other.catalog.run({ type: 'create-bucket', name: 'b', owner: 'root' })
  const rule = ruleOf({ primary: 3, members: [2, 3] })
  other.catalog.run({ type: 'set-replication', bucketId: id, rule })
  for (let number = 0; number < 5; number++) {
    const object = chunkedObject(extentOf(other.newWriteId(), 10), etagOf(1))
    other.catalog.run(putCommand(id, 'a', object))
  }
  const forged = other.catalog.replication.entries(id, first.lsn - 1, 1, 1 << 20)[0] ?? assert.fail()
  assert.equal(forged.lsn, first.lsn)
  upgrade(there, id, first.lsn, forged.bytes)
  retryAll(there, id)
  assert.equal(there.catalog.object(id, 'a'), undefined)
  assert.match(there.catalog.replication.retries(id, source, 0, 1)[0]?.reason ?? '', /of region 3/)
})

test('an entry that was kept unread waits for the rule by which it was written', () => {
  const { here, there, id, put } = pair()
  const rule = ruleOf({ epoch: 2 })
  here.catalog.run({ type: 'set-replication', bucketId: id, rule })
  put('a', 1)
  const rows = take(here, there, id, [0])
  const [first = assert.fail()] = rows
  assert.equal(rows.length, 1)
  upgrade(there, id, first.lsn, first.bytes)
  retryAll(there, id)
  assert.equal(there.catalog.object(id, 'a'), undefined)
  assert.match(there.catalog.replication.retries(id, source, 0, 1)[0]?.reason ?? '', /of epoch 2/)
  there.catalog.run({ type: 'set-replication', bucketId: id, rule })
  retryAll(there, id)
  assert.deepEqual(contentOf(there, 'b'), contentOf(here, 'b'))
})
