import assert from 'node:assert/strict'
import { createHash } from 'node:crypto'
import { test } from 'node:test'
import { verifyRows } from '../../../core/catalog/verify.ts'
import { StorageError } from '../../../core/contract/errors.ts'
import { chunkId } from '../../../core/contract/ids.ts'
import { silentLogger } from '../../../core/contract/logger.ts'
import type { ResolveInput } from '../../../core/contract/policy.ts'
import type { PulledEntry } from '../../../core/contract/replication.ts'
import { Follower } from '../../../federation/replication/follower.ts'
import type { PeerRegion } from '../../../federation/replication/peer.ts'
import type { ConflictOutcome } from '../../../federation/replication/resolve-conflict.ts'
import { plainAttributes, putCommand } from '../../kit/catalog-commands.ts'
import { contentOf, placed, ruleOf, ship, testRegion } from '../../kit/replicated-buckets.ts'
import { bucketName, chunkBytes, SimulatedRegion } from '../../simulation/replicating-region.ts'
import { SeededRandom } from '../../simulation/seeded-random.ts'

type Decide = (input: ResolveInput) => 'first' | 'second' | 'keep-both' | 'merge'

const signal = new AbortController().signal
const larger: Decide = ({ versions: [first, second] }) =>
  first.byteLength > second.byteLength ? 'first' : 'second'

/** Two regions that write a bucket, a policy each, and what they were asked. */
class Pair {
  readonly world = { random: new SeededRandom(1), nowMs: 0 }
  readonly regions: readonly SimulatedRegion[]
  readonly asked: { readonly region: number; readonly input: ResolveInput }[] = []
  readonly outcomes: ConflictOutcome[] = []
  readonly policies = new Map<number, Decide>()

  constructor(versioning: 'off' | 'enabled', count = 2) {
    this.regions = Array.from({ length: count }, (_, at) => new SimulatedRegion(at + 1, this.world))
    const rule = ruleOf({ mode: 'multi', members: this.regions.map(({ id }) => id) })
    for (const { catalog } of this.regions) {
      const { id } = catalog.run({ type: 'create-bucket', name: bucketName, owner: 'root' })
      if (versioning === 'enabled') catalog.run({ type: 'set-versioning', bucketId: id, state: 'enabled' })
      catalog.run({ type: 'set-replication', bucketId: id, rule })
    }
  }

  region(id: number): SimulatedRegion {
    const found = this.regions[id - 1]
    assert.ok(found)
    return found
  }

  /** At a moment that is the same for all, whatever their clocks say. */
  async put(region: number, key: string, body: string, atMs: number): Promise<void> {
    const { catalog, writes, store, skewMs } = this.region(region)
    const bytes = Buffer.from(body)
    this.world.nowMs = atMs - skewMs
    const writeId = writes.begin()
    for (let at = 0; at < bytes.length; at += chunkBytes) {
      const part = bytes.subarray(at, at + chunkBytes)
      const buffer = await store.acquire(part.length)
      buffer.bytes.set(part)
      await store.put(chunkId(writeId, at / chunkBytes), buffer, part.length)
      buffer.release()
    }
    const etag = createHash('md5').update(bytes).digest('hex')
    const layout = { kind: 'chunks', extents: [{ writeId, chunkBytes, byteLength: bytes.length }] } as const
    catalog.run(putCommand(1, key, { byteLength: bytes.length, etag, attributes: plainAttributes, layout }))
    writes.settle(writeId)
  }

