import assert from 'node:assert/strict'
import { test } from 'node:test'
import { addToClusterFile, makeClusterFile, parseNodeSpec } from '../../../core/node/config/cluster-file.ts'
import { seatsOf } from '../../../core/node/config/cluster-schema.ts'
import { loadConfig } from '../../../core/node/config/load.ts'

const load = (text: string, node: string) =>
  loadConfig({ file: { name: 'cluster.yaml', text }, environment: {}, overrides: { node } })

test('what init writes is a valid configuration for each of its nodes', () => {
  const text = makeClusterFile({
    region: 'eu',
    replicas: 2,
    nodes: ['n1=10.0.0.1,zone=a', 'n2=10.0.0.2,zone=b,rack=r2', 'n3=fd00::3'].map(parseNodeSpec),
  })
  for (const name of ['n1', 'n2', 'n3']) assert.equal(load(text, name).node, name)
  const config = load(text, 'n2')
  assert.equal(config.region, 'eu')
  assert.equal(config.cluster.replicas, 2)
  assert.deepEqual(config.s3.listen, { host: '10.0.0.2', port: 9000 })
  assert.deepEqual(
    seatsOf(config.cluster).map(({ zone, rack }) => [zone, rack]),
    [
      ['a', ''],
      ['b', 'r2'],
      ['', ''],
    ],
  )
})

test("nodes of one machine do not stand in each other's way", () => {
  const nodes = ['a', 'b', 'c'].map((name) => parseNodeSpec(`${name}=127.0.0.1`))
  const text = makeClusterFile({ region: 'eu', replicas: 3, nodes })
  const configs = ['a', 'b', 'c'].map((name) => load(text, name))
  assert.equal(new Set(configs.map(({ data }) => data)).size, 3)
  assert.equal(new Set(configs.map(({ s3 }) => s3.listen.port)).size, 3)
  assert.equal(new Set(configs.map(({ admin }) => admin.listen.port)).size, 3)
})

test('a node is added to a file that people have written in, and nothing of that is lost', () => {
  const text = makeClusterFile({ region: 'eu', replicas: 3, nodes: [parseNodeSpec('a=10.0.0.1')] })
  const edited = `${text}# ours\nlog: { level: debug }\n`
  const more = addToClusterFile(edited, parseNodeSpec('b=10.0.0.2'))
  assert.match(more, /# ours/)
  assert.equal(load(more, 'b').log.level, 'debug')
  assert.throws(() => addToClusterFile(more, parseNodeSpec('b=10.0.0.3')), { code: 'CONFLICT' })
  assert.throws(() => addToClusterFile('region: eu', parseNodeSpec('b=10.0.0.3')), { code: 'INVALID_CONFIG' })
})

test('what is no node is told with an example', () => {
  for (const text of [
    '',
    '=10.0.0.1',
    'n1=',
    'n1=10.0.0.1,color=red',
    'n1=10.0.0.1,zone=',
    'n1=h,zone=a=b',
  ]) {
    assert.throws(() => parseNodeSpec(text), { code: 'INVALID_ARGUMENT', message: /n1=10\.0\.0\.1,zone=a/ })
  }
})

test('a region that a node with data begins keeps its number, and the node its data', () => {
  const text = makeClusterFile({
    region: 'eu-west-1',
    replicas: 3,
    nodes: [{ name: 'n1', address: '10.0.0.1', zone: '', rack: '' }],
    regionId: 7,
    data: '/srv/pando',
  })
  const config = load(text, 'n1')
  assert.equal(config.regionId, 7)
  assert.equal(config.data, '/srv/pando')
})

test('nodes without an address are written without one, and the file says how they are found', () => {
  const nodes = ['n1', 'n2,zone=b', 'n3'].map(parseNodeSpec)
  const text = makeClusterFile({ region: 'eu', replicas: 3, nodes, discovery: ['multicast'] })
  const { cluster } = load(text, 'n2')
  assert.deepEqual(cluster.discovery, ['multicast'])
  assert.deepEqual(
    seatsOf(cluster).map(({ name, address, zone, ports }) => [name, address, zone, ports.control]),
    [
      ['n1', '', '', 9005],
      ['n2', '', 'b', 9005],
      ['n3', '', '', 9005],
    ],
  )
  const more = addToClusterFile(text, parseNodeSpec('n4'))
  assert.equal(seatsOf(load(more, 'n4').cluster)[3]?.ports.control, 9005)
  assert.throws(() => load(makeClusterFile({ region: 'eu', replicas: 3, nodes }), 'n1'), {
    code: 'INVALID_CONFIG',
  })
  assert.throws(() => parseNodeSpec('n1='), /NAME=ADDRESS/)
})

test('all loopback addresses are one machine, also for a node that is added', () => {
  const nodes = ['a=127.0.0.1', 'b=127.0.0.2', 'c=localhost'].map(parseNodeSpec)
  const text = makeClusterFile({ region: 'eu', replicas: 3, nodes })
  const more = addToClusterFile(text, parseNodeSpec('d=127.0.0.9'))
  const configs = ['a', 'b', 'c', 'd'].map((name) => load(more, name))
  assert.equal(new Set(configs.map(({ data }) => data)).size, 4)
  assert.equal(new Set(configs.map(({ s3 }) => s3.listen.port)).size, 4)
  assert.equal(new Set(configs.map(({ admin }) => admin.listen.port)).size, 4)
  assert.equal(new Set(configs.map(({ console: { listen } }) => listen?.port)).size, 4)
})
