import assert from 'node:assert/strict'
import { randomBytes } from 'node:crypto'
import { chmod, mkdtemp, readFile, rm, stat, writeFile } from 'node:fs/promises'
import { createServer } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { type TestContext, test } from 'node:test'
import { setTimeout as delay } from 'node:timers/promises'
import type { LinkReport, NodeLinksReport } from '../../core/contract/link.ts'
import { silentLogger } from '../../core/contract/logger.ts'
import type { NodeIdentity } from '../../core/contract/transport.ts'
import { realEnvironment } from '../../core/node/environment.ts'
import { identityOf } from '../../core/node/links/identity.ts'
import { createStreamAdapter } from '../../core/protocol/rpc/stream-adapter.ts'
import { crc32c } from '../../native/crc.ts'
import { freePort } from '../kit/free-ports.ts'
import { createMemoryStore } from '../kit/memory-store.ts'
import { checkScrape } from '../kit/metrics-table.ts'
import { nodeNetNetwork } from '../kit/node-net-network.ts'
import { type NodeProcess, type NodeProcessOptions, startNode, withoutNative } from '../kit/node-process.ts'

const skip = withoutNative
const region = { region: 'us-east-1', regionId: 1 }
const store = { capacity: '512MiB', pool: '32MiB', cache: '0' }

interface Place {
  readonly name: string
  readonly tcp: string
  readonly shm: string
}

async function places(context: TestContext, ...names: readonly string[]): Promise<readonly Place[]> {
  const folder = await mkdtemp(join(tmpdir(), 'pando-links-'))
  context.after(() => rm(folder, { recursive: true, force: true }))
  const found: Place[] = []
  for (const name of names) {
    found.push({ name, tcp: `127.0.0.1:${await freePort()}`, shm: join(folder, `${name}.sock`) })
  }
  return found
}

const newKey = (): string => randomBytes(32).toString('hex')

interface Wanted {
  readonly key: string
  readonly peers: readonly Place[]
  readonly transports?: readonly ('tcp' | 'shm')[]
  readonly more?: Partial<NodeProcessOptions>
}

/** A node at its place, with links to the others. */
async function nodeAt(context: TestContext, place: Place, wanted: Wanted): Promise<NodeProcess> {
  const { key, peers, transports = ['tcp'], more = {} } = wanted
  const node = await startNode({
    config: {
      node: place.name,
      store,
      rpc: transports.includes('shm') ? { shm: place.shm } : {},
      peers: peers.map(({ name, tcp, shm }) => ({
        name,
        addresses: {
          ...(transports.includes('tcp') ? { tcp } : {}),
          ...(transports.includes('shm') ? { shm } : {}),
        },
      })),
    },
    env: { PANDO_RPC_LISTEN: place.tcp, ...(key === '' ? {} : { PANDO_REGION_KEY: key }) },
    ...more,
  })
  context.after(() => node[Symbol.asyncDispose]())
  return node
}

async function linksOf(node: NodeProcess): Promise<NodeLinksReport> {
  const { stdout, stderr } = await node.command('debug', 'links', '--json')
  assert.ok(stdout.startsWith('{'), `${stdout}${stderr}`)
  return JSON.parse(stdout)
}

/** Looks until it is so; the last look is in the message. */
async function eventually(
  node: NodeProcess,
  what: string,
  isSo: (report: NodeLinksReport) => boolean,
): Promise<NodeLinksReport> {
  const until = performance.now() + 60_000
  for (;;) {
    const report = await linksOf(node)
    if (isSo(report)) return report
    if (performance.now() > until)
      assert.fail(`${what}: ${JSON.stringify(report, null, 1)}\n${node.logTail()}`)
    await delay(200)
  }
}

async function inLog(node: NodeProcess, line: RegExp): Promise<void> {
  const until = performance.now() + 20_000
  while (!line.test(node.logTail())) {
    assert.ok(performance.now() < until, `${line} is not in the log: ${node.logTail()}`)
    await delay(100)
  }
}

