import assert from 'node:assert/strict'
import { randomBytes } from 'node:crypto'
import { type TestContext, test } from 'node:test'
import { createCollector } from '../../../core/catalog/collector.ts'
import { verifyRows } from '../../../core/catalog/verify.ts'
import type { Command, CommandResult } from '../../../core/contract/catalog.ts'
import { type ErrorCode, StorageError } from '../../../core/contract/errors.ts'
import { realEnvironment } from '../../kit/catalog-commands.ts'
import { MemoryRegions } from '../../kit/memory-regions.ts'
import { contentOf, ruleOf } from '../../kit/replicated-buckets.ts'
import { ReplicatingRegion } from '../../kit/replicating-region.ts'

const { clock } = realEnvironment
const timeout = 30_000

async function until(what: string, isSo: () => boolean): Promise<void> {
  const end = clock.monotonic() + 15_000
  while (!isSo()) {
    if (clock.monotonic() > end) throw new Error(`it did not come to it that ${what}`)
    await clock.sleep(20)
  }
}

/** Region 2 has followed the bucket to here, and what region 2 holds of it. */
async function twoRegions(context: TestContext) {
  const network = new MemoryRegions({ clock })
  const [one, two] = [1, 2].map((id) => new ReplicatingRegion(id, network, realEnvironment))
  assert.ok(one !== undefined && two !== undefined)
  for (const region of [one, two]) region.start()
  context.after(() => Promise.all([one.kill(), two.kill()]))
  await one.catalog.submit({ type: 'create-bucket', name: 'b', owner: 'root' })
  await one.catalog.submit({ type: 'set-replication', bucketId: one.bucketId('b'), rule: ruleOf() })
  await one.put('b', 'first', randomBytes(1000))
  const incoming = () => two.replicator?.status()[0]?.incoming[0]
  // The full synchronization is more entries: as long as it is written, to have all that there are says nothing.
  const isEven = () => {
    const written = one.replicator?.status()[0]
    return (
      incoming()?.lagEntries === 0 &&
      written?.isBackfilling === false &&
      written.outgoing[0]?.lagEntries === 0
    )
  }
  await until('region 2 follows', isEven)
  return { one, two, incoming, isEven }
}

/** Nothing that no object owns is left, and no chunk is there twice. */
async function holdsNothingElse({ store, catalog, writes }: ReplicatingRegion): Promise<void> {
  const collector = createCollector({ catalog, chunks: store, writes, clock })
  await collector.collect()
  await collector.collectOrphans()
  const held = (await store.list(null, 1e6)).reduce((sum, { byteLength }) => sum + byteLength, 0)
  const bucketId = catalog.bucket('b')?.id ?? assert.fail()
  const query = { prefix: '', delimiter: '', keyMarker: '', limit: 1000 }
  const { versions } = catalog.listVersions(bucketId, query)
  assert.equal(
    held,
    versions.reduce((sum, { byteLength }) => sum + byteLength, 0),
  )
}

const troubles: readonly (readonly [ErrorCode, string])[] = [
  ['INSUFFICIENT_STORAGE', 'is full'],
  ['IO_ERROR', 'answers with I/O errors'],
  ['DEVICE_OFFLINE', 'is offline'],
  // Codes that tell of the way, from the store itself: they say nothing of the way to the other region.
  ['DEADLINE_EXCEEDED', 'does not answer in time'],
  ['CLOSED', 'is closed'],
]

for (const [code, what] of troubles) {
  test(`the store of a copy ${what} within a body: nothing counts that is not there, and it goes on by itself`, {
    timeout,
  }, async (t) => {
    const { one, two, incoming, isEven } = await twoRegions(t)
    const { put } = two.store
    const before = incoming()?.watermark
    let taken = 0
    two.store.put = async (...given) => {
      // Four chunks of the body are stored, the fifth and all that follow are not.
      if (++taken > 4) throw new StorageError(code, `the disk ${what}`)
      return put.apply(two.store, given)
    }
    const body = randomBytes(1_000_000)
    await one.put('b', 'large', body)
    await one.put('b', 'behind', randomBytes(1000))
    await until('it is told', () => incoming()?.problem !== '')
    assert.match(incoming()?.problem ?? '', new RegExp(`${code}.*${what}`))
    await clock.sleep(300)
    assert.equal(incoming()?.watermark, before, 'the watermark has not moved')
    assert.equal(incoming()?.retries, 0, 'nothing of it is said to be wrong with the object')
    assert.ok((one.replicator?.status()[0]?.outgoing[0]?.lagEntries ?? 0) >= 2, 'the source knows it')
    assert.equal(two.catalog.object(two.bucketId('b'), 'large'), undefined)
    two.store.put = put
    await until('it has come', isEven)
    await until('nothing is said to be wrong any more', () => incoming()?.problem === '')
    assert.deepEqual(await two.read('b', 'large'), body)
    assert.deepEqual(contentOf(two, 'b'), contentOf(one, 'b'))
    await holdsNothingElse(two)
    assert.deepEqual(verifyRows(two.tables), [])
  })
}

test('the catalog of a copy has no room when a body is complete: it is applied once, later', {
  timeout,
}, async (t) => {
  const { one, two, incoming, isEven } = await twoRegions(t)
  const { submit } = two.catalog
  const before = incoming()?.watermark
  let isFull = true
  const full = async <C extends Command>(command: C): Promise<CommandResult<C>> => {
    if (isFull && command.type === 'apply-remote')
      throw new StorageError('INSUFFICIENT_STORAGE', 'the catalog has no room')
    return submit(command)
  }
  two.catalog.submit = full
  const body = randomBytes(500_000)
  await one.put('b', 'large', body)
  await until('it is told', () => incoming()?.problem !== '')
  assert.match(incoming()?.problem ?? '', /INSUFFICIENT_STORAGE/)
  await clock.sleep(500)
  assert.equal(incoming()?.watermark, before)
  isFull = false
  await until('it has come', isEven)
  assert.deepEqual(await two.read('b', 'large'), body)
  await holdsNothingElse(two)
})

test('the answer to an apply is lost: what was applied is not applied again', { timeout }, async (t) => {
  const { one, two, isEven } = await twoRegions(t)
  const { submit } = two.catalog
  let lost = 0
  const forgetful = async <C extends Command>(command: C): Promise<CommandResult<C>> => {
    const answer = await submit(command)
    if (command.type !== 'apply-remote' || ++lost > 3) return answer
    throw new StorageError('UNAVAILABLE', 'the change was not confirmed in time; it may still happen')
  }
  two.catalog.submit = forgetful
  const bodies = Array.from({ length: 5 }, () => randomBytes(200_000))
  for (const [at, body] of bodies.entries()) await one.put('b', 'same', body).then(() => at)
  await until('it has come', isEven)
  assert.ok(lost >= 1)
  assert.deepEqual(await two.read('b', 'same'), bodies.at(-1))
  assert.deepEqual(contentOf(two, 'b'), contentOf(one, 'b'))
  await holdsNothingElse(two)
  assert.deepEqual(verifyRows(two.tables), [])
})
