import assert from 'node:assert/strict'
import { test } from 'node:test'
import { erasureOf, seatAddress, seatsOf, stripeWidths } from '../../../core/node/config/cluster-schema.ts'
import { loadConfig } from '../../../core/node/config/load.ts'

const three = `
region: eu
cluster:
  nodes:
    n1: { address: 10.0.0.1, zone: a }
    n2: { address: 10.0.0.2, zone: b }
    n3: { address: 10.0.0.3, zone: c, weight: 2 }
    n4: { address: 10.0.0.4 }
`
const load = (text: string, overrides = {}, environment = {}) =>
  loadConfig({ file: { name: 'cluster.yaml', text }, environment, overrides })

test('one file for all nodes: the entry of the one that starts says where it listens', () => {
  const config = load(three, { node: 'n2' })
  assert.deepEqual(config.s3.listen, { host: '10.0.0.2', port: 9000 })
  assert.deepEqual(config.rpc.listen, { host: '10.0.0.2', port: 9003 })
  // What has no TLS or no authentication stays on loopback.
  assert.deepEqual(config.admin.listen, { host: '127.0.0.1', port: 9001 })
  assert.deepEqual(config.console.listen, { host: '127.0.0.1', port: 9002 })
  assert.deepEqual(load(three, {}, { PANDO_NODE: 'n3' }).s3.listen, { host: '10.0.0.3', port: 9000 })
  assert.equal(load(three, { node: 'n1' }, { PANDO_S3_LISTEN: '127.0.0.1:1' }).s3.listen.port, 1)
})

test('seats are told with everything filled in; NATS runs on the first three', () => {
  const seats = seatsOf(load(three, { node: 'n1' }).cluster)
  assert.deepEqual(
    seats.map(({ name, zone, weight, runsNats }) => [name, zone, weight, runsNats]),
    [
      ['n1', 'a', 1, true],
      ['n2', 'b', 1, true],
      ['n3', 'c', 2, true],
      ['n4', '', 1, false],
    ],
  )
  assert.deepEqual(
    seats.slice(0, 1).map((seat) => [seatAddress(seat, 'control'), seatAddress(seat, 'nats')]),
    [['10.0.0.1:9005', '10.0.0.1:4222']],
  )
})

test('several nodes on one machine have ports and directories of their own', () => {
  const text = `
cluster:
  nodes:
    a: { address: 127.0.0.1, data: /d/a }
    b: { address: 127.0.0.1, data: /d/b, ports: { s3: 9100, admin: 9101, console: 9102, rpc: 9103, control: 9105, nats: 9106 } }
`
  const config = load(text, { node: 'b' })
  assert.equal(config.data, '/d/b')
  assert.deepEqual(
    [config.s3.listen.port, config.admin.listen.port, config.console.listen.port],
    [9100, 9101, 9102],
  )
  assert.throws(() => load(text.replace('9103', '9003'), { node: 'b' }), {
    code: 'INVALID_CONFIG',
    message: /127\.0\.0\.1:9003 is the place of a\.rpc too \(rpc\)/,
  })
})

test('what does not fit together is told with what to do', () => {
  assert.throws(() => load(three), {
    message: /node: 'node-1' is not one of cluster\.nodes \(n1, n2, n3, n4\).*--node/,
  })
  assert.throws(() => load(`${three}\nstore: {backend: memory}`, { node: 'n1' }), {
    message: /keeps its chunks on a disk/,
  })
  assert.throws(() => load(`${three}\npeers: [{name: x, addresses: {tcp: '10.0.0.9:1'}}]`, { node: 'n1' }), {
    message: /peers: the nodes of a cluster are named in cluster\.nodes/,
  })
  assert.throws(() => load('node: a\ncluster: {nodes: {a: {address: 10.0.0.1, nats: false}}}'), {
    message: /no node runs a NATS server/,
  })
  assert.throws(() => load('node: a\ncluster: {nodes: {a: {address: "10.0.0.1:9000"}}}'), {
    message: /cluster\.nodes\.a\.address: '10\.0\.0\.1:9000' is not a host name/,
  })
})

test('storage classes are kept as fragments where the region has nodes enough for that', () => {
  const classes = (text: string): string => three.replace('  nodes:', `  classes: ${text}\n  nodes:`)
  const config = load(classes('{ STANDARD_IA: 2+2 }'), { node: 'n1' })
  assert.deepEqual(erasureOf(config.cluster, 'STANDARD_IA'), { dataFragments: 2, parityFragments: 2 })
  assert.equal(erasureOf(config.cluster, 'STANDARD'), undefined)
  assert.deepEqual(stripeWidths(config.cluster), [4])
  for (const [text, reason] of [
    ['{ STANDARD_IA: 4+2 }', /4\+2 needs 6 nodes, and cluster.nodes names 4/],
    ['{ STANDARD_IA: 17+2 }', /'17\+2' is no erasure code/],
    ['{ COLD: 2+1 }', /COLD/],
  ] as const) {
    assert.throws(() => load(classes(text), { node: 'n1' }), reason)
  }
})

const found = `
cluster:
  discovery: ['dns:pando.test']
  nodes: { n1: {}, n2: {}, n3: { address: 10.0.0.3 } }
`

test('an address may be left out where nodes are found; a node takes the only one of its machine, or PANDO_ADDRESS', () => {
  const at = (machineAddresses?: readonly string[], environment = {}) =>
    loadConfig({
      file: { name: 'cluster.yaml', text: found },
      environment,
      overrides: { node: 'n1' },
      ...(machineAddresses === undefined ? {} : { machineAddresses }),
    })
  const config = at(['10.0.0.7'])
  assert.deepEqual(config.s3.listen, { host: '10.0.0.7', port: 9000 })
  assert.deepEqual(
    seatsOf(config.cluster).map(({ address }) => address),
    ['10.0.0.7', '', '10.0.0.3'],
  )
  assert.equal(at(['10.0.0.7'], { PANDO_ADDRESS: '10.0.0.8' }).rpc.listen.host, '10.0.0.8')
  // Which of two is meant nobody can know: the start says so.
  assert.equal(seatsOf(at(['10.0.0.7', '10.0.0.8']).cluster)[0]?.address, '')
  assert.equal(seatsOf(at().cluster)[0]?.address, '')
})

test('without a way to find it a node needs an address, and a way that is none is refused', () => {
  const text = found.replace(/ {2}discovery.*\n/, '')
  assert.throws(
    () => load(text, { node: 'n3' }),
    /cluster\.nodes\.n1\.address: is missing; .*cluster\.discovery/,
  )
  assert.throws(
    () => load(found.replace('dns:pando.test', 'mdns'), { node: 'n3' }),
    /cluster\.discovery\[?\.?0\]?: 'mdns' does not say where nodes are found/,
  )
})
