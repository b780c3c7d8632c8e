import { existsSync } from 'node:fs'
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { test } from 'node:test'
import type { ChunkStore } from '../../core/contract/chunk-store.ts'
import { silentLogger } from '../../core/contract/logger.ts'
import type { TransportAdapter } from '../../core/contract/transport.ts'
import { createStreamAdapter } from '../../core/protocol/rpc/stream-adapter.ts'
import { loadAddon, openChunkStore } from '../../native/addon.ts'
import { crc32c } from '../../native/crc.ts'
import { nativeTcp } from '../../native/native-transports.ts'
import { openReferenceStore } from '../../native/reference/reference-store.ts'
import { nodeNetNetwork } from '../kit/node-net-network.ts'
import { proveTransport, type TransportGround } from '../kit/transport.ts'
import { realEnvironment } from '../kit/transport-place.ts'

/** The two implementations of native/RPC.md, each against the other: what both understand alike and wrong, this finds. */

const poolBytes = 32 * 1024 * 1024

const typescriptTcp = (): TransportAdapter =>
  createStreamAdapter({
    id: 'tcp-node',
    kind: 'tcp',
    priority: 0,
    network: nodeNetNetwork,
    crc32c,
    environment: realEnvironment,
    log: silentLogger,
  })

/** Listens as the one, connects as the other. */
const mixed = (server: TransportAdapter, client: TransportAdapter): TransportAdapter => ({
  id: client.id,
  kind: client.kind,
  priority: client.priority,
  capabilities: client.capabilities,
  maxFrameBytes: client.maxFrameBytes,
  detect: () => client.detect(),
  listen: (options) => server.listen(options),
  connect: (options) => client.connect(options),
})

async function ground(server: 'native' | 'typescript'): Promise<TransportGround> {
  const directory = await mkdtemp(join(tmpdir(), 'pando-twins-'))
  const native = await openChunkStore({
    directory: '',
    backend: 'memory',
    poolBytes,
    reactors: 1,
    log: silentLogger,
  })
  const reference: ChunkStore = await openReferenceStore({ directory, poolBytes })
  const isNativeServer = server === 'native'
  return {
    adapter: isNativeServer ? mixed(nativeTcp(), typescriptTcp()) : mixed(typescriptTcp(), nativeTcp()),
    address: '127.0.0.1:0',
    served: isNativeServer ? native : reference,
    own: isNativeServer ? reference : native,
    wire: nodeNetNetwork,
    async close() {
      await Promise.all([native.close(), reference.close()])
      await rm(directory, { recursive: true })
    },
  }
}

if (existsSync('native/build/release/pando.node') && !(loadAddon() instanceof Error)) {
  proveTransport(test, { name: 'TypeScript client, native server', open: () => ground('native') })
  proveTransport(test, { name: 'native client, TypeScript server', open: () => ground('typescript') })
} else {
  test(
    'the twins of the chunk RPC',
    { skip: 'the native data plane is not built (npm run build)' },
    () => undefined,
  )
}
