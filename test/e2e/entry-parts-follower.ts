import assert from 'node:assert/strict'
import { openCatalog } from '../../core/catalog/catalog.ts'
import { successor, table } from '../../core/catalog/keys.ts'
import { LmdbTables } from '../../core/catalog/lmdb-tables.ts'
import type { Catalog, Command } from '../../core/contract/catalog.ts'
import { Follower } from '../../federation/replication/follower.ts'
import type { PeerRegion } from '../../federation/replication/peer.ts'
import { emptyObject, etagOf, putCommand, realEnvironment } from '../kit/catalog-commands.ts'
import { createMemoryStore } from '../kit/memory-store.ts'
import { ruleOf, testRegion } from '../kit/replicated-buckets.ts'

/**
 * Region 2 in a process of its own follows region 1, one of whose entries goes into the log in parts: DIRECTORY, then the place where the
 * process kills itself: so many changes after the first part of that entry has been asked for, or nowhere.
 */
const [directory = '', place = 'nowhere'] = process.argv.slice(2)
const versions = 1200

// The same in every process: its time and its chance are seeded.
const source = testRegion(1)
const { id } = source.catalog.run({ type: 'create-bucket', name: 'b', owner: 'root' })
source.catalog.run({ type: 'set-replication', bucketId: id, rule: ruleOf() })
source.catalog.run({ type: 'set-versioning', bucketId: id, state: 'enabled' })
while (!source.catalog.run({ type: 'backfill', bucketId: id }).done);
const key = 'v'.repeat(1000)
for (let made = 0; made < versions; made++) source.catalog.run(putCommand(id, key, emptyObject(etagOf(made))))
source.catalog.run({ type: 'start-full-sync', bucketId: id, region: 2 })
while (!source.catalog.run({ type: 'backfill', bucketId: id }).done);
source.catalog.run(putCommand(id, 'behind', emptyObject(etagOf(1))))

const { replication } = source.catalog
const nobody = async (): Promise<never> => assert.fail('nobody asks for that')
const peer: PeerRegion = {
  ...{ regionId: 1, offers: nobody, repair: nobody, body: () => assert.fail('no version has a body') },
  async pull({ logId, after, limit }) {
    const outbox = replication.outbox(id) ?? assert.fail()
    if (logId !== outbox.id)
      return { kind: 'start', logId: outbox.id, at: { lsn: 0, chain: new Uint8Array(32) }, reason: '' }
    const rows = replication.entries(id, after.lsn, limit, 1024 * 1024)
    const { chain } = replication.entryAt(id, rows.at(-1)?.lsn ?? after.lsn) ?? assert.fail()
    return { kind: 'entries', entries: rows.map(({ bytes }) => bytes), head: outbox.head.lsn, chain }
  },
}

async function countParts(): Promise<number> {
  const tables = new LmdbTables({ directory })
  try {
    const prefix = Buffer.from([table.entryPart])
    const rows = tables.reader.rows(prefix, successor(prefix))
    let count = 0
    while (rows.next()) count++
    return count
  } finally {
    await tables.close()
  }
}

const found = place === 'nowhere' ? await countParts() : undefined
const catalog = await openCatalog({
  ...{ directory, environment: realEnvironment, regionId: 2, inlineBytes: 4096, minFreeBytes: 0 },
})
const there =
  catalog.bucket('b')?.id ?? (await catalog.submit({ type: 'create-bucket', name: 'b', owner: 'root' })).id
if (catalog.replication.rule(there) === undefined)
  await catalog.submit({ type: 'set-replication', bucketId: there, rule: ruleOf() })

let left: number | undefined
const submit = async <C extends Command>(command: C): ReturnType<typeof catalog.submit<C>> => {
  if (place !== 'nowhere' && command.type === 'put-entry-part') left ??= Number(place)
  if (left === 0) process.kill(process.pid, 'SIGKILL')
  if (left !== undefined) left--
  return await catalog.submit(command)
}
const dying = { ...catalog, submit } as Pick<Catalog, 'bucket' | 'replication' | 'submit'>
const { clock } = realEnvironment
const writes = { begin: () => assert.fail('no version has a body'), settle: () => undefined }
const follower = new Follower(
  { catalog: dying, chunks: createMemoryStore(clock), writes, clock, chunkBytes: 1024 },
  ...(['b', 1] as const),
)
const { signal } = new AbortController()
while (await follower.step(peer, signal));

const page = catalog.listVersions(there, { prefix: '', delimiter: '', keyMarker: '', limit: 2 * versions })
const { retries, received, synchronizing } = follower.cursor() ?? assert.fail('it has no cursor')
await catalog.close()
process.stdout.write(
  JSON.stringify({
    ...{ versions: page.versions.length, retries, synchronizing, found, parts: await countParts() },
    isEven: received.lsn === replication.outbox(id)?.head.lsn,
  }),
)