  /** `region` takes over what `source` has, and is at the end of its log. */
  async follow(region: number, source: number): Promise<void> {
    const { catalog, store: chunks, writes, clock } = this.region(region)
    const other = this.region(source)
    const decide = this.policies.get(region)
    const follower = new Follower(
      {
        ...{ catalog, chunks, writes, clock, chunkBytes },
        onConflict: (_, outcome) => this.outcomes.push(outcome),
        ...(decide === undefined
          ? {}
          : {
              conflicts: {
                ...{ regionId: region, clock, log: silentLogger },
                decide: (input: ResolveInput) => {
                  this.asked.push({ region, input })
                  return { policy: 'test', reason: 0, outcome: decide(input) }
                },
              },
            }),
      },
      bucketName,
      source,
    )
    const peer: PeerRegion = {
      regionId: source,
      offers: () => Promise.reject(new Error('rules are set by hand here')),
      pull: (request) => other.source.pull(region, request),
      repair: (request) => other.source.repair(region, request),
      async *body(request, stop) {
        for await (const { bytes, release } of other.source.body(region, request, stop)) {
          yield Uint8Array.from(bytes)
          release()
        }
      },
    }
    while (await follower.step(peer, signal)) {
      for (const { catalog: each } of this.regions)
        while (each.replication.outbox(1)?.backfill !== undefined) each.run({ type: 'backfill', bucketId: 1 })
    }
  }

  async begin(): Promise<void> {
    for (let round = 0; round < 2; round++) await this.meet()
    for (const region of this.regions) {
      for (const { synchronizing } of region.catalog.replication.cursors(1))
        assert.equal(synchronizing, false)
    }
  }

  async meet(): Promise<void> {
    for (const { id } of this.regions)
      for (const { id: source } of this.regions) if (id !== source) await this.follow(id, source)
  }

  async read(region: number, key: string): Promise<string> {
    const { catalog, store } = this.region(region)
    const layout = catalog.object(1, key)?.layout
    let text = ''
    for (const { writeId, byteLength } of layout?.kind === 'chunks' ? layout.extents : [])
      for (let at = 0; at < byteLength; at += chunkBytes) {
        const buffer = await store.get(
          chunkId(writeId, at / chunkBytes),
          0,
          Math.min(chunkBytes, byteLength - at),
        )
        text += Buffer.from(buffer.bytes).toString()
        buffer.release()
      }
    return text
  }

  async check(key: string, expected: string): Promise<void> {
    for (let round = 0; round < 2; round++) await this.meet()
    const [first] = this.regions
    for (const region of this.regions) {
      assert.equal(await this.read(region.id, key), expected, `region ${region.id}`)
      assert.deepEqual(JSON.parse(region.content()), JSON.parse(first?.content() ?? ''))
      await region.checkBodies()
      await region.collect()
      await region.checkBodies()
      assert.deepEqual(verifyRows(region.tables.inner), [])
    }
  }
}

async function pairOf(
  versioning: 'off' | 'enabled',
  policies: readonly Decide[] = [larger, larger],
  count = 2,
) {
  const pair = new Pair(versioning, count)
  for (const [at, policy] of policies.entries()) pair.policies.set(at + 1, policy)
  await pair.begin()
  return pair
}

const body = (of: string, length: number): string => of.repeat(length)

