import assert from 'node:assert/strict'
import { createHash } from 'node:crypto'
import { createCollector } from '../../core/catalog/collector.ts'
import { createDirectCatalog, type DirectCatalog } from '../../core/catalog/direct-catalog.ts'
import { pack, unpack } from '../../core/catalog/encoding.ts'
import { bucketKey, successor, table } from '../../core/catalog/keys.ts'
import { MemoryTables } from '../../core/catalog/memory-tables.ts'
import { ruleKey, tombstonesKey } from '../../core/catalog/replication/keys.ts'
import type { StoredRule } from '../../core/catalog/replication/rows.ts'
import { decodeTombstone, type TombstoneState } from '../../core/catalog/replication/tombstones.ts'
import { rowKey, rowValue, type Tables, type TableWriter } from '../../core/catalog/tables.ts'
import { createWriteRegistry } from '../../core/catalog/write-registry.ts'
import { accessKinds } from '../../core/contract/bucket-access.ts'
import type { BodyDigest } from '../../core/contract/chunk-store.ts'
import type { Clock } from '../../core/contract/clock.ts'
import { chunkId } from '../../core/contract/ids.ts'
import { silentLogger } from '../../core/contract/logger.ts'
import type { WriteRegistry } from '../../core/contract/write-registry.ts'
import { ReplicationSource } from '../../federation/replication/source.ts'
import { createMemoryStore, type MemoryStore } from '../kit/memory-store.ts'
import { contentOf } from '../kit/replicated-buckets.ts'
import { Crash, failAfter } from './crashing-writer.ts'
import type { SeededRandom } from './seeded-random.ts'

/** What the regions of one simulation share. */
export interface SimulatedWorld {
  readonly random: SeededRandom
  nowMs: number
}

export const bucketName = 'b'
export const chunkBytes = 64
export const hex = (bytes: Uint8Array): string => Buffer.from(bytes).toString('hex')

/** All rows of a region. */
export type Rows = readonly (readonly [key: Uint8Array, value: Uint8Array])[]

/** Tables that a crash may hit within a transaction. */
export class CrashingTables implements Tables {
  /** For the test of the test: what a crash leaves of a transaction where these rows are not part of it. */
  static isOutboxApart = false
  static isCursorAhead = false
  /** And what forgets deletes as soon as every member has them, whatever else is on its way. */
  static isForgottenEarly = false

  readonly inner = new MemoryTables()
  /** Writes until the next crash. */
  writesLeft = Number.POSITIVE_INFINITY
  readonly reader = this.inner.reader
  transact<T>(change: (writer: TableWriter) => T): T {
    if (CrashingTables.isOutboxApart)
      return this.#transactApart(change, [table.outbox, table.outboxState], false)
    if (CrashingTables.isCursorAhead) return this.#transactApart(change, [table.cursor], true)
    return this.inner.transact((writer) => change(failAfter(writer, this.writesLeft)))
  }

  /** Rows of some tables are in a transaction of their own, after or before the one of all others. */
  #transactApart<T>(change: (writer: TableWriter) => T, tables: readonly number[], isAhead: boolean): T {
    /** Each row that belongs apart, before and after. */
    const apart = new Map<string, { key: Uint8Array; before?: Uint8Array; after?: Uint8Array }>()
    let others = 0
    let all = 0
    const set = (writer: TableWriter, key: Uint8Array, value: Uint8Array | undefined): void => {
      all++
      if (!tables.includes(key[0] ?? 0)) others++
      else {
        const before = writer.get(key)
        const known = apart.get(hex(key)) ?? { key, ...(before === undefined ? {} : { before }) }
        apart.set(hex(key), {
          key,
          ...(known.before === undefined ? {} : { before: known.before }),
          ...(value === undefined ? {} : { after: value }),
        })
      }
      if (value === undefined) writer.remove(key)
      else writer.put(key, value)
    }
    const put = (which: 'before' | 'after', writer: TableWriter): void => {
      for (const row of apart.values()) {
        const value = row[which]
        if (value === undefined) writer.remove(row.key)
        else writer.put(row.key, value)
      }
    }
    let isCrashed = false
    try {
      const result = this.inner.transact((writer) => {
        const done = change({
          get: (key) => writer.get(key),
          rows: (start, end) => writer.rows(start, end),
          put: (key, value) => set(writer, key, value),
          remove: (key) => set(writer, key, undefined),
        })
        if (all <= this.writesLeft) return done
        isCrashed = true
        if (isAhead || others > this.writesLeft) throw new Crash()
        put('before', writer)
        return done
      })
      if (!isCrashed) return result
    } catch (error) {
      if (isCrashed && isAhead && all - others <= this.writesLeft) {
        this.inner.transact((writer) => put('after', writer))
      }
      throw error
    }
    throw new Crash()
  }
  bytesOnDisk = (): number => this.inner.bytesOnDisk()
  close = (): Promise<void> => this.inner.close()
}

