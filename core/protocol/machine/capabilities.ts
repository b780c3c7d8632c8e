/** What a machine has that matters for links and stores. Plain data: it is shown, logged, and advertised to peers. */
export interface MachineCapabilities extends MachineFabrics {
  /** Machines with the same one are one machine since the same start. Empty where the kernel does not tell. */
  readonly bootId: string
  readonly kernel: KernelFeatures
  readonly hugepages: HugepageState
  readonly numa: readonly NumaNode[]
  readonly nvme: readonly NvmeController[]
  /** NVMe controllers that the kernel has let go of, for a driver in user space (SPDK): PCI addresses. */
  readonly userSpaceNvme: readonly string[]
  readonly libraries: { readonly spdk: string | undefined; readonly dpdk: string | undefined }
  readonly udp: UdpState
}

/** What carries links beside plain IP. */
export interface MachineFabrics {
  readonly rdma: readonly RdmaDevice[]
  /** The kernel's connection manager can be reached from user space (rdma_ucm). */
  readonly hasRdmaConnections: boolean
  readonly ipoib: readonly IpoibInterface[]
  /** Bytes of memory that this process may pin, which RDMA needs for its buffers; -1 = without limit. */
  readonly lockedMemoryLimitBytes: number
}

export interface KernelFeatures {
  /** As the kernel says it, for example `6.1.0-18-amd64`; empty where there is no Linux. */
  readonly release: string
  readonly ioUring: 'allowed' | 'for root only' | 'turned off' | 'too old'
  /**
   * By the version in which mainline got them; a distribution may have taken one over earlier. The data plane asks the kernel
   * itself before it uses any.
   */
  readonly multishotReceive: boolean
  readonly deferredTaskRun: boolean
  readonly zeroCopySend: boolean
}

export interface RdmaDevice {
  readonly name: string
  /** `rxe` is Soft-RoCE: the real protocol, emulated by the processor. */
  readonly isEmulated: boolean
  readonly firmware: string
  readonly nodeGuid: string
  readonly numaNode: number
  readonly ports: readonly RdmaPort[]
}

export interface RdmaPort {
  readonly number: number
  readonly state: string
  readonly isActive: boolean
  readonly linkLayer: 'InfiniBand' | 'Ethernet' | 'unknown'
  /** As the kernel says it, for example `100 Gb/sec (4X EDR)`. */
  readonly rate: string
  /** The GID to connect by: RoCE v2 over IPv4 before IPv6, otherwise the first that is set. */
  readonly gid: RdmaGid | undefined
  /** Network interface of the port, where there is one. */
  readonly interface: string | undefined
  /** What fits a packet of the interface: 256 to 4096. Undefined where no interface tells (InfiniBand: the verbs do). */
  readonly pathMtuBytes: number | undefined
}

export interface RdmaGid {
  readonly index: number
  readonly value: string
  readonly type: string
}

export interface IpoibInterface {
  readonly name: string
  readonly isUp: boolean
  readonly mode: string
  readonly mtuBytes: number
  /** IP addresses; without one it carries no TCP. */
  readonly addresses: readonly string[]
}

export interface HugepageState {
  readonly sizes: readonly { readonly pageBytes: number; readonly total: number; readonly free: number }[]
  readonly transparent: string
}

export interface NumaNode {
  readonly node: number
  /** As the kernel writes it: `0-15,32-47`. */
  readonly cpus: string
  readonly memoryBytes: number
}

export interface NvmeController {
  readonly name: string
  readonly model: string
  /** `pcie`, `tcp`, `rdma`, `loop`. */
  readonly transport: string
  readonly state: string
  readonly address: string
  readonly numaNode: number
}

export interface UdpState {
  readonly canBind: boolean
  /** The kernel's limit for a socket's receive buffer; 0 = unknown. */
  readonly receiveBufferLimitBytes: number
}
