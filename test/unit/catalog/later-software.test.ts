import assert from 'node:assert/strict'
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { test } from 'node:test'
import { createDirectCatalog } from '../../../core/catalog/direct-catalog.ts'
import { encodeEntry, entryRandomBytes, sessionBytes } from '../../../core/catalog/entry.ts'
import { bucketKey, encodeText, table } from '../../../core/catalog/keys.ts'
import { MemoryTables } from '../../../core/catalog/memory-tables.ts'
import { readMeta } from '../../../core/catalog/meta.ts'
import { applyEntries, stateHash } from '../../../core/catalog/state-machine.ts'
import { Writer } from '../../../core/catalog/writer.ts'
import type { Command } from '../../../core/contract/catalog.ts'
import type { StorageError } from '../../../core/contract/errors.ts'
import { emptyObject, etagOf, putCommand, realEnvironment } from '../../kit/catalog-commands.ts'
import { FakeClock, fakeEnvironment } from '../../kit/fake-clock.ts'
import { makeRegion } from '../../kit/replicated-region.ts'

const unknown = { type: 'write-in-water', bucketId: 1 } as unknown as Command
const isOlder = { code: 'UNSUPPORTED_FORMAT', message: /entry \d+ of the log.*older.*update/s }

function entryOf(command: Command, sequence: number): Uint8Array {
  const [session, random] = [new Uint8Array(sessionBytes), new Uint8Array(entryRandomBytes)]
  return encodeEntry({ session, sequence, nowMs: 1_700_000_000_000, regionId: 1, random, command })
}

function filled() {
  const tables = new MemoryTables()
  const environment = fakeEnvironment(new FakeClock(), 1)
  const catalog = createDirectCatalog({ tables, environment, regionId: 1 })
  const { id } = catalog.run({ type: 'create-bucket', name: 'b', owner: 'root' })
  for (const key of ['first', 'second']) catalog.run(putCommand(id, key, emptyObject(etagOf(1))))
  const placeOf = () => ({ hash: stateHash(tables), position: readMeta(tables).position })
  return { tables, catalog, id, placeOf }
}

test('a command of a later software is not applied, and nothing of it is recorded', () => {
  const { tables, catalog, id, placeOf } = filled()
  const before = placeOf()
  const entry = entryOf(unknown, 1)
  for (let time = 0; time < 2; time++) assert.throws(() => catalog.apply(entry), isOlder)
  const batch = [catalog.propose(putCommand(id, 'third', emptyObject(etagOf(1)))), entry]
  assert.throws(
    () => tables.transact((writer) => applyEntries(writer, batch, { retainEntries: 10 })),
    /entry 5 of the log/,
  )
  assert.deepEqual(placeOf(), before)
})

test('nor is an entry of another schema', () => {
  const { catalog, placeOf } = filled()
  const before = placeOf()
  const entry = Buffer.from(entryOf(unknown, 1))
  // The first field of seven.
  assert.equal(entry[1], 1)
  entry[1] = 2
  assert.throws(() => catalog.apply(entry), isOlder)
  assert.deepEqual(placeOf(), before)
})

test('a change of an object whose row is of a later format is not recorded either, of one or of many', () => {
  const { tables, catalog, id, placeOf } = filled()
  const rowAt = bucketKey(table.current, id, encodeText('first'))
  const row = tables.get(rowAt) ?? assert.fail('no row')
  tables.transact((writer) => writer.put(rowAt, row.with(0, 2)))
  const before = placeOf()
  assert.throws(() => catalog.run(putCommand(id, 'first', emptyObject(etagOf(2)))), isOlder)
  const items = [{ key: 'second' }, { key: 'first' }]
  assert.throws(() => catalog.run({ type: 'delete-objects', bucketId: id, items, owner: 'root' }), isOlder)
  assert.deepEqual(placeOf(), before)
})

test('a writer ends with what has to be done', { timeout: 60_000 }, async (t) => {
  const directory = await mkdtemp(join(tmpdir(), 'pando-catalog-'))
  t.after(() => rm(directory, { recursive: true, force: true }))
  const failures: StorageError[] = []
  const writer = await Writer.open(
    { directory, retainEntries: 0, minFreeBytes: 0 },
    { maxPendingEntries: 100, maxPendingBytes: 1e6 },
    realEnvironment.clock,
    { onCommit() {}, onFailure: (error) => failures.push(error) },
  )
  await assert.rejects(writer.append(entryOf(unknown, 1)), { ...isOlder, code: 'UNAVAILABLE' })
  assert.equal(failures.length, 1)
  assert.match(failures[0]?.message ?? '', isOlder.message)
  await writer.close()
})

test('the nodes of a region stand still before it, with equal chains, and say why', {
  timeout: 60_000,
}, async (t) => {
  const region = await makeRegion(t, ['a', 'b', 'c'])
  const failures = new Map<string, StorageError>()
  const nodes = await Promise.all(
    ['a', 'b', 'c'].map((name) => region.open(name, { onFailure: (error) => failures.set(name, error) })),
  )
  await Promise.all(nodes.map(({ catalog }) => catalog.ready()))
  const [first, ...others] = nodes
  assert.ok(first !== undefined)
  await first.catalog.submit({ type: 'create-bucket', name: 'b', owner: 'root' })
  await Promise.all(others.map(({ catalog }) => catalog.barrier()))
  const position = first.catalog.status().position
  first.catalog.submit(unknown).catch(() => undefined)
  while (failures.size < 3) await realEnvironment.clock.sleep(20)
  for (const { catalog, name } of nodes) {
    assert.equal(failures.get(name)?.code, 'UNSUPPORTED_FORMAT')
    assert.match(failures.get(name)?.message ?? '', isOlder.message)
    assert.equal(catalog.status().position, position)
    assert.ok(catalog.bucket('b') !== undefined, 'what was shown is shown still')
  }
})
