import assert from 'node:assert/strict'
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { test } from 'node:test'
import { createDirectCatalog, type DirectCatalog } from '../../../../core/catalog/direct-catalog.ts'
import { LmdbTables } from '../../../../core/catalog/lmdb-tables.ts'
import { encodeOutboxEntry } from '../../../../core/catalog/replication/entry-codec.ts'
import {
  defaultEdge,
  type ReplicatedChange,
  type ReplicationRule,
} from '../../../../core/contract/replication.ts'
import {
  chunkedObject,
  etagOf,
  extentOf,
  putCommand,
  realEnvironment,
} from '../../../kit/catalog-commands.ts'
import { placed, ruleOf, testRegion } from '../../../kit/replicated-buckets.ts'

const nowMs = Date.now()
/** Later than any write of these tests, however busy the machine is. */
const laterMs = nowMs + 600_000
const logId = 'ab'.repeat(12)

/** A version that region 2 says it has made at `ms`. */
function versionId(ms: number, number = 1): Uint8Array {
  const id = Buffer.alloc(16)
  id.writeUIntBE(ms, 0, 6)
  id.writeUInt16BE(2, 8)
  id[15] = number
  return new Uint8Array(id)
}

/** Region 1 with rows as they are on disk, and what region 2 tells it, one entry after the other. */
async function region(rule: ReplicationRule, use: (region: TestTarget) => void): Promise<void> {
  const directory = await mkdtemp(join(tmpdir(), 'pando-hostile-'))
  const tables = new LmdbTables({ directory })
  try {
    const catalog = createDirectCatalog({ tables, environment: realEnvironment, regionId: 1 })
    const { id: bucketId } = catalog.run({ type: 'create-bucket', name: 'b', owner: 'root' })
    catalog.run({ type: 'set-replication', bucketId, rule })
    const at = { lsn: 0, chain: new Uint8Array(32) }
    catalog.run({ type: 'set-cursor', bucketId, source: 2, logId, at })
    let lsn = 0
    use({
      catalog,
      bucketId,
      put: (key) =>
        catalog.run(putCommand(bucketId, key, chunkedObject(extentOf(newWriteId(), 100), etagOf(1)))),
      tell(change, layout) {
        const bytes = encodeOutboxEntry({
          ...{ lsn: lsn + 1, epoch: 1, origin: 2, time: { ms: nowMs, counter: 0 } },
          change,
        })
        const entries = [{ bytes, ...(layout === undefined ? {} : { layout }) }]
        catalog.run({ type: 'apply-remote', bucketId, source: 2, logId, after: lsn, entries })
        lsn++
        const [waiting] = catalog.replication.retries(bucketId, 2, lsn - 1, 1)
        return waiting?.reason
      },
    })
  } finally {
    await tables.close()
    await rm(directory, { recursive: true })
  }
}

interface TestTarget {
  readonly catalog: DirectCatalog
  readonly bucketId: number
  put(key: string): unknown
  /** Why it waits; undefined: it was done. */
  tell(change: ReplicatedChange, layout?: { kind: 'empty' }): string | undefined
}

const newWriteId = (): Uint8Array => realEnvironment.randomness.fill(new Uint8Array(10))

const tooLong = ['€'.repeat(700), '\0'.repeat(1000), 'x'.repeat(1025)]
const putOf = (key: string, part: object): ReplicatedChange => ({
  type: 'put',
  key,
  version: {
    ...{ versionId: versionId(nowMs), isNull: true, deleteMarker: false, owner: 'root', byteLength: 0 },
    etag: etagOf(2),
    attributes: { contentType: '', systemHeaders: {}, userMetadata: {}, storageClass: 'STANDARD', tags: {} },
    bodies: [],
    ...part,
  },
})

for (const [name, rule] of [
  ['a member of a mesh', ruleOf({ mode: 'multi' })],
  ['an edge', ruleOf({ mode: 'multi', edge: { ...defaultEdge, regions: [2], priorities: [], pinned: [] } })],
] as const) {
  test(`what ${name} says that no row can hold waits, and the catalog goes on`, async () => {
    const changes: ReplicatedChange[] = [
      ...tooLong.flatMap((key): ReplicatedChange[] => [
        { type: 'purge', key, versionId: versionId(1), isNull: false },
        { type: 'purge', key, versionId: versionId(1), isNull: true },
        { type: 'attributes', key, versionId: versionId(1), changed: new Uint8Array(10), tags: {} },
        {
          ...{ type: 'range', after: '', versions: [] },
          purged: [
            ['a', versionId(1), true],
            [key, versionId(1), true],
          ],
        },
        { type: 'range', after: key, versions: [], purged: [] },
        putOf(key, {}),
      ]),
      putOf('there', { owner: 'ö'.repeat(200) }),
      putOf('there', { owner: 'o'.repeat(254) }),
      putOf('there', {
        byteLength: 2 ** 50,
        bodies: [{ writeId: newWriteId(), byteLength: 2 ** 50 }],
      }),
    ]
    await region(rule, ({ catalog, bucketId, put, tell }) => {
      put('there')
      const { etag } = catalog.object(bucketId, 'there') ?? assert.fail()
      for (const [at, change] of changes.entries()) {
        assert.notEqual(tell(change, { kind: 'empty' }), undefined, `${at}: ${change.type}`)
        put(`next ${at}`)
      }
      assert.equal(catalog.object(bucketId, 'there')?.etag, etag)
      assert.equal(catalog.stats().objects, changes.length + 1)
    })
  })
}

