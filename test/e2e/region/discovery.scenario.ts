import assert from 'node:assert/strict'
import { type DnsRecord, type DnsServer, startDnsServer } from '../../kit/dns-server.ts'
import { callerAddress } from '../../kit/region/hosts.ts'
import { openRegion, type Region } from '../../kit/region/region.ts'
import { openS3Client } from '../../kit/s3-client.ts'
import { say } from './scenario.ts'

/** Three nodes whose file has no address of any of them: they find each other, found a region, and go on after all have moved. */
const way = process.argv[2]
const names = ['n1', 'n2', 'n3']
const bucket = 'found'
const body = Buffer.from('found by its name')

if (way === undefined) {
  const { runInOwnNamespaces } = await import('../../kit/region/own-namespaces.ts')
  const script = process.argv[1] ?? ''
  for (const each of ['address', 'srv', 'multicast']) {
    process.stdout.write(await runInOwnNamespaces(script, [each], 150_000))
  }
} else {
  // The network of the hosts is made with the first of them; they reach this program at its end of the bridge.
  const dns = way === 'multicast' ? undefined : await startDnsServer('0.0.0.0', 5300)
  const at = `dns://${callerAddress}:5300`
  const source = {
    address: `${at}/pando.test`,
    srv: `${at}/_pando._tcp.test?type=SRV`,
    multicast: 'multicast',
  }[way]
  assert.ok(source)
  await using region = await openRegion({ nodes: names, discovery: [source] })
  tell(
    dns,
    region.nodes.map(({ host }) => host.address),
  )
  await within(region, 'found each other', () => region.startAll())
  await put(
    region,
    region.nodes.map(({ endpoint }) => endpoint),
  )

  // As when containers are started anew somewhere else: nobody is where the map of the region says.
  await Promise.all(region.nodes.map((node) => node.stop()))
  const moved = region.nodes.map(({ host }, index) => host.move(101 + index))
  tell(dns, moved)
  await within(region, 'found each other again after all had moved', () => region.startAll())
  await put(
    region,
    moved.map((address) => `http://${address}:9000`),
  )
  await dns?.[Symbol.asyncDispose]()
}

function tell(dns: DnsServer | undefined, addresses: readonly string[]): void {
  dns?.records.set(
    'pando.test',
    addresses.map((address) => ({ type: 'A', address })),
  )
  const targets = addresses.map(
    (_, index): DnsRecord => ({ type: 'SRV', port: 9005, target: `${names[index]}.test` }),
  )
  dns?.records.set('_pando._tcp.test', targets)
  for (const [index, address] of addresses.entries())
    dns?.records.set(`${names[index]}.test`, [{ type: 'A', address }])
}

async function within(region: Region, what: string, work: () => Promise<void>): Promise<void> {
  const began = performance.now()
  try {
    await work()
  } catch (reason) {
    const logs = region.nodes.map((node) => `--- ${node.name}\n${node.logTail().slice(-5000)}`).join('\n')
    throw new Error(`${String(reason)}\n${logs}`, { cause: reason })
  }
  say(`${way}: three nodes ${what} and serve after ${Math.round(performance.now() - began)} ms`)
}

/** Through the first gateway, and read at each. */
async function put(region: Region, endpoints: readonly string[]): Promise<void> {
  const { accessKey, secretKey } = region
  const clients = endpoints.map((endpoint) =>
    openS3Client({ endpoint, accessKey, secretKey, connections: 2 }),
  )
  try {
    const [first] = clients
    assert.ok(first)
    const made = await first.send({ method: 'PUT', bucket })
    assert.ok([200, 409].includes(made.status), `${made.status} ${made.body}`)
    const key = `by ${way} at ${endpoints[0]}`
    assert.equal((await first.send({ method: 'PUT', bucket, key, body })).status, 200)
    for (const client of clients) {
      const got = await client.send({ method: 'GET', bucket, key })
      assert.equal(got.status, 200, `${got.body}`)
      assert.deepEqual(Buffer.from(got.body), body)
    }
  } finally {
    for (const client of clients) client.close()
  }
}
