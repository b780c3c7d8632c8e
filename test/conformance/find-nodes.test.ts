import assert from 'node:assert/strict'
import { createServer } from 'node:net'
import test, { type TestContext } from 'node:test'
import { issueNodeCertificate, makeAuthority } from '../../core/cluster/keys/certificate.ts'
import { silentLogger } from '../../core/contract/logger.ts'
import type { PeerTls } from '../../core/control/region-peers/peer-link.ts'
import { type GrpcRegionPeers, openRegionPeers } from '../../core/control/region-peers/region-peers.ts'
import { whoIs } from '../../core/control/region-peers/who-is.ts'
import { startDiscovery } from '../../core/node/cluster/discovery.ts'
import { type ClusterSeat, clusterPorts } from '../../core/node/config/cluster-schema.ts'
import { realEnvironment } from '../../core/node/environment.ts'
import { startDnsServer } from '../kit/dns-server.ts'
import { until } from '../kit/region-peers.ts'

/** What is found is an address; who is there is proved. With real certificates, sockets and a name server. */
const regionId = 7
const authority = await makeAuthority(regionId, realEnvironment)

async function keysOf(name: string, from = authority, region = regionId): Promise<PeerTls> {
  const own = await issueNodeCertificate(from, { regionId: region, name }, [], realEnvironment)
  return { ca: from.certificate, certificate: own.certificate, key: own.key }
}

async function openNode(
  t: TestContext,
  name: string,
  tls?: PeerTls,
  host = '127.0.0.1',
): Promise<GrpcRegionPeers> {
  const peers = await openRegionPeers({
    self: { regionId, name },
    listen: { host, port: 0 },
    tls: tls ?? (await keysOf(name)),
    environment: realEnvironment,
    log: silentLogger,
  })
  t.after(() => peers.close())
  return peers
}

test('whoever listens at an address says by certificate which node it is', async (t) => {
  const [node, tls] = [await openNode(t, 'n2'), await keysOf('n1')]
  const address = `127.0.0.1:${node.port}`
  assert.equal(await whoIs(address, { regionId, tls }), 'n2')
  await assert.rejects(whoIs(address, { regionId: 8, tls }), /PEER_REFUSED: .*not that of a node of region 8/)
  const other = await makeAuthority(regionId, realEnvironment)
  const forged = await openNode(t, 'n3', await keysOf('n3', other))
  await assert.rejects(whoIs(`127.0.0.1:${forged.port}`, { regionId, tls }), /PEER_UNREACHABLE/)
})

test('a listener that says nothing is given up, and sooner when nobody waits any more', async (t) => {
  const mute = createServer((socket) => void t.after(() => socket.destroy()))
  await new Promise<void>((resolve) => mute.listen(0, '127.0.0.1', resolve))
  t.after(() => mute.close())
  const at = mute.address()
  const address = `127.0.0.1:${typeof at === 'object' && at !== null ? at.port : 0}`
  const tls = await keysOf('n1')
  await assert.rejects(
    whoIs(address, { regionId, tls, timeoutMs: 100 }),
    /PEER_UNREACHABLE: .*no answer within 100 ms/,
  )
  const stop = new AbortController()
  const asked = whoIs(address, { regionId, tls, signal: stop.signal })
  stop.abort()
  await assert.rejects(asked)
})

test('nodes are found by SRV records, one that moves is found again, and a stranger never', async (t) => {
  await using dns = await startDnsServer()
  const other = await makeAuthority(regionId, realEnvironment)
  const [two, stranger, tls] = [
    await openNode(t, 'n2'),
    await openNode(t, 'n3', await keysOf('n3', other)),
    await keysOf('n1'),
  ]
  const records = (...ports: readonly number[]) =>
    dns.records.set(
      '_pando._tcp.test',
      ports.map((port) => ({ type: 'SRV', port, target: 'here.test' })),
    )
  dns.records.set('here.test', [{ type: 'A', address: '127.0.0.1' }])
  records(two.port, stranger.port)
  const found = new Map<string, string>()
  const own: ClusterSeat = {
    ...{ name: 'n1', address: '127.0.0.1', ports: { ...clusterPorts, control: 1 } },
    ...{ zone: '', rack: '', weight: 1, runsNats: true },
  }
  let missing = ['n2', 'n3']
  const discovery = startDiscovery({
    ...{ own, regionId, keys: { tls, regionKey: new Uint8Array(32) }, environment: realEnvironment },
    sources: [`dns://${dns.address}/_pando._tcp.test?type=SRV`],
    missing: () => missing,
    onFound: (name, address) => found.set(name, address),
    log: silentLogger,
  })
  t.after(() => discovery.close())
  await until(() => found.has('n2'), 'n2 is found')
  assert.deepEqual([...found], [['n2', `127.0.0.1:${two.port}`]])
  assert.deepEqual(discovery.problems(), [])

  await two.close()
  const moved = await openNode(t, 'n2')
  records(moved.port, stranger.port)
  await until(() => found.get('n2') === `127.0.0.1:${moved.port}`, 'n2 is found where it is now')
  dns.records.clear()
  // A look that the machine made too late tells of that first.
  const isTold = () => /_pando\._tcp\.test: .*ENOTFOUND/.test(discovery.problems()[0] ?? '')
  await until(isTold, 'the problem is told')

  missing = []
  await new Promise((resolve) => setTimeout(resolve, 3500))
  const questions = dns.asked.length
  await new Promise((resolve) => setTimeout(resolve, 2500))
  assert.equal(dns.asked.length, questions, 'nobody is missing, so nobody is asked')
  assert.deepEqual([...found.keys()], ['n2'])
})

test('more addresses that say nothing than one look has time for keep nobody from being found', async (t) => {
  await using dns = await startDnsServer()
  const there = await openNode(t, 'n2', undefined, '127.0.0.99')
  const mutes = Array.from({ length: 24 }, (_, at) => `127.0.0.${at + 10}`)
  for (const host of mutes) {
    const mute = createServer((socket) => {
      socket.on('error', () => undefined)
      t.after(() => socket.destroy())
    })
    await new Promise<void>((resolve) => mute.listen(there.port, host, resolve))
    t.after(() => mute.close())
  }
  dns.records.set('_pando._tcp.test', [{ type: 'SRV', port: there.port, target: 'all.test' }])
  dns.records.set(
    'all.test',
    [...mutes, '127.0.0.99'].map((address) => ({ type: 'A', address })),
  )
  const found = new Map<string, string>()
  const own: ClusterSeat = {
    ...{ name: 'n1', address: '127.0.0.1', ports: { ...clusterPorts, control: 1 } },
    ...{ zone: '', rack: '', weight: 1, runsNats: true },
  }
  const discovery = startDiscovery({
    ...{ own, regionId, keys: { tls: await keysOf('n1'), regionKey: new Uint8Array(32) } },
    environment: realEnvironment,
    sources: [`dns://${dns.address}/_pando._tcp.test?type=SRV`],
    missing: () => ['n2'],
    onFound: (name, address) => found.set(name, address),
    log: silentLogger,
  })
  t.after(() => discovery.close())
  const deadline = performance.now() + 25_000
  while (!found.has('n2') && performance.now() < deadline) await realEnvironment.clock.sleep(50)
  assert.deepEqual([...found], [['n2', `127.0.0.99:${there.port}`]])
})
