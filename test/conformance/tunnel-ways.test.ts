import assert from 'node:assert/strict'
import test from 'node:test'
import { silentLogger } from '../../core/contract/logger.ts'
import { realEnvironment } from '../../core/node/environment.ts'
import { createDefaultSelection } from '../../core/protocol/default-selection.ts'
import { loadQuic } from '../../federation/tunnel/quic/quic-module.ts'
import { quicBackend } from '../../federation/tunnel/quic-backend.ts'
import { tlsBackend } from '../../federation/tunnel/tls-backend.ts'
import { startRegion } from '../kit/federation-region.ts'
import { freePort } from '../kit/free-ports.ts'
import { slowTcp, slowUdp } from '../kit/slow-path.ts'

const environment = realEnvironment
const { clock } = environment

async function until(condition: () => boolean, what: string): Promise<void> {
  const end = clock.monotonic() + 90_000
  while (!condition()) {
    if (clock.monotonic() > end) throw new Error(`it did not come to it that ${what}`)
    await clock.sleep(50)
  }
}

const tls = tlsBackend({ environment, log: silentLogger })
const module = loadQuic()
const otherBackends = module === undefined ? [] : [quicBackend({ module, environment, log: silentLogger })]

test('the ways to a far region that loses packets are measured, and the policy takes the widest one', async (t) => {
  const targetPort = await freePort()
  const path = { targetPort, rttMs: 80, loss: 0.01 }
  const tcp = await slowTcp(path)
  const udp = await slowUdp({ ...path, port: tcp.port })
  t.after(async () => {
    await tcp[Symbol.asyncDispose]()
    await udp[Symbol.asyncDispose]()
  })
  const common = { backend: tls, otherBackends }
  const ways = { connections: 'auto', select: createDefaultSelection() } as const
  const one = await startRegion(t, 1, {
    ...common,
    ...{ port: targetPort, endpoints: [`127.0.0.1:${tcp.port}`], ways },
  })
  const two = await startRegion(t, 2, { ...common, isEdge: true, ways })
  const { token } = await one.tunnels.invite({ validMs: 60_000 })
  await two.tunnels.join(token)
  const began = clock.monotonic()
  await until(() => two.tunnels.ways(1)?.chosen !== undefined, 'a way is chosen')
  const tookMs = clock.monotonic() - began
  // A way that a busy machine does not open in its time carries nothing: each tunnel anew is measured anew.
  const isAll = () => two.tunnels.ways(1)?.measured.every(({ bytesPerSecond }) => bytesPerSecond > 0)
  for (let tries = 1; tries < 6 && isAll() !== true; tries++) {
    const before = two.tunnels.ways(1)?.measured
    tcp.cut()
    await until(() => two.tunnels.ways(1)?.measured !== before, 'the ways are measured again')
  }
  await until(() => two.tunnels.ways(1)?.chosen !== undefined, 'a way is chosen')
  const { chosen, measured = [] } = two.tunnels.ways(1) ?? {}
  t.diagnostic(`${Math.round(tookMs)} ms; ${JSON.stringify(chosen)} of ${JSON.stringify(measured)}`)
  const count = 2 * (1 + otherBackends.length)
  assert.equal(measured.length, count)
  // Each way has two seconds, whatever it carries; dials between them, and what a busy machine takes, have as much again.
  assert.ok(tookMs < count * 4_000, `${tookMs} ms`)
  const rateOf = (way = chosen): number =>
    measured.find(({ backend, connections }) => backend === way?.backend && connections === way.connections)
      ?.bytesPerSecond ?? 0
  assert.equal(rateOf(), Math.max(...measured.map(({ bytesPerSecond }) => bytesPerSecond)))
  // A stream alone stands still at each loss, several do not at the same time.
  assert.ok(rateOf({ backend: 'tls', connections: 8 }) > rateOf({ backend: 'tls', connections: 1 }))
  // Only the side that dialed chooses; the other one uses what it is given.
  assert.equal(one.tunnels.ways(2)?.chosen, undefined)
})

test('what is moved in bulk is spread over connections of its own, and goes on when they are cut', async (t) => {
  const port = await freePort()
  const path = await slowTcp({ targetPort: port, rttMs: 2, loss: 0 })
  t.after(() => path[Symbol.asyncDispose]())
  const ways = { connections: 4, select: createDefaultSelection() }
  const endpoints = [`127.0.0.1:${path.port}`]
  const one = await startRegion(t, 1, { backend: tls, port, endpoints, ways })
  const two = await startRegion(t, 2, { backend: tls, isEdge: true, ways })
  const asked = async (): Promise<string> => {
    const stream = await one.tunnels.open(2, 'replication')
    await stream.writable.close()
    const { value } = await stream.readable.read()
    return Buffer.from(value ?? []).toString()
  }
  two.tunnels.serve('replication', async (_, { writable, readable }) => {
    await writable.write(Buffer.from('here'))
    await writable.close()
    await readable.cancel()
  })
  const { token } = await one.tunnels.invite({ validMs: 60_000 })
  await two.tunnels.join(token)
  await until(() => two.tunnels.ways(1)?.open === 4, 'all connections are there')
  // Also streams of the side that was dialed.
  assert.deepEqual(await Promise.all(Array.from({ length: 40 }, asked)), Array(40).fill('here'))
  assert.equal(two.tunnels.status().peers[0]?.tunnel?.openStreams, 0)
  const dialed = path.dialed()
  path.cut()
  // The tunnel itself may be there again before anybody could see that it was lost.
  await until(
    () =>
      path.dialed() >= dialed + 4 && two.tunnels.ways(1)?.open === 4 && one.tunnels.connected().length === 1,
    'all are dialed again',
  )
  assert.equal(await asked(), 'here')
  // A region that is trusted no more keeps none of them.
  await one.tunnels.revoke(2)
  await until(() => two.tunnels.ways(1)?.open === 0, 'every connection is cut')
})
