import assert from 'node:assert/strict'
import { existsSync } from 'node:fs'
import { test } from 'node:test'
import { silentLogger } from '../../../core/contract/logger.ts'
import type { TransportAdapter } from '../../../core/contract/transport.ts'
import { TransportRegistry } from '../../../core/protocol/transport-registry.ts'
import { loadAddon, openChunkStore } from '../../../native/addon.ts'
import {
  nativeIpoib,
  nativeRdma,
  nativeTransports,
  type TransportMachine,
} from '../../../native/native-transports.ts'
import { identity } from '../../kit/transport-place.ts'

const isBuilt = existsSync('native/build/release/pando.node') && !(loadAddon() instanceof Error)
const skip = isBuilt ? false : 'the native data plane is not built (npm run build)'

const plain: TransportMachine = { rdma: [], hasRdmaConnections: false, ipoib: [], lockedMemoryLimitBytes: -1 }
const roceGid = { value: '0000:0000:0000:0000:0000:ffff:0a4d:0001', type: 'RoCE v2' }
const port = { state: 'ACTIVE', isActive: true, linkLayer: 'Ethernet', gid: roceGid }
const roce: TransportMachine = { ...plain, rdma: [{ name: 'rxe0', ports: [port] }], hasRdmaConnections: true }

test('all native transports fit one registry, and say which of them this machine has', { skip }, async () => {
  const registry = new TransportRegistry()
  for (const adapter of nativeTransports(async () => plain)) registry.register(adapter)
  assert.deepEqual(
    registry.all().map(({ id }) => id),
    ['shm', 'rdma', 'ipoib', 'tcp'],
  )
  const found = [...(await registry.detect())].map(([id, { available }]) => [id, available])
  assert.deepEqual(found, [
    ['shm', true],
    ['rdma', false],
    ['ipoib', false],
    ['tcp', true],
  ])
})

test('rdma says what is missing, what to do, and at which addresses it can listen', { skip }, async () => {
  const addon = loadAddon()
  if (!(addon instanceof Error) && !addon.hasRdma) {
    assert.match((await nativeRdma(async () => roce).detect()).found, /built without RDMA/)
    return
  }
  const detect = (machine: TransportMachine) => nativeRdma(async () => machine).detect()
  assert.deepEqual(await detect(plain), { available: false, found: 'no RDMA device', addresses: [] })
  assert.deepEqual(await detect(roce), { available: true, found: 'rxe0', addresses: ['10.77.0.1'] })
  const down = { ...port, isActive: false, state: 'DOWN' }
  assert.match((await detect({ ...roce, rdma: [{ name: 'rxe0', ports: [down] }] })).found, /rxe0 DOWN/)
  assert.equal((await detect({ ...roce, hasRdmaConnections: false })).advice, 'modprobe rdma_ucm')
  assert.match((await detect({ ...roce, lockedMemoryLimitBytes: 65_536 })).advice ?? '', /ulimit -l/)
  const without = { ...port, gid: undefined }
  assert.equal((await detect({ ...roce, rdma: [{ name: 'rxe0', ports: [without] }] })).available, false)
})

test('on InfiniBand the addresses of rdma are those of the interfaces that carry IP over it', {
  skip,
}, async (context) => {
  const addon = loadAddon()
  if (!(addon instanceof Error) && !addon.hasRdma) return context.skip('built without RDMA')
  const ownGid = { value: 'fe80:0000:0000:0000:b859:9f03:00d4:5a76', type: 'IB/RoCE v1' }
  const machine: TransportMachine = {
    ...roce,
    rdma: [{ name: 'mlx5_0', ports: [{ ...port, linkLayer: 'InfiniBand', gid: ownGid }] }],
    ipoib: [
      { name: 'ib0', isUp: true, addresses: ['10.0.0.7', 'fd00::7'] },
      { name: 'ib1', isUp: false, addresses: ['10.0.0.8'] },
    ],
  }
  const { available, addresses } = await nativeRdma(async () => machine).detect()
  assert.equal(available, true)
  assert.deepEqual(addresses, ['10.0.0.7', '[fd00::7]'])
})

test('ipoib wants an interface that is up and has an address', { skip }, async () => {
  const detect = (ipoib: TransportMachine['ipoib']) => nativeIpoib(async () => ({ ...plain, ipoib })).detect()
  assert.equal((await detect([])).found, 'no IPoIB interface')
  assert.match((await detect([{ name: 'ib0', isUp: false, addresses: [] }])).found, /ib0 is down/)
  assert.match((await detect([{ name: 'ib0', isUp: true, addresses: [] }])).advice ?? '', /address/)
  const up = await detect([{ name: 'ib0', isUp: true, addresses: ['10.0.0.7'] }])
  assert.deepEqual(up, { available: true, found: 'ib0', addresses: ['10.0.0.7'] })
})

test('where encryption is required, rdma says why it is not used, and is not', { skip }, async () => {
  const rdma = nativeRdma(async () => roce, 'required')
  const { available, found, advice } = await rdma.detect()
  assert.equal(available, false)
  assert.match(found, /cannot be encrypted/)
  assert.match(advice ?? '', /rpc\.encrypt: auto/)
  const parts = { address: '10.77.0.1:0', identity: identity(1) }
  const store = await openChunkStore({
    directory: '',
    backend: 'memory',
    poolBytes: 1 << 23,
    reactors: 1,
    log: silentLogger,
  })
  try {
    await assert.rejects(rdma.listen({ ...parts, store }), {
      code: 'UNAVAILABLE',
      message: /cannot be encrypted/,
    })
    await assert.rejects(rdma.connect({ ...parts, buffers: store }), { code: 'PEER_REFUSED' })
  } finally {
    await store.close()
  }
})

test('every adapter says the truth about where bytes go', () => {
  const encrypted = (mode: 'auto' | 'required' | 'off'): readonly string[] =>
    nativeTransports(async () => plain, mode).flatMap(({ id, capabilities }) =>
      capabilities.encrypted ? [id] : [],
    )
  assert.deepEqual(encrypted('auto'), ['ipoib', 'tcp'])
  assert.deepEqual(encrypted('required'), ['ipoib', 'tcp'])
  assert.deepEqual(encrypted('off'), [])
  const of = (id: string): TransportAdapter['capabilities'] | undefined =>
    nativeTransports(async () => plain).find((adapter) => adapter.id === id)?.capabilities
  assert.equal(of('shm')?.sameHostOnly, true)
  assert.equal(of('rdma')?.remotePlacement, true)
  for (const id of ['shm', 'rdma', 'ipoib', 'tcp']) assert.equal(of(id)?.throughJavaScript, false)
})
