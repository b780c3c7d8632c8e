import assert from 'node:assert/strict'
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { test } from 'node:test'
import fc from 'fast-check'
import { createDirectCatalog } from '../../../core/catalog/direct-catalog.ts'
import { LmdbTables } from '../../../core/catalog/lmdb-tables.ts'
import { MemoryTables } from '../../../core/catalog/memory-tables.ts'
import { decodeResult } from '../../../core/catalog/result.ts'
import { stateHash } from '../../../core/catalog/state-machine.ts'
import { rowKey, rowValue, type TableReader, type Tables } from '../../../core/catalog/tables.ts'
import type { Command } from '../../../core/contract/catalog.ts'
import { StorageError } from '../../../core/contract/errors.ts'
import { compareWithModel } from '../../kit/catalog-comparison.ts'
import { CatalogDriver, stepKinds } from '../../kit/catalog-driver.ts'

const openers: Readonly<Record<string, (directory: string) => Tables>> = {
  memory: () => new MemoryTables(),
  lmdb: (directory) => new LmdbTables({ directory }),
}

async function withTables(open: (directory: string) => Tables, use: (tables: Tables) => void): Promise<void> {
  const directory = mkdtempSync(join(tmpdir(), 'pando-tables-'))
  const tables = open(directory)
  try {
    use(tables)
  } finally {
    await tables.close()
    rmSync(directory, { recursive: true, force: true })
  }
}

function allRows(reader: TableReader, start: Uint8Array, end: Uint8Array): [string, string][] {
  const found: [string, string][] = []
  const cursor = reader.rows(start, end)
  while (cursor.next()) {
    found.push([Buffer.from(rowKey(cursor)).toString('hex'), Buffer.from(rowValue(cursor)).toString('hex')])
  }
  return found
}

const bytes = fc.uint8Array({ minLength: 1, maxLength: 6 })
const change = fc.oneof(
  fc.record({ key: bytes, value: fc.uint8Array({ maxLength: 5000, size: 'max' }) }),
  fc.record({ key: bytes, value: fc.constant(undefined) }),
)

for (const [name, open] of Object.entries(openers)) {
  test(`${name}: rows come back in byte order, and a transaction that throws has not happened`, async () => {
    await fc.assert(
      fc.asyncProperty(
        fc.array(fc.tuple(fc.array(change, { maxLength: 8 }), fc.boolean()), { maxLength: 8 }),
        bytes,
        bytes,
        (transactions, start, end) =>
          withTables(open, (tables) => {
            const model = new Map<string, string>()
            for (const [changes, fails] of transactions) {
              const before = new Map(model)
              const run = (): void =>
                tables.transact((writer) => {
                  for (const { key, value } of changes) {
                    const hex = Buffer.from(key).toString('hex')
                    if (value === undefined) {
                      writer.remove(key)
                      model.delete(hex)
                    } else {
                      writer.put(key, value)
                      model.set(hex, Buffer.from(value).toString('hex'))
                    }
                    const own = writer.get(key)
                    assert.equal(
                      own === undefined ? undefined : Buffer.from(own).toString('hex'),
                      model.get(hex),
                    )
                  }
                  if (fails) throw new RangeError('on purpose')
                })
              if (!fails) run()
              else {
                assert.throws(run, RangeError)
                model.clear()
                for (const [key, value] of before) model.set(key, value)
              }
            }
            const inRange = [...model]
              .filter(([key]) => key >= Buffer.from(start).toString('hex'))
              .filter(([key]) => key < Buffer.from(end).toString('hex'))
              .sort(([left], [right]) => (left < right ? -1 : 1))
            assert.deepEqual(allRows(tables.reader, start, end), inRange)
          }),
      ),
      { numRuns: 60 },
    )
  })

  test(`${name}: a cursor goes on from where it was sent`, async () => {
    await withTables(open, (tables) => {
      tables.transact((writer) => {
        for (let index = 0; index < 100; index++) writer.put(Uint8Array.of(1, index), Uint8Array.of(index))
      })
      const cursor = tables.reader.rows(Uint8Array.of(1), Uint8Array.of(1, 90))
      const seen: number[] = []
      while (cursor.next()) {
        const at = rowValue(cursor)[0] ?? 0
        seen.push(at)
        cursor.seek(Uint8Array.of(1, at + 30))
      }
      assert.deepEqual(seen, [0, 30, 60])
    })
  })
}

test('memory and LMDB hold the same rows after the same commands, and both what the model says', async () => {
  const step = fc.record({
    kind: fc.constantFrom(...stepKinds),
    bucket: fc.constantFrom(0, 0, 1),
    key: fc.nat(5),
    pick: fc.nat(100),
    condition: fc.nat(1000),
  })
  await fc.assert(
    fc.asyncProperty(
      fc.array(step, { minLength: 20, maxLength: 60, size: 'max' }),
      fc.integer(),
      (steps, seed) =>
        withTables(
          (directory) => new LmdbTables({ directory }),
          (lmdb) => {
            const driver = new CatalogDriver(seed)
            const memory = new MemoryTables()
            const proposer = createDirectCatalog({
              tables: memory,
              environment: driver.environment,
              regionId: 1,
            })
            const other = createDirectCatalog({ tables: lmdb, environment: driver.environment, regionId: 1 })
            const run = (command: Command): unknown => {
              const entry = proposer.propose(command)
              const answers = [
                proposer.apply(entry),
                other.apply(entry),
                proposer.apply(entry),
                other.apply(entry),
              ]
              const [first, ...others] = answers.map((answer) => Buffer.from(answer).toString('hex'))
              // The second time it is a retry: the same answer, and no further effect, or the model would disagree.
              for (const answer of others) assert.equal(answer, first)
              const result = decodeResult(command, answers[0] ?? new Uint8Array())
              if (result instanceof StorageError) throw result
              return result
            }
            for (const next of [
              { kind: 'create-bucket', bucket: 0, key: 0, pick: 0, condition: 0 } as const,
              ...steps,
            ]) {
              driver.perform(next, run)
            }
            assert.equal(stateHash(lmdb.reader), stateHash(memory))
            compareWithModel(other, driver.model)
          },
        ),
    ),
    { numRuns: 15 },
  )
})
