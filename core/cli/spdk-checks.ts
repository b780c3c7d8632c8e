import { readFile, stat } from 'node:fs/promises'
import { howToHaveSpdk, spdkState } from '../../native/addon.ts'
import type { NodeConfig } from '../node/config/schema.ts'
import type { MachineCapabilities } from '../protocol/machine/capabilities.ts'
import type { Check } from './machine-checks.ts'

type Store = NodeConfig['store']
type Bdev = Store['bdevs'][number]
type Finding = Omit<Check, 'name'>

/** Whether this build has SPDK, and whether the configured bdevs have what they need. Opens and starts nothing. */
export async function checkSpdk(store: Store, machine: MachineCapabilities): Promise<readonly Check[]> {
  const bdevs = store.backend === 'spdk' ? store.bdevs : []
  return [
    { name: 'SPDK back end', ...backEnd(store, machine, spdkState()) },
    ...(await Promise.all(
      bdevs.map(async (bdev, index) => ({ name: `bdev ${index}`, ...(await checkBdev(bdev, machine)) })),
    )),
  ]
}

function backEnd(
  store: Store,
  { libraries }: MachineCapabilities,
  { version, reason }: ReturnType<typeof spdkState>,
): Finding {
  if (version !== '') return { state: 'ok', found: `${version} is in this build` }
  if (store.backend === 'spdk') return { state: 'fail', found: reason, advice: howToHaveSpdk }
  if (libraries.spdk === undefined) return { state: 'ok', found: `not in this build (optional): ${reason}` }
  return {
    state: 'warn',
    found: `SPDK ${libraries.spdk} is installed, but ${reason}`,
    advice: howToHaveSpdk,
  }
}

/** As the back end says it (native/src/block/spdk/backend.cc). */
const notTried = 'bdevs of kind nvme-rdma are refused until they were tried on a device: use nvme-tcp'

async function checkBdev(bdev: Bdev, machine: MachineCapabilities): Promise<Finding> {
  switch (bdev.kind) {
    case 'malloc':
      return {
        state: 'warn',
        found: 'memory',
        advice: 'every object is forgotten when the node stops: for trials only',
      }
    case 'nvme':
      return localNvme(bdev.address ?? '', machine)
    case 'nvme-rdma':
      return { state: 'fail', found: `${bdev.nqn} at ${bdev.address}`, advice: notTried }
    case 'nvme-tcp':
      return {
        state: 'ok',
        found: `${bdev.nqn} at ${bdev.address} by ${bdev.kind} (not tried from here)`,
      }
    default:
      return kernelDevice(bdev)
  }
}

function localNvme(address: string, { hugepages, userSpaceNvme }: MachineCapabilities): Finding {
  if (!userSpaceNvme.includes(address)) {
    return {
      state: 'fail',
      found: `${address} is not given to user space`,
      advice: `what is on it will be gone. modprobe vfio-pci; echo ${address} > /sys/bus/pci/devices/${address}/driver/unbind; echo vfio-pci > /sys/bus/pci/devices/${address}/driver_override; echo ${address} > /sys/bus/pci/drivers_probe`,
    }
  }
  if (hugepages.sizes.some(({ free }) => free > 0)) return { state: 'ok', found: `${address}, in user space` }
  return {
    state: 'fail',
    found: `${address}, in user space; no free hugepages`,
    advice: 'sysctl vm.nr_hugepages=256 gives 512 MiB of them; /etc/sysctl.d/ keeps it over a restart',
  }
}

/** Can what is there keep an acknowledged write? SPDK's uring bdev knows no flush. */
async function kernelDevice({ kind, path = '', volatile }: Bdev): Promise<Finding> {
  const info = await stat(path).catch(() => undefined)
  if (info === undefined) {
    return {
      state: 'fail',
      found: `${path} does not exist`,
      advice: `a file is made with 'truncate -s 100G ${path}'`,
    }
  }
  if (!info.isBlockDevice() && !info.isFile()) {
    return {
      state: 'fail',
      found: `${path} is neither a block device nor a file`,
      advice: 'choose another path',
    }
  }
  const cache = info.isBlockDevice() ? await writeCache(info.rdev) : 'file'
  const found = `${path}: ${cache === 'file' ? 'a file' : `a block device, cache: ${cache}`}`
  if (kind === 'aio' || cache === 'write through') return { state: 'ok', found }
  const advice =
    'SPDK cannot flush a bdev of kind uring, so acknowledged writes may be lost with the power: use kind aio'
  return { state: volatile ? 'warn' : 'fail', found, advice }
}

/** `write back`, `write through`, or `unknown`; a partition has its disk's. */
async function writeCache(device: number): Promise<string> {
  // As gnu_dev_major and gnu_dev_minor take a dev_t apart; the upper halves of both are beyond 32 bits and unused here.
  const major = (device >>> 8) & 0xfff
  const minor = (device & 0xff) | ((device >>> 12) & 0xfff00)
  for (const folder of ['queue', '../queue']) {
    const text = await readFile(`/sys/dev/block/${major}:${minor}/${folder}/write_cache`, 'utf8').catch(
      () => undefined,
    )
    if (text !== undefined) return text.trim()
  }
  return 'unknown'
}
