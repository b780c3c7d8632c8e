import { StorageError } from '../core/contract/errors.ts'
import type { TransportAdapter, TransportAvailability } from '../core/contract/transport.ts'
import { loadAddon } from './addon.ts'
import { createNativeTransport } from './native-transport.ts'
import type { EncryptMode } from './peer-pages.ts'

/** What the adapters want to know of a machine; `MachineFabrics` of core/protocol has it all. */
export interface TransportMachine {
  readonly rdma: readonly {
    readonly name: string
    readonly ports: readonly {
      readonly state: string
      readonly isActive: boolean
      readonly linkLayer: string
      readonly gid: { readonly value: string; readonly type: string } | undefined
    }[]
  }[]
  /** The kernel's connection manager can be reached from user space. */
  readonly hasRdmaConnections: boolean
  readonly ipoib: readonly {
    readonly name: string
    readonly isUp: boolean
    readonly addresses: readonly string[]
  }[]
  /** -1 = without limit. */
  readonly lockedMemoryLimitBytes: number
}

/** Looks at the machine anew with each call. */
export type LookAtMachine = () => Promise<TransportMachine>

/** All transports of the data plane; most preferred first. */
export function nativeTransports(
  look: LookAtMachine,
  encrypt: EncryptMode = 'auto',
): readonly TransportAdapter[] {
  return [nativeShm(), nativeRdma(look, encrypt), nativeIpoib(look, encrypt), nativeTcp(encrypt)]
}

const bytesStayNative = {
  throughJavaScript: false,
  sameHostOnly: false,
  encrypted: false,
  remotePlacement: false,
}

/** Chunk RPC over TCP by the data plane. */
export function nativeTcp(encrypt: EncryptMode = 'auto'): TransportAdapter {
  return createNativeTransport({
    id: 'tcp',
    kind: 'tcp',
    driver: 'tcp',
    priority: 10,
    capabilities: { ...bytesStayNative, encrypted: encrypt !== 'off' },
    encrypt,
    resolvesNames: true,
    detect: async () =>
      withoutAddon() ?? {
        available: true,
        found: 'TCP of the native data plane',
        addresses: ['0.0.0.0', '[::]'],
      },
  })
}

/** Through memory that two processes of one machine share. Addresses are paths of unix sockets. */
export function nativeShm(): TransportAdapter {
  return createNativeTransport({
    id: 'shm',
    kind: 'shm',
    driver: 'shm',
    priority: 40,
    capabilities: { ...bytesStayNative, sameHostOnly: true },
    encrypt: 'off',
    resolvesNames: false,
    detect: async () =>
      withoutAddon() ?? { available: true, found: 'memory shared over a unix socket', addresses: [] },
  })
}

/**
 * RDMA (InfiniBand, RoCE, Soft-RoCE). Addresses are those of IP; the routing tables choose the device. Devices fetch payloads from
 * memory by themselves, so nobody can encrypt them on the way: with `required` it is not used.
 */
export function nativeRdma(look: LookAtMachine, encrypt: EncryptMode = 'auto'): TransportAdapter {
  return createNativeTransport({
    id: 'rdma',
    kind: 'rdma',
    driver: 'rdma',
    priority: 30,
    capabilities: { ...bytesStayNative, remotePlacement: true },
    encrypt,
    resolvesNames: true,
    detect: async () => withoutAddon() ?? withoutVerbs() ?? rdmaOf(await look()),
  })
}

/** TCP, bound to an interface that carries IP over InfiniBand. */
export function nativeIpoib(look: LookAtMachine, encrypt: EncryptMode = 'auto'): TransportAdapter {
  return createNativeTransport({
    id: 'ipoib',
    kind: 'ipoib',
    driver: 'ipoib',
    priority: 20,
    capabilities: { ...bytesStayNative, encrypted: encrypt !== 'off' },
    encrypt,
    resolvesNames: true,
    detect: async () => withoutAddon() ?? ipoibOf(await look()),
    async interfaceOf(address, purpose) {
      const { ipoib } = await look()
      const usable = ipoib.filter(({ isUp, addresses }) => isUp && addresses.length > 0)
      const host = hostOf(address)
      // To listen: the interface that has the address. To connect: that interface, too, should the peer be this machine.
      const found = usable.find(({ addresses }) => addresses.includes(host)) ?? usable[0]
      if (found !== undefined) return found.name
      const code = purpose === 'listen' ? 'UNAVAILABLE' : 'PEER_UNREACHABLE'
      throw new StorageError(code, 'no InfiniBand interface is up and has an address')
    },
  })
}

