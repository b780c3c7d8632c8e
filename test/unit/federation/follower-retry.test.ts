import assert from 'node:assert/strict'
import { test } from 'node:test'
import { StorageError } from '../../../core/contract/errors.ts'
import { silentLogger } from '../../../core/contract/logger.ts'
import { type ReplicationRule, replicationLimits } from '../../../core/contract/replication.ts'
import { fetchVersion, isOverloaded } from '../../../federation/replication/fetch-version.ts'
import { Follower } from '../../../federation/replication/follower.ts'
import type { PeerRegion } from '../../../federation/replication/peer.ts'
import { ReplicationSource } from '../../../federation/replication/source.ts'
import { tendOutbox } from '../../../federation/replication/tend-outbox.ts'
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

const mebibyte = 1024 * 1024
/** Of which an entry has a mebibyte and a half. */
const longAttributes = {
  ...plainAttributes,
  userMetadata: Object.fromEntries(numbered(25).map((name) => [name, 'm'.repeat(60_000)])),
}

test('entries of megabytes are held a few at a time, and all of them are tried', async () => {
  const { there, id, follower, left } = waiting(numbered(8), ruleOf(), longAttributes)
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

test('a retry table is bounded in bytes, too, and what it has no room for stays at its source', async () => {
  const { here, there, id, follower, left } = waiting(numbered(43), ruleOf(), longAttributes)
  const cursor = () => there.catalog.replication.cursor(id, 1) ?? assert.fail('it follows')
  const counted = () => {
    let bytes = 0
    for (let after = 0; ; ) {
      const page = there.catalog.replication.retries(id, 1, after, 256)
      for (const one of page) bytes += one.bytes.length
      const last = page.at(-1)
      if (last === undefined) return bytes
      after = last.lsn
    }
  }
  assert.ok(cursor().retries < 50 && counted() > 61 * mebibyte)
  assert.equal(cursor().retryBytes, counted())
  const logId = here.catalog.replication.outbox(id)?.id ?? ''
  const take = (): void => {
    const after = cursor().received.lsn
    const [row] = here.catalog.replication.entries(id, after, 1, 1)
    const entries = [{ bytes: row?.bytes ?? assert.fail('there is more'), failure: 'not today' }]
    there.catalog.run({ type: 'apply-remote', bucketId: id, source: 1, logId, after, entries })
  }
  for (const key of numbered(4)) {
    here.catalog.run(putCommand(id, `more-${key}`, { ...emptyObject(etagOf(1)), attributes: longAttributes }))
  }
  assert.throws(() => {
    for (let more = 0; more < 4; more++) take()
  }, /OVERLOADED: .*bytes/)
  const full = cursor()
  assert.ok(
    counted() >= replicationLimits.retryBytes && counted() < replicationLimits.retryBytes + 2 * mebibyte,
  )
  assert.ok(full.received.lsn < (here.catalog.replication.outbox(id)?.head.lsn ?? 0))
  assert.equal(await follower.step(peer, signal), false, 'it goes on with what waits')
  there.clock.nowMs += 10_000
  while (await follower.retry(peer, signal));
  assert.equal(left(), 0)
  assert.equal(cursor().retryBytes, 0)
  ship(here, there, 'b')
  assert.deepEqual(contentOf(there, 'b'), contentOf(here, 'b'))
})

test('a table that stays full ends in a full synchronization when the source lets go: nothing is lost', async () => {
  const rule = ruleOf({ retentionMs: 60_000 })
  const { here, there, id, follower, left } = waiting(numbered(replicationLimits.retries), rule)
  here.catalog.run(putCommand(id, 'one more', emptyObject(etagOf(1))))
  const source = new ReplicationSource({
    ...{ regionId: 1, catalog: here.catalog, log: silentLogger },
    ...{ chunks: { get: nobody }, writes: { pin: () => () => undefined } },
    clock: { now: () => here.clock.nowMs, monotonic: () => 0, sleep: nobody },
  })
  const connected: PeerRegion = { ...peer, pull: (request) => source.pull(2, request) }
  assert.equal(await follower.step(connected, signal), false)
  assert.equal(left(), replicationLimits.retries, 'the source keeps what is missing')
  here.clock.nowMs += 120_000
  while (!here.catalog.run({ type: 'trim-outbox', bucketId: id }).done);
  assert.equal(here.catalog.replication.members(id)[0]?.needsFullSync, true)
  assert.equal(await follower.step(connected, signal), true)
  assert.equal(left(), 0)
  assert.equal(follower.cursor()?.synchronizing, true)
  const tend = { catalog: here.catalog, regionId: 1, log: silentLogger, nowMs: () => here.clock.nowMs }
  for (let turn = 0; turn < 200 && follower.cursor()?.synchronizing === true; turn++) {
    await tendOutbox(tend, id, true)
    while (await follower.step(connected, signal));
  }
  assert.equal(follower.cursor()?.synchronizing, false)
  assert.deepEqual(contentOf(there, 'b'), contentOf(here, 'b'))
})

/** Two bodies of 3000 bytes, fetched from a region that answers as told. */
async function fetchTwo(linkClass: 'bulk' | 'read', answer: (asked: number) => 'all' | 'cut' | 'refused') {
  const bytes = new Uint8Array(3000).fill(7)
  let asked = 0
  const busy: PeerRegion = {
    ...peer,
    async *body({ offset }) {
      const told = answer(++asked)
      if (told !== 'refused') yield bytes.subarray(offset, offset + 1000)
      if (told !== 'all') throw new StorageError('OVERLOADED', 'too many requests at once')
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
  const writes = { begin: newWriteId, settle: () => undefined }
  const outcome = await fetchVersion(
    { chunks, clock, chunkBytes: 1024, writes, linkClass },
    busy,
    'b',
    {
      ...{
        versionId: new Uint8Array(16),
        isNull: true,
        deleteMarker: false,
        owner: 'root',
        byteLength: 6000,
      },
      ...{ etag: 'said by nobody', attributes: plainAttributes, parts: [] },
      bodies: [1, 2].map(() => ({ writeId: newWriteId(), byteLength: 3000 })),
    },
    signal,
  ).then(
    ({ layout }) => layout.kind,
    (reason: unknown) => reason,
  )
  return { outcome, asked }
}

test('a region that has too much to do is asked again, and its body is not given up', async () => {
  const cut = await fetchTwo('bulk', (asked) => (asked < 3 ? 'cut' : 'all'))
  assert.deepEqual(cut, { outcome: 'chunks', asked: 4 })
  const refused = await fetchTwo('bulk', (asked) => (asked < 3 ? 'refused' : 'all'))
  assert.deepEqual(refused, { outcome: 'chunks', asked: 4 })
})

test('where a client waits it is asked again only when a part of the version has come', async () => {
  const { outcome, asked } = await fetchTwo('read', () => 'refused')
  assert.ok(isOverloaded(outcome), String(outcome))
  assert.equal(asked, 1)
  // The first body is cut and refused before it goes on, the second refused before its first byte.
  const told = ['cut', 'refused', 'all', 'refused', 'all'] as const
  const taken = await fetchTwo('read', (at) => told[at - 1] ?? assert.fail('it is not asked for more'))
  assert.deepEqual(taken, { outcome: 'chunks', asked: 5 })
  const lasting = await fetchTwo('read', (at) => (at === 1 ? 'cut' : 'refused'))
  assert.ok(isOverloaded(lasting.outcome), String(lasting.outcome))
  assert.equal(lasting.asked, 9, 'not for ever')
})
