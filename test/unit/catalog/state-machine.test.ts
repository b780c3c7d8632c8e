import assert from 'node:assert/strict'
import { test } from 'node:test'
import fc from 'fast-check'
import { createDirectCatalog } from '../../../core/catalog/direct-catalog.ts'
import { bucketKey, table } from '../../../core/catalog/keys.ts'
import { MemoryTables } from '../../../core/catalog/memory-tables.ts'
import { applyEntries, stateHash } from '../../../core/catalog/state-machine.ts'
import { rowKey, rowValue, type TableReader } from '../../../core/catalog/tables.ts'
import { verifyRows } from '../../../core/catalog/verify.ts'
import type { Command } from '../../../core/contract/catalog.ts'
import { StorageError } from '../../../core/contract/errors.ts'
import {
  chunkedObject,
  emptyObject,
  etagOf,
  extentOf,
  inlineObject,
  plainAttributes,
  putCommand,
} from '../../kit/catalog-commands.ts'
import { compareWithModel } from '../../kit/catalog-comparison.ts'
import { CatalogDriver, type Step, stepKinds } from '../../kit/catalog-driver.ts'

const step: fc.Arbitrary<Step> = fc.record({
  kind: fc.constantFrom(...stepKinds),
  bucket: fc.constantFrom(0, 0, 0, 1),
  key: fc.nat(5),
  pick: fc.nat(100),
  condition: fc.nat(1000),
})

/** All rows but meta, dedupe and sessions. */
function dataRows(reader: TableReader): string {
  const rows: string[] = []
  const cursor = reader.rows(Uint8Array.of(table.bucketByName), Uint8Array.of(table.policyDeployment + 1))
  while (cursor.next()) {
    const key = rowKey(cursor)
    if (key[0] === table.session || key[0] === table.dedupe || key[0] === table.log) continue
    rows.push(`${Buffer.from(key).toString('hex')} ${Buffer.from(rowValue(cursor)).toString('hex')}`)
  }
  return rows.join()
}

/** Steps that begin with a bucket to work in: most random ones would only hear NO_SUCH_BUCKET. */
const steps = fc
  .array(step, { maxLength: 120, size: 'max' })
  .map((rest): Step[] => [{ kind: 'create-bucket', bucket: 0, key: 0, pick: 0, condition: 0 }, ...rest])

test('any sequence of commands answers and leaves what the model of S3 says', () => {
  fc.assert(
    fc.property(steps, fc.integer(), (sequence, seed) => {
      const driver = new CatalogDriver(seed)
      const tables = new MemoryTables()
      const catalog = createDirectCatalog({ tables, environment: driver.environment, regionId: 1 })
      for (const next of sequence) driver.perform(next, catalog.run)
      compareWithModel(catalog, driver.model)
      assert.deepEqual(verifyRows(tables), [])
    }),
    { numRuns: 150 },
  )
})

test('an entry that answers an error has changed no row but those every entry changes', () => {
  fc.assert(
    fc.property(steps, fc.integer(), (sequence, seed) => {
      const driver = new CatalogDriver(seed)
      const tables = new MemoryTables()
      const catalog = createDirectCatalog({ tables, environment: driver.environment, regionId: 1 })
      const rowsOf = (): string => dataRows(tables)
      for (const next of sequence) {
        const before = rowsOf()
        let failed = false
        driver.perform(next, (command: Command) => {
          try {
            return catalog.run(command)
          } catch (error) {
            failed = true
            throw error
          }
        })
        if (failed) assert.equal(rowsOf(), before)
      }
    }),
    { numRuns: 60 },
  )
})

test('the same entries lead to the same state, whatever the batches', () => {
  fc.assert(
    fc.property(steps, fc.integer(), (sequence, seed) => {
      const driver = new CatalogDriver(seed)
      const first = new MemoryTables()
      const catalog = createDirectCatalog({ tables: first, environment: driver.environment, regionId: 1 })
      const entries: Uint8Array[] = []
      for (const next of sequence) {
        const planned = driver.plan(next)
        if (planned === undefined || planned.command.type === 'create-upload') continue
        const entry = catalog.propose(planned.command)
        entries.push(entry)
        catalog.apply(entry)
      }
      const second = new MemoryTables()
      second.transact((writer) => applyEntries(writer, entries, { retainEntries: 3 }))
      assert.equal(stateHash(second), stateHash(first))
    }),
    { numRuns: 60 },
  )
})

