import assert from 'node:assert/strict'
import { createHash, randomBytes } from 'node:crypto'
import { type TestContext, test } from 'node:test'
import type { Layout } from '../../../core/contract/object-model.ts'
import { type Message, MessageReader, MessageWriter } from '../../../federation/framing/messages.ts'
import { Follower } from '../../../federation/replication/follower.ts'
import type { PeerRegion } from '../../../federation/replication/peer.ts'
import { messageType, readEntries, sendEntry } from '../../../federation/replication/wire.ts'
import {
  emptyObject,
  etagOf,
  extentOf,
  inlineObject,
  plainAttributes,
  putCommand,
  realEnvironment,
} from '../../kit/catalog-commands.ts'
import { createMemoryStore } from '../../kit/memory-store.ts'
import { ruleOf, type TestRegion, testRegion } from '../../kit/replicated-buckets.ts'
import { makeRegion } from '../../kit/replicated-region.ts'

const timeout = 120_000
const { signal } = new AbortController()
const bucket = 'b'
const md5 = (bytes: Uint8Array): Buffer => createHash('md5').update(bytes).digest()

/** What the region's outbox says, and bodies of zeros. */
function peerOf({ catalog }: TestRegion): PeerRegion {
  const bucketId = catalog.bucket(bucket)?.id ?? assert.fail()
  const nobody = async (): Promise<never> => assert.fail('nobody asks for that')
  return {
    ...{ regionId: 1, offers: nobody, repair: nobody },
    async pull({ logId, after, limit }) {
      const outbox = catalog.replication.outbox(bucketId) ?? assert.fail()
      if (logId !== outbox.id) {
        return { kind: 'start', logId: outbox.id, at: { lsn: 0, chain: new Uint8Array(32) }, reason: '' }
      }
      const rows = catalog.replication.entries(bucketId, after.lsn, limit, 1024 * 1024)
      const last = catalog.replication.entryAt(bucketId, rows.at(-1)?.lsn ?? after.lsn) ?? assert.fail()
      const entries = rows.map(({ bytes }) => bytes)
      return { kind: 'entries', entries, head: outbox.head.lsn, chain: last.chain }
    },
    async *body({ writeId }) {
      yield new Uint8Array(catalog.writeOwner(writeId)?.byteLength ?? assert.fail())
    },
  }
}

/** Of the memory streams of the tests, as of a NATS server. */
const mostRecordBytes = 1024 * 1024

const longestEntry = ({ catalog }: TestRegion, bucketId: number): number =>
  Math.max(
    ...catalog.replication
      .entries(bucketId, 0, Number.MAX_SAFE_INTEGER, Number.MAX_SAFE_INTEGER)
      .map(({ bytes }) => bytes.length),
  )

/** A region of its own kind follows another one: its log takes records of 1 MiB. */
async function followed(t: TestContext) {
  const here = testRegion(1)
  here.catalog.run({ type: 'create-bucket', name: bucket, owner: 'root' })
  const rule = ruleOf()
  const id = here.catalog.bucket(bucket)?.id ?? assert.fail()
  here.catalog.run({ type: 'set-replication', bucketId: id, rule })
  const region = await makeRegion(t, ['a'])
  const { catalog } = await region.open('a', { regionId: 2 })
  const { id: there } = await catalog.submit({ type: 'create-bucket', name: bucket, owner: 'root' })
  await catalog.submit({ type: 'set-replication', bucketId: there, rule })
  const { clock } = realEnvironment
  const chunks = createMemoryStore(clock)
  const writes = { begin: () => here.newWriteId(), settle: () => undefined }
  chunks.digest = () => {
    const hash = createHash('md5')
    return {
      async update(buffer, offset, length) {
        hash.update(buffer.bytes.subarray(offset, offset + length))
      },
      finish: async () => new Map([['md5', Uint8Array.from(hash.digest())]]),
      abort: () => undefined,
    }
  }
  const follower = new Follower({ catalog, chunks, writes, clock, chunkBytes: 1024 }, bucket, 1)
  return { here, id, there, catalog, follower, peer: peerOf(here) }
}

test('a region of several nodes takes a backlog of bodies that are in their entries', {
  timeout,
}, async (t) => {
  const { here, id, there, catalog, follower, peer } = await followed(t)
  const bodies = Array.from({ length: 600 }, () => Uint8Array.from(randomBytes(4096)))
  for (const [at, body] of bodies.entries())
    here.catalog.run(putCommand(id, `${at}`, inlineObject(here.newWriteId(), body, etagOf(at))))
  while (await follower.step(peer, signal));
  for (const [at, body] of bodies.entries()) {
    const layout: Layout | undefined = catalog.object(there, `${at}`)?.layout
    const found = layout?.kind === 'inline' ? catalog.inlineBody(layout.writeId) : undefined
    assert.ok(found !== undefined && Buffer.compare(found, body) === 0, `${at}`)
  }
})

