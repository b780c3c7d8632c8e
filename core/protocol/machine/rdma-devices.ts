import type { RdmaDevice, RdmaGid, RdmaPort } from './capabilities.ts'
import { type MachineFiles, readNumber } from './machine-files.ts'

const devicesPath = '/sys/class/infiniband'
/** InfiniBand Architecture, volume 1: the sizes a path MTU can have. */
const pathMtus = [4096, 2048, 1024, 512, 256]
/** Base transport header, extended headers, ICRC, and IPv6 + UDP below RoCE v2: what a packet carries beside payload. */
const roceOverheadBytes = 40 + 8 + 12 + 16 + 4
/** A port has up to 256 GIDs; those that matter come first. */
const gidsRead = 64
const noGid = /^[0:]*$/
const linkLocalOnly = /^fe80:0000:0000:0000:0000:0000:0000:0000$/

/** RDMA devices of the kernel, as `ibv_devinfo` would show them, without needing libibverbs. */
export async function findRdmaDevices(files: MachineFiles): Promise<readonly RdmaDevice[]> {
  const names = await files.list(devicesPath)
  return Promise.all(names.map((name) => readDevice(files, name)))
}

async function readDevice(files: MachineFiles, name: string): Promise<RdmaDevice> {
  const path = `${devicesPath}/${name}`
  const [firmware, nodeGuid, numaNode, portNames, parent] = await Promise.all([
    files.read(`${path}/fw_ver`),
    files.read(`${path}/node_guid`),
    readNumber(files, `${path}/device/numa_node`),
    files.list(`${path}/ports`),
    files.read(`${path}/parent`),
  ])
  const ports = await Promise.all(
    portNames.flatMap((port) => (/^\d+$/.test(port) ? [readPort(files, path, Number(port), parent)] : [])),
  )
  return {
    name,
    // Only software devices name the network interface that they sit on in `parent`.
    isEmulated: parent !== undefined || /^(rxe|siw)\d*/.test(name),
    firmware: firmware ?? '',
    nodeGuid: nodeGuid ?? '',
    numaNode: numaNode ?? -1,
    ports,
  }
}

async function readPort(
  files: MachineFiles,
  device: string,
  number: number,
  parent: string | undefined,
): Promise<RdmaPort> {
  const path = `${device}/ports/${number}`
  const [state, linkLayer, rate, gids] = await Promise.all([
    files.read(`${path}/state`),
    files.read(`${path}/link_layer`),
    files.read(`${path}/rate`),
    readGids(files, path),
  ])
  const gid = preferred(gids)
  const ownInterface = gid?.interface ?? parent
  const mtu =
    ownInterface === undefined ? undefined : await readNumber(files, `/sys/class/net/${ownInterface}/mtu`)
  return {
    number,
    // The kernel writes `4: ACTIVE`.
    state: state?.replace(/^\d+:\s*/, '') ?? 'unknown',
    isActive: state?.startsWith('4:') === true,
    linkLayer: linkLayer === 'InfiniBand' || linkLayer === 'Ethernet' ? linkLayer : 'unknown',
    rate: rate ?? '',
    gid: gid && { index: gid.index, value: gid.value, type: gid.type },
    interface: ownInterface,
    pathMtuBytes:
      mtu === undefined || linkLayer !== 'Ethernet'
        ? undefined
        : pathMtus.find((size) => size + roceOverheadBytes <= mtu),
  }
}

interface FoundGid extends RdmaGid {
  readonly interface: string | undefined
}

async function readGids(files: MachineFiles, port: string): Promise<readonly FoundGid[]> {
  const indexes = (await files.list(`${port}/gids`)).filter((name) => /^\d+$/.test(name)).slice(0, gidsRead)
  const found = await Promise.all(
    indexes.map(async (index): Promise<FoundGid | undefined> => {
      const value = await files.read(`${port}/gids/${index}`)
      if (value === undefined || noGid.test(value) || linkLocalOnly.test(value)) return undefined
      const [type, ownInterface] = await Promise.all([
        files.read(`${port}/gid_attrs/types/${index}`),
        files.read(`${port}/gid_attrs/ndevs/${index}`),
      ])
      return { index: Number(index), value, type: type ?? 'IB/RoCE v1', interface: ownInterface }
    }),
  )
  return found.filter((gid) => gid !== undefined)
}

/** RoCE v2 is routed and the only one that routers and firewalls know; an IPv4 address is how most networks are set up. */
function preferred(gids: readonly FoundGid[]): FoundGid | undefined {
  const rank = ({ type, value }: FoundGid): number =>
    (type === 'RoCE v2' ? 2 : 0) + (value.startsWith('0000:0000:0000:0000:0000:ffff:') ? 1 : 0)
  let best: FoundGid | undefined
  for (const gid of gids) if (best === undefined || rank(gid) > rank(best)) best = gid
  return best
}
