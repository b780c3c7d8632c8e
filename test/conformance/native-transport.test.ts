import { existsSync } from 'node:fs'
import { test } from 'node:test'
import { silentLogger } from '../../core/contract/logger.ts'
import { loadAddon, openChunkStore } from '../../native/addon.ts'
import { nativeTcp } from '../../native/native-transport.ts'
import { nodeNetNetwork } from '../kit/node-net-network.ts'
import { proveTransport, type TransportGround } from '../kit/transport.ts'

const poolBytes = 32 * 1024 * 1024

/** The data plane's tcp between two native stores; others speak to it over node:net. */
async function nativeGround(): Promise<TransportGround> {
  const open = () =>
    openChunkStore({ directory: '', backend: 'memory', poolBytes, reactors: 1, log: silentLogger })
  const [served, own] = await Promise.all([open(), open()])
  return {
    adapter: nativeTcp(),
    address: '127.0.0.1:0',
    served,
    own,
    wire: nodeNetNetwork,
    async close() {
      await Promise.all([served.close(), own.close()])
    },
  }
}

if (existsSync('native/build/release/pando.node') && !(loadAddon() instanceof Error)) {
  proveTransport(test, { name: 'native tcp', open: nativeGround })
} else {
  test('native tcp', { skip: 'the native data plane is not built (npm run build)' }, () => undefined)
}