function withoutAddon(): TransportAvailability | undefined {
  const addon = loadAddon()
  if (!(addon instanceof Error)) return undefined
  return { available: false, found: addon.message, advice: 'run `npm run build`', addresses: [] }
}

function withoutVerbs(): TransportAvailability | undefined {
  const addon = loadAddon()
  if (!(addon instanceof Error) && addon.hasRdma) return undefined
  return {
    available: false,
    found: 'the data plane was built without RDMA',
    advice: 'install libibverbs-dev and librdmacm-dev, then `npm run build`',
    addresses: [],
  }
}

/** What a session registers with the device at most: the buffer pools of sessions and of the node. */
const registeredBytes = 64 * 1024 * 1024

function rdmaOf(machine: TransportMachine): TransportAvailability {
  const nothing = { available: false, addresses: [] }
  if (machine.rdma.length === 0) return { ...nothing, found: 'no RDMA device' }
  const ports = machine.rdma.flatMap(({ name, ports }) => ports.map((port) => ({ ...port, device: name })))
  const active = ports.filter(({ isActive }) => isActive)
  const names = (some: typeof ports): string => some.map(({ device }) => device).join(', ')
  if (active.length === 0) {
    const states = ports.map(({ device, state }) => `${device} ${state}`).join(', ')
    return {
      ...nothing,
      found: `no RDMA port is active (${states})`,
      advice: 'look at the cable and the switch',
    }
  }
  if (!machine.hasRdmaConnections) {
    return { ...nothing, found: `${names(active)}, but no connection manager`, advice: 'modprobe rdma_ucm' }
  }
  const limit = machine.lockedMemoryLimitBytes
  if (limit >= 0 && limit < registeredBytes) {
    return {
      ...nothing,
      found: `${names(active)}, but only ${limit} bytes of memory may be locked`,
      advice: 'raise the limit of locked memory (ulimit -l, LimitMEMLOCK=infinity)',
    }
  }
  // RoCE's GIDs hold the IP address; on InfiniBand it is that of the interface which carries IP over it.
  const overIp = active.some(({ linkLayer }) => linkLayer === 'InfiniBand')
    ? machine.ipoib.flatMap(({ isUp, addresses }) => (isUp ? addresses : []))
    : []
  const ofGids = active.flatMap(({ gid }) => addressOfGid(gid?.value) ?? [])
  const addresses = [...new Set([...ofGids, ...overIp])].map(bracketed)
  if (addresses.length === 0) {
    return {
      ...nothing,
      found: `${names(active)} without an IP address`,
      advice: 'give its interface an address',
    }
  }
  return { available: true, found: names(active), addresses }
}

function ipoibOf({ ipoib }: TransportMachine): TransportAvailability {
  const addresses = ipoib.flatMap((one) => (one.isUp ? one.addresses : [])).map(bracketed)
  if (addresses.length > 0) {
    const names = ipoib.filter(({ isUp }) => isUp).map(({ name }) => name)
    return { available: true, found: names.join(', '), addresses }
  }
  if (ipoib.length === 0) return { available: false, found: 'no IPoIB interface', addresses: [] }
  const states = ipoib.map(({ name, isUp }) => `${name} ${isUp ? 'has no address' : 'is down'}`)
  return {
    available: false,
    found: states.join(', '),
    advice: 'set the interface up and give it an address',
    addresses: [],
  }
}

/** `0000:…:ffff:0a4d:0001` of a GID that was made of an IPv4 address is 10.77.0.1; of link-local ones nothing comes. */
function addressOfGid(gid: string | undefined): string | undefined {
  const words = gid?.split(':') ?? []
  if (words.length !== 8 || words[0] === 'fe80') return undefined
  if (words.slice(0, 5).every((word) => word === '0000') && words[5] === 'ffff') {
    return words
      .slice(6)
      .flatMap((word) => [word.slice(0, 2), word.slice(2)])
      .map((byte) => Number.parseInt(byte, 16))
      .join('.')
  }
  return words.map((word) => word.replace(/^0{1,3}/, '')).join(':')
}

const bracketed = (address: string): string => (address.includes(':') ? `[${address}]` : address)

function hostOf(address: string): string {
  const host = address.slice(0, Math.max(0, address.lastIndexOf(':')))
  return host.startsWith('[') ? host.slice(1, -1) : host
}
