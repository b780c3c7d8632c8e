import assert from 'node:assert/strict'
import { type Collector, createCollector } from '../../core/catalog/collector.ts'
import { createDirectCatalog, type DirectCatalog } from '../../core/catalog/direct-catalog.ts'
import { MemoryTables } from '../../core/catalog/memory-tables.ts'
import { createWriteRegistry } from '../../core/catalog/write-registry.ts'
import { layoutOf } from '../../core/cluster/chunks/layout.ts'
import type { ClusterPeer } from '../../core/cluster/chunks/peers.ts'
import { openRegionChunks, type RegionChunks } from '../../core/cluster/chunks/region-chunks.ts'
import { changeMap, withStripes } from '../../core/cluster/placement/change-map.ts'
import type { ChunkBuffer } from '../../core/contract/chunk-store.ts'
import type { ClusterMap } from '../../core/contract/cluster-map.ts'
import { stripeBufferBytes, stripeWidth } from '../../core/contract/erasure.ts'
import { StorageError } from '../../core/contract/errors.ts'
import { chunkId } from '../../core/contract/ids.ts'
import { silentLogger } from '../../core/contract/logger.ts'
import type { ReplicaAcks } from '../../core/contract/transport.ts'
import type { WriteRegistry } from '../../core/contract/write-registry.ts'
import { chunkedObject, extentOf, putCommand } from '../kit/catalog-commands.ts'
import { clusterMap, clusterNode } from '../kit/cluster-maps.ts'
import { FakeClock, fakeEnvironment } from '../kit/fake-clock.ts'
import { MemoryRegion, type MemoryRegionPeers } from '../kit/memory-region-peers.ts'
import { createMemoryStore, type MemoryStore } from '../kit/memory-store.ts'
import { seededRandom } from '../kit/random.ts'
import {
  type Body,
  bytesOf,
  type ChunksRun,
  copiedChunkBytes,
  type Piece,
  piecesOf,
  scheme,
  stripeAt,
  stripedChunkBytes,
} from './chunk-pieces.ts'
import { rot, scrub } from './chunk-rot.ts'
import { simulatedPeer } from './simulated-peer.ts'

const stepMs = 100
const replicas = 3
const mostNodes = 6

interface SimNode {
  readonly name: string
  disk: MemoryStore
  /** Of requests to it, at most. */
  delayMs: number
  running:
    | { chunks: RegionChunks; writes: WriteRegistry; collector: Collector; peers: MemoryRegionPeers }
    | undefined
  /** What it knows of moves: it refuses writes by older maps. */
  moved: Uint32Array
}

const nothing = (): void => undefined
const turn = (): Promise<void> => new Promise((resolve) => setImmediate(resolve))

/**
 * A region under one seed's faults: nodes die and come back with or without their disks, are added and drained, while others write,
 * overwrite, read, repair and collect. No more disks are lost at a time than the acknowledgements allow. Then all is healed, and every
 * acknowledged byte must be at every node that should have it, and nothing else anywhere. The catalog is one for all and perfect.
 */
