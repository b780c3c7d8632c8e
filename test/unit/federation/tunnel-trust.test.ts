import assert from 'node:assert/strict'
import test, { type TestContext } from 'node:test'
import type { TunnelSession, TunnelStream } from '../../../core/contract/tunnel.ts'
import { realEnvironment } from '../../../core/node/environment.ts'
import { answer, ask, helloSchema } from '../../../federation/tunnel/exchange.ts'
import { openTopic, readTopic } from '../../../federation/tunnel/topics.ts'
import { startRegion, type TestRegion } from '../../kit/federation-region.ts'
import { MemoryTunnels } from '../../kit/memory-tunnel.ts'
import { until } from '../../kit/region-peers.ts'

const { clock } = realEnvironment

/** Region 1, and what was region 2: its process is gone, its key is in the hands of whoever runs the test. */
async function withKeyOfTwo(t: TestContext) {
  const network = new MemoryTunnels({ clock })
  const backend = network.backend()
  const one = await startRegion(t, 1, { backend })
  const two = await startRegion(t, 2, { backend })
  const { token } = await one.tunnels.invite({ validMs: 60_000 })
  await two.tunnels.join(token)
  await until(() => one.tunnels.connected().includes(2), 'a tunnel')
  await two.tunnels.close()
  await until(() => one.tunnels.connected().length === 0, 'region 2 is gone')
  const credentials = two.identity.credentials() ?? assert.fail()
  const hello = {
    ...{ regionId: 2, name: 'region-2', endpoints: [], publicKeys: [credentials.publicKey] },
    ...{ node: 'a', knowsKey: '' as const },
  }
  const served: number[] = []
  one.tunnels.serve('secrets', async ({ regionId }, { writable }) => {
    served.push(regionId)
    await writable.close()
  })
  return { network, backend, one, two, credentials, hello, served }
}

async function endpointOf({ tunnels }: TestRegion) {
  const [, port] = tunnels.status().listen.split(':')
  return { host: '127.0.0.1', port: Number(port) }
}

/** Cut by now, and not only after the five seconds in which every tunnel has to say hello. */
const ended = async (session: TunnelSession): Promise<boolean> =>
  Promise.race([session.closed.then(() => true), clock.sleep(3_000).then(() => false)])

test('a tunnel that has not said hello is cut when its region is revoked, and cannot bring its key back', async (t) => {
  const { backend, one, credentials, hello, served } = await withKeyOfTwo(t)
  const expect = { regionId: 1, publicKeys: one.identity.publicKeys() }
  const { signal } = new AbortController()
  const session = await backend.dial({ address: await endpointOf(one), credentials, expect, signal })
  await one.tunnels.revoke(2)
  // Another one comes under its number at once.
  const other = await startRegion(t, 2, { backend })
  const { token } = await one.tunnels.invite({ validMs: 60_000 })
  await other.tunnels.join(token)
  const keys = other.identity.publicKeys()
  await ask(session, 'hello', hello, helloSchema).catch(() => undefined)
  assert.deepEqual(
    one.identity.peer(2)?.publicKeys,
    keys,
    'the key of the region that was revoked is trusted again',
  )
  await openTopic(session, 'secrets').catch(() => undefined)
  assert.equal(await ended(session), true, 'the tunnel of the revoked region is cut')
  assert.deepEqual(served, [])
})

test('a region that is revoked while it keeps the answer to hello back has no tunnel', async (t) => {
  const { backend, one, two, credentials, hello, served } = await withKeyOfTwo(t)
  const { port = 0 } = await endpointOf(two)
  const asked: { readonly session: TunnelSession; readonly stream: TunnelStream }[] = []
  const stranger = await backend.listen({
    address: { host: '127.0.0.1', port },
    credentials: () => credentials,
    admit: (publicKey) => ({ regionId: 1, publicKey }),
    onSession: async (session) => {
      for await (const stream of session.incomingBidirectionalStreams) {
        asked.push({ session, stream })
        break
      }
    },
  })
  t.after(() => stranger.close())
  await until(() => asked.length > 0, 'region 1 has dialed')
  const [{ session, stream } = assert.fail()] = asked
  await one.tunnels.revoke(2)
  // It may have been cut by now.
  await readTopic(stream)
    .then((opened) => answer(opened.stream, helloSchema, async () => hello))
    .catch(() => undefined)
  await openTopic(session, 'secrets').catch(() => undefined)
  assert.equal(await ended(session), true, 'the tunnel that region 1 had begun is cut')
  assert.deepEqual(served, [])
})
