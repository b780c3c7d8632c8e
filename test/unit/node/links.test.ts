import assert from 'node:assert/strict'
import { chmod, mkdtemp, readFile, rm, stat, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { type TestContext, test } from 'node:test'
import { StorageError } from '../../../core/contract/errors.ts'
import { placementGroupCount } from '../../../core/contract/ids.ts'
import { silentLogger } from '../../../core/contract/logger.ts'
import type { TransportName } from '../../../core/contract/policy.ts'
import type { TransportAdapter } from '../../../core/contract/transport.ts'
import { loadConfig } from '../../../core/node/config/load.ts'
import { identityOf, nodeIdOf } from '../../../core/node/links/identity.ts'
import { type NodeLinks, type NodeLinksParts, openNodeLinks } from '../../../core/node/links/node-links.ts'
import { openRegionKey } from '../../../core/node/links/region-key.ts'
import { createDefaultSelection } from '../../../core/protocol/default-selection.ts'
import type { MachineCapabilities } from '../../../core/protocol/machine/capabilities.ts'
import { detectMachine } from '../../../core/protocol/machine/detect.ts'
import { openMachineFiles } from '../../../core/protocol/machine/machine-files.ts'
import { createStreamAdapter } from '../../../core/protocol/rpc/stream-adapter.ts'
import { crc32c } from '../../../native/crc.ts'
import { FakeClock, fakeEnvironment } from '../../kit/fake-clock.ts'
import { MemoryNetwork } from '../../kit/memory-network.ts'
import { createMemoryStore } from '../../kit/memory-store.ts'
import { seededRandom } from '../../kit/random.ts'

const regionKey = new Uint8Array(32).fill(7)
const turn = (): Promise<void> => new Promise((resolve) => setImmediate(resolve))

/** Nodes of one process over memory networks, on a clock that the test moves. */
async function world() {
  const clock = new FakeClock()
  const environment = fakeEnvironment(clock)
  /** Transports that have no device now: they can neither listen nor connect. */
  const absent = new Set<string>()
  let machine = await detectMachine({
    files: openMachineFiles('/nonexistent'),
    libraryVersion: async () => undefined,
    interfaceAddresses: () => new Map(),
    canBindUdp: async () => true,
    isRoot: true,
  })
  const adapter = (id: 'tcp' | 'rdma', priority: number): TransportAdapter => {
    const whole = createStreamAdapter({
      id,
      kind: id satisfies TransportName,
      priority,
      network: networks[id],
      crc32c,
      environment,
      log: silentLogger,
    })
    const present = (): void => {
      if (absent.has(id)) throw new StorageError('UNAVAILABLE', 'no device')
    }
    return {
      ...whole,
      async listen(options) {
        present()
        return whole.listen(options)
      },
      async connect(options) {
        present()
        return whole.connect(options)
      },
      detect: async () => ({
        available: !absent.has(id),
        found: absent.has(id) ? 'no device' : 'here',
        addresses: [],
      }),
    }
  }
  const network = () => new MemoryNetwork({ clock, random: seededRandom(1), path: { delayMs: 1 } })
  const networks = { tcp: network(), rdma: network() }
  const adapters = [adapter('tcp', 1), adapter('rdma', 2)]
  const open = (
    node: string,
    peers: readonly string[],
    changed: Partial<NodeLinksParts> = {},
    transports: readonly ('tcp' | 'rdma')[] = ['tcp'],
  ): Promise<NodeLinks> => {
    const port = (name: string) => `127.0.0.1:${9000 + name.charCodeAt(0)}`
    const text = JSON.stringify({
      node,
      rpc: { listen: port(node), rdma: transports.includes('rdma') ? port(node) : '' },
      peers: peers.map((name) => ({
        name,
        addresses: Object.fromEntries(transports.map((transport) => [transport, port(name)])),
      })),
    })
    return openNodeLinks({
      config: loadConfig({ file: { name: 'f', text }, environment: {} }),
      regionKey,
      adapters,
      chunks: createMemoryStore(clock),
      select: createDefaultSelection({ rdmaLatencyLimitMs: 10, steadyFactor: 1000 }),
      reasonText: () => undefined,
      detect: async () => machine,
      ownAddresses: () => [],
      environment,
      log: silentLogger,
      ...changed,
    })
  }
  const pass = async (ms: number, stepMs = 20): Promise<void> => {
    for (let passedMs = 0; passedMs < ms; passedMs += stepMs) {
      await clock.advance(stepMs)
      await turn()
    }
  }
  const close = async (...all: readonly NodeLinks[]): Promise<void> => {
    await Promise.all([...all.map((links) => links.close()), pass(8000)])
  }
  /** Opening waits for the clock only when something fails. */
  const change = (made: Partial<MachineCapabilities>): void => {
    machine = { ...machine, ...made }
  }
  return { clock, open, pass, close, absent, change, networks }
}

const activeOf = (links: NodeLinks): readonly string[] => links.snapshot().links.map(({ active }) => active)

test('all listeners of a node know since when a group is where it is, also those that come later', async () => {
  const { open, pass, close, absent, clock } = await world()
  absent.add('rdma')
  const chunks = createMemoryStore(clock)
  const a = await open('a', ['b'], { chunks }, ['tcp', 'rdma'])
  const b = await open('b', ['a'], {}, ['tcp', 'rdma'])
  await pass(3000)
  const link = a.links.get('b') ?? assert.fail()
  const putBy = async (mapEpoch: number): Promise<string> => {
    const buffer = await chunks.acquire(100)
    const put = link.put(new Uint8Array(16).fill(mapEpoch), buffer, 100, { mapEpoch }).then(
      () => 'ok',
      (error) => StorageError.from(error).code,
    )
    await pass(200)
    buffer.release()
    return put
  }
  assert.equal(await putBy(6), 'ok')
  b.setMapEpoch(7, new Uint32Array(placementGroupCount).fill(7))
  assert.deepEqual([link.active, await putBy(6), await putBy(7)], ['tcp', 'STALE_MAP', 'ok'])
  absent.delete('rdma')
  await pass(60_000)
  assert.deepEqual([link.active, await putBy(6), await putBy(8)], ['rdma', 'STALE_MAP', 'ok'])
  assert.equal(link.report().failed, 0, 'no path is to blame for it')
  await close(a, b)
})

test('a node that was away for long is found as soon as it is back, whatever pause the link was in', async () => {
  const { open, pass, close } = await world()
  const a = await open('a', ['b'])
  let b = await open('b', ['a'])
  await pass(3000)
  assert.deepEqual([activeOf(a), activeOf(b)], [['tcp'], ['tcp']])
  assert.deepEqual([a.problems(), b.problems()], [[], []])
  await close(b)
  // The pauses grow to half a minute.
  await pass(300_000, 200)
  assert.deepEqual(activeOf(a), [''])
  assert.match(a.problems()[0] ?? '', /^no link to b: tcp: PEER_UNREACHABLE/)
  assert.ok((a.snapshot().links[0]?.candidates[0]?.retryInMs ?? 0) >= 0)
  b = await open('b', ['a'])
  await pass(3000)
  assert.deepEqual([activeOf(a), activeOf(b)], [['tcp'], ['tcp']])
  assert.equal(a.snapshot().links[0]?.switchCount, 1)
  await close(a, b)
})

test('a device that appears opens its listener and takes the link over; one that goes is left', async () => {
  const { open, pass, close, absent, change, networks } = await world()
  absent.add('rdma')
  const transports = ['tcp', 'rdma'] as const
  const a = await open('a', ['b'], {}, transports)
  const b = await open('b', ['a'], {}, transports)
  await pass(20_000)
  assert.deepEqual(activeOf(a), ['tcp'])
  assert.match(a.problems()[0] ?? '', /^not listening for other nodes over rdma at .*no device/)
  assert.equal((await a.report()).transports.find(({ id }) => id === 'rdma')?.available, false)

  absent.delete('rdma')
  change({ lockedMemoryLimitBytes: 12_345 })
  // The watch looks once a minute; the policy leaves what works alone for a while.
  await pass(80_000, 50)
  assert.deepEqual([activeOf(a), activeOf(b)], [['rdma'], ['rdma']])
  assert.deepEqual(a.problems(), [])
  assert.equal((await a.report()).transports.find(({ id }) => id === 'rdma')?.available, true)

  absent.add('rdma')
  networks.rdma.reset()
  await pass(2000)
  assert.deepEqual([activeOf(a), activeOf(b)], [['tcp'], ['tcp']])
  assert.equal(a.snapshot().links[0]?.switches.at(-1)?.isForced, true)
  await close(a, b)
})

test('who answers at the address of a peer must be that peer', async () => {
  const { open, pass, close } = await world()
  const a = await open('a', ['b'])
  // It listens where b should: same key, same region, another name.
  const impostor = await open('b', ['a'], {
    config: loadConfig({
      file: {
        name: 'f',
        text: JSON.stringify({ node: 'c', rpc: { listen: '127.0.0.1:9098', serve: 'always' } }),
      },
      environment: {},
    }),
  })
  await pass(2000)
  assert.deepEqual(activeOf(a), [''])
  assert.match(a.problems()[0] ?? '', /PEER_REFUSED: another node is at this address/)
  await close(a, impostor)
})

test('a stranger is named once a second in the log, with the number of those who knocked', async () => {
  const { open, pass, close } = await world()
  const lines: { readonly refused?: number; readonly last?: string }[] = []
  const log = { ...silentLogger, warn: (fields: object) => void lines.push(fields) }
  const a = await open('a', ['b'], { log })
  const b = await open('b', ['a'], { regionKey: new Uint8Array(32).fill(8) })
  await pass(10_000)
  const refusals = lines.filter(({ refused }) => refused !== undefined)
  const told = refusals.reduce((sum, { refused = 0 }) => sum + refused, 0)
  assert.ok(refusals.length > 0 && refusals.length <= 11, `${refusals.length} lines`)
  assert.equal(told, a.snapshot().listeners[0]?.refused)
  assert.match(refusals[0]?.last ?? '', /a stranger, who does not know this region's key/)
  await close(a, b)
})

test('closing ends everything: nothing waits for the clock any more', async () => {
  const { clock, open, pass, close } = await world()
  const a = await open('a', ['b', 'c'])
  const b = await open('b', ['a', 'c'])
  await pass(2000)
  await close(a, b)
  assert.equal(clock.pending, 0)
})

test('a node without peers does nothing, and one that shall serve all the same does', async () => {
  const { clock, open, close } = await world()
  const alone = await open('a', [])
  assert.equal(alone.rpcAddress, undefined)
  assert.equal((await alone.report()).enabled, false)
  assert.equal(clock.pending, 0)
  await close(alone)
})

test('names make ids: the same everywhere, others for another region', () => {
  const here = { region: 'r', regionId: 1 }
  assert.equal(nodeIdOf(here, 'a').length, 16)
  assert.deepEqual(nodeIdOf(here, 'a'), identityOf(here, 'a', regionKey).nodeId)
  const others = [
    nodeIdOf(here, 'b'),
    nodeIdOf({ ...here, regionId: 2 }, 'a'),
    nodeIdOf({ ...here, region: 's' }, 'a'),
  ]
  const ids = [nodeIdOf(here, 'a'), ...others].map((id) => Buffer.from(id).toString('hex'))
  assert.equal(new Set(ids).size, 4)
})

async function scratch(context: TestContext): Promise<string> {
  const folder = await mkdtemp(join(tmpdir(), 'pando-key-'))
  context.after(() => rm(folder, { recursive: true, force: true }))
  return folder
}

test('a region key is made once, for its owner only, and read ever after', async (context) => {
  const dataPath = await scratch(context)
  const { randomness } = fakeEnvironment(new FakeClock())
  const places = { given: undefined, file: '', dataPath, randomness }
  const made = await openRegionKey(places)
  assert.equal(made.from, 'generated')
  assert.equal((await stat(made.path)).mode & 0o777, 0o600)
  assert.equal(await readFile(made.path, 'utf8'), `${Buffer.from(made.key).toString('hex')}\n`)
  const read = await openRegionKey(places)
  assert.deepEqual([read.from, read.key], ['file', made.key])
  const given = await openRegionKey({ ...places, given: regionKey })
  assert.deepEqual([given.from, given.key], ['environment', regionKey])
})

test("a region key that is missing, damaged or everybody's is refused, and never shown", async (context) => {
  const dataPath = await scratch(context)
  const { randomness } = fakeEnvironment(new FakeClock())
  const file = join(dataPath, 'elsewhere')
  const open = () => openRegionKey({ given: undefined, file, dataPath, randomness })
  await assert.rejects(open(), {
    code: 'INVALID_CONFIG',
    message: /rpc\.regionKeyFile: cannot read .*ENOENT/,
  })
  await writeFile(file, 'abcdef0123 not a key', { mode: 0o600 })
  await assert.rejects(open(), (error) => {
    assert.ok(error instanceof StorageError && error.code === 'INVALID_CONFIG')
    assert.match(error.message, /is not a region key: 64 hexadecimal digits/)
    return !error.message.includes('abcdef0123')
  })
  await writeFile(file, 'ab'.repeat(32))
  await chmod(file, 0o604)
  await assert.rejects(open(), /everybody on this machine may read the region key .*chmod 600/)
  await chmod(file, 0o640)
  assert.deepEqual((await open()).key, new Uint8Array(32).fill(0xab))
})

test('peers that the cluster map names get links, those that it drops lose them, the others keep theirs', async () => {
  const { open, pass, close } = await world()
  const peer = (name: string) => ({
    name,
    addresses: { tcp: `127.0.0.1:${9000 + name.charCodeAt(0)}`, shm: '', rdma: '', ipoib: '' },
    distance: 'auto' as const,
  })
  const a = await open('a', ['b'])
  const b = await open('b', ['a'])
  const c = await open('c', ['a'])
  await pass(2000)
  const [linkToB] = [a.links.get('b')]
  a.setPeers([peer('b'), peer('c')])
  await pass(2000)
  assert.deepEqual([...a.links.keys()], ['b', 'c'])
  assert.equal(a.links.get('b'), linkToB)
  assert.deepEqual(activeOf(a), ['tcp', 'tcp'])
  a.setPeers([peer('c')])
  await pass(2000)
  assert.deepEqual([...a.links.keys()], ['c'])
  await assert.rejects(linkToB?.ping() ?? Promise.resolve(), { code: 'CLOSED' })
  // It has moved: the old address is nobody's any more.
  a.setPeers([{ ...peer('c'), addresses: { ...peer('c').addresses, tcp: '127.0.0.1:9555' } }])
  await pass(2000)
  assert.deepEqual(activeOf(a), [''])
  await close(a, b, c)
})
