import assert from 'node:assert/strict'
import { test } from 'node:test'
import { StorageError } from '../../../core/contract/errors.ts'
import { type ReplicationRule, replicationLimits } from '../../../core/contract/replication.ts'
import { fetchVersion } from '../../../federation/replication/fetch-version.ts'
import { Follower } from '../../../federation/replication/follower.ts'
import type { PeerRegion } from '../../../federation/replication/peer.ts'
import { emptyObject, etagOf, plainAttributes, putCommand } from '../../kit/catalog-commands.ts'
import { createMemoryStore } from '../../kit/memory-store.ts'
import { contentOf, ruleOf, ship, testRegion } from '../../kit/replicated-buckets.ts'

const signal = new AbortController().signal
const nobody = async (): Promise<never> => {
  throw new Error('nothing here is fetched')
}
const peer: PeerRegion = {
  ...{ regionId: 1, offers: nobody, pull: nobody, repair: nobody },
  body: () => ({ [Symbol.asyncIterator]: () => ({ next: nobody }) }),
}

/** A copy that has failed to apply the puts of these keys, and holds them in its retry table. */
function waiting(keys: readonly string[], rule: ReplicationRule = ruleOf(), attributes = plainAttributes) {
  const here = testRegion(1)
  const there = testRegion(2)
  const id = here.catalog.run({ type: 'create-bucket', name: 'b', owner: 'root' }).id
  there.catalog.run({ type: 'create-bucket', name: 'b', owner: 'root' })
  for (const region of [here, there]) region.catalog.run({ type: 'set-replication', bucketId: id, rule })
  ship(here, there, 'b')
  for (const key of keys) here.catalog.run(putCommand(id, key, { ...emptyObject(etagOf(1)), attributes }))
  const logId = here.catalog.replication.outbox(id)?.id ?? ''
  for (;;) {
    const after = there.catalog.replication.cursor(id, 1)?.received.lsn ?? 0
    const rows = here.catalog.replication.entries(id, after, 256, 1 << 20)
    if (rows.length === 0) break
    const entries = rows.map(({ bytes }) => ({ bytes, failure: 'not today' }))
    there.catalog.run({ type: 'apply-remote', bucketId: id, source: 1, logId, after, entries })
  }
  const clock = { now: () => there.clock.nowMs, monotonic: () => there.clock.nowMs, sleep: async () => {} }
  const writes = { begin: () => there.newWriteId(), settle: () => undefined }
  const follower = new Follower(
    { catalog: there.catalog, chunks: createMemoryStore(clock), writes, clock, chunkBytes: 1024 },
    'b',
    1,
  )
  const left = (): number => there.catalog.replication.cursor(id, 1)?.retries ?? -1
  const giveUp = (key: string): void => {
    for (let after = 0; ; ) {
      const page = there.catalog.replication.retries(id, 1, after, 1000)
      for (const { lsn } of page.filter((one) => one.key === key)) {
        const failure = { reason: 'given up', nextMs: 0, dead: true }
        there.catalog.run({ type: 'retry-remote', bucketId: id, source: 1, lsn, failure })
        return
      }
      const last = page.at(-1)
      if (last === undefined) return
      after = last.lsn
    }
  }
  return { here, there, id, follower, left, giveUp }
}

const numbered = (count: number): string[] => Array.from({ length: count }, (_, at) => `key-${at}`)

test('what is due is tried again behind any number of dead letters', async () => {
  const dead = numbered(300)
  const { there, id, follower, left, giveUp } = waiting([...dead, 'due'])
  for (const key of dead) giveUp(key)
  there.clock.nowMs += 10_000
  assert.equal(await follower.retry(peer, signal), true)
  assert.ok(there.catalog.object(id, 'due') !== undefined)
  assert.equal(left(), 300)
})

test('and behind any number of changes of a key whose first one is dead', async () => {
  const { there, id, follower, left, giveUp } = waiting([...Array.from({ length: 300 }, () => 'same'), 'due'])
  giveUp('same')
  there.clock.nowMs += 10_000
  assert.equal(await follower.retry(peer, signal), true)
  assert.ok(there.catalog.object(id, 'due') !== undefined)
  assert.equal(left(), 300)
})

