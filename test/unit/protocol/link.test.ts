import assert from 'node:assert/strict'
import test from 'node:test'
import { StorageError } from '../../../core/contract/errors.ts'
import { silentLogger } from '../../../core/contract/logger.ts'
import type { SelectInput, TransportCandidate } from '../../../core/contract/policy.ts'
import type { ChunkPeer } from '../../../core/contract/transport.ts'
import { CircuitBreaker } from '../../../core/protocol/circuit-breaker.ts'
import { createDefaultSelection } from '../../../core/protocol/default-selection.ts'
import { Link } from '../../../core/protocol/link.ts'
import { mayFollow } from '../../../core/protocol/link-state.ts'
import { PathMeasures } from '../../../core/protocol/path-measures.ts'
import { createReplicaSet, hedgedGet, orderReplicas } from '../../../core/protocol/replicas.ts'
import { createStreamAdapter } from '../../../core/protocol/rpc/stream-adapter.ts'
import { TransportRegistry } from '../../../core/protocol/transport-registry.ts'
import { crc32c } from '../../../native/crc.ts'
import { FakeClock, fakeEnvironment } from '../../kit/fake-clock.ts'
import { MemoryNetwork } from '../../kit/memory-network.ts'
import { createMemoryStore } from '../../kit/memory-store.ts'
import { seededRandom } from '../../kit/random.ts'
import { identity, rejectsWith } from '../../kit/transport-place.ts'

test('the breaker lets one attempt through after a pause that doubles, up to a bound', () => {
  const breaker = new CircuitBreaker(() => 1, { firstMs: 100, mostMs: 1000, steadyMs: 5000 })
  let nowMs = 10_000
  const pauses: number[] = []
  for (let failure = 0; failure < 6; failure++) {
    assert.equal(breaker.mayTry(nowMs), true)
    breaker.failed(nowMs)
    pauses.push(breaker.retryAtMs - nowMs)
    assert.equal(breaker.mayTry(breaker.retryAtMs - 1), false)
    nowMs = breaker.retryAtMs
  }
  assert.deepEqual(pauses, [100, 200, 400, 800, 1000, 1000])
  assert.equal(breaker.mayTry(nowMs), true)
  assert.equal(breaker.mayTry(nowMs), false, 'a second attempt beside the first')
})

test('what flaps waits longer each time; what served for long begins anew', () => {
  const breaker = new CircuitBreaker(() => 1, { firstMs: 100, mostMs: 10_000, steadyMs: 5000 })
  breaker.failed(10_000)
  assert.ok(breaker.mayTry(11_000))
  breaker.succeeded(11_000)
  breaker.failed(12_000)
  assert.equal(breaker.retryAtMs, 12_200)
  assert.ok(breaker.mayTry(13_000))
  breaker.succeeded(13_000)
  breaker.failed(18_000)
  assert.equal(breaker.retryAtMs, 18_100)
})

test('a session that lived is tried again at once, one that died in its cradle is not', () => {
  const breaker = new CircuitBreaker(() => 1)
  breaker.lost(10_000, 60_000)
  assert.equal(breaker.mayTry(10_000), true)
  breaker.lost(10_000, 10)
  assert.equal(breaker.mayTry(10_000), false)
})

function candidate(
  transport: TransportCandidate['transport'],
  changed: Partial<TransportCandidate> = {},
): TransportCandidate {
  return {
    transport,
    state: 'up',
    distance: 3,
    rttP50Ms: 0.1,
    rttP99Ms: 0.2,
    jitterMs: 0,
    loss: 0,
    bytesPerSecond: 0,
    costPerGb: 0,
    load: 0,
    health: 1,
    inFlight: 0,
    ...changed,
  }
}

function chosen(candidates: readonly TransportCandidate[], current = -1, currentForMs = 0): number {
  const input: SelectInput = {
    nowMs: 0,
    deadlineMs: 0,
    seed: 0,
    requestHash: 0n,
    tenant: 0,
    bucket: 0,
    operation: 'other',
    byteLength: -1,
    sloMs: 0,
    consistency: 'strong',
    currentIndex: current,
    currentForMs,
    candidates,
  }
  return createDefaultSelection()(input).index
}