/** A region whose rows and chunks outlive its crashes. */
export class SimulatedRegion {
  readonly id: number
  readonly tables = new CrashingTables()
  readonly store: MemoryStore
  readonly catalog: DirectCatalog
  readonly clock: Clock
  /** Of this region's wall clock, against the others'. */
  readonly skewMs: number
  /** What the bucket held at each entry of the outbox. */
  readonly history = new Map<number, string>()
  readonly purged = new Set<string>()
  /** Versions that were here once, in the order in which they were first seen, and that are. */
  readonly #known = new Map<string, number>()
  seenCount = 0
  #present = new Set<string>()
  writes: WriteRegistry
  source: ReplicationSource
  readonly #world: SimulatedWorld

  constructor(id: number, world: SimulatedWorld) {
    this.id = id
    this.#world = world
    this.skewMs = world.random.below(20_000)
    this.clock = {
      now: () => Math.floor(1_700_000_000_000 + world.nowMs) + this.skewMs,
      monotonic: () => world.nowMs,
      sleep: async (delayMs) => {
        world.nowMs += delayMs
      },
    }
    const environment = { clock: this.clock, randomness: world.random }
    this.store = createMemoryStore(this.clock)
    this.store.digest = md5Digest
    this.catalog = createDirectCatalog({ tables: this.tables, environment, regionId: id })
    this.writes = createWriteRegistry(environment)
    this.source = this.#newSource()
  }