test('an operator has all of them tried again, in the order of each key', async () => {
  const { here, there, follower, left, giveUp } = waiting([...numbered(300), ...numbered(300)])
  for (const key of numbered(300)) giveUp(key)
  while (await follower.retry(peer, signal, 'all'));
  assert.equal(left(), 0)
  assert.deepEqual(contentOf(there, 'b'), contentOf(here, 'b'))
})

test('entries of megabytes are held a few at a time, and all of them are tried', async () => {
  const userMetadata = Object.fromEntries(numbered(25).map((name) => [name, 'm'.repeat(60_000)]))
  const { there, id, follower, left } = waiting(numbered(8), ruleOf(), { ...plainAttributes, userMetadata })
  const page = there.catalog.replication.retries(id, 1, 0, 256)
  const bytes = page.reduce((sum, one) => sum + one.bytes.length, 0)
  assert.ok(page.length < 8 && bytes < replicationLimits.retryPageBytes + 2_000_000, `${bytes} bytes at once`)
  while (await follower.retry(peer, signal, 'all'));
  assert.equal(left(), 0)
})

test('one call tries a bounded number of those that are due', async () => {
  const { there, follower, left } = waiting(numbered(1000))
  there.clock.nowMs += 10_000
  assert.equal(await follower.retry(peer, signal), true)
  assert.ok(left() > 0 && left() < 1000)
  while (await follower.retry(peer, signal));
  assert.equal(left(), 0)
})

test('a retry table that is full is worked off before anything more is asked for', async () => {
  const { here, there, id, follower, left } = waiting(numbered(replicationLimits.retries))
  const logId = here.catalog.replication.outbox(id)?.id ?? ''
  here.catalog.run(putCommand(id, 'one more', emptyObject(etagOf(1))))
  const after = there.catalog.replication.cursor(id, 1)?.received.lsn ?? 0
  const entries = here.catalog.replication.entries(id, after, 256, 1 << 20).map(({ bytes }) => ({ bytes }))
  const apply = { type: 'apply-remote', bucketId: id, source: 1, logId, after, entries } as const
  assert.throws(() => there.catalog.run(apply), /OVERLOADED/)
  assert.equal(await follower.step(peer, signal), false, 'it goes on with what waits')
  there.clock.nowMs += 10_000
  assert.equal(await follower.retry(peer, signal), true)
  assert.ok(left() < replicationLimits.retries)
  await assert.rejects(follower.step(peer, signal), /nothing here is fetched/, 'and asks again')
})

test('a region that has too much to do is asked again, and its body is not given up', async () => {
  const bytes = new Uint8Array(3000).fill(7)
  let asked = 0
  const busy: PeerRegion = {
    ...peer,
    async *body({ offset }) {
      yield bytes.subarray(offset, offset + 1000)
      if (++asked < 3) throw new StorageError('OVERLOADED', 'too many requests at once')
      yield bytes.subarray(offset + 1000)
    },
  }
  const clock = { now: () => 0, monotonic: () => 0, sleep: async () => undefined }
  const chunks = createMemoryStore(clock)
  chunks.digest = () => ({
    update: async () => undefined,
    finish: async () => new Map([['md5', new Uint8Array(16)]]),
    abort: () => undefined,
  })
  const { newWriteId } = testRegion(1)
  const { layout } = await fetchVersion(
    { chunks, clock, chunkBytes: 1024, writes: { begin: newWriteId, settle: () => undefined } },
    busy,
    'b',
    {
      ...{
        versionId: new Uint8Array(16),
        isNull: true,
        deleteMarker: false,
        owner: 'root',
        byteLength: 3000,
      },
      ...{ etag: 'said by nobody', attributes: plainAttributes, parts: [] },
      bodies: [{ writeId: newWriteId(), byteLength: 3000 }],
    },
    signal,
  )
  assert.equal(asked, 3)
  assert.equal(layout.kind, 'chunks')
})
