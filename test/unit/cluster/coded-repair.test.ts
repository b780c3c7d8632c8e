import assert from 'node:assert/strict'
import { test } from 'node:test'
import { createCollector } from '../../../core/catalog/collector.ts'
import { createDirectCatalog } from '../../../core/catalog/direct-catalog.ts'
import { MemoryTables } from '../../../core/catalog/memory-tables.ts'
import { createWriteRegistry } from '../../../core/catalog/write-registry.ts'
import { fragmentHolder } from '../../../core/cluster/chunks/fragment-places.ts'
import { layoutOf } from '../../../core/cluster/chunks/layout.ts'
import { openRegionChunks, type RegionChunks } from '../../../core/cluster/chunks/region-chunks.ts'
import { withStripes } from '../../../core/cluster/placement/change-map.ts'
import { fragmentId, stripeBufferBytes, stripeOf, stripeWidth } from '../../../core/contract/erasure.ts'
import { StorageError } from '../../../core/contract/errors.ts'
import { chunkId, type WriteId } from '../../../core/contract/ids.ts'
import { silentLogger } from '../../../core/contract/logger.ts'
import type { WriteRegistry } from '../../../core/contract/write-registry.ts'
import { chunkedObject, etagOf, extentOf, putCommand } from '../../kit/catalog-commands.ts'
import { pattern } from '../../kit/chunk-store-place.ts'
import { clusterMap } from '../../kit/cluster-maps.ts'
import { FakeClock, fakeEnvironment } from '../../kit/fake-clock.ts'
import { MemoryRegion } from '../../kit/memory-region-peers.ts'
import { createMemoryStore, type MemoryStore } from '../../kit/memory-store.ts'
import { simulatedPeer } from '../../simulation/simulated-peer.ts'

const erasure = { dataFragments: 4, parityFragments: 2 }
const chunkBytes = 4 * 4096
const names = ['a', 'b', 'c', 'd', 'e', 'f']
const turn = (): Promise<void> => new Promise((resolve) => setImmediate(resolve))

interface Node {
  readonly name: string
  disk: MemoryStore
  running: { readonly chunks: RegionChunks; readonly writes: WriteRegistry; leave(): void } | undefined
}

