import assert from 'node:assert/strict'
import { type TestContext, test } from 'node:test'
import type { ChunkStore } from '../../../core/contract/chunk-store.ts'
import { type ErrorCode, StorageError } from '../../../core/contract/errors.ts'
import { silentLogger } from '../../../core/contract/logger.ts'
import type { TransportListener } from '../../../core/contract/transport.ts'
import { Link } from '../../../core/protocol/link.ts'
import type { LinkPeer } from '../../../core/protocol/link-paths.ts'
import { createReplicaSet } from '../../../core/protocol/replicas.ts'
import { createStreamAdapter } from '../../../core/protocol/rpc/stream-adapter.ts'
import { TransportRegistry } from '../../../core/protocol/transport-registry.ts'
import { crc32c } from '../../../native/crc.ts'
import { MemoryNetwork } from '../../kit/memory-network.ts'
import { createMemoryStore } from '../../kit/memory-store.ts'
import { seededRandom } from '../../kit/random.ts'
import {
  check,
  eventually,
  identity,
  outcomes,
  pattern,
  putChunk,
  realEnvironment,
  testId,
} from '../../kit/transport-place.ts'

const { clock } = realEnvironment

/** Peers in one process, and links to them over a network of memory. */
function neighbourhood(context: TestContext) {
  const network = new MemoryNetwork({ clock, random: seededRandom(1) })
  const adapter = createStreamAdapter({
    id: 'memory',
    kind: 'tcp',
    priority: 0,
    network,
    crc32c,
    environment: realEnvironment,
    log: silentLogger,
  })
  const registry = new TransportRegistry()
  registry.register(adapter)
  const own = createMemoryStore(clock)
  return {
    own,
    async serve(node: number, store: ChunkStore, mapEpoch: number, address = 'memory:0') {
      const listener = await adapter.listen({ identity: identity(node, { mapEpoch }), address, store })
      context.after(() => listener.close(0))
      return listener
    },
    link(node: number, listener: TransportListener, more: Partial<LinkPeer> = {}): Link {
      const { nodeId } = identity(node)
      const addresses = new Map([['memory', listener.address]])
      const link = new Link({
        peer: { name: `node ${node}`, nodeId, addresses, distance: 1, ...more },
        registry,
        identity: identity(9),
        buffers: own,
        environment: realEnvironment,
        log: silentLogger,
        limits: { tickMs: 20 },
      })
      context.after(() => link.close(0))
      return link
    },
  }
}

const storeWith = async (seed: number, byteLength: number) => {
  const store = createMemoryStore(clock)
  const buffer = await store.acquire(byteLength)
  buffer.bytes.set(pattern(seed, byteLength))
  await store.put(testId(seed), buffer, byteLength)
  buffer.release()
  return store
}

test('B5: a peer that works by an older map is not asked; another replica is', async (context) => {
  const { serve, link } = neighbourhood(context)
  const deposed = await serve(1, await storeWith(1, 5000), 3)
  const primary = await serve(2, await storeWith(1, 5000), 5)
  const links = [link(1, deposed, { mapEpoch: 5 }), link(2, primary, { mapEpoch: 5 })]
  const [stale] = links
  assert.ok(stale)
  await assert.rejects(stale.get(testId(1), 0, 5000), (reason) => {
    assert.ok(reason instanceof StorageError)
    assert.equal(reason.code, 'PEER_UNREACHABLE')
    assert.match(reason.message, /works by map epoch 3, and 5 is known/)
    return true
  })
  check(await createReplicaSet(links, clock).get(testId(1), 0, 5000), pattern(1, 5000))
  await eventually(() => deposed.sessionCount === 0, 'the session with the stale peer was kept')
})

test('B5: when the map moves, what a stale peer is still answering is not taken; it is asked again once it has followed', async (context) => {
  const { serve, link } = neighbourhood(context)
  const store = await storeWith(1, 5000)
  const before = await serve(1, store, 3)
  const peer = link(1, before, { mapEpoch: 3 })
  check(await peer.get(testId(1), 0, 5000), pattern(1, 5000))
  const { get } = store
  let isAsked = false
  let answer: () => void = () => undefined
  const mayAnswer = new Promise<void>((resolve) => {
    answer = resolve
  })
  store.get = async (...given) => {
    isAsked = true
    await mayAnswer
    return get(...given)
  }
  const late = outcomes([peer.get(testId(1), 0, 5000).then((buffer) => buffer.release())])
  await eventually(() => isAsked, 'the peer is not asked')
  peer.requireMapEpoch(4)
  assert.deepEqual(await late, ['PEER_UNREACHABLE'])
  answer()
  store.get = get
  await before.close(0)
  await serve(1, store, 4, before.address)
  await eventually(() => {
    peer.retryNow()
    return peer.active !== undefined
  }, 'the peer is not asked again')
  check(await peer.get(testId(1), 0, 5000), pattern(1, 5000))
  // An older one than is known already changes nothing.
  peer.requireMapEpoch(2)
  assert.equal(peer.active, 'memory')
})

/** As a store whose device fails says it. */
const failing = (store: ChunkStore, code: ErrorCode): ChunkStore => {
  const fail = () => Promise.reject(new StorageError(code, 'EIO, input/output error'))
  return { ...store, acquire: store.acquire.bind(store), get: fail, put: fail }
}

for (const code of ['IO_ERROR', 'DEVICE_OFFLINE', 'CORRUPT_CHUNK'] as const) {
  test(`B10: ${code} of a peer's store is told as it is; another replica serves, and the link stays`, async (context) => {
    const { serve, link, own } = neighbourhood(context)
    const healthy = [await storeWith(1, 5000), await storeWith(1, 5000)]
    const listeners = [
      await serve(1, failing(createMemoryStore(clock), code), 1),
      ...(await Promise.all(healthy.map((store, index) => serve(2 + index, store, 1)))),
    ]
    const links = listeners.map((listener, index) => link(1 + index, listener))
    const [broken] = links
    assert.ok(broken)
    assert.deepEqual(await outcomes([broken.get(testId(1), 0, 5000)]), [code])
    assert.deepEqual(await outcomes([putChunk(own, broken, 2, 100)]), [code])
    const replicas = createReplicaSet(links, clock)
    check(await replicas.get(testId(1), 0, 5000), pattern(1, 5000))
    const buffer = await own.acquire(3000)
    buffer.bytes.set(pattern(7, 3000))
    const quorum = replicas.put(testId(7), buffer, 3000, { acks: 'quorum' })
    await quorum.acknowledged
    assert.deepEqual(
      (await quorum.settled).map(({ error }) => error?.code),
      [code, undefined, undefined],
    )
    const all = replicas.put(testId(7), buffer, 3000, { acks: 'all' })
    assert.deepEqual(await outcomes([all.acknowledged]), [code])
    await all.settled
    buffer.release()
    // A device that fails is not a path that fails: the session was not thrown away, nothing was sent twice.
    assert.equal(broken.report().resent, 0)
    assert.equal(broken.report().failed, 0)
    await broken.ping()
    assert.equal(listeners[0]?.sessionCount, 1)
    assert.equal(own.held, 0)
  })
}
