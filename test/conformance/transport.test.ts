import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { test } from 'node:test'
import { silentLogger } from '../../core/contract/logger.ts'
import type { StreamNetwork } from '../../core/protocol/rpc/byte-stream.ts'
import type { EncryptMode } from '../../core/protocol/rpc/seal.ts'
import { createStreamAdapter } from '../../core/protocol/rpc/stream-adapter.ts'
import { crc32c } from '../../native/crc.ts'
import { openReferenceStore } from '../../native/reference/reference-store.ts'
import { MemoryNetwork } from '../kit/memory-network.ts'
import { nodeNetNetwork } from '../kit/node-net-network.ts'
import { seededRandom } from '../kit/random.ts'
import { proveTransport, type TransportGround } from '../kit/transport.ts'
import { realEnvironment } from '../kit/transport-place.ts'

const poolBytes = 32 * 1024 * 1024

/** The chunk RPC in TypeScript over a network, between two reference stores. */
async function streamGround(
  id: string,
  network: StreamNetwork,
  address: string,
  encrypt: EncryptMode,
): Promise<TransportGround> {
  const directory = await mkdtemp(join(tmpdir(), 'pando-transport-'))
  const open = (name: string) => openReferenceStore({ directory: join(directory, name), poolBytes })
  const [served, own] = await Promise.all([open('served'), open('own')])
  return {
    adapter: createStreamAdapter({
      id,
      kind: 'tcp',
      priority: 0,
      network,
      crc32c,
      environment: realEnvironment,
      log: silentLogger,
      encrypt,
    }),
    address,
    served,
    own,
    wire: network,
    async close() {
      await Promise.all([served.close(), own.close()])
      await rm(directory, { recursive: true })
    },
  }
}

proveTransport(
  test,
  {
    name: 'memory',
    open: () =>
      streamGround(
        'memory',
        new MemoryNetwork({ clock: realEnvironment.clock, random: seededRandom(1) }),
        'memory:0',
        'off',
      ),
  },
  { isSealed: false },
)

proveTransport(test, {
  name: 'node:net',
  open: () => streamGround('tcp-node', nodeNetNetwork, '127.0.0.1:0', 'auto'),
})
