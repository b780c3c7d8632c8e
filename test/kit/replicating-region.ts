import { createHash } from 'node:crypto'
import { createDirectCatalog, type DirectCatalog } from '../../core/catalog/direct-catalog.ts'
import { MemoryTables } from '../../core/catalog/memory-tables.ts'
import { createWriteRegistry } from '../../core/catalog/write-registry.ts'
import type { BodyDigest } from '../../core/contract/chunk-store.ts'
import type { Environment } from '../../core/contract/clock.ts'
import { chunkId } from '../../core/contract/ids.ts'
import { silentLogger } from '../../core/contract/logger.ts'
import type { Extent } from '../../core/contract/object-model.ts'
import type { WriteRegistry } from '../../core/contract/write-registry.ts'
import { Replicator } from '../../federation/replication/replicator.ts'
import { serveReplication } from '../../federation/replication/serve.ts'
import { ReplicationSource } from '../../federation/replication/source.ts'
import { plainAttributes } from './catalog-commands.ts'
import type { MemoryRegions } from './memory-regions.ts'
import { createMemoryStore, type MemoryStore } from './memory-store.ts'

const chunkBytes = 64 * 1024
const md5 = (bytes: Uint8Array): Buffer => createHash('md5').update(bytes).digest()

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

/** A region with a catalog and a chunk store in memory that replicates over memory tunnels; it outlives `kill`. */
export class ReplicatingRegion {
  readonly id: number
  readonly tables = new MemoryTables()
  readonly store: MemoryStore
  catalog: DirectCatalog
  writes: WriteRegistry
  replicator: Replicator | undefined
  readonly #environment: Environment
  readonly #regions: MemoryRegions
  #stopServing: () => void = () => undefined

  constructor(id: number, regions: MemoryRegions, environment: Environment) {
    this.id = id
    this.#regions = regions
    this.#environment = environment
    this.store = createMemoryStore(environment.clock)
    this.store.digest = () => md5Digest()
    this.catalog = createDirectCatalog({ tables: this.tables, environment, regionId: id })
    this.writes = createWriteRegistry(environment)
  }

  start(): void {
    const { catalog, store: chunks, writes, id: regionId } = this
    const { clock } = this.#environment
    const log = silentLogger
    const tunnels = this.#regions.start(regionId)
    const source = new ReplicationSource({ regionId, catalog, chunks, writes, clock, log })
    this.#stopServing = serveReplication(tunnels, source, log)
    this.replicator = new Replicator({
      ...{ regionId, catalog, chunks, writes, clock, log, tunnels, chunkBytes },
      isCoordinator: () => true,
    })
  }

  /** Process and tunnels are gone; rows and chunks stay. */
  async kill(): Promise<void> {
    this.#regions.kill(this.id)
    this.#stopServing()
    await this.replicator?.stop()
    this.writes = createWriteRegistry(this.#environment)
  }

  async #store(bytes: Uint8Array): Promise<Extent> {
    const writeId = this.writes.begin()
    for (let at = 0; at < bytes.length; at += chunkBytes) {
      const part = bytes.subarray(at, at + chunkBytes)
      const buffer = await this.store.acquire(part.length)
      buffer.bytes.set(part)
      await this.store.put(chunkId(writeId, at / chunkBytes), buffer, part.length)
      buffer.release()
    }
    return { writeId, chunkBytes, byteLength: bytes.length }
  }

  async put(bucket: string, key: string, bytes: Uint8Array): Promise<void> {
    const extent = await this.#store(bytes)
    await this.catalog.submit({
      ...{ type: 'put-object', bucketId: this.bucketId(bucket), key, owner: 'root' },
      object: {
        ...{ byteLength: bytes.length, etag: md5(bytes).toString('hex'), attributes: plainAttributes },
        layout: { kind: 'chunks', extents: [extent] },
      },
    })
    this.writes.settle(extent.writeId)
  }

  async putParts(bucket: string, key: string, parts: readonly Uint8Array[]): Promise<void> {
    const bucketId = this.bucketId(bucket)
    const { uploadId } = await this.catalog.submit({
      ...{ type: 'create-upload', bucketId, key, owner: 'root', initiator: 'root' },
      attributes: plainAttributes,
    })
    const named = await Promise.all(
      parts.map(async (bytes, at) => {
        const etag = md5(bytes).toString('hex')
        const layout = { kind: 'chunks', extents: [await this.#store(bytes)] } as const
        const part = { number: at + 1, byteLength: bytes.length, etag, layout }
        await this.catalog.submit({ type: 'put-part', bucketId, key, uploadId, ...part })
        return { number: at + 1, etag }
      }),
    )
    const etag = `${md5(Buffer.concat(parts.map(md5))).toString('hex')}-${parts.length}`
    await this.catalog.submit({ type: 'complete-upload', bucketId, key, uploadId, parts: named, etag })
  }

  /** What a client would read; undefined: no such object. */
  async read(bucket: string, key: string): Promise<Buffer | undefined> {
    const record = this.catalog.object(this.bucketId(bucket), key)
    if (record === undefined || record.deleteMarker) return undefined
    const { layout } = record
    if (layout.kind === 'inline') return Buffer.from(this.catalog.inlineBody(layout.writeId) ?? [])
    const pieces: Buffer[] = []
    for (const { writeId, byteLength, chunkBytes: size } of layout.kind === 'chunks' ? layout.extents : []) {
      for (let at = 0; at < byteLength; at += size) {
        const length = Math.min(size, byteLength - at)
        const buffer = await this.store.get(chunkId(writeId, at / size), 0, length)
        pieces.push(Buffer.from(buffer.bytes))
        buffer.release()
      }
    }
    return Buffer.concat(pieces)
  }

  bucketId(name: string): number {
    const bucket = this.catalog.bucket(name)
    if (bucket === undefined) throw new Error(`region ${this.id} has no bucket ${name}`)
    return bucket.id
  }
}
