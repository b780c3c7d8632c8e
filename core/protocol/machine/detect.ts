import { execFile } from 'node:child_process'
import { createSocket } from 'node:dgram'
import { networkInterfaces } from 'node:os'
import { promisify } from 'node:util'
import type {
  HugepageState,
  IpoibInterface,
  KernelFeatures,
  MachineCapabilities,
  MachineFabrics,
  NumaNode,
  NvmeController,
  UdpState,
} from './capabilities.ts'
import { type MachineFiles, openMachineFiles, readNumber } from './machine-files.ts'
import { findRdmaDevices } from './rdma-devices.ts'

/** Where the answers come from; a test replaces what it wants to decide. */
export interface MachineSources {
  readonly files: MachineFiles
  /** Version of an installed library; undefined when it is not there. */
  libraryVersion(name: string): Promise<string | undefined>
  /** IP addresses by network interface. */
  interfaceAddresses(): ReadonlyMap<string, readonly string[]>
  canBindUdp(): Promise<boolean>
  readonly isRoot: boolean
}

const pkgConfigTimeoutMs = 5000
const run = promisify(execFile)

export function realMachine(root = '/'): MachineSources {
  return {
    files: openMachineFiles(root),
    async libraryVersion(name) {
      try {
        const { stdout } = await run('pkg-config', ['--modversion', name], { timeout: pkgConfigTimeoutMs })
        return stdout.trim().split('\n', 1)[0]
      } catch {
        return undefined
      }
    },
    interfaceAddresses() {
      const found = Object.entries(networkInterfaces())
      return new Map(
        found.map(([name, addresses]) => [name, (addresses ?? []).map(({ address }) => address)]),
      )
    },
    canBindUdp: bindUdpOnce,
    isRoot: process.getuid?.() === 0,
  }
}

function bindUdpOnce(): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = createSocket('udp4')
    const finish = (canBind: boolean): void => {
      socket.close()
      resolve(canBind)
    }
    socket.once('error', () => finish(false))
    socket.bind(0, '127.0.0.1', () => finish(true))
  })
}

/** Looks at the machine now; remembers nothing. What is not there is left out, what cannot be read counts as not there. */
export async function detectMachine(sources: MachineSources): Promise<MachineCapabilities> {
  const { files } = sources
  const [bootId, kernel, fabrics, hugepages, numa, nvme, userSpaceNvme, spdk, dpdk, udp] = await Promise.all([
    files.read('/proc/sys/kernel/random/boot_id'),
    kernelFeatures(sources),
    detectFabrics(sources),
    hugepageState(files),
    numaNodes(files),
    nvmeControllers(files),
    controllersInUserSpace(files),
    sources.libraryVersion('spdk_bdev'),
    sources.libraryVersion('libdpdk'),
    udpState(sources),
  ])
  const libraries = { spdk, dpdk }
  return { bootId: bootId ?? '', kernel, ...fabrics, hugepages, numa, nvme, userSpaceNvme, libraries, udp }
}

/** What transports need to know; cheap enough to be asked for with every connection. */
export async function detectFabrics({
  files,
  interfaceAddresses,
}: Pick<MachineSources, 'files' | 'interfaceAddresses'>): Promise<MachineFabrics> {
  const [rdma, rdmaNodes, ipoib, lockedMemoryLimitBytes] = await Promise.all([
    findRdmaDevices(files),
    files.list('/dev/infiniband'),
    findIpoib(files, interfaceAddresses()),
    lockedMemoryLimit(files),
  ])
  return { rdma, hasRdmaConnections: rdmaNodes.includes('rdma_cm'), ipoib, lockedMemoryLimitBytes }
}

async function kernelFeatures({ files, isRoot }: MachineSources): Promise<KernelFeatures> {
  const release = (await files.read('/proc/sys/kernel/osrelease')) ?? ''
  const [major = 0, minor = 0] = release.split('.').map((part) => Number.parseInt(part, 10) || 0)
  const since = (wantedMajor: number, wantedMinor: number): boolean =>
    major > wantedMajor || (major === wantedMajor && minor >= wantedMinor)
  const disabled = await files.read('/proc/sys/kernel/io_uring_disabled')
  const ioUring =
    disabled === '2' || (disabled === '1' && !isRoot)
      ? 'turned off'
      : !since(5, 6)
        ? 'too old'
        : disabled === '1'
          ? 'for root only'
          : 'allowed'
  return {
    release,
    ioUring,
    multishotReceive: since(6, 0),
    deferredTaskRun: since(6, 1),
    zeroCopySend: since(6, 0),
  }
}

/** ARPHRD_INFINIBAND of the kernel's if_arp.h: the type of an interface that carries IP over InfiniBand. */
const infinibandInterfaceType = 32

