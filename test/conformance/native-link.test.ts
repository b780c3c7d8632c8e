import assert from 'node:assert/strict'
import { existsSync } from 'node:fs'
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { type TestContext, test } from 'node:test'
import { setTimeout as delay } from 'node:timers/promises'
import type { ChunkStore } from '../../core/contract/chunk-store.ts'
import { silentLogger } from '../../core/contract/logger.ts'
import { Link } from '../../core/protocol/link.ts'
import { TransportRegistry } from '../../core/protocol/transport-registry.ts'
import { loadAddon, openChunkStore } from '../../native/addon.ts'
import { nativeShm, nativeTcp } from '../../native/native-transports.ts'
import { peerDoorOf } from '../../native/peer-door.ts'
import type { PeerPage } from '../../native/peer-pages.ts'
import { loadLink } from '../kit/link-load.ts'
import { eventually, identity, realEnvironment } from '../kit/transport-place.ts'

const isBuilt = existsSync('native/build/release/pando.node') && !(loadAddon() instanceof Error)
const skip = isBuilt ? false : 'the native data plane is not built (npm run build)'

/** Two native stores, and the loaded link from one to the other over the data plane's shm and tcp. */
async function nativePair(context: TestContext) {
  const open = () =>
    openChunkStore({
      directory: '',
      backend: 'memory',
      poolBytes: 32 * 1024 * 1024,
      reactors: 1,
      log: silentLogger,
    })
  const [served, own] = await Promise.all([open(), open()])
  const folder = await mkdtemp(join(tmpdir(), 'pando-link-'))
  context.after(async () => {
    await Promise.all([served.close(), own.close()])
    await rm(folder, { recursive: true })
  })
  const registry = new TransportRegistry()
  for (const adapter of [nativeShm(), nativeTcp()]) registry.register(adapter)
  const listen = (id: string, address: string) => {
    const adapter = registry.get(id)
    assert.ok(adapter)
    return adapter.listen({ identity: identity(1), address, store: served })
  }
  const listeners = {
    shm: await listen('shm', join(folder, 'node.sock')),
    tcp: await listen('tcp', '127.0.0.1:0'),
  }
  const addresses = new Map([
    ['shm', listeners.shm.address],
    ['tcp', listeners.tcp.address],
  ])
  const load = await loadLink({ registry, addresses, own, limits: { tickMs: 50, switchFloorMs: 100 } })
  return { load, served, own, listen, listeners, addresses }
}

test('native tcp and shm: a link switches in both directions under 32 requests, none fails, none is sent twice', {
  skip,
}, async (context) => {
  const { load, served } = await nativePair(context)
  const switches = 20
  const pauses: number[] = []
  await delay(300)
  const quiet = load.pauseSince(performance.now() - 120)
  for (let round = 0; round < switches; round++) {
    const target = round % 2 === 0 ? 'tcp' : 'shm'
    load.want(target)
    const sinceMs = performance.now()
    if (round === 0) await eventually(() => load.link.active === 'tcp', 'the link does not begin on tcp')
    await eventually(() => load.link.active === target, `the link does not go to ${target}`)
    await delay(120)
    pauses.push(load.pauseSince(sinceMs))
  }
  const { resent, failed } = load.link.report()
  const made = await load.stop()
  assert.equal(failed, 0)
  // Nothing that was under way on the one was sent again on the other.
  assert.equal(resent, 0)
  assert.equal((await served.stats()).chunkCount, made)
  const shown = pauses.map((pause) => pause.toFixed(1)).join(', ')
  context.diagnostic(
    `${made} puts, ${switches} switches: 0 failed, 0 sent twice; longest pauses ${shown} ms (without a switch ${quiet.toFixed(1)} ms)`,
  )
})

test('native tcp and shm: the one in use dies under 32 requests, both ways: none fails, each is answered once', {
  skip,
}, async (context) => {
  const { load, served, listen, listeners, addresses } = await nativePair(context)
  const pauses: number[] = []
  const deaths = 6
  for (let round = 0; round < deaths; round++) {
    const [from, to] = round % 2 === 0 ? (['shm', 'tcp'] as const) : (['tcp', 'shm'] as const)
    load.want(from)
    await eventually(() => {
      load.link.retryNow()
      return load.link.active === from && load.link.report().candidates.every(({ state }) => state === 'up')
    }, `the link is not on ${from}`)
    await delay(100)
    const sinceMs = performance.now()
    // At once: what is under way gets no answer.
    await listeners[from].close(0)
    await eventually(() => load.link.active === to, `the link does not go to ${to}`)
    await delay(100)
    pauses.push(load.pauseSince(sinceMs))
    listeners[from] = await listen(from, addresses.get(from) ?? '')
  }
  const { resent, switches } = load.link.report()
  const made = await load.stop()
  assert.ok(resent > 0, 'nothing was under way when it died')
  assert.ok(switches.filter(({ isForced }) => isForced).length >= deaths)
  assert.equal((await served.stats()).chunkCount, made)
  const shown = pauses.map((pause) => pause.toFixed(1)).join(', ')
  context.diagnostic(
    `${made} puts, ${deaths} deaths: 0 failed, ${resent} sent again, each answered once; longest pauses ${shown} ms`,
  )
})

/** Pages for sessions and listeners that nobody has: taken, counted and given back in one turn. */
function freePages(store: ChunkStore): number {
  const door = peerDoorOf(store)
  const taken: PeerPage[] = []
  try {
    for (;;) taken.push(door.takePage())
  } catch {
    for (const page of taken) door.givePage(page)
    return taken.length
  }
}

test('native tcp: a session that ends by itself gives back what it had, also to a link that is closed then', {
  skip,
}, async (context) => {
  const open = () =>
    openChunkStore({ directory: '', backend: 'memory', poolBytes: 1 << 23, reactors: 1, log: silentLogger })
  const [served, own] = await Promise.all([open(), open()])
  context.after(() => Promise.all([served.close(), own.close()]))
  const tcp = nativeTcp()
  const registry = new TransportRegistry()
  registry.register(tcp)
  const listen = (address: string) => tcp.listen({ identity: identity(1), address, store: served })
  let listener = await listen('127.0.0.1:0')
  const { address } = listener
  const unused = freePages(own)
  const link = new Link({
    peer: {
      name: 'peer',
      nodeId: identity(1).nodeId,
      addresses: new Map([['tcp', address]]),
      distance: 3,
    },
    registry,
    identity: identity(2),
    buffers: own,
    environment: realEnvironment,
    log: silentLogger,
    limits: { tickMs: 20 },
  })
  context.after(() => link.close(0))
  const isUp = async () => {
    link.retryNow()
    return link.ping({ deadlineMs: 1000 }).then(
      () => true,
      () => false,
    )
  }
  await eventually(isUp, 'the link does not come up')
  const losses = 5
  for (let loss = 1; loss <= losses; loss++) {
    await listener.close(0)
    await eventually(() => link.active === undefined, 'the loss goes unnoticed')
    await eventually(() => freePages(own) === unused, `loss ${loss} has cost a page`, 3000)
    listener = await listen(address)
    await eventually(isUp, 'the link does not come up again')
    assert.equal(freePages(own), unused - 1, 'one session has other than one page')
  }
  await listener.close(0)
  await link.close(0)
  assert.equal(freePages(own), unused)
})
