import assert from 'node:assert/strict'
import { StorageError } from '../../core/contract/errors.ts'
import type { SwitchRecord } from '../../core/contract/link.ts'
import { silentLogger } from '../../core/contract/logger.ts'
import type { TransportName } from '../../core/contract/policy.ts'
import type { TransportListener } from '../../core/contract/transport.ts'
import { Link } from '../../core/protocol/link.ts'
import { createStreamAdapter } from '../../core/protocol/rpc/stream-adapter.ts'
import { TransportRegistry } from '../../core/protocol/transport-registry.ts'
import { crc32c } from '../../native/crc.ts'
import { FakeClock, fakeEnvironment } from '../kit/fake-clock.ts'
import { MemoryNetwork } from '../kit/memory-network.ts'
import { createMemoryStore } from '../kit/memory-store.ts'
import { seededRandom } from '../kit/random.ts'

/** Virtual time of one step. */
const stepMs = 5
const noticeMs = 100
const outstanding = 32
const floorMs = 5000
const transports: readonly TransportName[] = ['shm', 'ipoib', 'tcp']

export interface LinkRun {
  readonly seed: number
  readonly requests: number
  readonly resent: number
  readonly failed: number
  readonly faults: number
  readonly forcedSwitches: number
  readonly chosenSwitches: number
  readonly longestPauseMs: number
  readonly trace: string
}

export interface LinkRunOptions {
  /** Left alone all the time: then no request may fail at all. */
  readonly sparedTransport?: TransportName
}

const idOf = (number: number): Uint8Array => {
  const id = new Uint8Array(16)
  new DataView(id.buffer).setUint32(0, number)
  return id
}
const fill = (byteLength: number, value: number): Uint8Array => new Uint8Array(byteLength).fill(value & 0xff)
const turn = (): Promise<void> => new Promise((resolve) => setImmediate(resolve))

/**
 * A link over three transports under one seed's faults: connections break, paths are cut and healed, lose, become slow; the
 * peer restarts; then everything is healed and the link must serve again. Real link, real sessions, virtual time.
 */
