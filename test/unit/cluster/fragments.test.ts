import assert from 'node:assert/strict'
import { test } from 'node:test'
import fc from 'fast-check'
import { ClusterChunkStore } from '../../../core/cluster/chunks/cluster-store.ts'
import { decodeFragments, encodeFragments } from '../../../core/cluster/chunks/damage-messages.ts'
import { fragmentHolder } from '../../../core/cluster/chunks/fragment-places.ts'
import { type ChunkLayout, layoutOf } from '../../../core/cluster/chunks/layout.ts'
import type { ClusterPeer, DamagedCopy } from '../../../core/cluster/chunks/peers.ts'
import {
  changeMap,
  completeMove,
  mustComplete,
  withStripes,
} from '../../../core/cluster/placement/change-map.ts'
import { readStripes } from '../../../core/cluster/placement/stripes.ts'
import type { ClusterMap } from '../../../core/contract/cluster-map.ts'
import {
  type ErasureScheme,
  fragmentBytesOf,
  fragmentId,
  fragmentLength,
  parseScheme,
  type Stripe,
  stripeBufferBytes,
  stripeWidth,
} from '../../../core/contract/erasure.ts'
import { StorageError } from '../../../core/contract/errors.ts'
import { chunkId, chunkOwner, maxChunkBytes, placementGroupCount } from '../../../core/contract/ids.ts'
import { silentLogger } from '../../../core/contract/logger.ts'
import type { ReplicaAcks } from '../../../core/contract/transport.ts'
import { pattern, rejectsWith } from '../../kit/chunk-store-place.ts'
import { clusterMap, clusterNode } from '../../kit/cluster-maps.ts'
import { FakeClock } from '../../kit/fake-clock.ts'
import { createMemoryStore, type MemoryStore } from '../../kit/memory-store.ts'

const id = chunkId(Uint8Array.from([1, 2, 3, 4, 5, 6, 7, 8, 9, 10]), 3)
const names = (count: number): readonly string[] => 'abcdefghijkl'.slice(0, count).split('')
const stripedMap = (nodes: readonly string[], width: number): ClusterMap =>
  withStripes(clusterMap(nodes, 3), [width]) ?? assert.fail()

/** A region as node `a` sees it; nodes can be dead, and what a node has can be damaged. */
function regionOf(map: ClusterMap, acks: ReplicaAcks = 'all') {
  const clock = new FakeClock()
  const stores = new Map(map.nodes.map(({ name }) => [name, createMemoryStore(clock)]))
  const storeOf = (name: string): MemoryStore => stores.get(name) ?? assert.fail(name)
  const dead = new Set<string>()
  /** Their links look well until they are used. */
  const closed = new Set<string>()
  const damaged = new Set<string>()
  const reports: DamagedCopy[] = []
  let layout: ChunkLayout = layoutOf('a', map)
  const peerOf = (name: string): ClusterPeer => {
    const alive = (): MemoryStore => {
      if (closed.has(name)) throw new StorageError('CLOSED', 'the link is closed')
      if (dead.has(name)) throw new StorageError('PEER_UNREACHABLE', `no way to ${name}`)
      return storeOf(name)
    }
    return {
      distance: 3,
      isUsable: !dead.has(name),
      p50Ms: 0,
      chunks: {
        inFlight: 0,
        put: async (...given) => alive().put(given[0], given[1], given[2]),
        get: async (one, offset, length) => {
          if (damaged.has(name)) throw new StorageError('CORRUPT_CHUNK', 'other bytes')
          return alive().get(one, offset, length)
        },
        has: async (one) => alive().has(one),
        delete: async (one) => alive().delete(one),
      },
    }
  }
  const store = new ClusterChunkStore({
    self: 'a',
    local: storeOf('a'),
    peers: peerOf,
    layout: () => layout,
    refreshMap: () => assert.fail('nobody has another map'),
    acks,
    order: (views) => views.map((_, index) => index),
    clock,
    log: silentLogger,
    damaged: (copy) => reports.push(copy),
  })
  return {
    store,
    stores,
    storeOf,
    dead,
    closed,
    damaged,
    reports,
    layout: () => layout,
    setMap: (next: ClusterMap) => {
      layout = layoutOf('a', next)
    },
    held: () => [...stores.values()].reduce((sum, { held }) => sum + held, 0),
    async put(stripe: Stripe, bytes: Uint8Array): Promise<void> {
      const buffer = await store.acquire(stripeBufferBytes(stripe))
      buffer.bytes.set(bytes)
      try {
        await store.put(id, buffer, bytes.length, undefined, stripe)
      } finally {
        buffer.release()
      }
    },
    async get(stripe: Stripe, offset = 0, length = stripe.byteLength): Promise<Uint8Array> {
      const buffer = await store.get(id, offset, length, undefined, undefined, stripe)
      const bytes = Uint8Array.from(buffer.bytes)
      buffer.release()
      return bytes
    },
  }
}

