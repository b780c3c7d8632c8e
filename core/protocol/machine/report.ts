import type { MachineCapabilities, RdmaDevice, RdmaPort } from './capabilities.ts'

/** One line of the report of `pando doctor`. */
export interface CapabilityLine {
  readonly name: string
  /** warn: something is half there, and a step would make it whole. Hardware that is not there is no warning. */
  readonly state: 'ok' | 'warn'
  readonly found: string
  readonly advice?: string
}

/** Below it RDMA cannot register the buffers of even one session. */
const leastLockedBytes = 64 * 1024 * 1024
const gibibyte = 1024 ** 3

/** What is there, what is missing, what to do: in the words of somebody who wants links to be fast. */
export function describeCapabilities(machine: MachineCapabilities): readonly CapabilityLine[] {
  return [
    ...rdmaLines(machine),
    ipoibLine(machine),
    sameHostLine(machine),
    networkFeatures(machine),
    udpLine(machine),
    hugepageLine(machine),
    numaLine(machine),
    nvmeLine(machine),
    spdkLine(machine),
  ]
}

function rdmaLines(machine: MachineCapabilities): readonly CapabilityLine[] {
  const [first] = machine.rdma
  if (first === undefined) {
    return [
      {
        name: 'RDMA',
        state: 'ok',
        found:
          'no device: links use what comes next. Soft-RoCE emulates one: modprobe rdma_rxe; rdma link add rxe0 type rxe netdev eth0',
      },
    ]
  }
  const lines = machine.rdma.flatMap((device): CapabilityLine[] =>
    device.ports.length === 0
      ? [{ name: 'RDMA', state: 'warn', found: `${device.name}: no port` }]
      : device.ports.map((port) => portLine(device, port)),
  )
  if (!machine.hasRdmaConnections) {
    lines.push({
      name: 'RDMA',
      state: 'warn',
      found: "the kernel's connection manager is not there (/dev/infiniband/rdma_cm)",
      advice: 'modprobe rdma_ucm',
    })
  }
  const limit = machine.lockedMemoryLimitBytes
  if (limit < 0 || limit >= leastLockedBytes) return lines
  return [
    ...lines,
    {
      name: 'RDMA memory',
      state: 'warn',
      found: `this process may pin ${Math.floor(limit / 1024)} KiB`,
      advice:
        "the device needs the buffers pinned: 'ulimit -l unlimited', or LimitMEMLOCK=infinity in the unit",
    },
  ]
}

function portLine(device: RdmaDevice, port: RdmaPort): CapabilityLine {
  const facts = [
    `${device.name} port ${port.number}`,
    port.state,
    port.linkLayer === 'Ethernet' ? 'RoCE' : port.linkLayer,
    ...(port.rate === '' ? [] : [port.rate]),
    ...(port.interface === undefined ? [] : [`over ${port.interface}`]),
    ...(port.gid === undefined ? [] : [`GID ${port.gid.index} (${port.gid.type})`]),
    ...(port.pathMtuBytes === undefined ? [] : [`path MTU ${port.pathMtuBytes}`]),
    ...(device.isEmulated ? ['emulated by the processor'] : []),
  ]
  const line = { name: 'RDMA', found: facts.join(', ') }
  if (!port.isActive) {
    const advice =
      port.linkLayer === 'Ethernet'
        ? `bring the interface up: ip link set ${port.interface ?? 'IFACE'} up`
        : 'check the cable, and that a subnet manager (opensm) runs'
    return { ...line, state: 'warn', advice }
  }
  if (port.gid === undefined) {
    return { ...line, state: 'warn', advice: 'the port has no GID: give its network interface an IP address' }
  }
  if (port.pathMtuBytes !== undefined && port.pathMtuBytes < 1024) {
    return {
      ...line,
      state: 'warn',
      advice: `raise the MTU of ${port.interface ?? 'its interface'}; 9000 gives packets of 4096`,
    }
  }
  return { ...line, state: 'ok' }
}

function ipoibLine({ ipoib, rdma }: MachineCapabilities): CapabilityLine {
  const name = 'IPoIB'
  const found = ipoib
    .map(
      ({ name: own, isUp, mode, mtuBytes, addresses }) =>
        `${own} ${isUp ? 'up' : 'down'}, ${mode} mode, MTU ${mtuBytes}, ${addresses.join(' ') || 'no address'}`,
    )
    .join('; ')
  if (ipoib.some(({ isUp, addresses }) => isUp && addresses.length > 0)) return { name, state: 'ok', found }
  const [first] = ipoib
  if (first !== undefined) {
    return {
      name,
      state: 'warn',
      found,
      advice: `ip link set ${first.name} up; ip address add ADDRESS dev ${first.name}`,
    }
  }
  const hasInfiniband = rdma.some(({ ports }) => ports.some(({ linkLayer }) => linkLayer === 'InfiniBand'))
  if (hasInfiniband) {
    return { name, state: 'warn', found: 'InfiniBand without an IP interface', advice: 'modprobe ib_ipoib' }
  }
  return { name, state: 'ok', found: 'no InfiniBand interface' }
}