/** Six nodes that keep bodies as four fragments and two, and one catalog for all. */
function codedRegion() {
  const clock = new FakeClock()
  const environment = fakeEnvironment(clock, 1)
  const catalog = createDirectCatalog({ tables: new MemoryTables(), environment, regionId: 1 })
  const { id: bucketId } = catalog.run({ type: 'create-bucket', name: 'b', owner: 'root' })
  const plain = clusterMap(names, 3)
  const map = { ...(withStripes(plain, [6]) ?? assert.fail()), epoch: plain.epoch }
  catalog.run({ type: 'set-cluster-map', map })
  const layout = layoutOf('', map)
  const region = new MemoryRegion({ clock })
  const nodes = new Map<string, Node>()
  const at = (name: string): Node => nodes.get(name) ?? assert.fail(name)
  /** Puts of fragments that still succeed; then the gateway is dead. */
  let putsLeft = Number.POSITIVE_INFINITY

  function start(node: Node): void {
    const peers = region.join(node.name)
    const writes = createWriteRegistry(fakeEnvironment(clock, node.name.charCodeAt(0)))
    const self = node.name
    const peerOf = (name: string) => {
      const isUp = () => node.running !== undefined && nodes.get(name)?.running !== undefined
      const peer = simulatedPeer({
        find: () => (isUp() ? { disk: at(name).disk, moved: new Uint32Array(4096) } : undefined),
        delay: () => clock.sleep(1),
        isUsable: isUp(),
        onStale: () => undefined,
      })
      const put: typeof peer.chunks.put = async (...given) => {
        if (putsLeft-- <= 0) throw new StorageError('PEER_UNREACHABLE', 'the gateway is dead')
        return peer.chunks.put(...given)
      }
      return { ...peer, chunks: { ...peer.chunks, put } }
    }
    const local: MemoryStore = Object.create(node.disk)
    Object.defineProperty(local, 'put', {
      value: async (...given: Parameters<MemoryStore['put']>) => {
        if (putsLeft-- <= 0) throw new StorageError('CLOSED', 'the gateway is dead')
        return node.disk.put(...given)
      },
    })
    const chunks = openRegionChunks({
      ...{ self, local, chunkPeers: peerOf, peers, catalog, writes, acks: 'quorum', clock },
      order: (views) => views.map((_, index) => index),
      coordinator: () => 'a',
      refreshMap: async () => undefined,
      log: silentLogger,
      intervalMs: 120_000,
    })
    node.running = { chunks, writes, leave: () => peers.leave() }
  }
  const pass = async (ms: number): Promise<void> => {
    for (let passed = 0; passed < ms; passed += 100) {
      await clock.advance(100)
      await turn()
    }
  }
  async function kill(name: string): Promise<void> {
    const node = at(name)
    const { running } = node
    node.running = undefined
    running?.leave()
    void running?.chunks.close()
    await turn()
  }
  for (const name of names) {
    const node: Node = { name, disk: createMemoryStore(clock), running: undefined }
    nodes.set(name, node)
    start(node)
  }
  const stripe = (byteLength: number) => stripeOf({ chunkBytes, byteLength }, erasure, 0)
  const run = (name: string) => at(name).running ?? assert.fail(`${name} is dead`)

  /** Through node `a`; resolves with what became of the chunk's write, before its entry. */
  async function write(
    bytes: Uint8Array,
  ): Promise<{ readonly writeId: WriteId; readonly isStored: boolean }> {
    const { chunks, writes } = run('a')
    const writeId = writes.begin()
    const buffer = await chunks.store.acquire(stripeBufferBytes(stripe(bytes.length)))
    buffer.bytes.set(bytes)
    const put = chunks.store.put(chunkId(writeId, 0), buffer, bytes.length, undefined, stripe(bytes.length))
    const stored = put.then(
      () => true,
      () => false,
    )
    void stored.then(() => buffer.release())
    await pass(500)
    return { writeId, isStored: await stored }
  }
  function commit(key: string, writeId: WriteId, byteLength: number): void {
    const extent = { ...extentOf(writeId, byteLength, chunkBytes), erasure }
    catalog.run(putCommand(bucketId, key, chunkedObject(extent, etagOf(1))))
    run('a').writes.settle(writeId)
  }
  const holderOf = (writeId: WriteId, fragment: number): Node =>
    at(fragmentHolder(layout, stripe(chunkBytes), chunkId(writeId, 0), fragment))
  const idOf = (writeId: WriteId, fragment: number) => fragmentId(chunkId(writeId, 0), fragment)
  return {
    ...{ clock, catalog, bucketId, nodes, at, start, kill, pass, write, commit, holderOf, idOf, run },
    dieAfter: (puts: number) => {
      putsLeft = puts
    },
    /** Their disks are gone, and they begin anew. */
    async replaceDisk(node: Node, disk = createMemoryStore(clock)): Promise<MemoryStore> {
      const old = node.disk
      await kill(node.name)
      node.disk = disk
      start(node)
      return old
    },
    async fragments(writeId: WriteId): Promise<readonly (string | undefined)[]> {
      const found = Array.from({ length: stripeWidth(erasure) }, async (_, fragment) => {
        const id = idOf(writeId, fragment)
        const { disk } = holderOf(writeId, fragment)
        if (!disk.isSound(id)) return undefined
        const buffer = await disk.get(id, 0, 1 << 20)
        const text = Buffer.from(buffer.bytes).toString('base64')
        buffer.release()
        return text
      })
      return Promise.all(found)
    },
    async read(name: string, writeId: WriteId, byteLength: number): Promise<Uint8Array | string> {
      const { store } = run(name).chunks
      const id = chunkId(writeId, 0)
      const reading = store.get(id, 0, byteLength, undefined, undefined, stripe(byteLength)).then(
        (buffer) => {
          const bytes = Uint8Array.from(buffer.bytes)
          buffer.release()
          return bytes
        },
        (reason) => StorageError.from(reason).code,
      )
      await pass(5000)
      return reading
    },
    /** What nobody has owned for an hour. */
    async collectOrphans(): Promise<void> {
      const collectors = [...nodes.values()].map(({ disk, name }) => {
        const { chunks, writes } = run(name)
        return createCollector({ catalog, chunks: disk, writes, clock, elsewhere: chunks.elsewhere })
      })
      for (let round = 0; round < 2; round++) {
        for (const collector of collectors) {
          const looking = collector.collectOrphans()
          await pass(500)
          await looking
        }
        await clock.advance(3_700_000)
        await pass(500)
      }
    },
    async end(): Promise<void> {
      for (const name of names) await kill(name)
      await pass(2000)
    },
  }
}

