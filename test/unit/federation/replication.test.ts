import assert from 'node:assert/strict'
import { randomBytes } from 'node:crypto'
import { type TestContext, test } from 'node:test'
import { verifyRows } from '../../../core/catalog/verify.ts'
import type { ReplicationRule } from '../../../core/contract/replication.ts'
import { realEnvironment } from '../../kit/catalog-commands.ts'
import { MemoryRegions } from '../../kit/memory-regions.ts'
import { contentOf, ruleOf } from '../../kit/replicated-buckets.ts'
import { ReplicatingRegion } from '../../kit/replicating-region.ts'

const { clock } = realEnvironment

function regionsOf(context: TestContext, count: number) {
  const network = new MemoryRegions({ clock })
  const all = Array.from(
    { length: count },
    (_, at) => new ReplicatingRegion(at + 1, network, realEnvironment),
  )
  for (const region of all) region.start()
  context.after(() => Promise.all(all.map((region) => region.kill())))
  return { network, all }
}

async function share(from: ReplicatingRegion, bucket: string, rule: ReplicationRule): Promise<void> {
  if (from.catalog.bucket(bucket) === undefined) {
    await from.catalog.submit({ type: 'create-bucket', name: bucket, owner: 'root' })
  }
  await from.catalog.submit({ type: 'set-replication', bucketId: from.bucketId(bucket), rule })
}

async function until(what: string, isSo: () => boolean | Promise<boolean>): Promise<void> {
  const end = clock.monotonic() + 60_000
  while (!(await isSo())) {
    if (clock.monotonic() > end) throw new Error(`it did not come to it that ${what}`)
    await clock.sleep(20)
  }
}

/** Also what was there before the rule has been told: until then no entry says what is lacking. */
const isEven = (from: ReplicatingRegion, bucket: string): boolean => {
  const status = from.replicator?.status().find((one) => one.bucket === bucket)
  if (status === undefined || status.isBackfilling) return false
  return status.outgoing.every(({ lagEntries, needsFullSync }) => lagEntries === 0 && !needsFullSync)
}

const sound = (...regions: readonly ReplicatingRegion[]): void => {
  for (const { tables } of regions) assert.deepEqual(verifyRows(tables), [])
}

test('a bucket is made, filled and kept up to date in another region, bodies verified (T11, T24, T25)', async (context) => {
  const [one, two] = regionsOf(context, 2).all
  assert.ok(one !== undefined && two !== undefined)
  await one.catalog.submit({ type: 'create-bucket', name: 'photos', owner: 'root' })
  const before = randomBytes(300_000)
  await one.put('photos', 'before', before)
  await share(one, 'photos', ruleOf())
  await until('the bucket is there', () => two.catalog.bucket('photos') !== undefined)
  const parts = [randomBytes(200_000), randomBytes(100), randomBytes(70_000)]
  await one.putParts('photos', 'parts', parts)
  for (let number = 0; number < 40; number++)
    await one.put('photos', `small/${number}`, randomBytes(50 + number))
  await until('all of it is there', () => isEven(one, 'photos'))
  assert.deepEqual(contentOf(two, 'photos'), contentOf(one, 'photos'))
  assert.deepEqual(await two.read('photos', 'before'), before)
  assert.deepEqual(await two.read('photos', 'parts'), Buffer.concat(parts))
  await one.catalog.submit({
    ...{
      type: 'delete-objects',
      bucketId: one.bucketId('photos'),
      owner: 'root',
      items: [{ key: 'before' }],
    },
  })
  await until('the delete is there', () => two.catalog.object(two.bucketId('photos'), 'before') === undefined)
  await until('the outbox is empty', () => one.replicator?.status()[0]?.entriesKept === 0)
  sound(one, two)
})

test('cuts in the middle of bodies and truncated streams cost time, and nothing else (T30)', async (context) => {
  const { network, all } = regionsOf(context, 2)
  const [one, two] = all
  assert.ok(one !== undefined && two !== undefined)
  await share(one, 'b', ruleOf())
  await until('the bucket is there', () => two.catalog.bucket('b') !== undefined)
  network.paths.setDelay(3)
  const bodies = Array.from({ length: 6 }, () => randomBytes(1_500_000))
  for (const [number, body] of bodies.entries()) await one.put('b', `${number}`, body)
  for (let round = 0; round < 12; round++) {
    await clock.sleep(25)
    if (round % 2 === 0) network.paths.truncate('1', '2')
    else {
      network.paths.reset('1', '2')
      network.connect(1, 2)
    }
  }
  await until('all of it is there', () => isEven(one, 'b'))
  for (const [number, body] of bodies.entries()) assert.deepEqual(await two.read('b', `${number}`), body)
  assert.deepEqual(contentOf(two, 'b'), contentOf(one, 'b'))
  sound(one, two)
})

