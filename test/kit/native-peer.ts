// A process of its own that serves a native store: `node native-peer.js ADAPTER ADDRESS`. Says its address in one line, and
// lives until it is killed.
import { silentLogger } from '../../core/contract/logger.ts'
import { detectFabrics, realMachine } from '../../core/protocol/machine/detect.ts'
import { openChunkStore } from '../../native/addon.ts'
import { nativeTransports } from '../../native/native-transports.ts'
import { identity } from './transport-place.ts'

const [id, address = ''] = process.argv.slice(2)
const adapter = nativeTransports(() => detectFabrics(realMachine())).find((one) => one.id === id)
if (adapter === undefined) throw new Error(`there is no transport ${id}`)
const store = await openChunkStore({
  directory: '',
  backend: 'memory',
  poolBytes: 32 * 1024 * 1024,
  reactors: 1,
  log: silentLogger,
})
const listener = await adapter.listen({ identity: identity(1), address, store })
process.stdout.write(`${listener.address}\n`)
setInterval(() => undefined, 60_000)