test('without a policy: same host, fast RDMA, IPoIB, QUIC where it belongs, TCP', () => {
  const fastRdma = candidate('rdma', { rttP50Ms: 0.005, rttP99Ms: 0.01 })
  const slowRdma = candidate('rdma')
  const tcp = candidate('tcp')
  const quic = candidate('quic')
  assert.equal(chosen([tcp, fastRdma, candidate('shm', { distance: 0 })]), 2)
  assert.equal(chosen([tcp, candidate('shm'), fastRdma]), 2, 'shared memory with another host')
  assert.equal(chosen([tcp, slowRdma, candidate('ipoib')]), 2)
  assert.equal(chosen([slowRdma, tcp]), 1)
  assert.equal(chosen([quic, tcp]), 1)
  assert.equal(chosen([tcp, candidate('quic', { distance: 4 })]), 1)
  assert.equal(chosen([candidate('tcp', { loss: 0.02 }), quic]), 1)
  assert.equal(chosen([candidate('ipoib', { state: 'degraded' }), tcp]), 1)
  assert.equal(chosen([candidate('ipoib', { state: 'down' }), candidate('tcp', { state: 'degraded' })]), 1)
  // What works is kept for a while, what does not is left at once.
  assert.equal(chosen([tcp, candidate('ipoib')], 0, 9999), 0)
  assert.equal(chosen([tcp, candidate('ipoib')], 0, 10_000), 1)
  assert.equal(chosen([candidate('tcp', { state: 'degraded' }), candidate('ipoib')], 0, 1), 1)
})

test('loss, jitter and health are of the last seconds', () => {
  const measures = new PathMeasures()
  for (let at = 0; at < 5; at++) measures.answered(at * 1000, at % 2 === 0 ? 1 : 3)
  assert.deepEqual(
    { ...measures.figures(5000) },
    { rttP50Ms: 1, rttP99Ms: 3, jitterMs: 2, loss: 0, bytesPerSecond: 0, health: 1 },
  )
  for (let at = 5; at < 10; at++) measures.lost(at * 1000)
  assert.equal(measures.figures(9000).loss, 0.5)
  assert.equal(measures.lostInARow, 5)
  for (let at = 10; at < 25; at++) measures.answered(at * 1000, 1)
  assert.equal(measures.figures(24_000).loss, 0)
})

test('the states of a link follow one another as designed', () => {
  assert.ok(mayFollow('failed', 'detecting'))
  assert.equal(mayFollow('failed', 'active'), false)
  assert.equal(mayFollow('active', 'failed'), false)
  assert.equal(mayFollow('closed', 'detecting'), false)
})

test('the registry keeps ids apart and survives an adapter that fails to look', async () => {
  const clock = new FakeClock()
  const adapter = (id: string, priority: number) =>
    createStreamAdapter({
      id,
      kind: 'tcp',
      priority,
      network: new MemoryNetwork({ clock, random: seededRandom(1) }),
      crc32c,
      environment: fakeEnvironment(clock),
      log: silentLogger,
    })
  const registry = new TransportRegistry()
  registry.register(adapter('slow', 1))
  registry.register({ ...adapter('fast', 2), detect: () => Promise.reject(new Error('no such bus')) })
  assert.throws(() => registry.register(adapter('slow', 3)), /ALREADY_OPEN/)
  assert.throws(() => registry.register({ ...adapter('tiny', 3), maxFrameBytes: 4096 }), /INVALID_ARGUMENT/)
  assert.deepEqual(
    registry.all().map(({ id }) => id),
    ['fast', 'slow'],
  )
  const found = await registry.detect()
  assert.equal(found.get('slow')?.available, true)
  assert.match(found.get('fast')?.found ?? '', /no such bus/)
})

const turn = (): Promise<void> => new Promise((resolve) => setImmediate(resolve))

/** A link over one memory network on a clock that the test moves. */
async function oneWayLink() {
  const clock = new FakeClock()
  const environment = fakeEnvironment(clock)
  const network = new MemoryNetwork({ clock, random: seededRandom(1) })
  const registry = new TransportRegistry()
  const adapter = createStreamAdapter({
    id: 'tcp',
    kind: 'tcp',
    priority: 0,
    network,
    crc32c,
    environment,
    log: silentLogger,
  })
  registry.register(adapter)
  const served = createMemoryStore(clock)
  const own = createMemoryStore(clock)
  const listen = () => adapter.listen({ identity: identity(1), address: 'here', store: served })
  const open = (limits = {}) =>
    new Link({
      peer: { name: 'peer', nodeId: identity(1).nodeId, addresses: new Map([['tcp', 'here']]), distance: 3 },
      registry,
      identity: identity(2),
      buffers: own,
      environment,
      log: silentLogger,
      limits,
    })
  const pass = async (ms: number): Promise<void> => {
    for (let passedMs = 0; passedMs < ms; passedMs += 10) {
      await clock.advance(10)
      await turn()
    }
  }
  return { clock, network, served, listen, open, pass }
}

