import assert from 'node:assert/strict'
import { createHash } from 'node:crypto'
import { createDirectCatalog } from '../../core/catalog/direct-catalog.ts'
import { MemoryTables } from '../../core/catalog/memory-tables.ts'
import { createWriteRegistry } from '../../core/catalog/write-registry.ts'
import { ClusterChunkStore } from '../../core/cluster/chunks/cluster-store.ts'
import { layoutOf } from '../../core/cluster/chunks/layout.ts'
import { withStripes } from '../../core/cluster/placement/change-map.ts'
import { stripeBufferBytes, stripeOf, stripeWidth } from '../../core/contract/erasure.ts'
import { chunkId } from '../../core/contract/ids.ts'
import { silentLogger } from '../../core/contract/logger.ts'
import { plainAttributes, realEnvironment } from './catalog-commands.ts'
import { clusterMap } from './cluster-maps.ts'
import { createMemoryStore, type MemoryStore } from './memory-store.ts'
import { ruleOf } from './replicated-buckets.ts'

const { clock } = realEnvironment
const scheme = { dataFragments: 2, parityFragments: 1 }
export const stripedChunkBytes = 2 * 64 * 1024

/** A region of three nodes, as node `a` sees it, that keeps bodies as fragments; shares the bucket `b` with region 2. */
export async function stripedRegion(prefix = '') {
  const nodes = ['a', 'b', 'c']
  const stores = new Map<string, MemoryStore>(nodes.map((name) => [name, createMemoryStore(clock)]))
  const storeOf = (name: string): MemoryStore => stores.get(name) ?? assert.fail(name)
  const map = withStripes(clusterMap(nodes, 3), [stripeWidth(scheme)]) ?? assert.fail()
  const store = new ClusterChunkStore({
    ...{ self: 'a', local: storeOf('a'), acks: 'all', clock, log: silentLogger },
    peers: (name) => ({
      ...{ distance: 3, isUsable: true, p50Ms: 0 },
      chunks: {
        inFlight: 0,
        put: (...given) => storeOf(name).put(given[0], given[1], given[2]),
        get: (one, offset, length) => storeOf(name).get(one, offset, length),
        has: (one) => storeOf(name).has(one),
        delete: (one) => storeOf(name).delete(one),
      },
    }),
    layout: () => layoutOf('a', map),
    refreshMap: async () => undefined,
    order: (views) => views.map((_, index) => index),
    damaged: () => undefined,
  })
  const catalog = createDirectCatalog({
    ...{ tables: new MemoryTables(), environment: realEnvironment, regionId: 1 },
  })
  const writes = createWriteRegistry(realEnvironment)
  const { id: bucketId } = await catalog.submit({ type: 'create-bucket', name: 'b', owner: 'root' })
  await catalog.submit({ type: 'set-replication', bucketId, rule: { ...ruleOf(), prefix } })
  const put = async (key: string, body: Uint8Array) => {
    const writeId = writes.begin()
    const extent = { writeId, chunkBytes: stripedChunkBytes, byteLength: body.length, erasure: scheme }
    for (let at = 0; at < body.length; at += stripedChunkBytes) {
      const stripe = stripeOf(extent, scheme, at / stripedChunkBytes)
      const buffer = await store.acquire(stripeBufferBytes(stripe))
      buffer.bytes.set(body.subarray(at, at + stripe.byteLength))
      await store.put(chunkId(writeId, at / stripedChunkBytes), buffer, stripe.byteLength, undefined, stripe)
      buffer.release()
    }
    const etag = createHash('md5').update(body).digest('hex')
    await catalog.submit({
      ...{ type: 'put-object', bucketId, key, owner: 'root' },
      object: {
        ...{ byteLength: body.length, etag, attributes: plainAttributes },
        layout: { kind: 'chunks', extents: [extent] },
      },
    })
    return writeId
  }
  return { catalog, store, storeOf, writes, put }
}
