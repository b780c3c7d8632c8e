import assert from 'node:assert/strict'
import { createDirectCatalog } from '../../core/catalog/direct-catalog.ts'
import { MemoryTables } from '../../core/catalog/memory-tables.ts'
import { createWriteRegistry } from '../../core/catalog/write-registry.ts'
import { groupOf, layoutOf } from '../../core/cluster/chunks/layout.ts'
import { openRegionChunks, type RegionChunks } from '../../core/cluster/chunks/region-chunks.ts'
import { changeMap } from '../../core/cluster/placement/change-map.ts'
import type { ClusterMap } from '../../core/contract/cluster-map.ts'
import { chunkId } from '../../core/contract/ids.ts'
import { silentLogger } from '../../core/contract/logger.ts'
import { simulatedPeer } from '../simulation/simulated-peer.ts'
import { chunkedObject, etagOf, extentOf, putCommand } from './catalog-commands.ts'
import { pattern } from './chunk-store-place.ts'
import { clusterMap } from './cluster-maps.ts'
import { FakeClock, fakeEnvironment } from './fake-clock.ts'
import { MemoryRegion } from './memory-region-peers.ts'
import { createMemoryStore, type MemoryStore } from './memory-store.ts'

const turn = (): Promise<void> => new Promise((resolve) => setImmediate(resolve))

export interface CopiedRegion {
  /** The chunk that an object consists of. */
  readonly id: Uint8Array
  diskOf(name: string): MemoryStore
  chunksOf(name: string): RegionChunks
  /** Nothing gets through between two nodes, until `heal`. */
  cut(one: string, other: string): void
  heal(): void
  /** The map in force. */
  map(): ClusterMap
  /** A map with other nodes, as when somebody is drained, or taken out by force. */
  setNodes(nodes: ClusterMap['nodes']): void
  pass(ms: number): Promise<void>
  end(): Promise<void>
}

/**
 * A region of the nodes named, of which those of `holders` are to have its only chunk; all of them have it when it begins. Runs on a
 * clock of its own.
 */
export async function copiedRegion(
  names: readonly string[],
  holders: readonly string[],
): Promise<CopiedRegion> {
  const clock = new FakeClock()
  const environment = fakeEnvironment(clock, 1)
  const catalog = createDirectCatalog({ tables: new MemoryTables(), environment, regionId: 1 })
  const { id: bucketId } = catalog.run({ type: 'create-bucket', name: 'b', owner: 'root' })
  const map = clusterMap(names, holders.length)
  catalog.run({ type: 'set-cluster-map', map })
  const layout = layoutOf('', map)
  const writes = createWriteRegistry(environment)
  const isFor = (id: Uint8Array): boolean => holders.every((name) => layout.isHolder(name, groupOf(id)))
  let writeId = writes.begin()
  while (!isFor(chunkId(writeId, 0))) {
    writes.settle(writeId)
    writeId = writes.begin()
  }
  const id = chunkId(writeId, 0)
  const bytes = Uint8Array.from(pattern(3, 700_000))
  const disks = new Map<string, MemoryStore>()
  for (const name of names) {
    const disk = createMemoryStore(clock)
    const buffer = await disk.acquire(bytes.length)
    buffer.bytes.set(bytes)
    await disk.put(id, buffer, bytes.length)
    buffer.release()
    disks.set(name, disk)
  }
  const diskOf = (name: string): MemoryStore => disks.get(name) ?? assert.fail()
  const extent = extentOf(writeId, bytes.length, 1024 * 1024)
  catalog.run(putCommand(bucketId, 'k', chunkedObject(extent, etagOf(1))))
  writes.settle(writeId)
  const region = new MemoryRegion({ clock })
  const cuts = new Set<string>()
  const pair = (one: string, other: string): string => [one, other].toSorted().join(' ')
  const running = new Map(
    names.map((self) => {
      const peers = region.join(self)
      const chunkPeers = (name: string) =>
        simulatedPeer({
          find: () =>
            cuts.has(pair(self, name)) ? undefined : { disk: diskOf(name), moved: new Uint32Array(4096) },
          delay: () => clock.sleep(1),
          isUsable: true,
          onStale: () => undefined,
        })
      const chunks = openRegionChunks({
        ...{ self, local: diskOf(self), chunkPeers, peers, catalog, writes, acks: 'quorum', clock },
        order: (views) => views.map((_, index) => index),
        coordinator: () => names[0],
        refreshMap: async () => undefined,
        log: silentLogger,
        intervalMs: 120_000,
      })
      return [self, { chunks, peers }] as const
    }),
  )
  let followed = map.epoch
  const follow = (): void => {
    const next = catalog.clusterMap()
    if (next.epoch === followed) return
    followed = next.epoch
    for (const { chunks } of running.values()) chunks.setMap(next)
  }
  const pass = async (ms: number): Promise<void> => {
    for (let passed = 0; passed < ms; passed += 100) {
      follow()
      await clock.advance(100)
      await turn()
    }
  }
  return {
    id,
    diskOf,
    chunksOf: (name) => running.get(name)?.chunks ?? assert.fail(),
    cut(one, other) {
      cuts.add(pair(one, other))
      region.cut(one, other)
    },
    heal() {
      cuts.clear()
      region.heal()
    },
    map: () => catalog.clusterMap(),
    setNodes(nodes) {
      const next = changeMap(catalog.clusterMap(), { nodes }, { force: true })
      catalog.run({ type: 'set-cluster-map', map: next })
    },
    pass,
    async end() {
      for (const { chunks, peers } of running.values()) {
        peers.leave()
        void chunks.close()
      }
      await pass(2000)
    },
  }
}
