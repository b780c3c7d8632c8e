import assert from 'node:assert/strict'
import { test } from 'node:test'
import { loadConfig } from '../../../core/node/config/load.ts'

const store = (section: object) =>
  loadConfig({
    file: { name: 'pando.yaml', text: JSON.stringify({ store: section }) },
    environment: {},
  }).store
const spdk = (...bdevs: object[]) => store({ backend: 'spdk', bdevs })
const refuses = (message: RegExp, work: () => unknown): void =>
  assert.throws(work, { code: 'INVALID_CONFIG', message })

test('each kind of bdev is taken with what it needs', () => {
  const kinds = [
    { kind: 'aio', path: '/dev/sdb' },
    { kind: 'uring', path: '/dev/sdc', volatile: true },
    { kind: 'nvme', address: '0000:01:00.0' },
    { kind: 'nvme-tcp', address: '10.0.0.7:4420', nqn: 'nqn.2026-11.test:a', namespace: 2 },
    { kind: 'nvme-rdma', address: '[fd00::7]:4420', nqn: 'nqn.2026-11.test:a', namespace: 3 },
  ]
  const { bdevs, spdkMemory } = spdk(...kinds)
  assert.equal(spdkMemory, 256 * 1024 * 1024)
  assert.deepEqual(
    bdevs.map(({ kind, volatile }) => [kind, volatile]),
    kinds.map(({ kind }) => [kind, kind === 'uring']),
  )
  assert.equal(spdk({ kind: 'malloc', size: '1GiB', volatile: true }).bdevs[0]?.size, 2 ** 30)
})

test('a bdev without what it needs, or with what it has not, is refused by name', () => {
  refuses(/store\.bdevs\.0\.path: a bdev of kind aio needs it/, () => spdk({ kind: 'aio' }))
  refuses(/store\.bdevs\.0\.nqn: a bdev of kind aio has no such key/, () =>
    spdk({ kind: 'aio', path: '/dev/sdb', nqn: 'nqn.2026-11.test:a' }),
  )
  refuses(/store\.bdevs\.0\.namespace: a bdev of kind uring has no such key/, () =>
    spdk({ kind: 'uring', path: '/dev/sdb', namespace: 1 }),
  )
  refuses(/store\.bdevs\.0\.address: '01:00\.0' is not a PCI address/, () =>
    spdk({ kind: 'nvme', address: '01:00.0' }),
  )
  for (const address of ['10.0.0.7', '10.0.0.7:0', '10.0.0.7:65536', ':4420']) {
    refuses(/is not host:port/, () => spdk({ kind: 'nvme-tcp', address, nqn: 'nqn.2026-11.test:a' }))
  }
})

test('memory is refused as a store unless its forgetting is wanted, and never beside a device', () => {
  refuses(/bdevs\.0\.volatile: memory forgets every object/, () => spdk({ kind: 'malloc', size: '1GiB' }))
  refuses(/malloc cannot stand beside others/, () =>
    spdk({ kind: 'malloc', size: '1GiB', volatile: true }, { kind: 'aio', path: '/dev/sdb' }),
  )
  refuses(/must be between/, () => spdk({ kind: 'malloc', size: '100MiB', volatile: true }))
})

test('back end, bdevs and reactors have to agree', () => {
  refuses(/store\.bdevs: backend spdk needs at least one/, () => spdk())
  refuses(/store\.bdevs: only backend spdk uses bdevs/, () =>
    store({ backend: 'uring', bdevs: [{ kind: 'aio', path: '/dev/sdb' }] }),
  )
  refuses(/store\.reactors: backend spdk has one for each bdev: auto, or 1/, () =>
    store({ backend: 'spdk', reactors: 2, bdevs: [{ kind: 'aio', path: '/dev/sdb' }] }),
  )
  refuses(/two of them are the same device/, () =>
    spdk({ kind: 'aio', path: '/dev/sdb' }, { kind: 'uring', path: '/dev/sdb' }),
  )
})