test('requests made before the link is up wait for it; those made when all has failed do not', async () => {
  const { listen, open, pass } = await oneWayLink()
  const listener = await listen()
  const link = open()
  const early = link.has(new Uint8Array(16))
  await pass(100)
  assert.equal(await early, false)
  assert.equal(link.state, 'active')
  await listener.close()
  await pass(2000)
  assert.equal(link.state, 'failed')
  await rejectsWith('PEER_UNREACHABLE', link.has(new Uint8Array(16)))
  assert.match(link.report().candidates[0]?.problem ?? '', /nobody listens/)
  const again = await listen()
  await pass(40_000)
  assert.equal(link.state, 'active')
  assert.equal(await Promise.race([link.has(new Uint8Array(16)), pass(1000)]), false)
  await Promise.all([link.close(), pass(6000)])
  await Promise.all([again.close(), pass(6000)])
  await rejectsWith('CLOSED', link.ping())
})

test('one connection that breaks under requests is made again, and no request fails', async () => {
  const { listen, open, pass, network, served } = await oneWayLink()
  const listener = await listen()
  const link = open()
  await pass(2000)
  served.delayMs = 50
  const asked = Promise.all(Array.from({ length: 20 }, () => link.has(new Uint8Array(16))))
  await pass(20)
  network.reset()
  const outcome = await Promise.race([asked, pass(3000).then(() => 'too late')])
  assert.deepEqual(outcome, Array(20).fill(false))
  assert.equal(link.report().resent, 20)
  await Promise.all([link.close(), pass(6000)])
  await Promise.all([listener.close(), pass(6000)])
})

test('more requests than allowed are OVERLOADED, and a deadline ends a wait for the link', async () => {
  const { open, pass, network } = await oneWayLink()
  network.cut()
  const link = open({ maxInFlight: 2 })
  const waiting = [1, 2].map(() => link.ping({ deadlineMs: 100 }))
  await rejectsWith('OVERLOADED', link.ping())
  const late = Promise.all(waiting.map((request) => rejectsWith('DEADLINE_EXCEEDED', request)))
  await pass(200)
  await late
  const abort = new AbortController()
  const cancelled = rejectsWith('CANCELLED', link.ping({ signal: abort.signal }))
  abort.abort()
  await cancelled
  await Promise.all([link.close(), pass(6000)])
})

/** A peer that answers a read after so many ms of the clock, or fails. */
function slowPeer(clock: FakeClock, delayMs: number, fails = false) {
  const seen = { asked: 0, cancelled: 0, released: 0 }
  const missing = (): never => {
    throw new Error('not asked for')
  }
  const peer: ChunkPeer = {
    inFlight: 0,
    put: missing,
    has: missing,
    delete: missing,
    list: missing,
    stat: missing,
    ping: missing,
    notice: missing,
    async get(_id, _offset, length, options) {
      seen.asked++
      await clock.sleep(delayMs, options?.signal).catch(() => {
        seen.cancelled++
        throw new StorageError('CANCELLED', 'cancelled')
      })
      if (fails) throw new StorageError('CORRUPT_CHUNK', 'damaged')
      return { bytes: new Uint8Array(length), release: () => void seen.released++ }
    },
  }
  return { peer, seen }
}

test('a slow replica is hedged, the loser is cancelled; a failed one is read around at once', async () => {
  const clock = new FakeClock()
  const slow = slowPeer(clock, 1000)
  const quick = slowPeer(clock, 5)
  const third = slowPeer(clock, 5)
  const read = hedgedGet([slow.peer, quick.peer, third.peer], clock, new Uint8Array(16), 0, 10, {
    hedgeAfterMs: 20,
  })
  await clock.advance(19)
  assert.equal(quick.seen.asked, 0)
  await clock.advance(6)
  assert.equal((await read).bytes.length, 10)
  await clock.advance(100)
  assert.deepEqual([slow.seen.cancelled, quick.seen.asked, third.seen.asked], [1, 1, 0])
  const broken = slowPeer(clock, 1, true)
  const around = hedgedGet([broken.peer, quick.peer], clock, new Uint8Array(16), 0, 10)
  await clock.advance(10)
  assert.equal((await around).bytes.length, 10)
  const hopeless = rejectsWith(
    'CORRUPT_CHUNK',
    hedgedGet([broken.peer, broken.peer], clock, new Uint8Array(16), 0, 1),
  )
  await clock.advance(10)
  await hopeless
  assert.equal(clock.pending, 0)
})

