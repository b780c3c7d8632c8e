import assert from 'node:assert/strict'
import { test } from 'node:test'
import { createDirectCatalog } from '../../../core/catalog/direct-catalog.ts'
import { MemoryTables } from '../../../core/catalog/memory-tables.ts'
import { createWriteRegistry } from '../../../core/catalog/write-registry.ts'
import { groupOf, layoutOf } from '../../../core/cluster/chunks/layout.ts'
import { openRegionChunks } from '../../../core/cluster/chunks/region-chunks.ts'
import { chunkId } from '../../../core/contract/ids.ts'
import { silentLogger } from '../../../core/contract/logger.ts'
import { chunkedObject, etagOf, extentOf, putCommand } from '../../kit/catalog-commands.ts'
import { pattern } from '../../kit/chunk-store-place.ts'
import { clusterMap } from '../../kit/cluster-maps.ts'
import { FakeClock, fakeEnvironment } from '../../kit/fake-clock.ts'
import { MemoryRegion } from '../../kit/memory-region-peers.ts'
import { createMemoryStore, type MemoryStore } from '../../kit/memory-store.ts'
import { simulatedPeer } from '../../simulation/simulated-peer.ts'

const turn = (): Promise<void> => new Promise((resolve) => setImmediate(resolve))

/** Two nodes that keep one copy of each chunk, of which `b` has become the one that keeps this one; `a` has it still. */
async function moved() {
  const clock = new FakeClock()
  const environment = fakeEnvironment(clock, 1)
  const catalog = createDirectCatalog({ tables: new MemoryTables(), environment, regionId: 1 })
  const { id: bucketId } = catalog.run({ type: 'create-bucket', name: 'b', owner: 'root' })
  const map = clusterMap(['a', 'b'], 1)
  catalog.run({ type: 'set-cluster-map', map })
  const layout = layoutOf('a', map)
  const writes = createWriteRegistry(environment)
  let writeId = writes.begin()
  while (!layout.isHolder('b', groupOf(chunkId(writeId, 0)))) writeId = writes.begin()
  const id = chunkId(writeId, 0)
  const bytes = Uint8Array.from(pattern(3, 700_000))
  const disks = new Map<string, MemoryStore>()
  for (const name of ['a', 'b']) {
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
  const region = new MemoryRegion({ clock })
  const running = ['a', 'b'].map((self) => {
    const peers = region.join(self)
    const chunkPeers = (name: string) =>
      simulatedPeer({
        find: () => ({ disk: diskOf(name), moved: new Uint32Array(4096) }),
        delay: () => clock.sleep(1),
        isUsable: true,
        onStale: () => undefined,
      })
    const chunks = openRegionChunks({
      ...{ self, local: diskOf(self), chunkPeers, peers, catalog, writes, acks: 'quorum', clock },
      order: (views) => views.map((_, index) => index),
      coordinator: () => 'a',
      refreshMap: async () => undefined,
      log: silentLogger,
      intervalMs: 120_000,
    })
    return { chunks, peers }
  })
  const pass = async (ms: number): Promise<void> => {
    for (let passed = 0; passed < ms; passed += 100) {
      await clock.advance(100)
      await turn()
    }
  }
  const end = async (): Promise<void> => {
    for (const { chunks, peers } of running) {
      peers.leave()
      void chunks.close()
    }
    await pass(2000)
  }
  return { id, a: diskOf('a'), b: diskOf('b'), pass, end }
}

test('a copy that is left over goes when the node that is to have it has it', async () => {
  const { id, a, b, pass, end } = await moved()
  await pass(60_000)
  assert.deepEqual([await a.has(id), b.isSound(id)], [false, true])
  assert.deepEqual([a.held, b.held], [0, 0])
  await end()
})

test('the only good copy is no leftover: it heals the damaged one, and goes then', async () => {
  const { id, a, b, pass, end } = await moved()
  b.damage(id)
  for (let passed = 0; passed < 60_000; passed += 100) {
    await pass(100)
    assert.ok(a.isSound(id) || b.isSound(id), `after ${passed} ms nobody has it any more`)
  }
  await pass(600_000)
  assert.deepEqual([await a.has(id), b.isSound(id)], [false, true])
  await end()
})