function sameHostLine({ bootId }: MachineCapabilities): CapabilityLine {
  const name = 'same host'
  if (bootId !== '')
    return { name, state: 'ok', found: `boot id ${bootId}: peers that have it too can share memory` }
  return { name, state: 'warn', found: 'the kernel tells no boot id: shared memory is not offered to peers' }
}

function networkFeatures({ kernel }: MachineCapabilities): CapabilityLine {
  const name = 'network I/O'
  if (kernel.release === '') return { name, state: 'warn', found: 'not Linux: no native transport' }
  if (kernel.ioUring === 'turned off' || kernel.ioUring === 'too old') {
    const advice =
      kernel.ioUring === 'turned off'
        ? 'sysctl kernel.io_uring_disabled=0'
        : 'a kernel of 6.1 or newer has all of it'
    return { name, state: 'warn', found: `io_uring is ${kernel.ioUring}: epoll serves`, advice }
  }
  const features = [
    ...(kernel.multishotReceive ? ['multishot receive'] : []),
    ...(kernel.zeroCopySend ? ['zero-copy send'] : []),
    ...(kernel.deferredTaskRun ? ['deferred task run'] : []),
  ]
  const found = `io_uring${features.length === 0 ? '' : ` with ${features.join(', ')}`} (by the version of the kernel)`
  if (features.length === 3) return { name, state: 'ok', found }
  return { name, state: 'warn', found, advice: 'a kernel of 6.1 or newer has all of it' }
}

/** What QUIC implementations ask for, so that a burst is not dropped (quic-go's documentation of UDP buffer sizes). */
const wantedReceiveBuffer = 7_500_000

function udpLine({ udp }: MachineCapabilities): CapabilityLine {
  const name = 'UDP'
  if (!udp.canBind) {
    return {
      name,
      state: 'warn',
      found: 'sockets are refused',
      advice: 'links between regions need UDP: see the firewall or sandbox',
    }
  }
  const limit = udp.receiveBufferLimitBytes
  const buffers = limit === 0 ? '' : `, receive buffers of at most ${Math.floor(limit / 1024)} KiB`
  const wish =
    limit > 0 && limit < wantedReceiveBuffer ? ` (QUIC drops less with ${wantedReceiveBuffer / 1000} KB)` : ''
  return { name, state: 'ok', found: `sockets can be bound${buffers}${wish}` }
}

function hugepageLine({ hugepages }: MachineCapabilities): CapabilityLine {
  const reserved = hugepages.sizes.filter(({ total }) => total > 0)
  const found =
    reserved.length === 0
      ? 'none reserved'
      : reserved
          .map(({ pageBytes, total, free }) => `${free} of ${total} free (${pageBytes / 1024} KiB each)`)
          .join('; ')
  // Only SPDK on real devices needs reserved ones, and it is optional.
  return { name: 'hugepages', state: 'ok', found: `${found}, transparent: ${hugepages.transparent}` }
}

function numaLine({ numa }: MachineCapabilities): CapabilityLine {
  const found = numa.map(
    ({ node, cpus, memoryBytes }) => `node ${node}: cpus ${cpus}, ${(memoryBytes / gibibyte).toFixed(0)} GiB`,
  )
  return { name: 'NUMA', state: 'ok', found: found.length === 0 ? 'unknown' : found.join('; ') }
}

function nvmeLine({ nvme, userSpaceNvme }: MachineCapabilities): CapabilityLine {
  const found = [
    ...nvme.map(
      ({ name, model, transport, state }) => `${name} (${model || 'no model'}, ${transport}, ${state})`,
    ),
    ...userSpaceNvme.map((address) => `${address} (given to user space)`),
  ]
  const sick = nvme.find(({ state }) => state !== 'live' && state !== 'unknown')
  if (sick !== undefined) {
    return {
      name: 'NVMe',
      state: 'warn',
      found: found.join(', '),
      advice: `${sick.name} is ${sick.state}: see dmesg`,
    }
  }
  return { name: 'NVMe', state: 'ok', found: found.length === 0 ? 'no device' : found.join(', ') }
}

function spdkLine({ libraries, hugepages }: MachineCapabilities): CapabilityLine {
  const { spdk, dpdk } = libraries
  if (spdk === undefined) {
    return {
      name: 'SPDK',
      state: 'ok',
      found: `not found by pkg-config (optional)${dpdk === undefined ? '' : `; DPDK ${dpdk} is`}`,
    }
  }
  const found = `SPDK ${spdk}, DPDK ${dpdk ?? 'not found by pkg-config'}`
  if (hugepages.sizes.some(({ total }) => total > 0)) return { name: 'SPDK', state: 'ok', found }
  return {
    name: 'SPDK',
    state: 'warn',
    found: `${found}; no hugepages`,
    advice: 'NVMe devices in user space need some: sysctl vm.nr_hugepages=1024',
  }
}
