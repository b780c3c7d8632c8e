import assert from 'node:assert/strict'
import { randomBytes } from 'node:crypto'
import { Duplex } from 'node:stream'
import { type TestContext, test } from 'node:test'
import { Registry } from 'prom-client'
import { silentLogger } from '../../../core/contract/logger.ts'
import type { RegionTunnels, TunnelSession } from '../../../core/contract/tunnel.ts'
import { configSchema } from '../../../core/node/config/schema.ts'
import { startReplication } from '../../../core/node/federation/start-replication.ts'
import { FetchWindow } from '../../../federation/replication/fetch-window.ts'
import { MuxSession } from '../../../federation/tunnel/mux/mux-session.ts'
import { openTopic, TopicRouter } from '../../../federation/tunnel/topics.ts'
import { SlabPool } from '../../../native/slab-pool.ts'
import { realEnvironment } from '../../kit/catalog-commands.ts'
import { MemoryRegions } from '../../kit/memory-regions.ts'
import { ruleOf } from '../../kit/replicated-buckets.ts'
import { ReplicatingRegion } from '../../kit/replicating-region.ts'

const { clock } = realEnvironment
const mib = 1024 * 1024
const poolBytes = 16 * mib

/** Two ends of one connection. */
function pair(): [Duplex, Duplex] {
  const make = (other: () => Duplex): Duplex =>
    new Duplex({
      read() {},
      write(bytes: Buffer, _encoding, done) {
        other().push(Buffer.from(bytes))
        setImmediate(done)
      },
    })
  const near: Duplex = make(() => far)
  const far: Duplex = make(() => near)
  return [near, far]
}

/** One session with the credit that the product gives, as each of its ends sees it. */
function tunnelsOf(context: TestContext): [RegionTunnels, RegionTunnels] {
  const sides = pair().map((socket, at) => {
    const peer = { regionId: 2 - at, publicKey: '' }
    return new MuxSession({ socket, peer, backend: 'tls', isDialed: at === 0, clock })
  })
  const view = (session: TunnelSession | undefined): RegionTunnels => {
    assert.ok(session !== undefined)
    const router = new TopicRouter(silentLogger)
    void router.attach(session)
    return {
      connected: () => [session.peer.regionId],
      open: (_, topic, signal) => openTopic(session, topic, signal),
      serve: (topic, handle) => router.serve(topic, handle),
      onChange: () => () => undefined,
    }
  }
  context.after(() => {
    for (const side of sides) side.close()
  })
  return [view(sides[0]), view(sides[1])]
}

function regionOf(context: TestContext, id: number, tunnels: RegionTunnels): ReplicatingRegion {
  const region = new ReplicatingRegion(id, new MemoryRegions({ clock }), realEnvironment)
  const { catalog, store, writes } = region
  // Of the smallest size that a node may have.
  const pool = new SlabPool({ slab: new ArrayBuffer(poolBytes) })
  store.acquire = (byteLength, signal) => pool.acquire(byteLength, signal)
  const config = configSchema.parse({ regionId: id, store: { pool: poolBytes } })
  const replication = startReplication({
    ...{ config, catalog, writes, tunnels, chunks: store, registry: new Registry() },
    joined: async () => [{ regionId: 3 - id, name: 'other' }],
    resolve: () => ({ policy: 'test', reason: 0, outcome: 'second' }),
    isCoordinator: () => true,
    ...{ environment: realEnvironment, log: silentLogger },
  })
  context.after(() => replication.close())
  return region
}

test('more bodies than the buffer pool has room for do not lock the tunnel up', async (context) => {
  const [hereTunnels, thereTunnels] = tunnelsOf(context)
  const here = regionOf(context, 1, hereTunnels)
  const there = regionOf(context, 2, thereTunnels)
  await here.catalog.submit({ type: 'create-bucket', name: 'b', owner: 'root' })
  await here.catalog.submit({ type: 'set-replication', bucketId: here.bucketId('b'), rule: ruleOf() })
  // Each needs a slice of 4 MiB, of which there are four; what waits for one could take all credit of the session.
  const bodies = Array.from({ length: 20 }, () => randomBytes(2.25 * mib))
  for (const [at, body] of bodies.entries()) await here.put('b', `${at}`, body)
  const isThere = (at: number): boolean =>
    there.catalog.bucket('b') !== undefined &&
    there.catalog.object(there.bucketId('b'), `${at}`) !== undefined
  const end = clock.monotonic() + 40_000
  while (!bodies.every((_, at) => isThere(at))) {
    assert.ok(clock.monotonic() < end, 'nothing moves any more')
    await clock.sleep(50)
  }
  for (const [at, body] of bodies.entries()) assert.deepEqual(await there.read('b', `${at}`), body)
})

test('who gives up while he waits for room begins nothing, and leaves his place', async () => {
  const window = new FetchWindow({ atOnce: 2, bytesAtOnce: 10 })
  const begun: string[] = []
  let finish: () => void = () => undefined
  const first = window.run(8, async () => {
    begun.push('first')
    await new Promise<void>((resolve) => {
      finish = resolve
    })
  })
  const stop = new AbortController()
  const large = window.run(10, async () => begun.push('large'), stop.signal)
  const small = window.run(2, async () => begun.push('small'))
  const late = window.run(1, async () => begun.push('late'), AbortSignal.abort())
  await assert.rejects(late, /CANCELLED/)
  assert.deepEqual(begun, ['first'])
  stop.abort()
  await assert.rejects(large, /CANCELLED/)
  await small
  finish()
  await first
  assert.deepEqual(begun, ['first', 'small'])
})