test('of 4+2 two disks are lost: repair writes the very fragments that were there', async () => {
  const region = codedRegion()
  const bytes = Uint8Array.from(pattern(1, chunkBytes - 77))
  const { writeId, isStored } = await region.write(bytes)
  assert.ok(isStored)
  region.commit('k', writeId, bytes.length)
  const before = await region.fragments(writeId)
  assert.ok(!before.includes(undefined))
  for (const fragment of [1, 4]) await region.replaceDisk(region.holderOf(writeId, fragment))
  await region.pass(30_000)
  assert.deepEqual(await region.fragments(writeId), before)
  assert.deepEqual(await region.read('c', writeId, bytes.length), bytes)
  await region.end()
})

test('a node with an empty disk does not say that it lacks nothing before it has looked', async () => {
  const region = codedRegion()
  const bytes = Uint8Array.from(pattern(3, chunkBytes))
  const { writeId } = await region.write(bytes)
  region.commit('k', writeId, bytes.length)
  await region.pass(30_000)
  const node = region.holderOf(writeId, 2)
  const repairAt = (name: string) => region.run(name).chunks.repair
  const lacksNothing = (): boolean => {
    const { isKnown, queuedChunks, unresolvedChunks, lostChunks } = repairAt(node.name).status()
    return isKnown && queuedChunks + unresolvedChunks + lostChunks === 0
  }
  assert.ok(lacksNothing())
  await region.replaceDisk(node)
  let wasMissing = false
  for (let passed = 0; passed < 30_000; passed += 100) {
    const isThere = (await region.fragments(writeId))[2] !== undefined
    wasMissing ||= !isThere
    assert.ok(isThere || !lacksNothing(), `after ${passed} ms it says that it lacks nothing`)
    await region.pass(100)
  }
  assert.ok(wasMissing && lacksNothing(), 'it was empty, and has all of it in the end')
  // Somebody who was away comes back: what was written meanwhile nobody has told it yet.
  const other = region.holderOf(writeId, 3)
  await region.kill(other.name)
  region.start(other)
  assert.equal(repairAt(other.name).status().isKnown, false)
  assert.equal(repairAt(node.name).status().isKnown, false)
  await region.pass(30_000)
  assert.ok(repairAt(other.name).status().isKnown && lacksNothing())
  await region.end()
})

test('one fragment lost and one damaged, known to nobody: repair that meets it brings back both', async () => {
  const region = codedRegion()
  const bytes = Uint8Array.from(pattern(2, chunkBytes))
  const { writeId } = await region.write(bytes)
  region.commit('k', writeId, bytes.length)
  const before = await region.fragments(writeId)
  for (const fragment of [0, 1, 2])
    region.holderOf(writeId, fragment).disk.damage(region.idOf(writeId, fragment))
  // Three are damaged: no two of the others are lost, and nothing can be computed.
  await region.replaceDisk(region.holderOf(writeId, 5))
  await region.pass(30_000)
  assert.equal((await region.fragments(writeId))[5], undefined, 'nothing is made of too few')
  await region.end()

  const other = codedRegion()
  const again = await other.write(bytes)
  other.commit('k', again.writeId, bytes.length)
  const whole = await other.fragments(again.writeId)
  other.holderOf(again.writeId, 0).disk.damage(other.idOf(again.writeId, 0))
  await other.replaceDisk(other.holderOf(again.writeId, 5))
  await other.pass(60_000)
  assert.deepEqual(await other.fragments(again.writeId), whole)
  assert.deepEqual(before.length, whole.length)
  await other.end()
})

test('whoever fetches a copy tells the node whose own is damaged', async () => {
  const region = codedRegion()
  const { chunks, writes } = region.run('a')
  const writeId = writes.begin()
  const id = chunkId(writeId, 0)
  const bytes = Uint8Array.from(pattern(7, 3000))
  const buffer = await chunks.store.acquire(bytes.length)
  buffer.bytes.set(bytes)
  const put = chunks.store.put(id, buffer, bytes.length).finally(() => buffer.release())
  await region.pass(500)
  await put
  const object = chunkedObject(extentOf(writeId, bytes.length, chunkBytes), etagOf(1))
  region.catalog.run(putCommand(region.bucketId, 'k', object))
  writes.settle(writeId)
  const holders = [...region.nodes.values()].filter(({ disk }) => disk.isSound(id))
  assert.equal(holders.length, 3)
  // Whichever of the two others is asked first, one of these tries meets the damaged one.
  for (const [damaged, lost] of [
    [0, 1],
    [2, 1],
  ] as const) {
    holders[damaged]?.disk.damage(id)
    await region.replaceDisk(holders[lost] ?? assert.fail())
    await region.pass(30_000)
    const sound = holders.filter(({ disk }) => disk.isSound(id)).length
    assert.ok(sound >= 2, 'the lost copy is there again')
  }
  await region.pass(60_000)
  const left = holders.filter(({ disk }) => !disk.isSound(id))
  assert.ok(left.length <= 1, 'the first of the damaged ones was found')
  await region.end()
})