const linkTo = (report: NodeLinksReport, peer: string): LinkReport => {
  const link = report.links.find((one) => one.peer === peer)
  assert.ok(link, `no link to ${peer}`)
  return link
}
const isUp = (report: NodeLinksReport): boolean => report.links.every(({ active }) => active !== '')
const problemsOf = (report: NodeLinksReport, peer: string): string =>
  linkTo(report, peer)
    .candidates.map(({ problem }) => problem)
    .join('; ')

async function metricsOf(node: NodeProcess): Promise<string> {
  return (await fetch(`${node.consoleUrl}/metrics`)).text()
}

test('three nodes find each other; one that is killed is missed, and back after its start', {
  skip,
  timeout: 240_000,
}, async (context) => {
  const [a, b, c] = await places(context, 'node-a', 'node-b', 'node-c')
  assert.ok(a && b && c)
  const key = newKey()
  const [nodeA, nodeB, nodeC] = await Promise.all([
    nodeAt(context, a, { key, peers: [b, c] }),
    nodeAt(context, b, { key, peers: [a, c] }),
    nodeAt(context, c, { key, peers: [a, b] }),
  ])
  for (const node of [nodeA, nodeB, nodeC]) {
    const report = await eventually(node, 'not all links are up', isUp)
    assert.equal(report.enabled, true)
    for (const link of report.links) {
      assert.equal(link.active, 'tcp')
      assert.match(link.why, /^(adaptive@|built-in rules)/)
      assert.equal(link.switches[0]?.to, 'tcp')
      assert.ok((link.candidates[0]?.rttP50Ms ?? 0) > 0, 'a round trip was measured')
      assert.equal(link.candidates[0]?.distance, 0, 'loopback is this machine')
    }
  }
  await eventually(nodeA, 'the others have no sessions here', ({ listeners }) => listeners[0]?.sessions === 2)

  const table = await nodeA.command('debug', 'links')
  assert.equal(table.code, 0)
  assert.match(table.stdout, /^node-b +active .* tcp /m)
  const scrape = await metricsOf(nodeA)
  assert.match(scrape, /^pando_link_up\{peer="node-b"\} 1$/m)
  checkScrape(scrape)

  await nodeB.kill()
  const alone = await eventually(
    nodeA,
    'the dead node is not missed',
    // A process that is dying may still hang up on us before nobody is there.
    (report) => problemsOf(report, 'node-b').includes('PEER_UNREACHABLE'),
  )
  assert.equal(linkTo(alone, 'node-c').active, 'tcp', 'the other link does not care')
  const down = await nodeA.command('debug', 'links')
  assert.equal(down.code, 7, 'for scripts')
  assert.match(down.stdout, /^node-b +(failed|detecting|connecting) /m)
  assert.match((await nodeA.command('status')).stdout, /Problem +no link to node-b: tcp: .*PEER_UNREACHABLE/)
  assert.match(await metricsOf(nodeA), /^pando_link_up\{peer="node-b"\} 0$/m)

  await nodeB.start()
  const back = await eventually(nodeA, 'the node is not found again', isUp)
  assert.ok(linkTo(back, 'node-b').switchCount >= 1)
  assert.equal(linkTo(back, 'node-b').switches.at(-1)?.isForced, true)
  assert.equal((await nodeA.command('status')).code, 0)
  // In order, with links up in both directions.
  for (const node of [nodeA, nodeB, nodeC]) await node.stop()
})

