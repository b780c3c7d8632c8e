import { silentLogger } from '../../core/contract/logger.ts'
import { realEnvironment } from '../../core/node/environment.ts'
import { loadQuic } from '../../federation/tunnel/quic/quic-module.ts'
import { quicBackend } from '../../federation/tunnel/quic-backend.ts'
import { tlsBackend } from '../../federation/tunnel/tls-backend.ts'
import { keyOfRegion } from './tunnel.ts'

/** A process that listens as region 1 for region 2, prints its port and reads nothing: what tests kill and stop. */
const parts = { environment: realEnvironment, log: silentLogger }
const module = process.argv[2] === 'quic' ? loadQuic() : undefined
const backend = module === undefined ? tlsBackend(parts) : quicBackend({ module, ...parts })
const listener = await backend.listen({
  address: { host: '127.0.0.1', port: 0 },
  credentials: () => keyOfRegion(1),
  admit: (publicKey) => ({ regionId: 2, publicKey }),
  onSession: () => undefined,
})
process.stdout.write(`${listener.port}\n`)
