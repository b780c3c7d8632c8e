import { existsSync } from 'node:fs'
import { mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { test } from 'node:test'
import { silentLogger } from '../../core/contract/logger.ts'
import type { TransportAdapter } from '../../core/contract/transport.ts'
import { detectFabrics, realMachine } from '../../core/protocol/machine/detect.ts'
import { loadAddon, openChunkStore } from '../../native/addon.ts'
import { nativeIpoib, nativeShm, nativeTcp } from '../../native/native-transports.ts'
import { nodeNetNetwork } from '../kit/node-net-network.ts'
import { proveTransport, type TransportGround } from '../kit/transport.ts'

const poolBytes = 32 * 1024 * 1024

/** A transport of the data plane between two native stores. */
async function nativeGround(
  adapter: TransportAdapter,
  place: Pick<TransportGround, 'address' | 'wire'>,
  giveBack: () => Promise<void> = async () => undefined,
): Promise<TransportGround> {
  const open = () =>
    openChunkStore({ directory: '', backend: 'memory', poolBytes, reactors: 1, log: silentLogger })
  const [served, own] = await Promise.all([open(), open()])
  return {
    adapter,
    served,
    own,
    ...place,
    async close() {
      await Promise.all([served.close(), own.close()])
      await giveBack()
    },
  }
}

const overLoopback = { address: '127.0.0.1:0', wire: nodeNetNetwork }

async function shmGround(): Promise<TransportGround> {
  const folder = await mkdtemp(join(tmpdir(), 'pando-shm-'))
  return nativeGround(nativeShm(), { address: join(folder, 'node.sock') }, () =>
    rm(folder, { recursive: true }),
  )
}

/** Below a root in which the loopback interface has the link layer of InfiniBand, the rest of the machine being as it is. */
async function ipoibGround(): Promise<TransportGround> {
  const root = await mkdtemp(join(tmpdir(), 'pando-sysfs-'))
  const lo = join(root, 'sys/class/net/lo')
  await mkdir(lo, { recursive: true })
  for (const [name, text] of Object.entries({ type: '32', operstate: 'up', mode: 'datagram', mtu: '2044' })) {
    await writeFile(join(lo, name), `${text}\n`)
  }
  const look = () => detectFabrics(realMachine(root))
  return nativeGround(nativeIpoib(look, 'off'), overLoopback, () => rm(root, { recursive: true }))
}

if (existsSync('native/build/release/pando.node') && !(loadAddon() instanceof Error)) {
  // Others speak to tcp over node:net.
  proveTransport(test, { name: 'native tcp', open: () => nativeGround(nativeTcp(), overLoopback) })
  proveTransport(test, { name: 'native shm', open: shmGround }, { hasWire: false })
  // Told not to encrypt, so that the laws are proved of plain frames, too; between two that do it is tcp.
  const faked =
    'native ipoib in the clear (on the loopback interface, called InfiniBand by a sysfs of the test)'
  proveTransport(test, { name: faked, open: ipoibGround }, { isSealed: false })
} else {
  const skip = 'the native data plane is not built (npm run build)'
  for (const name of ['tcp', 'shm', 'ipoib']) test(`native ${name}`, { skip }, () => undefined)
}