test('a put is acknowledged by as many as asked for, and settles when nobody needs the buffer', async () => {
  const clock = new FakeClock()
  const writer = (delayMs: number, fails = false): ChunkPeer => ({
    ...slowPeer(clock, 0).peer,
    async put() {
      await clock.sleep(delayMs)
      if (fails) throw new StorageError('PEER_UNREACHABLE', 'gone')
    },
  })
  const buffer = { bytes: new Uint8Array(1), release: () => undefined }
  const put = (peers: readonly ChunkPeer[], acks: 'one' | 'quorum' | 'all') =>
    createReplicaSet(peers, clock).put(new Uint8Array(16), buffer, 1, { acks })
  const order: string[] = []
  const quorum = put([writer(1), writer(10, true), writer(20)], 'quorum')
  quorum.acknowledged.then(() => order.push('acknowledged'))
  quorum.settled.then((results) => order.push(results.map(({ error }) => error?.code ?? 'ok').join()))
  await clock.advance(19)
  assert.deepEqual(order, [])
  await clock.advance(1)
  assert.deepEqual(order, ['acknowledged', 'ok,PEER_UNREACHABLE,ok'])
  const refused = rejectsWith('PEER_UNREACHABLE', put([writer(1), writer(2, true)], 'all').acknowledged)
  await clock.advance(5)
  await refused
})

test('reads go to near replicas, and of two to the better one', () => {
  const random = seededRandom(3)
  const far = { distance: 3, isUsable: true, inFlight: 0, p50Ms: 0.1 }
  const busy = { distance: 1, isUsable: true, inFlight: 30, p50Ms: 1 }
  const idle = { distance: 1, isUsable: true, inFlight: 0, p50Ms: 1 }
  const down = { distance: 0, isUsable: false, inFlight: 0, p50Ms: 0.1 }
  for (let round = 0; round < 50; round++) {
    assert.deepEqual(
      orderReplicas([far, busy, idle, down], () => random.next()),
      [2, 1, 0, 3],
    )
  }
  // Two of three are drawn: the worst of the three is never first, and the load is spread over the others.
  const first = [0, 0, 0]
  for (let round = 0; round < 300; round++) {
    const [index = 0] = orderReplicas([busy, idle, idle], () => random.next())
    first[index] = (first[index] ?? 0) + 1
  }
  assert.equal(first[0], 0)
  assert.ok((first[1] ?? 0) > 50 && (first[2] ?? 0) > 50, first.join())
})

test('the report of a link says what is in use, why, since when, and what else there is', async () => {
  const { listen, open, pass, network } = await oneWayLink()
  const listener = await listen()
  network.setPath({ delayMs: 10 })
  const link = open()
  await pass(3000)
  const fine = link.report()
  assert.deepEqual([fine.peer, fine.state, fine.active, fine.why], ['peer', 'active', 'tcp', 'fallback'])
  const [path] = fine.candidates
  assert.equal(path?.state, 'up')
  assert.ok(path.rttP50Ms >= 20 && path.rttP50Ms < 60, `${path.rttP50Ms} ms`)
  assert.equal(path.loss, 0)
  assert.equal(fine.switches.length, 1)
  network.cut()
  await pass(6000)
  const cut = link.report()
  assert.equal(cut.active, '')
  assert.match(cut.candidates[0]?.problem ?? '', /\S/)
  network.heal()
  await pass(40_000)
  const healed = link.report()
  assert.equal(healed.state, 'active')
  const last = healed.switches.at(-1)
  assert.ok(last?.isForced && last.from === 'tcp' && last.to === 'tcp')
  assert.match(last.why, /three probes/)
  assert.ok(last.pauseMs > 0)
  // Plain data: it goes through gRPC and JSON one day.
  assert.deepEqual(JSON.parse(JSON.stringify(healed)), healed)
  await Promise.all([link.close(), pass(6000)])
  await Promise.all([listener.close(), pass(6000)])
})