export async function simulateChunks(seed: number, steps: number): Promise<ChunksRun> {
  const random = seededRandom(seed)
  const isStriped = seed % 4 >= 2
  const acks: ReplicaAcks = seed % 2 === 0 ? 'all' : 'quorum'
  const mayLose = acks === 'all' ? replicas - 1 : 1
  const clock = new FakeClock()
  const environment = fakeEnvironment(clock, seed)
  const region = new MemoryRegion({ clock, delayMs: () => random.below(20) })
  const catalog: DirectCatalog = createDirectCatalog({ tables: new MemoryTables(), environment, regionId: 1 })
  const bucket = catalog.run({ type: 'create-bucket', name: 'bodies', owner: 'root' })
  const nodes = new Map<string, SimNode>()
  const count = {
    writes: 0,
    failedWrites: 0,
    reads: 0,
    unavailableReads: 0,
    wipes: 0,
    rots: 0,
    kills: 0,
    moves: 0,
    fetched: 0,
    freed: 0,
    stale: 0,
  }
  const names = ['a', 'b', 'c', ...(random.below(2) === 0 || isStriped ? ['d'] : [])]
  /** Decoded once for all nodes. */
  let map: ClusterMap = clusterMap(names, replicas)
  if (isStriped) map = { ...(withStripes(map, [stripeWidth(scheme)]) ?? assert.fail()), epoch: map.epoch }
  catalog.run({ type: 'set-cluster-map', map })
  const shared: DirectCatalog = {
    ...catalog,
    clusterMap: () => map,
    submit: async (command) => {
      const answer = catalog.run(command)
      if (command.type === 'set-cluster-map') spread(command.map)
      return answer
    },
  }
  const pending = new Set<Promise<void>>()
  const later = (work: Promise<void>): void => {
    pending.add(work)
    void work.finally(() => pending.delete(work))
  }

  /** Everybody hears of a new map, not all at once. */
  function spread(next: ClusterMap): void {
    if (map.moving !== undefined && next.moving === undefined) {
      count.moves++
      client(nothingIsLeftBehind(next))
    }
    map = next
    for (const node of nodes.values()) {
      const { running } = node
      if (running === undefined) continue
      later(clock.sleep(random.below(3000)).then(() => running.chunks.setMap(next)))
    }
  }

  const alive = (): SimNode[] => [...nodes.values()].filter(({ running }) => running !== undefined)
  const coordinator = (): string | undefined =>
    alive()
      .map(({ name }) => name)
      .toSorted()[0]

  const peerOf = (self: SimNode, name: string): ClusterPeer =>
    simulatedPeer({
      find() {
        const target = nodes.get(name)
        const isThere = target?.running !== undefined && self.running !== undefined
        return isThere && region.isConnected(self.name, name) ? target : undefined
      },
      delay: () => clock.sleep(random.below(nodes.get(name)?.delayMs ?? 1)),
      isUsable: nodes.get(name)?.running !== undefined,
      onStale() {
        count.stale++
      },
    })

  function start(node: SimNode): void {
    const peers = region.join(node.name)
    const writes = createWriteRegistry(fakeEnvironment(clock, random.below(2 ** 31)))
    const chunks = openRegionChunks({
      self: node.name,
      local: node.disk,
      chunkPeers: (name) => peerOf(node, name),
      peers,
      catalog: shared,
      writes,
      acks,
      order: (views) => views.map((_, index) => index),
      coordinator,
      refreshMap: async () => node.running?.chunks.setMap(map),
      onMoved(_, moved) {
        node.moved = moved
      },
      clock,
      log: silentLogger,
      intervalMs: 120_000,
    })
    const collector = createCollector({
      catalog: shared,
      chunks: chunks.store,
      writes,
      clock,
      elsewhere: chunks.elsewhere,
    })
    node.running = { chunks, writes, collector, peers }
  }

  /** The process is gone at once: nothing of it acts on the disk or on others any more. */
  async function kill(node: SimNode): Promise<void> {
    const { running } = node
    if (running === undefined) return
    node.running = undefined
    running.peers.leave()
    count.fetched += running.chunks.repair.status().fetchedChunks
    count.freed += running.chunks.repair.status().freedLeftovers
    later(running.chunks.close())
    await turn()
  }

  const addNode = (name: string): SimNode => {
    const node: SimNode = {
      name,
      disk: createMemoryStore(clock),
      delayMs: 30,
      running: undefined,
      moved: new Uint32Array(0),
    }
    nodes.set(name, node)
    start(node)
    return node
  }
  for (const name of names) addNode(name)

  const pass = async (ms: number): Promise<void> => {
    for (let passedMs = 0; passedMs < ms; passedMs += stepMs) {
      await clock.advance(stepMs)
      await turn()
    }
  }

  // What clients do
  const bodies = new Map<string, Body>()
  let problem: unknown
  const client = (work: Promise<void>): void => {
    later(
      work.catch((reason) => {
        problem ??= reason
      }),
    )
  }
  const isOutage = (reason: unknown): boolean => {
    const { code } = StorageError.from(reason)
    return code === 'UNAVAILABLE' || code === 'CLOSED' || code === 'PEER_UNREACHABLE'
  }

  async function write(node: SimNode, key: string): Promise<void> {
    const { running } = node
    if (running === undefined) return
    const writeId = running.writes.begin()
    const erasure = isStriped && random.below(3) > 0 ? scheme : undefined
    const chunkBytes = erasure === undefined ? copiedChunkBytes : stripedChunkBytes
    const byteLength = 1 + random.below(3 * chunkBytes)
    const body: Body = { writeId, byteLength, chunkBytes, ...(erasure === undefined ? {} : { erasure }) }
    const patience = random.below(5) === 0 ? 20_000 : 400
    try {
      for (let start = 0; start < byteLength; start += chunkBytes) {
        const length = Math.min(chunkBytes, byteLength - start)
        const stripe = stripeAt(body, start / chunkBytes)
        const buffer = await running.chunks.store.acquire(
          stripe === undefined ? length : stripeBufferBytes(stripe),
        )
        buffer.bytes.set(bytesOf(body, start, length))
        try {
          await running.chunks.store.put(
            chunkId(writeId, start / chunkBytes),
            buffer,
            length,
            undefined,
            stripe,
          )
        } finally {
          buffer.release()
        }
        await clock.sleep(random.below(patience))
      }
      // A gateway that has died does not submit.
      if (node.running !== running) return
      const extent = {
        ...extentOf(writeId, byteLength, chunkBytes),
        ...(erasure === undefined ? {} : { erasure }),
      }
      catalog.run(putCommand(bucket.id, key, chunkedObject(extent)))
      bodies.set(key, body)
      count.writes++
    } catch (reason) {
      if (!isOutage(reason)) throw reason
      count.failedWrites++
    } finally {
      running.writes.settle(writeId)
    }
  }

  async function read(node: SimNode, key: string): Promise<void> {
    const { running } = node
    const body = bodies.get(key)
    if (running === undefined || body === undefined) return
    const unpin = running.writes.pin(body.writeId)
    const { chunkBytes } = body
    const patience = random.below(3) === 0 ? 5000 : 300
    try {
      for (let start = 0; start < body.byteLength; start += chunkBytes) {
        const buffer: ChunkBuffer = await running.chunks.store.get(
          chunkId(body.writeId, start / chunkBytes),
          0,
          chunkBytes,
          undefined,
          undefined,
          stripeAt(body, start / chunkBytes),
        )
        try {
          const expected = Math.min(chunkBytes, body.byteLength - start)
          assert.equal(buffer.bytes.length, expected)
          const wanted = bytesOf(body, start, expected)
          assert.ok(Buffer.compare(buffer.bytes, wanted) === 0, `${key}: other bytes (seed ${seed})`)
        } finally {
          buffer.release()
        }
        await clock.sleep(random.below(patience))
      }
      count.reads++
    } catch (reason) {
      if (node.running !== running) return
      if (!isOutage(reason)) throw reason
      count.unavailableReads++
    } finally {
      unpin()
    }
  }

  // What must hold
  async function whereabouts(
    check: (key: string, piece: Piece, holders: readonly string[]) => void,
  ): Promise<void> {
    for (const [key, body] of bodies) {
      for (const piece of piecesOf(body)) {
        const holders: string[] = []
        for (const { name, disk } of nodes.values()) if (disk.isSound(piece.id)) holders.push(name)
        check(key, piece, holders)
      }
    }
  }
  /** Of every chunk so many pieces are where they count that it can be read. */
  async function enoughOfAll(what: string, counts: (piece: Piece, holders: readonly string[]) => boolean) {
    const [left, needed] = [new Map<string, number>(), new Map<string, { key: string; enough: number }>()]
    await whereabouts((key, piece, holders) => {
      needed.set(piece.chunk, { key, enough: piece.enough })
      if (counts(piece, holders)) left.set(piece.chunk, (left.get(piece.chunk) ?? 0) + 1)
    })
    for (const [chunk, { key, enough }] of needed) {
      const found = left.get(chunk) ?? 0
      assert.ok(found >= enough, `${key}: chunk ${chunk} ${what}: ${found} of ${enough} (seed ${seed})`)
    }
  }
  const nothingIsLost = (): Promise<void> => enoughOfAll('is nowhere', (_, holders) => holders.length > 0)
  /** A move has ended: enough of what was acknowledged is at new holders, for nobody looks at the old ones any more. */
  const nothingIsLeftBehind = (next: ClusterMap): Promise<void> =>
    enoughOfAll('was left behind', (piece, holders) =>
      piece.holders(layoutOf('', next)).some((name) => holders.includes(name)),
    )
  /** All copies are where they should be: then as many disks may be lost again. */
  const isWhole = async (): Promise<boolean> => {
    if (map.moving !== undefined) return false
    let whole = true
    const layout = layoutOf('', map)
    await whereabouts((_, piece, holders) => {
      if (!piece.holders(layout).every((name) => holders.includes(name))) whole = false
    })
    return whole
  }

  // Faults
  let lost = 0
  const change = (nodesOf: (now: ClusterMap) => ClusterMap['nodes']): void => {
    try {
      const next = changeMap(map, { nodes: nodesOf(map) })
      catalog.run({ type: 'set-cluster-map', map: next })
      spread(next)
    } catch (reason) {
      if (StorageError.from(reason).code !== 'CONFLICT') throw reason
    }
  }
  const active = (): readonly string[] =>
    map.nodes.filter(({ state }) => state === 'active').map(({ name }) => name)
  const scrubOf = ({ name: node, disk, running }: SimNode): Promise<void> =>
    scrub(disk, (id) => running?.chunks.repair.report({ id, node, problem: 'corrupt' }))
  async function fault(): Promise<void> {
    const [choice, someone] = [random.below(13), random.pick([...nodes.values()])]
    if (choice < 3) {
      const isFew = alive().length <= 2
      if (someone.running === undefined) start(someone)
      else if (!isFew) {
        count.kills++
        await kill(someone)
      }
    } else if (choice < 5) {
      if (lost > 0 && (await isWhole())) lost = 0
      // A copy that is being written counts as lost when its disk is: nothing is acknowledged that was not there before.
      if (lost >= mayLose) return
      lost++
      count.wipes++
      await kill(someone)
      someone.disk = createMemoryStore(clock)
      await nothingIsLost()
      if (random.below(2) === 0) start(someone)
    } else if (choice === 5 && nodes.size < mostNodes && map.moving === undefined) {
      const name = 'abcdefghijklmnop'[nodes.size] ?? 'z'
      change(({ nodes: now }) => [...now, clusterNode(name, { voter: false })])
      addNode(name)
    } else if (choice === 6 && active().length > (isStriped ? stripeWidth(scheme) : replicas)) {
      const name = random.pick(active())
      change(({ nodes: now }) =>
        now.map((node) => (node.name === name ? { ...node, state: 'draining' } : node)),
      )
    } else if (choice === 7) {
      change(({ nodes: now }) =>
        now.map((node) =>
          node.state === 'draining' && random.below(2) === 0 ? { ...node, state: 'active' } : node,
        ),
      )
    } else if (choice === 8) {
      change(({ nodes: now }) =>
        now.map((node) => (random.below(3) === 0 ? { ...node, weight: 1 + random.below(3) } : node)),
      )
    } else if (choice === 11) {
      if (lost > 0 && (await isWhole())) lost = 0
      if (lost >= mayLose) return
      lost++
      count.rots++
      await rot(someone.disk, random)
      await nothingIsLost()
    } else if (choice === 12) await scrubOf(someone)
    else if (choice === 9) {
      someone.delayMs = random.pick([30, 30, 2000, 8000])
    } else {
      const other = random.pick([...nodes.keys()])
      if (other !== someone.name) region.cut(someone.name, other)
      if (random.below(2) === 0) region.heal()
    }
  }

  for (let step = 0; step < steps; step++) {
    for (let request = random.below(4); request > 0; request--) {
      const node = random.pick([...nodes.values()])
      const key = `key ${random.below(20)}`
      client(random.below(3) === 0 ? read(node, key) : write(node, key))
    }
    await pass(stepMs * (1 + random.below(40)))
    const leader = nodes.get(coordinator() ?? '')?.running
    // Whoever does not answer holds collection up; that is no finding.
    if (random.below(3) === 0 && leader !== undefined)
      client(leader.collector.collect().then(nothing, nothing))
    if (random.below(2) === 0) await fault()
    if (problem !== undefined) throw problem
  }

  // Healed
  region.heal()
  for (const node of nodes.values()) node.delayMs = 30
  for (const node of nodes.values()) if (node.running === undefined) start(node)
  for (let waited = 0; waited < 100; waited++) {
    await pass(5000)
    if (problem !== undefined) throw problem
    for (const node of nodes.values()) await scrubOf(node)
    const states = [...nodes.values()].map(({ running }) => running?.chunks.repair.status())
    const isDone = states.every((state) => state?.complete === true && state.leftoverChunks === 0)
    if (isDone && map.moving === undefined && (await isWhole())) break
  }
  await nothingIsLost()
  assert.equal(map.moving, undefined, `the move has not ended (seed ${seed})`)
  assert.ok(await isWhole(), `copies are missing after the healing (seed ${seed})`)
  // Whoever still writes or reads comes to an end.
  for (let waited = 0; waited < 90; waited++) {
    await clock.advance(1000)
    await turn()
  }
  // Garbage goes, then what nothing owns: it must have been seen for an hour.
  const everybody = [...nodes.values()].map(({ running }) => running ?? assert.fail())
  const work = async (): Promise<void> => {
    await everybody[0]?.collector.collect()
    const orphans = everybody.map(({ chunks, writes }, index) => {
      const local = [...nodes.values()][index]?.disk ?? assert.fail()
      return createCollector({ catalog: shared, chunks: local, writes, clock, elsewhere: chunks.elsewhere })
    })
    for (const collector of orphans) await collector.collectOrphans()
    await clock.sleep(3_700_000)
    for (const collector of orphans) await collector.collectOrphans()
  }
  let isOver = false
  const cleaning = work().finally(() => {
    isOver = true
  })
  cleaning.catch(() => undefined)
  for (let waited = 0; waited < 400 && !isOver; waited++) {
    await clock.advance(20_000)
    for (let some = 0; some < 4; some++) await turn()
  }
  assert.ok(isOver, `the cleaning has no end (seed ${seed})`)
  await cleaning
  await pass(5000)
  const layout = layoutOf('', map)
  const wanted = new Map<string, string[]>([...nodes.keys()].map((name) => [name, []]))
  await whereabouts((_, { id, holders }) => {
    for (const name of holders(layout)) wanted.get(name)?.push(Buffer.from(id).toString('hex'))
  })
  for (const { name, disk } of nodes.values()) {
    const held = (await disk.list(null, 1e6)).map(({ id }) => Buffer.from(id).toString('hex'))
    assert.deepEqual(
      held,
      wanted.get(name)?.toSorted(),
      `${name} holds what it should and nothing else (seed ${seed})`,
    )
  }
  for (const key of bodies.keys()) client(read(random.pick([...nodes.values()]), key))
  await pass(5000)
  if (problem !== undefined) throw problem
  for (const node of nodes.values()) await kill(node)
  for (let waited = 0; waited < 200 && pending.size > 0; waited++) await pass(1000)
  assert.equal(pending.size, 0, `work is left (seed ${seed})`)
  for (const { disk, name } of nodes.values())
    assert.equal(disk.held, 0, `buffers of ${name} are held (seed ${seed})`)
  return { seed, acks, ...count }
}
