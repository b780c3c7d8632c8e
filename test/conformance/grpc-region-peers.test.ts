import assert from 'node:assert/strict'
import { once } from 'node:events'
import { connect } from 'node:net'
import test, { type TestContext } from 'node:test'
import { connect as connectTls } from 'node:tls'
import { Client, credentials } from '@grpc/grpc-js'
import { issueNodeCertificate, makeAuthority } from '../../core/cluster/keys/certificate.ts'
import { silentLogger } from '../../core/contract/logger.ts'
import type { PeerTls } from '../../core/control/region-peers/peer-link.ts'
import { startPeerServer } from '../../core/control/region-peers/peer-server.ts'
import { type GrpcRegionPeers, openRegionPeers } from '../../core/control/region-peers/region-peers.ts'
import { talkMethod } from '../../core/control/region-peers/service.ts'
import { encodeParcel, makeLetter } from '../../core/control/region-peers/wire.ts'
import { realEnvironment } from '../../core/node/environment.ts'
import { proveRegionPeers, until } from '../kit/region-peers.ts'
import { openTcpGate } from '../kit/tcp-gate.ts'

const regionId = 7
const authority = await makeAuthority(regionId, realEnvironment)

async function keysOf(name: string, from = authority, region = regionId): Promise<PeerTls> {
  const own = await issueNodeCertificate(from, { regionId: region, name }, ['127.0.0.1'], realEnvironment)
  return { ca: from.certificate, certificate: own.certificate, key: own.key }
}

interface Opening {
  readonly tls?: PeerTls
  readonly admit?: (peer: string) => boolean
}

async function openNode(
  t: TestContext,
  name: string,
  { tls, admit }: Opening = {},
): Promise<GrpcRegionPeers> {
  const peers = await openRegionPeers({
    self: { regionId, name },
    listen: { host: '127.0.0.1', port: 0 },
    tls: tls ?? (await keysOf(name)),
    environment: realEnvironment,
    log: silentLogger,
    ...(admit === undefined ? {} : { admit }),
  })
  t.after(() => peers.close())
  return peers
}

const addressOf = (peers: GrpcRegionPeers): string => `127.0.0.1:${peers.port}`

proveRegionPeers('gRPC', test, async (t) => {
  const [a, b, c] = await Promise.all([openNode(t, 'a'), openNode(t, 'b'), openNode(t, 'c')])
  const gates = await Promise.all([openTcpGate(() => a.port), openTcpGate(() => b.port)])
  const [toA, toB] = gates
  t.after(() => Promise.all(gates.map((gate) => gate.close())))
  a.setPeers([
    { name: 'a', address: addressOf(a) },
    { name: 'b', address: `127.0.0.1:${toB.port}` },
    { name: 'c', address: addressOf(c) },
  ])
  b.setPeers([
    { name: 'a', address: `127.0.0.1:${toA.port}` },
    { name: 'c', address: addressOf(c) },
  ])
  c.setPeers([
    { name: 'a', address: addressOf(a) },
    { name: 'b', address: addressOf(b) },
  ])
  await until(() => [a, b, c].every((peers) => peers.connected().length === 2), 'all are connected')
  const open = (): void => {
    for (const gate of gates) gate.open()
  }
  return {
    a,
    b,
    c,
    cut() {
      for (const gate of gates) gate.cut()
      return open
    },
    stop() {
      for (const gate of gates) gate.stop()
      return open
    },
  }
})

test('a stranger, a node of another region, and one under another name are refused at both ends', {
  timeout: 60_000,
}, async (t) => {
  const other = await makeAuthority(regionId, realEnvironment)
  const heard: string[] = []
  const b = await openNode(t, 'b')
  b.serve('news', { message: (from) => void heard.push(from) })
  const tries: readonly (readonly [string, PeerTls])[] = [
    // Certified by somebody else, with our authority to trust.
    ['a', { ...(await keysOf('a', other)), ca: authority.certificate }],
    // Of a region of another number under the same authority.
    ['a', await keysOf('a', authority, 8)],
  ]
  for (const [name, tls] of tries) {
    const a = await openNode(t, name, { tls })
    a.setPeers([{ name: 'b', address: addressOf(b) }])
    await until(() => !/not connected yet/.test(a.status()[0]?.problem ?? ''), 'it was refused')
    assert.deepEqual(a.connected(), [])
    a.send('b', 'news', new Uint8Array(1))
    await a.close()
  }
  // A node called where another one is expected: the caller hangs up.
  const c = await openNode(t, 'c')
  c.setPeers([{ name: 'd', address: addressOf(b) }])
  await until(() => /is node b, not d/.test(c.status()[0]?.problem ?? ''), 'the caller sees who answers')
  // Whatever it calls itself, it is who its certificate says.
  const liar = await openNode(t, 'b', { tls: await keysOf('e') })
  liar.setPeers([{ name: 'b', address: addressOf(b) }])
  const honest = await openNode(t, 'e2', { tls: await keysOf('e') })
  honest.setPeers([{ name: 'b', address: addressOf(b) }])
  await until(() => honest.connected().includes('b'), 'it is let in')
  honest.send('b', 'news', new Uint8Array(1))
  await until(() => heard.length > 0, 'and heard')
  assert.deepEqual(heard, ['e'])
})

