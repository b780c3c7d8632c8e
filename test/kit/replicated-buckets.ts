import { createDirectCatalog, type DirectCatalog } from '../../core/catalog/direct-catalog.ts'
import { MemoryTables } from '../../core/catalog/memory-tables.ts'
import type { WriteId } from '../../core/contract/ids.ts'
import type { Layout } from '../../core/contract/object-model.ts'
import {
  defaultRetentionBytes,
  defaultRetentionMs,
  defaultRpoMs,
  type PulledEntry,
  type ReplicationRule,
} from '../../core/contract/replication.ts'
import { SeededRandom } from '../simulation/seeded-random.ts'
import { extentOf } from './catalog-commands.ts'

/** Catalogs of regions in one process, with a clock each that the test sets. */
export interface TestRegion {
  readonly id: number
  readonly tables: MemoryTables
  readonly catalog: DirectCatalog
  readonly random: SeededRandom
  readonly clock: { nowMs: number }
  newWriteId(): WriteId
}

export function testRegion(id: number, seed = id): TestRegion {
  const tables = new MemoryTables()
  const random = new SeededRandom(seed)
  const clock = { nowMs: 1_700_000_000_000 }
  const environment = {
    clock: { now: () => clock.nowMs++, monotonic: () => clock.nowMs, sleep: () => Promise.resolve() },
    randomness: random,
  }
  return {
    ...{ id, tables, random, clock },
    catalog: createDirectCatalog({ tables, environment, regionId: id }),
    newWriteId: () => random.fill(new Uint8Array(10)),
  }
}

export function ruleOf(part: Partial<ReplicationRule> = {}): ReplicationRule {
  return {
    mode: 'single',
    primary: 1,
    epoch: 1,
    members: [1, 2],
    prefix: '',
    rpoMs: defaultRpoMs,
    retentionMs: defaultRetentionMs,
    retentionBytes: defaultRetentionBytes,
    ...part,
  }
}

/** What a receiver does with an entry, without moving a byte: layouts of its own for the bodies. */
export function placed(to: TestRegion, bytes: Uint8Array): PulledEntry {
  const { change } = to.catalog.replication.decode(bytes)
  if (change.type !== 'put') return { bytes }
  const { bodies, inline } = change.version
  const layout: Layout =
    inline !== undefined
      ? { kind: 'inline', writeId: to.newWriteId() }
      : bodies.length === 0
        ? { kind: 'empty' }
        : { kind: 'chunks', extents: bodies.map(({ byteLength }) => extentOf(to.newWriteId(), byteLength)) }
  return { bytes, layout }
}

/** Brings `to` up to date with `from`, entries alone, and tells `from`. */
export function ship(from: TestRegion, to: TestRegion, bucket: string, limit = 256): number {
  const source = from.catalog.bucket(bucket)
  const target = to.catalog.bucket(bucket)
  if (source === undefined || target === undefined) throw new Error('both have the bucket')
  const outbox = from.catalog.replication.outbox(source.id)
  if (outbox === undefined) throw new Error('the source has an outbox')
  while (from.catalog.replication.outbox(source.id)?.backfill !== undefined) {
    from.catalog.run({ type: 'backfill', bucketId: source.id })
  }
  const member = from.catalog.replication.members(source.id).find(({ region }) => region === to.id)
  const known = to.catalog.replication.cursor(target.id, from.id)
  if (known?.logId !== outbox.id || member?.needsFullSync === true) {
    if (member?.needsFullSync === true) {
      from.catalog.run({ type: 'start-full-sync', bucketId: source.id, region: to.id })
    }
    const start = from.catalog.replication.members(source.id).find(({ region }) => region === to.id)
    const at = from.catalog.replication.entryAt(source.id, start?.acknowledged ?? 0)
    if (at === undefined) throw new Error('the place to begin is kept')
    const { lsn, chain } = at
    to.catalog.run({
      ...{ type: 'set-cursor', bucketId: target.id, source: from.id, logId: outbox.id },
      at: { lsn, chain },
    })
    while (from.catalog.replication.outbox(source.id)?.backfill !== undefined) {
      from.catalog.run({ type: 'backfill', bucketId: source.id })
    }
  }
  let applied = 0
  for (;;) {
    const after = to.catalog.replication.cursor(target.id, from.id)?.received.lsn ?? 0
    const rows = from.catalog.replication.entries(source.id, after, limit, 1 << 20)
    if (rows.length === 0) break
    const entries = rows.map(({ bytes }) => placed(to, bytes))
    const command = { bucketId: target.id, source: from.id, logId: outbox.id, after, entries }
    applied += to.catalog.run({ type: 'apply-remote', ...command }).applied
  }
  const lsn = to.catalog.replication.cursor(target.id, from.id)?.watermark ?? 0
  from.catalog.run({ type: 'acknowledge-outbox', bucketId: source.id, region: to.id, logId: outbox.id, lsn })
  return applied
}

/** Everything a client could see of a bucket, without where the bytes are. */
export function contentOf({ catalog }: Pick<TestRegion, 'catalog'>, bucket: string): unknown[] {
  const found = catalog.bucket(bucket)
  if (found === undefined) return []
  const { versions } = catalog.listVersions(found.id, {
    ...{ prefix: '', delimiter: '', keyMarker: '', limit: 1_000_000 },
  })
  return versions.map(({ key, versionId, isNull, isLatest }) => {
    const record = catalog.object(found.id, key, isNull ? 'null' : versionId)
    const { layout, ...seen } = record ?? { layout: { kind: 'missing' } }
    return { ...seen, isLatest, kind: layout.kind }
  })
}