test('two of 4+2 lost and a third damaged: nothing is written, it is said, and it heals when a disk comes back', async () => {
  const region = codedRegion()
  const bytes = Uint8Array.from(pattern(3, chunkBytes - 5000))
  const { writeId } = await region.write(bytes)
  region.commit('k', writeId, bytes.length)
  const before = await region.fragments(writeId)
  const lost = [region.holderOf(writeId, 0), region.holderOf(writeId, 5)]
  const disks = [
    await region.replaceDisk(lost[0] ?? assert.fail()),
    await region.replaceDisk(lost[1] ?? assert.fail()),
  ]
  const damaged = region.holderOf(writeId, 2)
  damaged.disk.damage(region.idOf(writeId, 2))
  await region.pass(60_000)
  const after = await region.fragments(writeId)
  for (const fragment of [0, 2, 5])
    assert.equal(after[fragment], undefined, `no fragment ${fragment} was made up`)
  for (const fragment of [1, 3, 4]) assert.equal(after[fragment], before[fragment])
  assert.equal(await region.read('b', writeId, bytes.length), 'CORRUPT_CHUNK')
  for (const node of lost) {
    const { complete, unresolvedChunks, problem } = region.run(node.name).chunks.repair.status()
    assert.deepEqual([complete, unresolvedChunks > 0], [false, true])
    assert.match(problem, /could not be fetched/)
  }
  await region.replaceDisk(lost[0] ?? assert.fail(), disks[0])
  await region.pass(700_000)
  assert.deepEqual(await region.fragments(writeId), before)
  assert.deepEqual(await region.read('b', writeId, bytes.length), bytes)
  await region.end()
})

test('a gateway dies after any number of fragments: what has no entry is gone in the end, and nothing else', async () => {
  for (const puts of [1, 4, 5]) {
    const region = codedRegion()
    const kept = await region.write(pattern(4, chunkBytes))
    region.commit('k', kept.writeId, chunkBytes)
    const before = await region.fragments(kept.writeId)
    region.dieAfter(puts)
    const { writeId, isStored } = await region.write(pattern(5, chunkBytes))
    assert.equal(isStored, puts >= 5, `${puts} fragments: one more than are needed makes it durable`)
    const stored = (await region.fragments(writeId)).filter((one) => one !== undefined).length
    assert.equal(stored, puts)
    await region.kill('a')
    region.dieAfter(Number.POSITIVE_INFINITY)
    region.start(region.at('a'))
    await region.pass(10_000)
    await region.collectOrphans()
    assert.deepEqual(
      (await region.fragments(writeId)).filter((one) => one !== undefined),
      [],
    )
    assert.deepEqual(await region.fragments(kept.writeId), before)
    await region.end()
  }
})

test('an object that is deleted while its fragments are being repaired leaves nothing behind', async () => {
  for (const waitMs of [2100, 2400]) {
    const region = codedRegion()
    const { writeId } = await region.write(pattern(6, chunkBytes))
    region.commit('k', writeId, chunkBytes)
    await region.pass(5000)
    for (const fragment of [0, 3]) await region.replaceDisk(region.holderOf(writeId, fragment))
    await region.pass(waitMs)
    const { catalog, bucketId, clock } = region
    catalog.run({ type: 'delete-objects', bucketId, owner: 'root', items: [{ key: 'k' }] })
    const { chunks, writes } = region.run('b')
    const garbage = createCollector({
      catalog,
      chunks: chunks.store,
      writes,
      clock,
      elsewhere: chunks.elsewhere,
    })
    const collecting = garbage.collect()
    await region.pass(10_000)
    assert.equal((await collecting).writes, 1)
    await region.collectOrphans()
    for (const { disk, name } of region.nodes.values())
      assert.deepEqual(await disk.list(null, 10), [], `${name} holds nothing`)
    await region.end()
  }
})