export async function simulateLink(
  seed: number,
  steps: number,
  options: LinkRunOptions = {},
): Promise<LinkRun> {
  const random = seededRandom(seed)
  const clock = new FakeClock()
  const environment = fakeEnvironment(clock, seed)
  const served = createMemoryStore(clock)
  const own = createMemoryStore(clock)
  const nodeId = fill(16, 1)
  const identity = (node: number) => ({
    nodeId: fill(16, node),
    regionId: fill(16, 9),
    mapEpoch: 1,
    regionKey: fill(32, 7),
  })
  const networks = new Map(
    transports.map((kind) => [
      kind,
      new MemoryNetwork({ clock, random, path: { delayMs: 1 + random.below(3) } }),
    ]),
  )
  const registry = new TransportRegistry()
  for (const [index, kind] of transports.entries()) {
    const network = networks.get(kind)
    assert.ok(network)
    registry.register(
      createStreamAdapter({
        id: kind,
        kind,
        priority: transports.length - index,
        network,
        crc32c,
        environment,
        log: silentLogger,
      }),
    )
  }
  const listeners = new Map<TransportName, TransportListener>()
  const listen = async (kind: TransportName): Promise<void> => {
    const adapter = registry.get(kind)
    assert.ok(adapter)
    listeners.set(kind, await adapter.listen({ identity: identity(1), address: kind, store: served }))
  }
  for (const kind of transports) await listen(kind)
  const link = new Link({
    peer: { name: 'peer', nodeId, addresses: new Map(transports.map((kind) => [kind, kind])), distance: 0 },
    registry,
    identity: identity(2),
    buffers: own,
    environment,
    log: silentLogger,
  })

  const switches: SwitchRecord[] = []
  const notice = (): void => {
    for (const record of link.report().switches) {
      if (!switches.includes(record)) switches.push(record)
    }
  }
  const pass = async (ms: number): Promise<void> => {
    for (let passedMs = 0; passedMs < ms; passedMs += stepMs) {
      await clock.advance(stepMs)
      await turn()
      // More than it keeps do not come in between.
      if (passedMs % noticeMs === 0) notice()
    }
  }

  /** Time goes on until the work is done; work that never ends is a finding. */
  const during = async (work: Promise<unknown>, withinMs: number): Promise<void> => {
    let isDone = false
    const done = work.then(() => {
      isDone = true
    })
    for (let passedMs = 0; !isDone && passedMs < withinMs; passedMs += 100) await pass(100)
    assert.ok(isDone, `not done within ${withinMs} ms`)
    await done
  }

  // Requests: each puts a chunk of its own and reads one that was acknowledged before.
  let made = 0
  let ended = 0
  let failed = 0
  let isMaking = true
  const acknowledged: number[] = []
  const failures = new Map<string, number>()
  const request = async (): Promise<void> => {
    const number = ++made
    const byteLength = 1 + ((number * 37) % 2000)
    const buffer = await own.acquire(byteLength)
    buffer.bytes.fill(number & 0xff)
    try {
      await link.put(idOf(number), buffer, byteLength)
      assert.ok(
        (served.puts.get(Buffer.from(idOf(number)).toString('hex')) ?? 0) >= 1,
        'acknowledged and not stored',
      )
      acknowledged.push(number)
      const read = random.pick(acknowledged)
      const got = await link.get(idOf(read), 0, 4096)
      assert.equal(
        Buffer.compare(got.bytes, fill(1 + ((read * 37) % 2000), read)),
        0,
        'bytes of another chunk',
      )
      got.release()
    } catch (reason) {
      if (!(reason instanceof StorageError)) throw reason
      assert.ok(['PEER_UNREACHABLE', 'DEADLINE_EXCEEDED'].includes(reason.code), reason.message)
      failures.set(reason.code, (failures.get(reason.code) ?? 0) + 1)
      failed++
    } finally {
      buffer.release()
      ended++
    }
  }
  let problem: unknown
  const worker = async (): Promise<void> => {
    while (isMaking) {
      await request()
      await clock.sleep(50 + random.below(600))
    }
  }
  const workers = Array.from({ length: outstanding }, () =>
    worker().catch((reason) => {
      problem ??= reason
    }),
  )

  // Faults.
  let faults = 0
  const cuts = new Set<TransportName>()
  const breakable = transports.filter((kind) => kind !== options.sparedTransport)
  const fault = async (): Promise<void> => {
    faults++
    if (options.sparedTransport === undefined && random.below(8) === 0) {
      // The peer's machine is gone for a while.
      for (const network of networks.values()) {
        network.cut()
        network.reset()
      }
      await pass(1000 + random.below(8000))
      for (const network of networks.values()) network.heal()
      return
    }
    const kind = random.pick(breakable)
    const network = networks.get(kind)
    assert.ok(network)
    const choice = random.below(6)
    if (choice === 0) network.reset()
    else if (choice === 1) {
      network.cut()
      cuts.add(kind)
    } else if (choice === 2) network.setPath({ loss: random.next() * 0.3, retransmitMs: 200 })
    else if (choice === 3) network.setPath({ delayMs: random.below(80), jitterMs: random.below(40) })
    else if (choice === 4) {
      await during(listeners.get(kind)?.close(random.below(300)) ?? Promise.resolve(), 10_000)
      await listen(kind)
    } else served.delayMs = random.below(30)
    if (random.below(2) === 0) {
      const healed = random.pick(transports)
      networks.get(healed)?.heal()
      networks.get(healed)?.setPath({ delayMs: 1 + random.below(3), jitterMs: 0, loss: 0 })
      cuts.delete(healed)
    }
  }
  for (let step = 0; step < steps; step++) {
    await pass(stepMs * (1 + random.below(200)))
    await fault()
    if (problem !== undefined) throw problem
  }

  // Healed: from some moment on everything succeeds, over the best transport.
  for (const network of networks.values()) {
    network.heal()
    network.setPath({ delayMs: 1, jitterMs: 0, loss: 0 })
  }
  served.delayMs = 0
  await pass(45_000)
  const failedBefore = failed
  const madeBefore = made
  await pass(5000)
  assert.equal(failed, failedBefore, 'requests still fail after the faults are over')
  assert.ok(made - madeBefore > outstanding, 'nothing moves after the faults are over')
  assert.equal(link.state, 'active')
  assert.equal(link.active, 'shm', 'the best transport is not back in use')
  isMaking = false
  await during(Promise.all(workers), 60_000)
  if (problem !== undefined) throw problem

  // Each request ended once, and nothing is held.
  assert.equal(ended, made)
  assert.equal(link.inFlight, 0)
  const { resent } = link.report()
  await during(link.close(100), 10_000)
  await during(Promise.all([...listeners.values()].map((listener) => listener.close(100))), 10_000)
  // Farewells that nobody took in any more have their time.
  await pass(2000)
  assert.equal(own.held, 0, 'memory of the client is still held')
  assert.equal(served.held, 0, 'memory of the server is still held')
  for (const [kind, { connectionCount }] of networks)
    assert.equal(connectionCount, 0, `connections of ${kind} are left`)
  assert.equal(clock.pending, 0, 'timers are left')

  // No flapping: a switch to something better waits for the floor after any other switch.
  for (const [index, record] of switches.entries()) {
    const before = switches[index - 1]
    if (before === undefined || before.from === '' || record.from === '' || record.isForced) continue
    assert.ok(record.atMs - before.atMs >= floorMs, `a switch ${record.atMs - before.atMs} ms after another`)
  }
  if (options.sparedTransport !== undefined) {
    assert.equal(
      failed,
      0,
      `failed although ${options.sparedTransport} was fine: ${JSON.stringify([...failures])}`,
    )
  }
  const real = switches.filter(({ from }) => from !== '')
  return {
    seed,
    requests: made,
    resent,
    failed,
    faults,
    forcedSwitches: real.filter(({ isForced }) => isForced).length,
    chosenSwitches: real.filter(({ isForced }) => !isForced).length,
    longestPauseMs: Math.max(0, ...real.map(({ pauseMs }) => pauseMs)),
    trace: switches.map(({ atMs, from, to }) => `${atMs}:${from}>${to}`).join(' '),
  }
}