test('a node that is not admitted is refused although its certificate is right', {
  timeout: 60_000,
}, async (t) => {
  const b = await openNode(t, 'b', { admit: (peer) => peer !== 'a' })
  const [a, c] = await Promise.all([openNode(t, 'a'), openNode(t, 'c')])
  for (const peers of [a, c]) peers.setPeers([{ name: 'b', address: addressOf(b) }])
  await until(() => c.connected().includes('b'), 'c is in')
  await until(
    () => /not of this region's nodes/.test(a.status()[0]?.problem ?? ''),
    'a is told why it is not',
  )
})

test('peers come, go and move while it runs', { timeout: 60_000 }, async (t) => {
  const [a, b] = await Promise.all([openNode(t, 'a'), openNode(t, 'b')])
  const changes: string[] = []
  a.onChange((peer, isConnected) => changes.push(`${peer} ${isConnected}`))
  a.setPeers([{ name: 'b', address: addressOf(b) }])
  await until(() => a.connected().includes('b'), 'b is there')
  // The same again disturbs nothing.
  a.setPeers([{ name: 'b', address: addressOf(b) }])
  assert.deepEqual(a.connected(), ['b'])
  const moved = await openNode(t, 'b')
  moved.serve('where', { request: async () => new TextEncoder().encode('moved') })
  a.setPeers([{ name: 'b', address: addressOf(moved) }])
  assert.deepEqual(a.connected(), [])
  await until(() => a.connected().includes('b'), 'b is at its new place')
  assert.equal(new TextDecoder().decode(await a.request('b', 'where', new Uint8Array(0))), 'moved')
  a.setPeers([])
  assert.deepEqual(a.connected(), [])
  assert.deepEqual(changes, ['b true', 'b false', 'b true', 'b false'])
})

test('a node that restarts is found again', { timeout: 60_000 }, async (t) => {
  const a = await openNode(t, 'a')
  let b = await openNode(t, 'b')
  const gate = await openTcpGate(() => b.port)
  t.after(() => gate.close())
  a.setPeers([{ name: 'b', address: `127.0.0.1:${gate.port}` }])
  await until(() => a.connected().includes('b'), 'b is there')
  await b.close()
  await until(() => !a.connected().includes('b'), 'b has gone')
  b = await openNode(t, 'b')
  await until(() => a.connected().includes('b'), 'b is back')
})

test('a message of more than 1 MiB is refused where it is sent', { timeout: 60_000 }, async (t) => {
  const [a, b] = await Promise.all([openNode(t, 'a'), openNode(t, 'b')])
  a.setPeers([{ name: 'b', address: addressOf(b) }])
  const tooLarge = new Uint8Array(1024 * 1024 + 1)
  const isRefused = { code: 'INVALID_ARGUMENT' }
  assert.throws(() => a.send('b', 'news', tooLarge), isRefused)
  await assert.rejects(a.request('b', 'echo', tooLarge), isRefused)
  await assert.rejects(async () => {
    for await (const _ of a.stream('b', 'echo', tooLarge, new AbortController().signal)) assert.fail()
  }, isRefused)
})

