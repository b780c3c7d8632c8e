import assert from 'node:assert/strict'
import { mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import test, { type TestContext } from 'node:test'
import { silentLogger } from '../../../core/contract/logger.ts'
import type { MachineCapabilities } from '../../../core/protocol/machine/capabilities.ts'
import { detectMachine, type MachineSources, realMachine } from '../../../core/protocol/machine/detect.ts'
import { openMachineFiles } from '../../../core/protocol/machine/machine-files.ts'
import { describeCapabilities } from '../../../core/protocol/machine/report.ts'
import { watchCapabilities } from '../../../core/protocol/machine/watch-capabilities.ts'
import { FakeClock } from '../../kit/fake-clock.ts'

type Tree = Readonly<Record<string, string>>

/** A machine made of files; its root is a folder of the test. */
async function machineOf(
  context: TestContext,
  tree: Tree,
  replaced: Partial<MachineSources> = {},
): Promise<MachineSources> {
  const root = await mkdtemp(join(tmpdir(), 'pando-machine-'))
  context.after(() => rm(root, { recursive: true }))
  for (const [path, text] of Object.entries(tree)) {
    await mkdir(dirname(join(root, path)), { recursive: true })
    await writeFile(join(root, path), `${text}\n`)
  }
  return {
    files: openMachineFiles(root),
    libraryVersion: async () => undefined,
    interfaceAddresses: () => new Map(),
    canBindUdp: async () => true,
    isRoot: false,
    ...replaced,
  }
}

const modernKernel: Tree = {
  'proc/sys/kernel/osrelease': '6.1.0-18-amd64',
  'proc/sys/kernel/random/boot_id': '3f95a5a7-4a06-48e8-8000-336f25e4b477',
  'proc/self/limits': 'Max locked memory         unlimited            unlimited            bytes',
}

/** A Mellanox card in InfiniBand mode, as its files looked under Linux 6.1. */
const infinibandCard: Tree = {
  'sys/class/infiniband/mlx5_0/fw_ver': '20.31.1014',
  'sys/class/infiniband/mlx5_0/node_guid': 'b859:9f03:00d4:5a76',
  'sys/class/infiniband/mlx5_0/device/numa_node': '1',
  'sys/class/infiniband/mlx5_0/ports/1/state': '4: ACTIVE',
  'sys/class/infiniband/mlx5_0/ports/1/link_layer': 'InfiniBand',
  'sys/class/infiniband/mlx5_0/ports/1/rate': '200 Gb/sec (4X HDR)',
  'sys/class/infiniband/mlx5_0/ports/1/gids/0': 'fe80:0000:0000:0000:b859:9f03:00d4:5a76',
  'sys/class/infiniband/mlx5_0/ports/1/gids/1': '0000:0000:0000:0000:0000:0000:0000:0000',
  'sys/class/infiniband/mlx5_0/ports/1/gid_attrs/types/0': 'IB/RoCE v1',
}

const ipoibInterface: Tree = {
  'sys/class/net/ib0/type': '32',
  'sys/class/net/ib0/operstate': 'up',
  'sys/class/net/ib0/mode': 'connected',
  'sys/class/net/ib0/mtu': '65520',
  'sys/class/net/eth0/type': '1',
  'sys/class/net/eth0/operstate': 'up',
  'sys/class/net/eth0/mtu': '1500',
}

const softRoce: Tree = {
  'sys/class/infiniband/rxe0/parent': 'eth0',
  'sys/class/infiniband/rxe0/node_guid': '5054:00ff:fe12:3456',
  'sys/class/infiniband/rxe0/ports/1/state': '4: ACTIVE',
  'sys/class/infiniband/rxe0/ports/1/link_layer': 'Ethernet',
  'sys/class/infiniband/rxe0/ports/1/rate': '2.5 Gb/sec (1X SDR)',
  'sys/class/infiniband/rxe0/ports/1/gids/0': 'fe80:0000:0000:0000:5054:00ff:fe12:3456',
  'sys/class/infiniband/rxe0/ports/1/gids/1': '0000:0000:0000:0000:0000:ffff:0a00:020f',
  'sys/class/infiniband/rxe0/ports/1/gid_attrs/types/0': 'RoCE v2',
  'sys/class/infiniband/rxe0/ports/1/gid_attrs/types/1': 'RoCE v2',
  'sys/class/infiniband/rxe0/ports/1/gid_attrs/ndevs/0': 'eth0',
  'sys/class/infiniband/rxe0/ports/1/gid_attrs/ndevs/1': 'eth0',
  'sys/class/net/eth0/mtu': '1500',
  'sys/class/net/eth0/type': '1',
}

const stateOf = (machine: MachineCapabilities, name: string) =>
  describeCapabilities(machine).find((line) => line.name === name)

test('an InfiniBand card with an IP interface is found in all its parts', async (context) => {
  const sources = await machineOf(
    context,
    { ...modernKernel, ...infinibandCard, ...ipoibInterface },
    { interfaceAddresses: () => new Map([['ib0', ['10.9.0.1']]]) },
  )
  const machine = await detectMachine(sources)
  const [card] = machine.rdma
  assert.equal(card?.name, 'mlx5_0')
  assert.equal(card.isEmulated, false)
  assert.equal(card.numaNode, 1)
  const [port] = card.ports
  assert.equal(port?.isActive, true)
  assert.equal(port.linkLayer, 'InfiniBand')
  assert.equal(port.gid?.index, 0)
  assert.deepEqual(machine.ipoib, [
    { name: 'ib0', isUp: true, mode: 'connected', mtuBytes: 65520, addresses: ['10.9.0.1'] },
  ])
  assert.equal(stateOf(machine, 'RDMA')?.state, 'ok')
  assert.equal(stateOf(machine, 'IPoIB')?.state, 'ok')
})

test('Soft-RoCE is told from hardware, and its RoCE v2 address over IPv4 is preferred', async (context) => {
  const machine = await detectMachine(await machineOf(context, { ...modernKernel, ...softRoce }))
  const [device] = machine.rdma
  assert.equal(device?.isEmulated, true)
  assert.deepEqual(device.ports[0]?.gid, {
    index: 1,
    value: '0000:0000:0000:0000:0000:ffff:0a00:020f',
    type: 'RoCE v2',
  })
  // 80 bytes of headers leave 1420 of 1500: the next path MTU below is 1024.
  assert.equal(device.ports[0]?.pathMtuBytes, 1024)
  assert.equal(device.ports[0]?.interface, 'eth0')
})

test('what is half there is a warning with what to do', async (context) => {
  const down = { ...infinibandCard, 'sys/class/infiniband/mlx5_0/ports/1/state': '2: INIT' }
  const limits = 'Max locked memory         65536                65536                bytes'
  const machine = await detectMachine(
    await machineOf(context, { ...modernKernel, ...down, 'proc/self/limits': limits }),
  )
  assert.match(stateOf(machine, 'RDMA')?.advice ?? '', /subnet manager/)
  assert.match(stateOf(machine, 'RDMA memory')?.advice ?? '', /ulimit -l unlimited/)
  assert.match(stateOf(machine, 'IPoIB')?.advice ?? '', /modprobe ib_ipoib/)
  const noAddress = await detectMachine(await machineOf(context, { ...infinibandCard, ...ipoibInterface }))
  assert.match(stateOf(noAddress, 'IPoIB')?.advice ?? '', /ip address add/)
  assert.equal(stateOf(noAddress, 'same host')?.state, 'warn')
})

test('a machine without anything has no wrong findings and no warning about hardware', async (context) => {
  const machine = await detectMachine(await machineOf(context, modernKernel))
  assert.deepEqual(machine.rdma, [])
  assert.deepEqual(machine.ipoib, [])
  assert.deepEqual(machine.nvme, [])
  assert.deepEqual(
    describeCapabilities(machine).filter(({ state }) => state === 'warn'),
    [],
  )
  const nothing = await detectMachine(await machineOf(context, { 'sys/nothing': '' }))
  assert.equal(nothing.bootId, '')
  assert.equal(stateOf(nothing, 'network I/O')?.state, 'warn')
})

test('a device that no connection can be made over is told, with what to do', async (context) => {
  const advice = async (tree: Tree) => {
    const machine = await detectMachine(await machineOf(context, { ...modernKernel, ...tree }))
    return describeCapabilities(machine).find((line) => line.advice === 'modprobe rdma_ucm')?.name
  }
  assert.equal(await advice(infinibandCard), 'RDMA')
  assert.equal(await advice({ ...infinibandCard, 'dev/infiniband/rdma_cm': '' }), undefined)
  assert.equal(await advice({}), undefined)
})

test('features of the kernel follow its version and its switches', async (context) => {
  const kernelOf = async (release: string, disabled?: string, isRoot = false) => {
    const tree = {
      'proc/sys/kernel/osrelease': release,
      ...(disabled === undefined ? {} : { 'proc/sys/kernel/io_uring_disabled': disabled }),
    }
    return (await detectMachine(await machineOf(context, tree, { isRoot }))).kernel
  }
  assert.equal((await kernelOf('5.4.0-200-generic')).ioUring, 'too old')
  const debian11 = await kernelOf('5.10.0-28-amd64')
  assert.equal(debian11.ioUring, 'allowed')
  assert.equal(debian11.zeroCopySend, false)
  const six = await kernelOf('6.0.1')
  assert.deepEqual([six.multishotReceive, six.zeroCopySend, six.deferredTaskRun], [true, true, false])
  assert.equal((await kernelOf('6.10.0', '2', true)).ioUring, 'turned off')
  assert.equal((await kernelOf('6.10.0', '1')).ioUring, 'turned off')
  assert.equal((await kernelOf('6.10.0', '1', true)).ioUring, 'for root only')
  assert.equal((await kernelOf('6.10.0', '0')).deferredTaskRun, true)
})

test('hugepages, NUMA nodes, NVMe devices and libraries are counted', async (context) => {
  const sources = await machineOf(
    context,
    {
      'sys/kernel/mm/hugepages/hugepages-2048kB/nr_hugepages': '512',
      'sys/kernel/mm/hugepages/hugepages-2048kB/free_hugepages': '500',
      'sys/kernel/mm/transparent_hugepage/enabled': 'always [madvise] never',
      'sys/devices/system/node/node0/cpulist': '0-15',
      'sys/devices/system/node/node0/meminfo': 'Node 0 MemTotal:       67108864 kB',
      'sys/devices/system/node/node10/cpulist': '16-31',
      'sys/class/nvme/nvme0/model': 'SAMSUNG MZQL23T8HCLS',
      'sys/class/nvme/nvme0/transport': 'pcie',
      'sys/class/nvme/nvme0/state': 'live',
      'sys/class/nvme/nvme1/transport': 'tcp',
      'sys/class/nvme/nvme1/state': 'connecting',
      'sys/bus/pci/drivers/vfio-pci/0000:5e:00.0/class': '0x010802',
      'sys/bus/pci/drivers/vfio-pci/0000:5f:00.0/class': '0x020000',
    },
    { libraryVersion: async (name) => (name === 'spdk_bdev' ? '26.09' : undefined) },
  )
  const machine = await detectMachine(sources)
  assert.deepEqual(machine.hugepages, {
    sizes: [{ pageBytes: 2 * 1024 * 1024, total: 512, free: 500 }],
    transparent: 'madvise',
  })
  assert.deepEqual(
    machine.numa.map(({ node, memoryBytes }) => [node, memoryBytes]),
    [
      [0, 64 * 1024 ** 3],
      [10, 0],
    ],
  )
  assert.deepEqual(
    machine.nvme.map(({ name, transport }) => [name, transport]),
    [
      ['nvme0', 'pcie'],
      ['nvme1', 'tcp'],
    ],
  )
  assert.deepEqual(machine.userSpaceNvme, ['0000:5e:00.0'])
  assert.match(stateOf(machine, 'NVMe')?.advice ?? '', /nvme1 is connecting/)
  assert.match(stateOf(machine, 'SPDK')?.found ?? '', /SPDK 26.09, DPDK not found/)
})

test('this machine can be looked at, and what is found is plain data', async () => {
  const machine = await detectMachine(realMachine())
  assert.deepEqual(structuredClone(machine), machine)
  assert.notEqual(machine.kernel.release, '')
  assert.ok(machine.udp.canBind)
})

test('a device that comes or goes is noticed within a minute, and nothing else is told', async (context) => {
  const before = await detectMachine(await machineOf(context, modernKernel))
  const after = await detectMachine(await machineOf(context, { ...modernKernel, ...softRoce }))
  const clock = new FakeClock()
  let machine = before
  const seen: number[] = []
  const watch = await watchCapabilities({
    detect: async () => machine,
    clock,
    log: silentLogger,
    onChange: (now) => seen.push(now.rdma.length),
  })
  await clock.advance(59_999)
  machine = { ...before, hugepages: { sizes: [], transparent: before.hugepages.transparent } }
  await clock.advance(1)
  assert.deepEqual(seen, [])
  machine = after
  await clock.advance(60_000)
  assert.deepEqual(seen, [1])
  machine = before
  assert.equal((await watch.refresh()).rdma.length, 0)
  assert.deepEqual(seen, [1, 0])
  await watch.stop()
  assert.equal(clock.pending, 0)
})

test('a look that fails does not end the watch', async () => {
  const clock = new FakeClock()
  const good = await detectMachine(realMachine())
  let looks = 0
  const watch = await watchCapabilities({
    detect: async () => {
      looks++
      if (looks === 2) throw new Error('the tree moved')
      return good
    },
    clock,
    log: silentLogger,
  })
  await clock.advance(120_000)
  assert.equal(looks, 3)
  await watch.stop()
})