test('and a body of 10,000 parts, with what came before and comes behind it', { timeout }, async (t) => {
  const { here, id, there, catalog, follower, peer } = await followed(t)
  const attributes = plainAttributes
  const { uploadId } = here.catalog.run({
    ...{ type: 'create-upload', bucketId: id, key: 'large', owner: 'root', initiator: 'root', attributes },
  })
  const etag = md5(new Uint8Array(1)).toString('hex')
  const checksum = Buffer.alloc(32).toString('base64')
  const numbers = Array.from({ length: 10_000 }, (_, at) => at + 1)
  for (const number of numbers) {
    const layout = { kind: 'chunks', extents: [extentOf(here.newWriteId(), 1)] } as const
    const part = { number, byteLength: 1, etag, layout, checksum }
    here.catalog.run({ type: 'put-part', bucketId: id, key: 'large', uploadId, ...part })
  }
  here.catalog.run(putCommand(id, 'before', emptyObject(etagOf(1))))
  const composite = md5(Buffer.concat(numbers.map(() => Buffer.from(etag, 'hex')))).toString('hex')
  here.catalog.run({
    ...{ type: 'complete-upload', bucketId: id, key: 'large', uploadId, etag: `${composite}-10000` },
    parts: numbers.map((number) => ({ number, etag })),
  })
  here.catalog.run(putCommand(id, 'behind', emptyObject(etagOf(2))))
  assert.ok(longestEntry(here, id) > mostRecordBytes)
  while (await follower.step(peer, signal));
  assert.ok(catalog.object(there, 'before') !== undefined && catalog.object(there, 'behind') !== undefined)
  while (await follower.retry(peer, signal, 'all'));
  const { layout, parts } = catalog.object(there, 'large') ?? assert.fail('it has not come')
  assert.equal(parts?.length, 10_000)
  assert.equal(layout.kind === 'chunks' && layout.extents.length, 10_000)
  assert.equal(follower.cursor()?.retries, 0)
})

test('and a key of so many versions that their names alone are more than a record of its log', {
  timeout,
}, async (t) => {
  const { here, id, there, catalog, follower, peer } = await followed(t)
  const key = 'v'.repeat(1000)
  here.catalog.run({ type: 'set-versioning', bucketId: id, state: 'enabled' })
  const synchronize = (): void => {
    while (!here.catalog.run({ type: 'backfill', bucketId: id }).done);
  }
  synchronize()
  for (let made = 0; made < 1200; made++) here.catalog.run(putCommand(id, key, emptyObject(etagOf(made))))
  const count = (): number =>
    catalog.listVersions(there, { prefix: '', delimiter: '', keyMarker: '', limit: 2000 }).versions.length
  for (let round = 1; round <= 2; round++) {
    here.catalog.run({ type: 'start-full-sync', bucketId: id, region: 2 })
    synchronize()
    here.catalog.run(putCommand(id, `behind ${round}`, emptyObject(etagOf(2))))
    assert.ok(longestEntry(here, id) > mostRecordBytes)
    while (await follower.step(peer, signal));
    assert.equal(count(), 1200 + round)
    assert.equal(follower.cursor()?.retries, 0)
    // What a try that was broken off has left is neither applied nor in the way.
    const { logId, received } = follower.cursor() ?? assert.fail()
    const place = { bucketId: there, source: 1, logId, lsn: received.lsn + 1 }
    for (const part of [0, 1, 2, 3]) {
      await catalog.submit({ type: 'put-entry-part', ...place, part, bytes: new Uint8Array(100).fill(part) })
    }
    const pulled = { bytes: new Uint8Array(0), inParts: new Uint8Array(32) }
    const { lsn: _, ...applying } = { ...place, after: received.lsn, entries: [pulled] }
    await assert.rejects(catalog.submit({ type: 'apply-remote', ...applying }), { code: 'CONFLICT' })
    const ahead = { ...place, lsn: received.lsn + 2, part: 0, bytes: new Uint8Array(1) }
    await assert.rejects(catalog.submit({ type: 'put-entry-part', ...ahead }), { code: 'CONFLICT' })
  }
})

async function sent(entries: readonly Uint8Array[]): Promise<() => Promise<Message>> {
  const pieces: Uint8Array[] = []
  const writer = new MessageWriter({
    write: async (bytes) => void pieces.push(Uint8Array.from(bytes)),
    close: async () => undefined,
    abort: async () => undefined,
  })
  for (const bytes of entries) await sendEntry(writer, bytes)
  await writer.end()
  const reader = new MessageReader({
    async read() {
      const value = pieces.shift()
      return value === undefined ? { done: true, value } : { done: false, value }
    },
    cancel: async () => undefined,
  })
  return () => reader.expect()
}

test('an entry that is longer than a message travels in parts', async () => {
  const MiB = 1024 * 1024
  for (const lengths of [[1, 5 * MiB, 7], [MiB], [MiB + 1, 0, 2 * MiB]]) {
    const entries = lengths.map((length) => Uint8Array.from(randomBytes(length)))
    const found = await readEntries(await sent(entries), entries.length)
    assert.deepEqual(
      found.map((bytes) => md5(bytes).toString('hex')),
      entries.map((bytes) => md5(bytes).toString('hex')),
    )
  }
})

test('a region that sends entries without end, or parts of one, is cut off while they are few', async () => {
  const payload = new Uint8Array(1024 * 1024)
  for (const type of [messageType.entry, messageType.entryPart]) {
    let messages = 0
    const endless = async (): Promise<Message> => {
      messages++
      return { type, payload }
    }
    await assert.rejects(readEntries(endless, 256), { code: 'PROTOCOL_ERROR' })
    assert.ok(messages <= 20, `${messages} MiB were held`)
  }
  const empty = async (): Promise<Message> => ({ type: messageType.entryPart, payload: new Uint8Array(0) })
  await assert.rejects(readEntries(empty, 256), { code: 'PROTOCOL_ERROR' })
})