test('nodes of one machine prefer shared memory and have tcp to fall back on', {
  skip,
  timeout: 180_000,
}, async (context) => {
  const [a, b] = await places(context, 'node-a', 'node-b')
  assert.ok(a && b)
  const key = newKey()
  const transports = ['tcp', 'shm'] as const
  const nodeA = await nodeAt(context, a, { key, peers: [b], transports })
  await nodeAt(context, b, { key, peers: [a], transports })
  const report = await eventually(nodeA, 'shared memory is not used', (now) => {
    const { active, candidates } = linkTo(now, 'node-b')
    return active === 'shm' && candidates.length === 2 && candidates.every(({ state }) => state === 'up')
  })
  const link = linkTo(report, 'node-b')
  assert.deepEqual(link.candidates.map(({ id }) => id).toSorted(), ['shm', 'tcp'])
  assert.match(link.why, /one host|built-in rules/)
})

test('a stranger is refused, and both ends say why', { skip, timeout: 180_000 }, async (context) => {
  const [a, b] = await places(context, 'node-a', 'node-b')
  assert.ok(a && b)
  const [ours, theirs] = [newKey(), newKey()]
  const nodeA = await nodeAt(context, a, { key: ours, peers: [b] })
  const nodeB = await nodeAt(context, b, { key: theirs, peers: [a] })
  const refused = await eventually(
    nodeA,
    'nobody was refused',
    (report) =>
      (report.listeners[0]?.refused ?? 0) > 0 && problemsOf(report, 'node-b').includes('PEER_REFUSED'),
  )
  assert.match(
    refused.listeners[0]?.lastRefusal ?? '',
    /a stranger, who does not know this region's key \(from 127\.0\.0\.1:\d+\)/,
  )
  assert.match(
    problemsOf(refused, 'node-b'),
    /PEER_REFUSED: the peer hung up during the greeting: it has another region key/,
  )
  assert.equal(refused.listeners[0]?.sessions, 0)
  // One line a second, however many knock: it may be the next second's.
  await inLog(nodeA, /refused to talk to a peer/)
  assert.match(await metricsOf(nodeA), /^pando_rpc_refused_total\{transport="tcp"\} [1-9]/m)
  const told = `${nodeA.logTail()}${nodeB.logTail()}${JSON.stringify(refused)}`
  assert.ok(!told.includes(ours) && !told.includes(theirs), 'keys are not shown')
})