test('a body that is damaged at its source is told and waits; the others come (T4, T27)', async (context) => {
  const [one, two] = regionsOf(context, 2).all
  assert.ok(one !== undefined && two !== undefined)
  await one.catalog.submit({ type: 'create-bucket', name: 'b', owner: 'root' })
  await one.put('b', 'good', randomBytes(1000))
  const id = one.bucketId('b')
  const [extent] = await Promise.all([one.put('b', 'bad', randomBytes(1000))]).then(() => {
    const record = one.catalog.object(id, 'bad')
    return record?.layout.kind === 'chunks' ? record.layout.extents : []
  })
  assert.ok(extent !== undefined)
  // The catalog says one thing of the body, the store has another: what a checksum of the way alone would not find.
  one.tables.transact((writer) => {
    const cursor = writer.rows(Uint8Array.of(5), Uint8Array.of(6))
    while (cursor.next()) {
      const key = cursor.keyBytes.subarray(cursor.keyStart, cursor.keyEnd)
      if (key.toString('latin1').endsWith('bad')) {
        const row = Buffer.from(cursor.valueBytes.subarray(0, cursor.valueEnd))
        const at = Uint8Array.from(key)
        cursor.close()
        row[40] = (row[40] ?? 0) ^ 1
        writer.put(at, row)
        break
      }
    }
  })
  await share(one, 'b', ruleOf())
  const cursor = () => {
    const bucket = two.catalog.bucket('b')
    return bucket === undefined ? undefined : two.catalog.replication.cursor(bucket.id, 1)
  }
  await until('it is told', () => (cursor()?.retries ?? 0) === 1)
  const [retry] = two.catalog.replication.retries(two.bucketId('b'), 1, 0, 10)
  assert.match(retry?.reason ?? '', /ETag/)
  await until('the other one has come', async () => (await two.read('b', 'good')) !== undefined)
  assert.equal(await two.read('b', 'bad'), undefined)
  assert.equal(isEven(one, 'b'), false)
  assert.equal(two.replicator?.status()[0]?.incoming[0]?.retries, 1)
})

test('lag is told right when idle, when stalled and when the other region is down (T9)', async (context) => {
  const { all } = regionsOf(context, 2)
  const [one, two] = all
  assert.ok(one !== undefined && two !== undefined)
  await share(one, 'b', ruleOf({ rpoMs: 1000 }))
  await one.put('b', 'a', randomBytes(10))
  await until('all of it is there', () => isEven(one, 'b'))
  await clock.sleep(300)
  const idle = one.replicator?.status()[0]
  assert.deepEqual([idle?.outgoing[0]?.oldestUnshippedMs, idle?.isBreached], [0, false])
  await two.kill()
  await one.put('b', 'b', randomBytes(10))
  await clock.sleep(1_200)
  const down = one.replicator?.status()[0]
  assert.ok((down?.outgoing[0]?.oldestUnshippedMs ?? 0) >= 1_100)
  assert.deepEqual([down?.outgoing[0]?.lagEntries, down?.isBreached], [1, true])
  two.start()
  await until('it has caught up', () => isEven(one, 'b'))
  assert.equal(one.replicator?.status()[0]?.outgoing[0]?.oldestUnshippedMs, 0)
  // Stalled: it is there, and takes nothing.
  const { put } = two.store
  two.store.put = () => Promise.reject(new Error('the disk is stuck'))
  await one.put('b', 'c', randomBytes(100))
  await clock.sleep(600)
  const stalled = one.replicator?.status()[0]?.outgoing[0]
  assert.ok((stalled?.oldestUnshippedMs ?? 0) >= 500 && stalled?.lagEntries === 1)
  await until(
    'the other region knows it, too',
    () => two.replicator?.status()[0]?.incoming[0]?.lagEntries === 1,
  )
  two.store.put = put
  await until('it has caught up again', () => isEven(one, 'b'))
})

test('a bucket that another region has already is left alone', async (context) => {
  const [one, two] = regionsOf(context, 2).all
  assert.ok(one !== undefined && two !== undefined)
  await two.catalog.submit({ type: 'create-bucket', name: 'b', owner: 'someone' })
  await share(one, 'b', ruleOf())
  await one.put('b', 'secret', randomBytes(10))
  await clock.sleep(500)
  assert.equal(two.catalog.replication.rule(two.bucketId('b')), undefined)
  assert.equal(
    two.catalog.listObjects(two.bucketId('b'), { prefix: '', delimiter: '', after: '', limit: 9 }).objects
      .length,
    0,
  )
})

test('a region that is no member sees nothing of a bucket', async (context) => {
  const [one, two, three] = regionsOf(context, 3).all
  assert.ok(one !== undefined && two !== undefined && three !== undefined)
  await share(one, 'b', ruleOf())
  await until('the member has it', () => two.catalog.bucket('b') !== undefined)
  await clock.sleep(200)
  assert.equal(three.catalog.bucket('b'), undefined)
})

test('three regions that all write come to the same, over cuts (T28, T38)', async (context) => {
  const { network, all } = regionsOf(context, 3)
  const [one] = all
  assert.ok(one !== undefined)
  await share(one, 'b', ruleOf({ mode: 'multi', members: [1, 2, 3] }))
  await until('all have it', () => all.every(({ catalog }) => catalog.bucket('b')?.replicated === true))
  for (let round = 0; round < 30; round++) {
    for (const region of all) {
      await region.put('b', `k${round % 5}`, randomBytes(100))
      if (round % 7 === region.id) {
        await region.catalog.submit({
          ...{
            type: 'delete-objects',
            bucketId: region.bucketId('b'),
            owner: 'root',
            items: [{ key: 'k1' }],
          },
        })
      }
    }
    if (round === 10) network.paths.reset('1', '2')
    if (round === 20) network.connect(1, 2)
    await clock.sleep(5)
  }
  await until('all are even', () => all.every((region) => isEven(region, 'b')))
  for (const region of all) assert.deepEqual(contentOf(region, 'b'), contentOf(one, 'b'))
  sound(...all)
})
