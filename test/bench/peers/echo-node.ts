import { Server, ServerCredentials, type ServerUnaryCall, type sendUnaryData } from '@grpc/grpc-js'
import { silentLogger } from '../../../core/contract/logger.ts'
import type { PeerTls } from '../../../core/control/region-peers/peer-link.ts'
import { openRegionPeers } from '../../../core/control/region-peers/region-peers.ts'
import { realEnvironment } from '../../../core/node/environment.ts'

/**
 * The other node of the benchmark, in a process of its own: answers what it is asked, tells its CPU time, and serves grpc-js's unary
 * calls beside it. Keys come in by the environment; the two ports go out in one line.
 */
export const unaryEcho = {
  path: '/pando.bench.Echo/Echo',
  requestStream: false,
  responseStream: false,
  requestSerialize: (bytes: Buffer): Buffer => bytes,
  requestDeserialize: (bytes: Buffer): Buffer => bytes,
  responseSerialize: (bytes: Buffer): Buffer => bytes,
  responseDeserialize: (bytes: Buffer): Buffer => bytes,
} as const

export async function serveEcho(tls: PeerTls): Promise<void> {
  // Ends with the process that measures, however that ends.
  process.stdin.resume().on('end', () => process.exit())
  const peers = await openRegionPeers({
    self: { regionId: 7, name: 'b' },
    listen: { host: '127.0.0.1', port: 0 },
    tls,
    environment: realEnvironment,
    log: silentLogger,
  })
  let messages = 0
  peers.serve('echo', {
    message() {
      messages++
    },
    request: async (_, message) => message,
    async *stream(_, message) {
      const [count = 0, byteLength = 0] = new Uint32Array(message.slice().buffer)
      const piece = new Uint8Array(byteLength)
      for (let made = 0; made < count; made++) yield piece
    },
  })
  peers.serve('cost', {
    async request() {
      const { user, system } = process.cpuUsage()
      return new Uint8Array(Float64Array.of(user + system, messages).buffer)
    },
  })
  const unary = new Server()
  unary.addService(
    { Echo: unaryEcho },
    {
      Echo: (call: ServerUnaryCall<Buffer, Buffer>, done: sendUnaryData<Buffer>) => done(null, call.request),
    },
  )
  const own = { cert_chain: Buffer.from(tls.certificate), private_key: Buffer.from(tls.key) }
  unary.bindAsync(
    '127.0.0.1:0',
    ServerCredentials.createSsl(Buffer.from(tls.ca), [own], true),
    (error, port) => {
      if (error !== null) throw error
      process.stdout.write(`${peers.port} ${port}\n`)
    },
  )
}
