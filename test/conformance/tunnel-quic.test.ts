import assert from 'node:assert/strict'
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import test from 'node:test'
import { fileURLToPath } from 'node:url'
import { StorageError } from '../../core/contract/errors.ts'
import { silentLogger } from '../../core/contract/logger.ts'
import { realEnvironment } from '../../core/node/environment.ts'
import { loadQuic } from '../../federation/tunnel/quic/quic-module.ts'
import { quicBackend } from '../../federation/tunnel/quic-backend.ts'
import { keyOfRegion, proveTunnel } from '../kit/tunnel.ts'

const module = loadQuic()
const isExpected = process.platform === 'linux' && process.arch === 'x64'

test('QUIC is there where its package is made for', {
  skip: !isExpected && 'no package for this platform',
}, () => {
  assert.ok(module !== undefined)
})

if (module !== undefined) {
  const backend = quicBackend({ module, environment: realEnvironment, log: silentLogger })
  proveTunnel('QUIC', test, {
    backend,
    transferBytes: Number(process.env['PANDO_TUNNEL_BYTES'] ?? 32 * 1024 * 1024),
    streams: Number(process.env['PANDO_TUNNEL_STREAMS'] ?? 1_000),
    maxInFlightBytes: 16 * 1024 * 1024,
  })

  test('QUIC: a peer that is killed or stands still is lost within some seconds, and so are its streams', async (t) => {
    const meet = async (signal: 'SIGKILL' | 'SIGSTOP'): Promise<void> => {
      const path = fileURLToPath(new URL('../kit/tunnel-child.js', import.meta.url))
      const child = spawn(process.execPath, [path, 'quic'], { stdio: ['ignore', 'pipe', 'inherit'] })
      t.after(() => child.kill('SIGKILL'))
      const [line] = await once(child.stdout, 'data')
      const session = await backend.dial({
        address: { host: '127.0.0.1', port: Number(String(line).trim()) },
        credentials: keyOfRegion(2),
        expect: { regionId: 1, publicKeys: [keyOfRegion(1).publicKey] },
        signal: AbortSignal.timeout(20_000),
      })
      const stream = await session.createBidirectionalStream()
      await stream.writable.write(Buffer.from('anybody?'))
      const reading = stream.readable.read()
      reading.catch(() => undefined)
      child.kill(signal)
      const { closeCode, by } = await session.closed
      assert.deepEqual([closeCode, by], ['lost', 'path'])
      await assert.rejects(
        reading,
        (error) => error instanceof StorageError && error.code === 'PEER_UNREACHABLE',
      )
    }
    await Promise.all([meet('SIGKILL'), meet('SIGSTOP')])
  })
}