for (const versioning of ['off', 'enabled'] as const) {
  const named = versioning === 'off' ? 'an unversioned bucket' : 'a versioned bucket'
  for (const order of ['12', '21'] as const) {
    test(`${named}: of two writes that had not seen each other the policy's lasts everywhere, order ${order}`, async () => {
      const pair = await pairOf(versioning)
      await pair.put(2, 'key', body('b', 200), 100_000)
      await pair.put(1, 'key', body('a', 10), 101_000)
      if (order === '12') await pair.follow(1, 2)
      else await pair.follow(2, 1)
      await pair.check('key', body('b', 200))
      assert.deepEqual(pair.outcomes, ['older'])
      // The region that made the newer one, and no other.
      assert.deepEqual(
        pair.asked.map(({ region, input }) => [region, input.versions.map((one) => one.region)]),
        [[1, [2, 1]]],
      )
      const versions = contentOf(pair.region(2), bucketName) as { byteLength: number; modifiedMs: number }[]
      assert.deepEqual(
        versions.map(({ byteLength }) => byteLength),
        versioning === 'off' ? [200] : [200, 10, 200],
        'what the policy did not choose is an older version, where versions are kept',
      )
      assert.deepEqual(
        versions.slice(0, 2).map(({ modifiedMs }) => modifiedMs - 1_700_000_000_000),
        versioning === 'off' ? [101_000] : [101_000, 101_000],
        'the result is of the moment of the newer one',
      )
    })
  }

  test(`${named}: where the policy wants the newer one nothing is written`, async () => {
    const pair = await pairOf(versioning)
    await pair.put(2, 'key', body('b', 10), 100_000)
    await pair.put(1, 'key', body('a', 200), 101_000)
    await pair.check('key', body('a', 200))
    assert.deepEqual(pair.outcomes, ['newest'])
    assert.equal(contentOf(pair.region(1), bucketName).length, versioning === 'off' ? 1 : 2)
  })

  test(`${named}: nobody is asked about what was written over with knowledge of it`, async () => {
    const pair = await pairOf(versioning)
    await pair.put(1, 'key', body('a', 200), 100_000)
    await pair.meet()
    // Its clock is behind: what it writes is later all the same.
    await pair.put(2, 'key', body('b', 10), 50_000)
    await pair.check('key', body('b', 10))
    assert.deepEqual(pair.asked, [])
  })

  test(`${named}: a region whose write was kept goes on being kept for what it wrote over it`, async () => {
    const pair = await pairOf(versioning)
    await pair.put(2, 'key', body('b', 200), 100_000)
    await pair.put(2, 'key', body('c', 5), 100_500)
    await pair.put(1, 'key', body('a', 10), 101_000)
    await pair.check('key', body('c', 5))
    assert.deepEqual(pair.outcomes, ['older', 'followed'])
  })

  test(`${named}: what a region overwrote itself does not come back by another's decision`, async () => {
    const pair = await pairOf(versioning)
    await pair.put(1, 'key', body('a', 200), 100_000)
    await pair.put(2, 'key', body('b', 50), 100_500)
    await pair.follow(2, 1)
    assert.deepEqual(pair.outcomes, ['older'], 'region 2 kept what was there then')
    await pair.put(1, 'key', body('c', 10), 101_000)
    await pair.check('key', body('b', 50))
    assert.deepEqual(pair.outcomes, ['older', 'older'], 'of what was written at once in the end, the larger')
  })

  test(`${named}: a key that is written while it is decided about is decided about again`, async () => {
    const pair = await pairOf(versioning)
    let meanwhile: (() => Promise<void>) | undefined = () => pair.put(1, 'key', body('d', 300), 102_000)
    pair.policies.set(1, (input) => {
      const write = meanwhile
      meanwhile = undefined
      // The body's rows are written at once: the memory store waits for nothing.
      void write?.()
      return larger(input)
    })
    await pair.put(2, 'key', body('b', 200), 100_000)
    await pair.put(1, 'key', body('a', 10), 101_000)
    await pair.check('key', body('d', 300))
    assert.deepEqual(pair.outcomes, ['newest'])
    assert.equal(pair.asked.length, 2)
  })
}

test('regions that decide otherwise come to the same', async () => {
  const pair = await pairOf('enabled', [() => 'first', () => 'second'])
  await pair.put(1, 'one', body('a', 10), 100_000)
  await pair.put(2, 'one', body('b', 20), 101_000)
  await pair.put(2, 'two', body('c', 30), 102_000)
  await pair.put(1, 'two', body('d', 40), 103_000)
  await pair.meet()
  await pair.check('one', body('b', 20))
  await pair.check('two', body('c', 30))
})

test('a delete marker takes part; what cannot be merged leaves the later version', async () => {
  const keep: Decide = ({ versions: [first, second] }) =>
    first.isDeleteMarker ? 'second' : second.isDeleteMarker ? 'first' : 'merge'
  const pair = await pairOf('enabled', [keep, keep])
  await pair.put(1, 'key', body('z', 5), 90_000)
  await pair.meet()
  await pair.put(2, 'key', body('b', 200), 100_000)
  pair.world.nowMs = 101_000 - pair.region(1).skewMs
  pair.region(1).catalog.run({ type: 'delete-objects', bucketId: 1, owner: 'root', items: [{ key: 'key' }] })
  await pair.check('key', body('b', 200))
  await pair.put(2, 'other', body('c', 1), 110_000)
  await pair.put(1, 'other', body('d', 2), 111_000)
  await pair.check('other', body('d', 2))
  assert.deepEqual(pair.outcomes, ['older', 'undecided'])
})