  #newSource(): ReplicationSource {
    const { catalog, store: chunks, writes, clock, id: regionId } = this
    return new ReplicationSource({ regionId, catalog, chunks, writes, clock, log: silentLogger })
  }

  /** What was in memory is gone. */
  restart(): void {
    this.tables.writesLeft = Number.POSITIVE_INFINITY
    this.writes = createWriteRegistry({ clock: this.clock, randomness: this.#world.random })
    this.source = this.#newSource()
  }

  get bucketId(): number | undefined {
    return this.catalog.bucket(bucketName)?.id
  }

  content(): string {
    const { bucketId, catalog } = this
    const access = accessKinds.map((kind) =>
      bucketId === undefined ? undefined : catalog.bucketConfig(bucketId, kind),
    )
    const versioning = catalog.bucket(bucketName)?.versioning
    return JSON.stringify([...contentOf(this, bucketName), { access, versioning }], (_, value: unknown) =>
      value instanceof Uint8Array ? hex(value) : value,
    )
  }

  /** Some document that says who may do what in the bucket is there, is another one, or is gone. */
  setAccess(random: SeededRandom): void {
    const bucket = this.catalog.bucket(bucketName)
    if (bucket === undefined || !this.catalog.replication.access(bucket, this.id).isKnown) return
    const value = random.chance(0.3) ? null : Buffer.from(String(random.below(1000)))
    this.catalog.run({
      ...{ type: 'set-bucket-config', bucketId: bucket.id, kind: random.pick(accessKinds), value },
    })
    this.note()
  }

  tombstones() {
    return this.bucketId === undefined
      ? undefined
      : this.catalog.replication.tombstones(this.bucketId, this.id)
  }

  /** Where several regions write: what is gone is gone for good. */
  checkGone(): void {
    const present = new Set(
      (JSON.parse(this.content()) as { key: string; versionId: string }[]).map(
        ({ key, versionId }) => `${key} ${versionId}`,
      ),
    )
    for (const id of present) {
      assert.ok(!this.#known.has(id) || this.#present.has(id), 'a version that was gone is back')
      if (!this.#known.has(id)) this.#known.set(id, this.seenCount++)
    }
    this.#present = present
  }

  /** Versions that were here, as far as `checkGone` has looked, and are not. */
  gone(): readonly string[] {
    return [...this.#known.keys()].filter((id) => !this.#present.has(id))
  }

  /** They may be here again. */
  forgive(ids: readonly string[]): void {
    for (const id of ids) {
      this.#known.delete(id)
      this.purged.delete(id.slice(id.lastIndexOf(' ') + 1))
    }
  }

  /** Its place among the versions that were here; undefined: it was not, as far as `checkGone` has looked. */
  seenAt(key: string, versionId: Uint8Array): number | undefined {
    return this.#known.get(`${key} ${hex(versionId)}`)
  }

  /** The bucket is taken away, with its rule. `isForgetful` false: what was deleted here is not to be here again, though the catalog has forgotten it. */
  empty(isForgetful = true): void {
    const { bucketId, catalog } = this
    if (bucketId === undefined) return
    while (!catalog.run({ type: 'set-replication', bucketId, rule: null }).done);
    const { versions } = catalog.listVersions(bucketId, {
      ...{ prefix: '', delimiter: '', keyMarker: '', limit: 10_000 },
    })
    for (const { key, versionId, isNull } of versions) {
      const items = [{ key, version: isNull ? ('null' as const) : versionId }]
      catalog.run({ type: 'delete-objects', bucketId, owner: 'root', items })
    }
    catalog.run({ type: 'delete-bucket', name: bucketName })
    for (const id of isForgetful ? [...this.#known.keys()] : this.#present) this.#known.delete(id)
    this.#present.clear()
    if (isForgetful) this.purged.clear()
    this.history.clear()
  }

  /** Rules that it has left (core/catalog/replication/forgotten-rule.ts): as with all of its data. */
  forgetRules(): void {
    this.tables.inner.transact((writer) => {
      for (const [key] of this.#rows(table.forgottenRule, table.forgottenRule + 1)) writer.remove(key)
    })
  }

  #rows(start: number, end: number): Rows {
    const rows: [Uint8Array, Uint8Array][] = []
    const cursor = this.tables.reader.rows(Uint8Array.of(start), Uint8Array.of(end))
    while (cursor.next()) rows.push([rowKey(cursor), rowValue(cursor)])
    return rows
  }

  /** All that the catalog holds. */
  save = (): Rows => this.#rows(0, 0xff)

  /** The region goes on from what it had once. What was deleted since is here again, and nowhere else. */
  recover(rows: Rows, isUnknown: boolean): void {
    this.checkGone()
    const now = this.save()
    this.tables.inner.transact((writer) => {
      for (const [key] of now) writer.remove(key)
      for (const [key, value] of rows) writer.put(key, value)
    })
    this.catalog.run({ type: 'recover-region' })
    const { bucketId } = this
    if (isUnknown && bucketId !== undefined) {
      this.tables.inner.transact((writer) => {
        const { isForgetful: _, ...rule } = unpack(writer.get(ruleKey(bucketId)) ?? pack({})) as StoredRule
        writer.put(ruleKey(bucketId), pack(rule))
      })
    }
    this.#known.clear()
    this.#present.clear()
    this.purged.clear()
    this.restart()
  }

  /** It was recovered, and takes no part. */
  get isForgetful(): boolean {
    return this.bucketId !== undefined && this.catalog.replication.isForgetful(this.bucketId)
  }

  /** See `CrashingTables.isForgottenEarly`. */
  forgetAcknowledged(): void {
    const { bucketId, catalog } = this
    if (bucketId === undefined || this.tombstones() === undefined) return
    const acknowledged = catalog.replication
      .members(bucketId)
      .map((member) => (member.needsFullSync ? 0 : member.acknowledged))
    const least = Math.min(...acknowledged)
    const rows: Uint8Array[] = []
    for (const tag of [table.tombstone, table.nullTombstone]) {
      const cursor = this.tables.reader.rows(bucketKey(tag, bucketId), successor(bucketKey(tag, bucketId)))
      while (cursor.next()) {
        const { place } = decodeTombstone(rowKey(cursor), rowValue(cursor))
        if (place?.region === this.id && place.lsn <= least) rows.push(rowKey(cursor))
      }
    }
    this.tables.inner.transact((writer) => {
      for (const row of rows) writer.remove(row)
      const known = writer.get(tombstonesKey(bucketId))
      if (known === undefined) return
      const state = unpack(known) as TombstoneState
      writer.put(tombstonesKey(bucketId), pack({ ...state, held: state.held - rows.length }))
    })
  }

  /** After every change that this region made. */
  note(): void {
    const head =
      this.bucketId === undefined ? undefined : this.catalog.replication.outbox(this.bucketId)?.head.lsn
    if (head === undefined) return
    const content = this.content()
    for (let lsn = head; lsn >= 0 && !this.history.has(lsn); lsn--) this.history.set(lsn, content)
  }

  async collect(): Promise<void> {
    const { catalog, store: chunks, writes, clock } = this
    const collector = createCollector({ catalog, chunks, writes, clock, chunksPerSecond: 1e9 })
    await collector.collect()
    await collector.collectOrphans()
  }

  /** Every body that the catalog names is in the store, and is what its ETag says. */
  async checkBodies(): Promise<void> {
    const id = this.bucketId
    if (id === undefined) return
    for (const version of this.catalog.listVersions(id, {
      ...{ prefix: '', delimiter: '', keyMarker: '', limit: 10_000 },
    }).versions) {
      const record = this.catalog.object(id, version.key, version.isNull ? 'null' : version.versionId)
      if (record === undefined || record.deleteMarker) continue
      const hash = createHash('md5')
      if (record.layout.kind === 'inline') {
        hash.update(this.catalog.inlineBody(record.layout.writeId) ?? new Uint8Array([1, 2, 3]))
      } else if (record.layout.kind === 'chunks') {
        for (const { writeId, byteLength } of record.layout.extents) {
          for (let at = 0; at < byteLength; at += chunkBytes) {
            const buffer = await this.store.get(chunkId(writeId, at / chunkBytes), 0, chunkBytes)
            hash.update(buffer.bytes)
            buffer.release()
          }
        }
      }
      assert.equal(hash.digest('hex'), record.etag, 'a version has the body that its ETag says')
    }
  }
}

function md5Digest(): BodyDigest {
  const hash = createHash('md5')
  return {
    async update(buffer, offset, length) {
      hash.update(buffer.bytes.subarray(offset, offset + length))
    },
    finish: async () => new Map([['md5', Uint8Array.from(hash.digest())]]),
    abort() {},
  }
}
