import assert from 'node:assert/strict'
import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { connect as connectTcp, type Socket } from 'node:net'
import test, { type TestContext } from 'node:test'
import { connect as connectTls } from 'node:tls'
import { fileURLToPath } from 'node:url'
import { StorageError } from '../../core/contract/errors.ts'
import { silentLogger } from '../../core/contract/logger.ts'
import type { TunnelSession } from '../../core/contract/tunnel.ts'
import { realEnvironment } from '../../core/node/environment.ts'
import { privateKeyOf, selfCertificate } from '../../federation/identity/region-keys.ts'
import { frame, frameType } from '../../federation/tunnel/mux/frames.ts'
import { tlsBackend } from '../../federation/tunnel/tls-backend.ts'
import { until } from '../kit/region-peers.ts'
import { keyOfRegion, proveTunnel } from '../kit/tunnel.ts'

const backend = tlsBackend({ environment: realEnvironment, log: silentLogger })
const host = '127.0.0.1'

proveTunnel('TLS', test, {
  backend,
  transferBytes: Number(process.env['PANDO_TUNNEL_BYTES'] ?? 64 * 1024 * 1024),
  streams: Number(process.env['PANDO_TUNNEL_STREAMS'] ?? 3_000),
  maxInFlightBytes: 8 * 1024 * 1024,
})

const closed = (socket: Socket): Promise<void> =>
  new Promise((resolve) => socket.resume().once('close', () => resolve()))

async function startChild(t: TestContext): Promise<{ readonly child: ChildProcess; readonly port: number }> {
  const path = fileURLToPath(new URL('../kit/tunnel-child.js', import.meta.url))
  const child = spawn(process.execPath, [path], { stdio: ['ignore', 'pipe', 'inherit'] })
  t.after(() => child.kill('SIGKILL'))
  const [line] = await once(child.stdout, 'data')
  return { child, port: Number(String(line).trim()) }
}

const dial = (port: number): Promise<TunnelSession> =>
  backend.dial({
    address: { host, port },
    credentials: keyOfRegion(2),
    expect: { regionId: 1, publicKeys: [keyOfRegion(1).publicKey] },
    signal: AbortSignal.timeout(20_000),
  })

test('TLS: a peer that is killed is noticed at once, one that stands still within some seconds', async (t) => {
  const meet = async (signal: 'SIGKILL' | 'SIGSTOP'): Promise<void> => {
    const { child, port } = await startChild(t)
    const session = await dial(port)
    const stream = await session.createBidirectionalStream()
    await stream.writable.write(Buffer.from('anybody?'))
    const reading = stream.readable.read()
    reading.catch(() => undefined)
    child.kill(signal)
    const info = await session.closed
    assert.deepEqual([info.closeCode, info.by], ['lost', 'path'])
    await assert.rejects(
      reading,
      (error) => error instanceof StorageError && error.code === 'PEER_UNREACHABLE',
    )
  }
  await Promise.all([meet('SIGKILL'), meet('SIGSTOP')])
})

test('TLS: what is no tunnel gets nowhere, and who only connects is cut', async (t) => {
  let sessions = 0
  const listener = await backend.listen({
    address: { host, port: 0 },
    credentials: () => keyOfRegion(1),
    admit: () => ({ regionId: 2, publicKey: keyOfRegion(2).publicKey }),
    onSession: (session) => {
      sessions++
      t.after(() => session.close())
    },
  })
  t.after(() => listener.close())
  const garbage = [
    'GET / HTTP/1.1\r\n\r\n',
    Buffer.alloc(100_000, 0x16),
    Buffer.from([0x16, 3, 1, 0xff, 0xff]),
  ]
  for (const bytes of garbage) {
    const socket = connectTcp(listener.port, host)
    socket.on('error', () => undefined)
    socket.write(bytes)
    socket.end()
    await closed(socket)
  }
  // TLS without a certificate, with another protocol, and with frames that are none.
  const { seed } = keyOfRegion(2)
  const own = {
    key: privateKeyOf(seed).export({ format: 'pem', type: 'pkcs8' }).toString(),
    cert: selfCertificate(seed, realEnvironment),
  }
  for (const [secrets, protocol, bytes] of [
    [{}, 'pando-tunnel/1', frame(frameType.hello, 0, Buffer.alloc(13, 1))],
    [own, 'http/1.1', frame(frameType.hello, 0, Buffer.alloc(13, 1))],
    [own, 'pando-tunnel/1', Buffer.alloc(64, 0xff)],
    [own, 'pando-tunnel/1', frame(frameType.ping, 0, Buffer.alloc(8))],
    [own, 'pando-tunnel/1', frame(frameType.hello, 0, Buffer.alloc(13, 9))],
  ] as const) {
    const socket = connectTls({
      ...{ host, port: listener.port, ...secrets, rejectUnauthorized: false },
      ALPNProtocols: [protocol],
    })
    socket.on('error', () => undefined)
    socket.write(bytes)
    await closed(socket)
  }
  const began = performance.now()
  const silent = connectTcp(listener.port, host)
  silent.on('error', () => undefined)
  await closed(silent)
  assert.ok(performance.now() - began < 60_000)
  assert.equal(sessions, 0)
  const session = await dial(listener.port)
  await until(() => sessions === 1, 'a peer still gets in')
  session.close()
})