test('three regions: versions are decided about; unversioned objects stay with the later write', async () => {
  const versioned = await pairOf('enabled', [larger, larger, larger], 3)
  await versioned.put(1, 'key', body('a', 50), 100_000)
  await versioned.put(2, 'key', body('b', 200), 101_000)
  await versioned.put(3, 'key', body('c', 10), 102_000)
  await versioned.check('key', body('b', 200))
  const plain = await pairOf('off', [larger, larger, larger], 3)
  await plain.put(1, 'key', body('a', 50), 100_000)
  await plain.put(3, 'key', body('c', 10), 102_000)
  await plain.check('key', body('c', 10))
  assert.deepEqual(plain.asked, [], 'one of them may have brought it before')
})

/** Regions with what region 2 wrote last, not taken over by region 1, which has written later. */
function apart() {
  const one = testRegion(1)
  const two = testRegion(2)
  const rule = ruleOf({ mode: 'multi' })
  for (const { catalog } of [one, two]) {
    const { id } = catalog.run({ type: 'create-bucket', name: 'b', owner: 'root' })
    catalog.run({ type: 'set-replication', bucketId: id, rule })
  }
  for (let round = 0; round < 2; round++) {
    ship(one, two, 'b')
    ship(two, one, 'b')
  }
  const object = (etag: string) => ({
    byteLength: 0,
    etag,
    attributes: plainAttributes,
    layout: { kind: 'empty' } as const,
  })
  const put = (region: typeof one, etag: string) => region.catalog.run(putCommand(1, 'key', object(etag)))
  const logId = two.catalog.replication.outbox(1)?.id ?? ''
  const after = one.catalog.replication.cursor(1, 2)?.received.lsn ?? 0
  const apply = (entries: readonly PulledEntry[]) =>
    one.catalog.run({ type: 'apply-remote', bucketId: 1, source: 2, logId, after, entries })
  const pulled = () =>
    two.catalog.replication.entries(1, after, 256, 1 << 20).map(({ bytes }) => placed(one, bytes))
  return { one, two, put, apply, pulled }
}

const codeOf = (work: () => unknown): string => {
  try {
    work()
  } catch (error) {
    return error instanceof StorageError ? error.code : String(error)
  }
  return 'done'
}

test('a decision that does not fit what is there changes nothing', () => {
  const { one, put, apply, pulled, two } = apart()
  put(two, '11')
  put(two, '12')
  one.clock.nowMs += 60_000
  put(one, '21')
  const before = contentOf(one, 'b')
  const [first, second] = pulled()
  assert.ok(first !== undefined && second !== undefined)
  const against = one.catalog.object(1, 'key')?.versionId ?? new Uint8Array(16)
  assert.equal(
    codeOf(() => apply([{ ...first, resolution: { against: new Uint8Array(16) } }])),
    'CONFLICT',
  )
  assert.equal(
    codeOf(() => apply([first, { ...second, resolution: { against } }])),
    'INVALID_ARGUMENT',
  )
  assert.deepEqual(contentOf(one, 'b'), before)
  assert.equal(
    codeOf(() => apply([{ ...first, resolution: { against } }])),
    'done',
  )
  assert.equal(one.catalog.object(1, 'key')?.etag, '11')
  assert.deepEqual(verifyRows(one.tables), [])
})

test('what came by the retry table is older than what is written over it', () => {
  const { one, two, put, apply, pulled } = apart()
  // The clock of region 1 is minutes behind.
  two.clock.nowMs += 300_000
  put(two, '11')
  const [entry] = pulled()
  assert.ok(entry !== undefined)
  apply([{ bytes: entry.bytes, failure: 'not today' }])
  const [{ lsn } = { lsn: 0 }] = one.catalog.replication.retries(1, 2, 0, 1)
  one.catalog.run({ type: 'retry-remote', bucketId: 1, source: 2, lsn, layout: { kind: 'empty' } })
  put(one, '21')
  for (let round = 0; round < 2; round++) {
    ship(one, two, 'b')
    ship(two, one, 'b')
  }
  assert.equal(one.catalog.object(1, 'key')?.etag, '21')
  assert.deepEqual(contentOf(two, 'b'), contentOf(one, 'b'))
})