const stripeFor = (scheme: ErasureScheme, byteLength: number): Stripe => ({
  ...scheme,
  fragmentBytes: 4096,
  byteLength,
})
const settle = async (): Promise<void> => {
  for (let turn = 0; turn < 20; turn++) await new Promise((resolve) => setImmediate(resolve))
}

test('any loss of up to m fragments reads back every range; more is an error and never other bytes', async () => {
  const cases = fc.record({
    k: fc.integer({ min: 1, max: 6 }),
    m: fc.integer({ min: 1, max: 3 }),
    length: fc.double({ min: 0, max: 1, noNaN: true }),
    from: fc.double({ min: 0, max: 1, noNaN: true }),
    to: fc.double({ min: 0, max: 1, noNaN: true }),
    lost: fc.uniqueArray(fc.nat({ max: 8 }), { maxLength: 6 }),
    how: fc.constantFrom('wiped', 'damaged'),
  })
  await fc.assert(
    fc.asyncProperty(cases, async ({ k, m, length, from, to, lost, how }) => {
      const scheme = { dataFragments: k, parityFragments: m }
      const stripe = stripeFor(scheme, 1 + Math.floor(length * (k * 4096 - 1)))
      const region = regionOf(stripedMap(names(k + m), k + m))
      const bytes = pattern(7, stripe.byteLength)
      await region.put(stripe, bytes)
      const stored = names(k + m)
        .map((_, fragment) => fragment)
        .filter((fragment) => fragmentLength(stripe, fragment) > 0)
      const gone = lost.filter((fragment) => stored.includes(fragment))
      for (const fragment of gone) {
        const holder = fragmentHolder(region.layout(), stripe, id, fragment)
        if (how === 'damaged' && holder !== 'a') region.damaged.add(holder)
        else await region.storeOf(holder).delete(fragmentId(id, fragment))
      }
      const start = Math.floor(Math.min(from, to) * stripe.byteLength)
      const end = Math.ceil(Math.max(from, to) * stripe.byteLength)
      const expected = bytes.subarray(start, end)
      if (gone.length <= m) {
        assert.ok(Buffer.compare(await region.get(stripe, start, end - start), expected) === 0)
      } else {
        // Where the bytes asked for are all there, they are right; otherwise it is said that they are not.
        const answer = await region
          .get(stripe, start, end - start)
          .catch((reason) => StorageError.from(reason))
        if (answer instanceof StorageError) assert.match(answer.code, /^(CORRUPT_CHUNK|CHUNK_NOT_FOUND)$/)
        else assert.ok(Buffer.compare(answer, expected) === 0)
      }
      await settle()
      assert.equal(region.held(), 0, 'every buffer was given back')
    }),
    { numRuns: 300 },
  )
})

test('a write is acknowledged with one fragment more than are needed, refused with fewer, and what is missing is reported', async () => {
  const scheme = { dataFragments: 4, parityFragments: 2 }
  const stripe = stripeFor(scheme, 4 * 4096 - 100)
  const bytes = pattern(1, stripe.byteLength)
  const region = regionOf(stripedMap(names(6), 6), 'quorum')
  region.dead.add('c')
  await region.put(stripe, bytes)
  await settle()
  assert.deepEqual(
    region.reports.map(({ node, problem }) => [node, problem]),
    [['c', 'missing']],
  )
  assert.deepEqual(region.reports[0]?.stripe, stripe)
  assert.ok(Buffer.compare(await region.get(stripe), bytes) === 0)

  const second = regionOf(stripedMap(names(6), 6), 'quorum')
  second.dead.add('c').add('d')
  await rejectsWith('UNAVAILABLE', second.put(stripe, bytes))
  const all = regionOf(stripedMap(names(6), 6), 'all')
  all.dead.add('e')
  await rejectsWith('UNAVAILABLE', all.put(stripe, bytes))
})