test('a caller that does not read its answers is cut off, and costs bounded memory until then', {
  timeout: 60_000,
}, async (t) => {
  const b = await openNode(t, 'b')
  let made = 0
  const answer = new Uint8Array(1024 * 1024)
  b.serve('large', {
    async request() {
      made++
      return answer
    },
  })
  const tls = await keysOf('a')
  const client = new Client(
    addressOf(b),
    credentials.createSsl(Buffer.from(tls.ca), Buffer.from(tls.key), Buffer.from(tls.certificate)),
    { 'grpc.ssl_target_name_override': 'b' },
  )
  t.after(() => client.close())
  const { path, requestSerialize, responseDeserialize } = talkMethod
  const call = client.makeBidiStreamRequest(path, requestSerialize, responseDeserialize)
  call.on('error', () => {})
  // It can come before the data is read.
  const ended = new Promise((resolve) => call.on('status', resolve))
  // Nobody listens to the data: the windows fill, then the queue of the other side.
  const ask = (from: number, count: number): void => {
    const letters = Array.from({ length: count }, (_, index) =>
      makeLetter({ id: from + index, topic: 'large' }),
    )
    call.write(encodeParcel(letters))
  }
  ask(1, 8)
  await until(() => made === 8, 'the first are answered')
  ask(100, 200)
  await until(() => made === 208, 'all are asked')
  call.resume()
  await ended
})

test('what is sent to a peer that does not keep up is dropped and counted', {
  timeout: 60_000,
}, async (t) => {
  const [a, b] = await Promise.all([openNode(t, 'a'), openNode(t, 'b')])
  const gate = await openTcpGate(() => b.port)
  t.after(() => gate.close())
  let came = 0
  b.serve('news', { message: () => void came++ })
  a.setPeers([{ name: 'b', address: `127.0.0.1:${gate.port}` }])
  await until(() => a.connected().includes('b'), 'b is there')
  const message = new Uint8Array(100_000)
  // One turn: nothing leaves before all of it was sent. 8 MiB wait at most.
  for (let count = 0; count < 200; count++) a.send('b', 'news', message)
  const dropped = a.status()[0]?.dropped ?? 0
  assert.ok(dropped >= 200 - 84 && dropped < 200, `${dropped} of 200 were dropped`)
  await until(() => came === 200 - dropped, 'the others come')
})

test('whoever has just connected when it closes is hung up on, too', { timeout: 60_000 }, async (t) => {
  const [a, tls] = [await openNode(t, 'a'), await keysOf('b')]
  const socket = connect(a.port, '127.0.0.1')
  t.after(() => socket.destroy())
  await once(socket, 'connect')
  // A connection that it has taken and that has not said a word: the handshake of a busy machine comes later.
  await new Promise((resolve) => setTimeout(resolve, 100))
  const ended = once(socket, 'close').then(() => 'hung up')
  await a.close()
  socket.on('error', () => {})
  const secured = connectTls({
    ...{ socket, ca: tls.ca, cert: tls.certificate, key: tls.key, ALPNProtocols: ['h2'] },
    checkServerIdentity: () => undefined,
  })
  secured.on('error', () => {})
  const late = new Promise((resolve) => setTimeout(resolve, 2_000, 'still connected').unref())
  assert.equal(await Promise.race([ended, late]), 'hung up')
})

test('of those who do not say who they are few are kept, and none for long; a peer meanwhile comes in and stays', async (t) => {
  // Longer than a busy machine may stand still between two looks: before then none goes because its time is over.
  const strangers = { count: 8, ms: 4000 }
  const server = await startPeerServer({
    regionId,
    listen: { host: '127.0.0.1', port: 0 },
    tls: await keysOf('a'),
    clock: realEnvironment.clock,
    log: silentLogger,
    handlersOf: () => undefined,
    admit: () => true,
    strangers,
  })
  t.after(() => server.close())
  let open = 0
  const come = async (): Promise<void> => {
    const socket = connect(server.port, '127.0.0.1')
    t.after(() => socket.destroy())
    socket.on('error', () => undefined)
    socket.on('close', () => open--)
    await once(socket, 'connect')
    open++
  }
  for (let count = 0; count < 20; count++) await come()
  await until(() => open === strangers.count, 'the oldest go for the newer ones')
  const b = await openNode(t, 'b')
  b.setPeers([{ name: 'a', address: `127.0.0.1:${server.port}` }])
  await until(() => b.connected().length === 1, 'a peer comes in')
  let isCutOff = false
  b.onChange((_, isConnected) => {
    isCutOff ||= !isConnected
  })
  for (let count = 0; count < strangers.count; count++) await come()
  await until(() => open === 0, 'none of them is kept for long')
  assert.equal(isCutOff, false)
  assert.deepEqual(b.connected(), ['a'])
})
