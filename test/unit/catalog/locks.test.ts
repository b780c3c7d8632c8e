import assert from 'node:assert/strict'
import { test } from 'node:test'
import { createDirectCatalog } from '../../../core/catalog/direct-catalog.ts'
import { MemoryTables } from '../../../core/catalog/memory-tables.ts'
import { RegionLock } from '../../../core/cluster/locks/region-lock.ts'
import type { Catalog, Command } from '../../../core/contract/catalog.ts'
import { StorageError } from '../../../core/contract/errors.ts'
import { FakeClock, fakeEnvironment } from '../../kit/fake-clock.ts'

function openRegion() {
  const clock = new FakeClock()
  const catalog = createDirectCatalog({
    tables: new MemoryTables(),
    environment: fakeEnvironment(clock),
    regionId: 1,
  })
  const lockOf = (owner: string, seen: Pick<Catalog, 'lock' | 'submit'> = catalog): RegionLock =>
    new RegionLock({ catalog: seen, name: 'collection', owner, clock, leaseMs: 30_000 })
  return { clock, catalog, lockOf }
}

const conflict = (error: unknown): boolean => error instanceof StorageError && error.code === 'CONFLICT'

test('one node at a time has a lock, and keeps it as long as it asks', async () => {
  const { clock, catalog, lockOf } = openRegion()
  const [a, b] = [lockOf('a'), lockOf('b')]
  const fence = await a.hold()
  assert.ok(fence)
  for (let round = 0; round < 30; round++) {
    assert.equal(await b.hold(), undefined)
    assert.deepEqual(await a.hold(), fence)
    await clock.advance(9_000)
  }
  assert.equal(catalog.lock('collection')?.owner, 'a')
  await a.release()
  const next = await b.hold()
  assert.ok(next && next.token > fence.token)
  assert.deepEqual(
    catalog.locks().map(({ owner, token }) => [owner, token]),
    [['b', next.token]],
  )
})

test('who does not renew loses it, and what is done under the old token is refused', async () => {
  const { clock, catalog, lockOf } = openRegion()
  const [a, b] = [lockOf('a'), lockOf('b')]
  const old = await a.hold()
  assert.equal(await b.hold(), undefined)
  await clock.advance(29_000)
  assert.equal(await b.hold(), undefined)
  await clock.advance(1_000)
  const next = await b.hold()
  assert.ok(old && next && next.token > old.token)
  await assert.rejects(catalog.submit({ type: 'collected', writeIds: [], fence: old }), conflict)
  await catalog.submit({ type: 'collected', writeIds: [], fence: next })
  assert.equal(await a.hold(), undefined)
  // Giving up what one has no longer changes nothing.
  await catalog.submit({ type: 'release-lock', name: old.name, token: old.token })
  assert.equal(catalog.lock('collection')?.owner, 'b')
})

test('an owner that renewed in time cannot be overtaken by somebody who did not see it', async () => {
  const { clock, catalog, lockOf } = openRegion()
  const a = lockOf('a')
  const fence = await a.hold()
  assert.ok(fence)
  const stale = catalog.lock('collection')
  // A node whose catalog stands still while its clock runs.
  const b = lockOf('b', { lock: () => stale, submit: (command) => catalog.submit(command) })
  assert.equal(await b.hold(), undefined)
  await clock.advance(31_000)
  assert.deepEqual(await a.hold(), fence)
  assert.equal(await b.hold(), undefined)
  assert.equal(catalog.lock('collection')?.owner, 'a')
  await catalog.submit({ type: 'collected', writeIds: [], fence })
})

test('of two who take over at once one succeeds', async () => {
  const { clock, lockOf } = openRegion()
  const [a, b, c] = [lockOf('a'), lockOf('b'), lockOf('c')]
  await a.hold()
  await Promise.all([b.hold(), c.hold()])
  await clock.advance(30_000)
  const taken = await Promise.all([b.hold(), c.hold()])
  assert.equal(taken.filter((fence) => fence !== undefined).length, 1)
})

test('a node that was restarted takes its own lock over at once, and its former process is fenced off', async () => {
  const { catalog, lockOf } = openRegion()
  const before = await lockOf('a').hold()
  const after = await lockOf('a').hold()
  assert.ok(before && after && after.token > before.token)
  await assert.rejects(catalog.submit({ type: 'collected', writeIds: [], fence: before }), conflict)
})

test('an answer that was lost gives no lock twice', async () => {
  const { catalog, lockOf } = openRegion()
  let isLost = true
  const lossy: Pick<Catalog, 'lock' | 'submit'> = {
    lock: (name) => catalog.lock(name),
    async submit<C extends Command>(command: C) {
      const result = await catalog.submit(command)
      if (isLost) throw new StorageError('UNAVAILABLE', 'the answer was lost')
      return result
    },
  }
  const a = lockOf('a', lossy)
  await assert.rejects(a.hold(), { code: 'UNAVAILABLE' })
  assert.equal(await lockOf('b').hold(), undefined)
  isLost = false
  const fence = await a.hold()
  assert.equal(fence?.token, catalog.lock('collection')?.token)
})

test('a region has no more locks than it can look through', async () => {
  const { catalog } = openRegion()
  for (let number = 0; number < 256; number++) {
    await catalog.submit({ type: 'acquire-lock', name: `lock-${number}`, owner: 'a' })
  }
  await assert.rejects(catalog.submit({ type: 'acquire-lock', name: 'one-more', owner: 'a' }), {
    code: 'OVERLOADED',
  })
})
