import assert from 'node:assert/strict'
import { test } from 'node:test'
import { createDirectCatalog } from '../../../core/catalog/direct-catalog.ts'
import { table } from '../../../core/catalog/keys.ts'
import { MemoryTables } from '../../../core/catalog/memory-tables.ts'
import { readMeta, writeMeta } from '../../../core/catalog/meta.ts'
import { emptyObject, etagOf, putCommand } from '../../kit/catalog-commands.ts'
import { FakeClock, fakeEnvironment } from '../../kit/fake-clock.ts'

/** Processes that write to one region, each with a session of its own. */
function region() {
  const tables = new MemoryTables()
  const clock = new FakeClock()
  const join = (seed: number) =>
    createDirectCatalog({ tables, environment: fakeEnvironment(clock, seed), regionId: 1 })
  const first = join(1)
  const { id: bucketId } = first.run({ type: 'create-bucket', name: 'b', owner: 'root' })
  const put = (key: string, seed: number) => putCommand(bucketId, key, emptyObject(etagOf(seed)))
  const count = (tag: number): number => {
    const cursor = tables.reader.rows(Uint8Array.of(tag), Uint8Array.of(tag + 1))
    let rows = 0
    while (cursor.next()) rows++
    return rows
  }
  /** As many entries later. */
  const skip = (entries: number): void =>
    tables.transact((writer) => {
      const meta = readMeta(writer)
      writeMeta(writer, { ...meta, position: meta.position + entries })
    })
  return { first, join, bucketId, put, count, skip }
}

test('an entry that is ordered twice has one effect, however many processes have written in between', () => {
  const { first, join, bucketId, put } = region()
  first.run(put('key', 1))
  const remove = first.propose({ type: 'delete-objects', bucketId, items: [{ key: 'key' }], owner: 'root' })
  const answer = first.apply(remove)
  first.run(put('key', 2))
  for (let seed = 2; seed <= 300; seed++) join(seed).run(put(`of ${seed}`, seed))
  assert.deepEqual(first.apply(remove), answer)
  assert.equal(first.object(bucketId, 'key')?.etag, etagOf(2))
})

test('sessions of long ago go, and what they had answered with them; one that is used now and then stays', () => {
  const { first, join, bucketId, put, count, skip } = region()
  for (let seed = 2; seed <= 200; seed++) join(seed).run(put(`of ${seed}`, seed))
  assert.equal(count(table.session), 200)
  for (let step = 0; step < 70; step++) {
    skip(1024)
    first.run(put('key', step))
  }
  const remove = first.propose({ type: 'delete-objects', bucketId, items: [{ key: 'key' }], owner: 'root' })
  const answer = first.apply(remove)
  first.run(put('key', 1))
  for (let seed = 201; seed <= 400; seed++) join(seed).run(put(`of ${seed}`, seed))
  assert.ok(count(table.session) <= 201, `${count(table.session)} sessions`)
  assert.ok(count(table.dedupe) <= 73 + 201, `${count(table.dedupe)} answers`)
  assert.deepEqual(first.apply(remove), answer)
  assert.equal(first.object(bucketId, 'key')?.etag, etagOf(1))
})