test('a member of a rule with a prefix removes nothing outside of it, by a list of names neither', async () => {
  await region(ruleOf({ mode: 'multi', prefix: 'shared/' }), ({ catalog, bucketId, put, tell }) => {
    for (const key of ['private/secret', 'shared/known', 'shared/other']) put(key)
    const names = ['shared/known', 'private/secret'].map(
      (key) => [key, versionId(laterMs), true] as [string, Uint8Array, boolean],
    )
    assert.match(
      tell({ type: 'range', after: '', versions: [], purged: names }) ?? '',
      /not one that the rule/,
    )
    const there = (key: string): boolean => catalog.object(bucketId, key) !== undefined
    assert.deepEqual(['private/secret', 'shared/known'].map(there), [true, true])
    assert.equal(tell({ type: 'range', after: '', versions: [], purged: names.slice(0, 1) }), undefined)
    assert.deepEqual(['private/secret', 'shared/known', 'shared/other'].map(there), [true, false, true])
  })
})

test('nobody can say that versions are gone which have not been made yet', async () => {
  await region(ruleOf({ mode: 'multi' }), ({ catalog, bucketId, put, tell }) => {
    put('key')
    const never = new Uint8Array(16).fill(0xff)
    const purged = [['key', never, true]] as const
    // Done with nothing: a client of an edge may have named it, and what comes behind it must not wait.
    assert.equal(tell({ type: 'purge', key: 'key', versionId: never, isNull: true }), undefined)
    assert.equal(tell({ type: 'range', after: '', versions: [], purged }), undefined)
    assert.notEqual(catalog.object(bucketId, 'key'), undefined)
    assert.equal(catalog.replication.tombstones(bucketId, 1)?.held, 0)
    assert.equal(tell({ type: 'purge', key: 'key', versionId: versionId(laterMs), isNull: true }), undefined)
    assert.equal(catalog.object(bucketId, 'key'), undefined)
  })
})

test('what a client of an edge deletes by an id that it has invented holds nothing up', () => {
  const [hub, edge] = [testRegion(1), testRegion(2)]
  const rule = ruleOf({ mode: 'multi', edge: { ...defaultEdge, regions: [2], priorities: [], pinned: [] } })
  for (const { catalog } of [hub, edge]) {
    const { id } = catalog.run({ type: 'create-bucket', name: 'b', owner: 'root' })
    catalog.run({ type: 'set-replication', bucketId: id, rule })
  }
  const idOf = ({ catalog }: typeof hub): number => catalog.bucket('b')?.id ?? assert.fail()
  const { replication } = edge.catalog
  const bucketId = idOf(edge)
  while (replication.outbox(bucketId)?.backfill !== undefined)
    edge.catalog.run({ type: 'backfill', bucketId })
  const { id: edgeLog } = replication.outbox(bucketId) ?? assert.fail()
  const at = { lsn: 0, chain: new Uint8Array(32) }
  hub.catalog.run({ type: 'set-cursor', bucketId: idOf(hub), source: 2, logId: edgeLog, at })
  const pull = (): number => {
    const { watermark, received } = hub.catalog.replication.cursor(idOf(hub), 2) ?? assert.fail()
    edge.catalog.run({ type: 'acknowledge-outbox', bucketId, region: 1, logId: edgeLog, lsn: watermark })
    edge.catalog.run({ type: 'stage-outbox', bucketId, askedFrom: received.lsn })
    const rows = replication.entries(bucketId, received.lsn, 256, 1 << 24)
    const entries = rows.map(({ bytes }) => placed(hub, bytes))
    const place = { source: 2, logId: edgeLog, after: received.lsn }
    if (rows.length > 0) hub.catalog.run({ type: 'apply-remote', bucketId: idOf(hub), ...place, entries })
    return rows.length
  }
  const version = new Uint8Array(16).fill(0xff)
  edge.catalog.run({ type: 'delete-objects', bucketId, owner: 'root', items: [{ key: 'z', version }] })
  for (let key = 0; key < 5; key++) {
    edge.catalog.run(
      putCommand(bucketId, `${key}`, chunkedObject(extentOf(edge.newWriteId(), 100), etagOf(1))),
    )
  }
  while (pull() > 0);
  const { watermark, received, retries } = hub.catalog.replication.cursor(idOf(hub), 2) ?? assert.fail()
  assert.deepEqual([watermark, retries], [received.lsn, 0])
  assert.notEqual(hub.catalog.object(idOf(hub), '4'), undefined)
  assert.equal(replication.backlog(bucketId)?.entries, 0)
  edge.catalog.run({ type: 'set-replication', bucketId, rule: null })
})