test('the right key in another region, and another version, are told at both ends', {
  skip,
  timeout: 180_000,
}, async (context) => {
  const [a, b] = await places(context, 'node-a', 'node-b')
  assert.ok(a && b)
  const key = newKey()
  const regionKey = Buffer.from(key, 'hex')
  const newer = createStreamAdapter({
    id: 'tcp',
    kind: 'tcp',
    priority: 1,
    network: nodeNetNetwork,
    crc32c,
    environment: realEnvironment,
    log: silentLogger,
    versions: { lowest: 2, highest: 3 },
  })
  const memory = createMemoryStore(realEnvironment.clock)
  const identity = identityOf(region, 'node-b', regionKey)
  const listener = await newer.listen({ identity, address: b.tcp, store: memory })
  context.after(() => listener.close(0))
  const nodeA = await nodeAt(context, a, { key, peers: [b] })

  const report = await eventually(
    nodeA,
    'the newer peer is not refused',
    (now) => linkTo(now, 'node-b').state === 'failed',
  )
  assert.match(
    problemsOf(report, 'node-b'),
    /PEER_REFUSED: the peer refused: it speaks version 2 to 3 of the protocol, this node 1/,
  )
  assert.match(
    listener.refusals.last,
    /^node [0-9a-f]{32}: it speaks version 1 of the protocol, this node 2 to 3/,
  )

  const knock = (who: NodeIdentity, adapter = newer): Promise<unknown> =>
    adapter.connect({ identity: who, address: a.tcp, buffers: memory })
  await assert.rejects(knock(identity), /it speaks version 1 of the protocol, this node 2 to 3/)
  const versions = await eventually(
    nodeA,
    'the version is not told',
    ({ listeners }) => listeners[0]?.refused === 1,
  )
  assert.match(
    versions.listeners[0]?.lastRefusal ?? '',
    /^node node-b: it speaks version 2 to 3 of the protocol, this node 1 \(from /,
  )

  const plain = createStreamAdapter({
    id: 'tcp',
    kind: 'tcp',
    priority: 1,
    network: nodeNetNetwork,
    crc32c,
    environment: realEnvironment,
    log: silentLogger,
  })
  await assert.rejects(
    knock(identityOf({ ...region, regionId: 2 }, 'node-b', regionKey), plain),
    /another region/,
  )
  const regions = await eventually(
    nodeA,
    'the region is not told',
    ({ listeners }) => listeners[0]?.refused === 2,
  )
  assert.match(regions.listeners[0]?.lastRefusal ?? '', /it belongs to another region, though it has our key/)
})

test('the first start makes a region key for its owner, and a copy of it opens the door', {
  skip,
  timeout: 180_000,
}, async (context) => {
  const [a, b] = await places(context, 'node-a', 'node-b')
  assert.ok(a && b)
  const nodeA = await nodeAt(context, a, { key: '', peers: [b] })
  const path = join(nodeA.dataDirectory, 'region-key')
  assert.equal((await stat(path)).mode & 0o777, 0o600)
  const key = (await readFile(path, 'utf8')).trim()
  assert.match(key, /^[0-9a-f]{64}$/)
  await inLog(nodeA, /made the region key/)
  assert.ok(!nodeA.logTail().includes(key))

  const copy = join(nodeA.dataDirectory, '..', 'copy')
  await writeFile(copy, `${key}\n`, { mode: 0o600 })
  const config = {
    node: 'node-b',
    store,
    rpc: { regionKeyFile: copy },
    peers: [{ name: 'node-a', addresses: { tcp: a.tcp } }],
  }
  const nodeB = await nodeAt(context, b, { key: '', peers: [a], more: { config } })
  await eventually(nodeB, 'the copy does not open the door', isUp)
  await eventually(nodeA, 'node-b is not found', isUp)
  await nodeB.stop()

  // A key that everybody may read is no secret.
  await chmod(copy, 0o644)
  await assert.rejects(nodeB.start(), /everybody on this machine may read the region key in .*chmod 600/)
})

test('a node without peers opens no port and says how to get some', {
  skip,
  timeout: 120_000,
}, async (context) => {
  const node = await startNode({ config: { store } })
  context.after(() => node[Symbol.asyncDispose]())
  const { code, stdout } = await node.command('debug', 'links')
  assert.equal(code, 0)
  assert.match(stdout, /This node has no peers/)
  assert.match(stdout, /^tcp +yes/m)
  assert.equal((await linksOf(node)).enabled, false)
  await assert.rejects(stat(join(node.dataDirectory, 'region-key')), 'nothing that nobody needs')
})

test('a wrong entry is told with its path, a taken port with its key', {
  skip,
  timeout: 120_000,
}, async (context) => {
  const start = (config: Readonly<Record<string, unknown>>, rpc = '127.0.0.1:0') =>
    startNode({ config: { store, ...config }, env: { PANDO_RPC_LISTEN: rpc, PANDO_REGION_KEY: newKey() } })
  await assert.rejects(
    start({ peers: [{ name: 'b', addresses: { tpc: 'x:1' } }] }),
    /peers\.0\.addresses\.tpc: unknown key; did you mean 'tcp'\?/,
  )
  await assert.rejects(
    start({ peers: [{ name: 'node-1', addresses: { tcp: 'x:1' } }] }),
    /peers\.0\.name: 'node-1' is the name of this node itself/,
  )
  const taken = createServer().listen(0, '127.0.0.1')
  context.after(() => taken.close())
  await new Promise((resolve) => taken.once('listening', resolve))
  const address = taken.address()
  assert.ok(address !== null && typeof address === 'object')
  await assert.rejects(
    start({ rpc: { serve: 'always' } }, `127.0.0.1:${address.port}`),
    /rpc\.listen: cannot listen on 127\.0\.0\.1:\d+: .*set rpc\.listen in the config file or PANDO_RPC_LISTEN/,
  )
})