test('two of six nodes away: everything is read; three away: UNAVAILABLE, for they may come back', async () => {
  const stripe = stripeFor({ dataFragments: 4, parityFragments: 2 }, 4 * 4096)
  const bytes = pattern(2, stripe.byteLength)
  const region = regionOf(stripedMap(names(6), 6))
  await region.put(stripe, bytes)
  region.dead.add('b').add('c')
  assert.ok(Buffer.compare(await region.get(stripe), bytes) === 0)
  assert.equal(await region.store.has(id, stripe), true)
  region.dead.add('d')
  await rejectsWith('UNAVAILABLE', region.get(stripe))
})

test('links that are closed under a read of fragments are read around, and say nothing about what is behind them', async () => {
  const stripe = stripeFor({ dataFragments: 4, parityFragments: 2 }, 4 * 4096)
  const bytes = pattern(6, stripe.byteLength)
  const region = regionOf(stripedMap(names(6), 6), 'quorum')
  await region.put(stripe, bytes)
  region.closed.add('b').add('c')
  assert.ok(Buffer.compare(await region.get(stripe), bytes) === 0)
  assert.equal(await region.store.has(id, stripe), true)
  region.closed.add('d')
  await rejectsWith('UNAVAILABLE', region.get(stripe))
  await rejectsWith('UNAVAILABLE', region.store.has(id, stripe))
  await rejectsWith('UNAVAILABLE', region.put(stripe, bytes))
})

test('a damaged fragment is read around and reported', async () => {
  const stripe = stripeFor({ dataFragments: 2, parityFragments: 1 }, 8192)
  const bytes = pattern(3, 8192)
  const region = regionOf(stripedMap(names(3), 3))
  await region.put(stripe, bytes)
  const holder = [0, 1]
    .map((fragment) => fragmentHolder(region.layout(), stripe, id, fragment))
    .find((name) => name !== 'a')
  region.damaged.add(holder ?? assert.fail())
  assert.ok(Buffer.compare(await region.get(stripe), bytes) === 0)
  assert.ok(region.reports.some(({ node, problem }) => node === holder && problem === 'corrupt'))
})

test('the only copy of a fragment is read where it has no place any more, as long as so many are left as are needed', async () => {
  const stripe = stripeFor({ dataFragments: 4, parityFragments: 2 }, 4 * 4096)
  const bytes = pattern(5, stripe.byteLength)
  const map = stripedMap(names(6), 6)
  const region = regionOf(map)
  await region.put(stripe, bytes)
  const holders = [0, 1, 2, 3, 4, 5].map((fragment) => fragmentHolder(region.layout(), stripe, id, fragment))
  // With six nodes nobody can take it over: the drained one keeps its fragment.
  const drained = holders.slice(0, 4).find((name) => name !== 'a') ?? assert.fail()
  const draining = map.nodes.map((node) =>
    node.name === drained ? { ...node, state: 'draining' as const } : node,
  )
  const moved = changeMap(map, { nodes: draining })
  region.setMap(completeMove(moved, mustComplete(moved)) ?? assert.fail('the move has ended'))
  assert.equal(fragmentHolder(region.layout(), stripe, id, holders.indexOf(drained)), '')
  const others = holders.filter((name) => name !== 'a' && name !== drained)
  const readAll = async (): Promise<void> => {
    for (let fragment = 0; fragment < 4; fragment++) {
      const part = await region.get(stripe, fragment * 4096, 4096)
      assert.ok(Buffer.compare(part, bytes.subarray(fragment * 4096, (fragment + 1) * 4096)) === 0)
    }
  }
  await readAll()
  for (const name of others.slice(0, 2)) {
    region.dead.add(name)
    await readAll()
  }
  // Its bytes are damaged there: the dead ones may come back with theirs.
  region.damaged.add(drained)
  await rejectsWith('UNAVAILABLE', region.get(stripe, holders.indexOf(drained) * 4096, 4096))
  assert.ok(region.reports.some(({ node, problem }) => node === drained && problem === 'corrupt'))
  await settle()
  assert.equal(region.held(), 0)
})

test('a delete leaves no fragment anywhere', async () => {
  const stripe = stripeFor({ dataFragments: 2, parityFragments: 2 }, 5000)
  const region = regionOf(stripedMap(names(5), 4))
  await region.put(stripe, pattern(4, 5000))
  assert.equal(await region.store.delete(id, undefined, stripe), true)
  for (const store of region.stores.values()) assert.equal((await store.list(null, 100)).length, 0)
  await rejectsWith('CHUNK_NOT_FOUND', region.get(stripe))
})

test('without places in the map nothing is written', async () => {
  const stripe = stripeFor({ dataFragments: 2, parityFragments: 1 }, 5000)
  const region = regionOf(clusterMap(names(3), 3))
  await rejectsWith('UNAVAILABLE', region.put(stripe, pattern(4, 5000)))
})