async function findIpoib(
  files: MachineFiles,
  addresses: ReadonlyMap<string, readonly string[]>,
): Promise<readonly IpoibInterface[]> {
  const found = await Promise.all(
    (await files.list('/sys/class/net')).map(async (name): Promise<IpoibInterface | undefined> => {
      const path = `/sys/class/net/${name}`
      if ((await readNumber(files, `${path}/type`)) !== infinibandInterfaceType) return undefined
      const [state, mode, mtu] = await Promise.all([
        files.read(`${path}/operstate`),
        files.read(`${path}/mode`),
        readNumber(files, `${path}/mtu`),
      ])
      return {
        name,
        isUp: state === 'up',
        mode: mode ?? 'unknown',
        mtuBytes: mtu ?? 0,
        addresses: addresses.get(name) ?? [],
      }
    }),
  )
  return found.filter((entry) => entry !== undefined)
}

async function hugepageState(files: MachineFiles): Promise<HugepageState> {
  const folder = '/sys/kernel/mm/hugepages'
  const sizes = await Promise.all(
    (await files.list(folder)).flatMap((name) => {
      const kibibytes = /^hugepages-(\d+)kB$/.exec(name)?.[1]
      if (kibibytes === undefined) return []
      return [
        Promise.all([
          readNumber(files, `${folder}/${name}/nr_hugepages`),
          readNumber(files, `${folder}/${name}/free_hugepages`),
        ]).then(([total, free]) => ({
          pageBytes: Number(kibibytes) * 1024,
          total: total ?? 0,
          free: free ?? 0,
        })),
      ]
    }),
  )
  const transparent = await files.read('/sys/kernel/mm/transparent_hugepage/enabled')
  return { sizes, transparent: /\[(\w+)\]/.exec(transparent ?? '')?.[1] ?? 'unknown' }
}

async function numaNodes(files: MachineFiles): Promise<readonly NumaNode[]> {
  const folder = '/sys/devices/system/node'
  const found = await Promise.all(
    (await files.list(folder)).flatMap((name) => {
      const node = /^node(\d+)$/.exec(name)?.[1]
      if (node === undefined) return []
      return [
        Promise.all([files.read(`${folder}/${name}/cpulist`), files.read(`${folder}/${name}/meminfo`)]).then(
          ([cpus, meminfo]): NumaNode => ({
            node: Number(node),
            cpus: cpus ?? '',
            memoryBytes: Number(/MemTotal:\s+(\d+) kB/.exec(meminfo ?? '')?.[1] ?? 0) * 1024,
          }),
        ),
      ]
    }),
  )
  return found.toSorted((left, right) => left.node - right.node)
}

async function nvmeControllers(files: MachineFiles): Promise<readonly NvmeController[]> {
  const folder = '/sys/class/nvme'
  const names = (await files.list(folder)).filter((name) => /^nvme\d+$/.test(name))
  return Promise.all(
    names.map(async (name): Promise<NvmeController> => {
      const path = `${folder}/${name}`
      const [model, transport, state, address, numaNode] = await Promise.all([
        files.read(`${path}/model`),
        files.read(`${path}/transport`),
        files.read(`${path}/state`),
        files.read(`${path}/address`),
        readNumber(files, `${path}/numa_node`),
      ])
      return {
        name,
        model: model ?? '',
        transport: transport ?? 'unknown',
        state: state ?? 'unknown',
        address: address ?? '',
        numaNode: numaNode ?? -1,
      }
    }),
  )
}

/** PCI class code of an NVMe controller (PCI Code and ID Assignment: mass storage, non-volatile memory, NVMe). */
const nvmeClass = 0x010802
const userSpaceDrivers = ['vfio-pci', 'uio_pci_generic', 'igb_uio']

async function controllersInUserSpace(files: MachineFiles): Promise<readonly string[]> {
  const bound = await Promise.all(
    userSpaceDrivers.map(async (driver) => {
      const folder = `/sys/bus/pci/drivers/${driver}`
      const devices = (await files.list(folder)).filter((name) => /^[0-9a-f]{4}:/.test(name))
      const classes = await Promise.all(devices.map((name) => readNumber(files, `${folder}/${name}/class`)))
      return devices.filter((_, index) => classes[index] === nvmeClass)
    }),
  )
  return bound.flat()
}

async function udpState({ files, canBindUdp }: MachineSources): Promise<UdpState> {
  const [canBind, limit] = await Promise.all([canBindUdp(), readNumber(files, '/proc/sys/net/core/rmem_max')])
  return { canBind, receiveBufferLimitBytes: limit ?? 0 }
}

async function lockedMemoryLimit(files: MachineFiles): Promise<number> {
  const limits = (await files.read('/proc/self/limits')) ?? ''
  const soft = /^Max locked memory\s+(\S+)/m.exec(limits)?.[1]
  if (soft === 'unlimited') return -1
  return Number(soft ?? 0) || 0
}
