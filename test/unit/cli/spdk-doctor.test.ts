import assert from 'node:assert/strict'
import { mkdtemp, rm, truncate, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { test } from 'node:test'
import { checkSpdk } from '../../../core/cli/spdk-checks.ts'
import { loadConfig } from '../../../core/node/config/load.ts'
import { detectMachine, realMachine } from '../../../core/protocol/machine/detect.ts'
import { spdkState } from '../../../native/addon.ts'

const { store: defaults } = loadConfig({ environment: {} })
const withBdevs = (...bdevs: object[]) =>
  loadConfig({
    file: { name: 'pando.yaml', text: JSON.stringify({ store: { backend: 'spdk', bdevs } }) },
    environment: {},
  }).store

test('the doctor says whether this build has SPDK, and fails only a configuration that needs it', async () => {
  const machine = await detectMachine(realMachine())
  const without = { ...machine, libraries: { spdk: undefined, dpdk: undefined } }
  const [plain] = await checkSpdk(defaults, without)
  assert.equal(plain?.state, 'ok')
  const [configured] = await checkSpdk(withBdevs({ kind: 'aio', path: '/dev/null' }), without)
  if (spdkState().version === '') {
    assert.match(plain?.found ?? '', /not in this build \(optional\)/)
    assert.equal(configured?.state, 'fail')
    assert.match(configured?.advice ?? '', /PKG_CONFIG_PATH.*npm run build.*choose backend auto/)
    const [half] = await checkSpdk(defaults, { ...machine, libraries: { spdk: '26.09', dpdk: '22.11' } })
    assert.equal(half?.state, 'warn')
    assert.match(half?.advice ?? '', /npm run build/)
  } else {
    assert.match(plain?.found ?? '', /^SPDK .* is in this build$/)
    assert.equal(configured?.state, 'ok')
  }
})

test('the doctor tells which bdevs cannot keep an acknowledged write, and what a device lacks', async (context) => {
  const scratch = await mkdtemp(join(tmpdir(), 'pando-bdev-'))
  context.after(() => rm(scratch, { recursive: true, force: true }))
  const file = join(scratch, 'disk')
  await writeFile(file, '')
  await truncate(file, 1024 * 1024)
  const real = await detectMachine(realMachine())
  const machine = {
    ...real,
    userSpaceNvme: ['0000:02:00.0'],
    hugepages: { ...real.hugepages, sizes: [] },
  }
  const nvme = { kind: 'nvme-tcp', address: '10.0.0.7:4420', nqn: 'nqn.2026-11.test:a' }
  const expected: readonly (readonly [object, string, RegExp])[] = [
    [{ kind: 'aio', path: file }, 'ok', /: a file$/],
    [{ kind: 'aio', path: join(scratch, 'none') }, 'fail', /does not exist/],
    [{ kind: 'aio', path: '/dev/null' }, 'fail', /neither a block device nor a file/],
    [{ kind: 'nvme', address: '0000:01:00.0' }, 'fail', /not given to user space/],
    [{ kind: 'nvme', address: '0000:02:00.0' }, 'fail', /no free hugepages/],
    [{ ...nvme, kind: 'nvme-rdma', address: '10.0.0.8:4420' }, 'fail', /10\.0\.0\.8:4420/],
    [nvme, 'ok', /10\.0\.0\.7:4420 by nvme-tcp \(not tried/],
  ]
  const [, ...lines] = await checkSpdk(withBdevs(...expected.map(([bdev]) => bdev)), machine)
  for (const [index, [, state, found]] of expected.entries()) {
    assert.equal(lines[index]?.name, `bdev ${index}`)
    assert.equal(lines[index]?.state, state, lines[index]?.found)
    assert.match(lines[index]?.found ?? '', found)
  }
  for (const [volatile, state] of [
    [false, 'fail'],
    [true, 'warn'],
  ] as const) {
    const [, uring] = await checkSpdk(withBdevs({ kind: 'uring', path: file, volatile }), machine)
    assert.equal(uring?.state, state)
    assert.match(uring?.advice ?? '', /cannot flush/)
  }
})