test('fragments are at different nodes; when nodes come and go only what must moves, and no fragment changes its number', () => {
  const before = stripedMap(names(9), 6)
  const holdersOf = (map: ClusterMap) => readStripes(map.stripes?.[0] ?? assert.fail())
  const old = holdersOf(before)
  const changed = (next: ClusterMap): { moved: number; swapped: number } => {
    const now = holdersOf(next)
    let moved = 0
    let swapped = 0
    for (let group = 0; group < placementGroupCount; group++) {
      const [was, is] = [old.holders(group), now.holders(group)]
      assert.equal(new Set(is).size, 6)
      assert.ok(!is.includes(''))
      for (const [fragment, name] of is.entries()) {
        if (was[fragment] === name) continue
        moved++
        if (was.includes(name)) swapped++
      }
    }
    return { moved, swapped }
  }
  const joined = changeMap(before, { nodes: [...before.nodes, clusterNode('zz')] })
  const share = (6 * placementGroupCount) / 10
  assert.deepEqual(joined.moving?.stripes, before.stripes)
  const join = changed(joined)
  assert.equal(join.swapped, 0)
  assert.ok(
    join.moved <= share * 1.01,
    `${join.moved} fragments moved, and ${share} are the share of a tenth node`,
  )
  const left = changed(changeMap(before, { nodes: before.nodes.filter(({ name }) => name !== 'c') }))
  const lost = (6 * placementGroupCount) / 9
  assert.equal(left.swapped, 0)
  assert.ok(left.moved <= lost * 1.01 + 9, `${left.moved} fragments moved, and ${lost} were lost`)
})

test('with fewer nodes than fragments some have no place until there is one', () => {
  const map = stripedMap(names(5), 6)
  const placement = readStripes(map.stripes?.[0] ?? assert.fail())
  for (let group = 0; group < placementGroupCount; group++)
    assert.equal(placement.holders(group).filter((name) => name === '').length, 1)
  const grown = changeMap(map, { nodes: [...map.nodes, clusterNode('f')] })
  const full = readStripes(grown.stripes?.[0] ?? assert.fail())
  for (let group = 0; group < placementGroupCount; group++) {
    for (const [fragment, name] of placement.holders(group).entries())
      assert.equal(full.holders(group)[fragment], name === '' ? 'f' : name)
  }
})

test('ids, lengths and sizes follow from the row', () => {
  assert.deepEqual(chunkOwner(fragmentId(id, 5)), chunkOwner(id))
  assert.deepEqual(parseScheme('4+2'), { dataFragments: 4, parityFragments: 2 })
  for (const text of ['17+1', '4+9', '0+1', '4+0', '4', '4 + 2', '4+2+1'])
    assert.equal(parseScheme(text), undefined)
  fc.assert(
    fc.property(
      fc.integer({ min: 1, max: 16 }),
      fc.integer({ min: 1, max: 8 }),
      fc.option(fc.integer({ min: 1, max: 2 ** 32 }), { nil: undefined }),
      fc.integer({ min: 65_536, max: maxChunkBytes }),
      (dataFragments, parityFragments, byteLength, chunkBytes) => {
        const scheme = { dataFragments, parityFragments }
        const fragmentBytes = fragmentBytesOf(scheme, byteLength, chunkBytes)
        assert.equal(fragmentBytes % 4096, 0)
        const whole = { ...scheme, fragmentBytes, byteLength: dataFragments * fragmentBytes }
        assert.ok(stripeBufferBytes(whole) <= maxChunkBytes)
        const stripe = { ...whole, byteLength: Math.min(byteLength ?? whole.byteLength, whole.byteLength) }
        const data = Array.from({ length: dataFragments }, (_, fragment) => fragmentLength(stripe, fragment))
        assert.equal(
          data.reduce((sum, length) => sum + length, 0),
          stripe.byteLength,
        )
        assert.ok(stripeWidth(stripe) === dataFragments + parityFragments)
      },
    ),
  )
})

test('reports of fragments come through; what is none is refused', () => {
  const stripe = stripeFor({ dataFragments: 4, parityFragments: 2 }, 10_000)
  const damage = [{ id: fragmentId(id, 2), isCorrupt: true, stripe }]
  assert.deepEqual(decodeFragments(encodeFragments(damage)), damage)
  assert.throws(() => decodeFragments(new Uint8Array(26)), { code: 'PROTOCOL_ERROR' })
  assert.throws(() => decodeFragments(new Uint8Array(27)), { code: 'PROTOCOL_ERROR' })
})