test('a damaged row is the error of its own key, changes nothing, and harms no other key', () => {
  const driver = new CatalogDriver(1)
  const tables = new MemoryTables()
  const catalog = createDirectCatalog({ tables, environment: driver.environment, regionId: 1 })
  const { id } = catalog.run({ type: 'create-bucket', name: 'photos', owner: 'root' })
  catalog.run(putCommand(id, 'damaged', emptyObject()))
  catalog.run(putCommand(id, 'other', emptyObject()))
  const writeId = (number: number): Uint8Array => new Uint8Array(16).fill(number)
  const ofKey = { bucketId: id, key: 'damaged' }
  const { uploadId } = catalog.run({
    ...{ type: 'create-upload', ...ofKey, owner: 'root', initiator: 'root', attributes: plainAttributes },
  })
  for (const number of [1, 2]) {
    const extents = [extentOf(writeId(number), 10)]
    const part = { uploadId, number, byteLength: 10, etag: etagOf(number) }
    catalog.run({ type: 'put-part', ...ofKey, ...part, layout: { kind: 'chunks', extents } })
  }
  // Each writes rows of its own beside that of the object.
  const writes: readonly Command[] = [
    putCommand(id, 'damaged', emptyObject()),
    putCommand(id, 'damaged', inlineObject(writeId(3), Buffer.from('body'))),
    putCommand(id, 'damaged', chunkedObject(extentOf(writeId(4), 10))),
    {
      ...{ type: 'complete-upload', ...ofKey, uploadId, etag: `${etagOf(5)}-1` },
      parts: [{ number: 1, etag: etagOf(1) }],
    },
  ]
  const rowAt = bucketKey(table.current, id, Buffer.from('damaged'))
  const row = tables.get(rowAt) ?? new Uint8Array()
  for (const damage of [row.with(0, 9), row.with(0, 0), row.subarray(0, row.length - 1)]) {
    tables.transact((writer) => writer.put(rowAt, damage))
    const before = dataRows(tables)
    for (const command of writes) assert.throws(() => catalog.run(command), StorageError, command.type)
    const remove = {
      type: 'delete-objects',
      bucketId: id,
      items: [{ key: 'damaged' }],
      owner: 'root',
    } as const
    assert.ok(catalog.run(remove).outcomes[0]?.error instanceof StorageError)
    assert.equal(dataRows(tables), before)
    catalog.run(putCommand(id, 'other', emptyObject()))
  }
  // What was refused can be done once the row is whole again: nothing of it was kept.
  tables.transact((writer) => writer.put(rowAt, row))
  for (const command of writes) catalog.run(command)
  assert.deepEqual(verifyRows(tables), [])
})

test('a change of tags or of the list that names what it is for changes nothing else', () => {
  const driver = new CatalogDriver(1)
  const catalog = createDirectCatalog({
    ...{ tables: new MemoryTables(), environment: driver.environment, regionId: 1 },
  })
  const { id: bucketId } = catalog.run({ type: 'create-bucket', name: 'photos', owner: 'root' })
  const idOf = () => catalog.object(bucketId, 'k')?.versionId ?? assert.fail('there is no k')
  const change = (expected: Uint8Array, version?: 'null' | Uint8Array) => {
    const named = { bucketId, key: 'k', expected, ...(version === undefined ? {} : { version }) }
    catalog.run({ type: 'set-object-tags', ...named, tags: { t: '1' } })
    catalog.run({ type: 'set-object-acl', ...named, acl: 'x' })
  }
  const refused = (...named: Parameters<typeof change>) =>
    assert.throws(() => change(...named), { code: 'CONFLICT', retryable: true })

  for (const state of ['off', 'suspended'] as const) {
    if (state === 'suspended') catalog.run({ type: 'set-versioning', bucketId, state })
    catalog.run(putCommand(bucketId, 'k', emptyObject()))
    const judged = idOf()
    change(judged, 'null')
    assert.equal(catalog.object(bucketId, 'k')?.attributes.acl, 'x')
    catalog.run(putCommand(bucketId, 'k', emptyObject()))
    refused(judged, 'null')
    refused(judged)
    assert.deepEqual(catalog.object(bucketId, 'k')?.attributes, emptyObject().attributes)
    const next = idOf()
    catalog.run({ type: 'delete-objects', bucketId, items: [{ key: 'k' }], owner: 'root' })
    refused(next, 'null')
  }
  catalog.run({ type: 'set-versioning', bucketId, state: 'enabled' })
  catalog.run(putCommand(bucketId, 'k', emptyObject()))
  const older = idOf()
  catalog.run(putCommand(bucketId, 'k', emptyObject()))
  change(older, older)
  refused(older)
  assert.deepEqual(catalog.object(bucketId, 'k')?.attributes.tags, {})
  assert.deepEqual(catalog.object(bucketId, 'k', older)?.attributes.tags, { t: '1' })
})
