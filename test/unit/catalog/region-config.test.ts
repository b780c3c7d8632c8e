import assert from 'node:assert/strict'
import { createHash } from 'node:crypto'
import { test } from 'node:test'
import { createDirectCatalog } from '../../../core/catalog/direct-catalog.ts'
import { encodeEntry } from '../../../core/catalog/entry.ts'
import { checkEntry } from '../../../core/catalog/entry-schema.ts'
import { MemoryTables } from '../../../core/catalog/memory-tables.ts'
import type { Command } from '../../../core/contract/catalog.ts'
import { StorageError } from '../../../core/contract/errors.ts'
import { regionConfigLimits } from '../../../core/contract/region-config.ts'
import { seededEnvironment } from '../../kit/catalog-driver.ts'

const open = () =>
  createDirectCatalog({ tables: new MemoryTables(), environment: seededEnvironment(11), regionId: 1 })
const change = (base: number, text = `maintenance: {collectInterval: ${base + 1}s}\n`) =>
  ({ type: 'set-region-config', base, text, author: 'ann', comment: `after ${base}` }) as const

test('a version of the configuration follows the one in force, so that of two changes one is refused', async () => {
  const catalog = open()
  assert.equal(catalog.regionConfigVersion(), 0)
  assert.equal(catalog.regionConfig(), undefined)
  assert.deepEqual(catalog.regionConfigs(), [])
  assert.deepEqual(await catalog.submit(change(0)), { version: 1 })
  for (const base of [0, 2]) {
    await assert.rejects(
      async () => catalog.submit(change(base)),
      (error) =>
        error instanceof StorageError && error.code === 'CONFLICT' && /version 1/.test(error.message),
    )
  }
  assert.deepEqual(await catalog.submit(change(1, '')), { version: 2 })
  const [second, first] = catalog.regionConfigs()
  assert.deepEqual([second?.version, second?.text, first?.version], [2, '', 1])
  assert.deepEqual(catalog.regionConfig(), second)
  assert.deepEqual(catalog.regionConfig(1), first)
  assert.equal(first?.hash, createHash('sha256').update(change(0).text).digest('hex'))
  assert.deepEqual([first?.author, first?.comment], ['ann', 'after 0'])
  assert.equal(catalog.regionConfig(3), undefined)
})

test('so many versions are kept and no more', async () => {
  const catalog = open()
  const { keptVersions } = regionConfigLimits
  for (let base = 0; base < keptVersions + 3; base++) await catalog.submit(change(base))
  assert.equal(catalog.regionConfigVersion(), keptVersions + 3)
  assert.deepEqual(
    catalog.regionConfigs().map(({ version }) => version),
    Array.from({ length: keptVersions }, (_, index) => keptVersions + 3 - index),
  )
  assert.equal(catalog.regionConfig(3), undefined)
})

test('an entry with a configuration that is too long is no entry', () => {
  const check = (command: Command): Uint8Array =>
    checkEntry(
      encodeEntry({
        ...{ session: new Uint8Array(8), sequence: 1, nowMs: 1, regionId: 1 },
        ...{ random: new Uint8Array(12), command },
      }),
    )
  check(change(0))
  for (const wrong of [
    change(-1),
    change(0, 'x'.repeat(regionConfigLimits.textBytes + 1)),
    { ...change(0), author: 'x'.repeat(65) },
  ]) {
    assert.throws(
      () => check(wrong),
      (error) => error instanceof StorageError && error.code === 'INVALID_ARGUMENT',
    )
  }
})
