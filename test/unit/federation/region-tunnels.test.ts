import assert from 'node:assert/strict'
import test, { type TestContext } from 'node:test'
import { type ErrorCode, StorageError } from '../../../core/contract/errors.ts'
import { realEnvironment } from '../../../core/node/environment.ts'
import { MessageReader, MessageWriter } from '../../../federation/framing/messages.ts'
import { decodeInvitation, encodeInvitation } from '../../../federation/identity/invitation.ts'
import { makeRegionKey } from '../../../federation/identity/region-keys.ts'
import { MemoryFederationStore, startRegion, type TestRegion } from '../../kit/federation-region.ts'
import { MemoryTunnels } from '../../kit/memory-tunnel.ts'
import { starvedMs } from '../../kit/processor-time.ts'
import { until } from '../../kit/region-peers.ts'

const refuses =
  (words: RegExp, code: ErrorCode = 'ACCESS_DENIED') =>
  (error: unknown): boolean =>
    error instanceof StorageError && error.code === code && words.test(error.reason)

const open = (): MemoryTunnels => new MemoryTunnels({ clock: realEnvironment.clock })

async function invite(region: TestRegion, regionId?: number): Promise<string> {
  const { token } = await region.tunnels.invite({
    validMs: 60_000,
    ...(regionId === undefined ? {} : { regionId }),
  })
  return token
}

async function joined(t: TestContext): Promise<readonly [TestRegion, TestRegion, MemoryTunnels]> {
  const network = open()
  const one = await startRegion(t, 1, { backend: network.backend() })
  const two = await startRegion(t, 2, { backend: network.backend() })
  await two.tunnels.join(await invite(one))
  await until(() => one.tunnels.connected().includes(2) && two.tunnels.connected().includes(1), 'a tunnel')
  return [one, two, network]
}

test('a region joins by invitation: both trust each other, and streams go both ways', async (t) => {
  const [one, two] = await joined(t)
  for (const [from, to, fromId, toId] of [
    [one, two, 1, 2],
    [two, one, 2, 1],
  ] as const) {
    const stop = to.tunnels.serve('echo', async (peer, { readable, writable }) => {
      assert.equal(peer.regionId, fromId)
      const writer = new MessageWriter(writable)
      await writer.send(1, (await new MessageReader(readable).expect()).payload)
      await writer.end()
    })
    const { readable, writable } = await from.tunnels.open(toId, 'echo')
    const writer = new MessageWriter(writable)
    await writer.send(1, Buffer.from(`from ${fromId}`))
    await writer.end()
    assert.equal(
      Buffer.from((await new MessageReader(readable).expect()).payload).toString(),
      `from ${fromId}`,
    )
    stop()
  }
  const [peer] = one.tunnels.status().peers
  assert.equal(peer?.name, 'region-2')
  assert.equal(peer?.isConnected, true)
  assert.equal(peer?.tunnel?.backend, 'memory')
  assert.equal(one.tunnels.status().invitations, 0)
})

test('an invitation is good once, for the region that it names, until its time, and where it was made', async (t) => {
  const network = open()
  const backend = network.backend()
  const one = await startRegion(t, 1, { backend })
  const two = await startRegion(t, 2, { backend })
  const three = await startRegion(t, 3, { backend })
  const other = await startRegion(t, 4, { backend })

  const token = await invite(one)
  await two.tunnels.join(token)
  await assert.rejects(three.tunnels.join(token), (error) => error instanceof StorageError)
  // The port lets guests in only while an invitation waits: with one waiting, the used one is refused in words.
  const waiting = await invite(one)
  await assert.rejects(three.tunnels.join(token), refuses(/used/))
  // Who came with it may show it again: its first answer may have been lost.
  await two.tunnels.join(token)

  await assert.rejects(three.tunnels.join(await invite(one, 9)), refuses(/for region 9/))
  await assert.rejects(one.tunnels.join(waiting), refuses(/itself/))
  await assert.rejects(three.tunnels.join('hello'), refuses(/no invitation/))

  // Forged: another key, a changed claim, the right claims signed by somebody else.
  const claims = decodeInvitation(waiting)
  const forger = makeRegionKey(realEnvironment.randomness)
  const [head, body, signature] = waiting.split('.')
  const changed = Buffer.from(JSON.stringify({ ...claims, expiresMs: claims.expiresMs + 1 })).toString(
    'base64url',
  )
  for (const forged of [
    encodeInvitation(claims, forger.seed),
    `${head}.${changed}.${signature}`,
    `${head}.${body}.${Buffer.alloc(64).toString('base64url')}`,
    `${head}.${body}`,
    waiting.slice(0, -3),
  ]) {
    await assert.rejects(three.tunnels.join(forged), refuses(/forged|no invitation/))
  }
  // One that a stranger has signed for himself, towards the port of region 1: who answers is not who invited.
  await assert.rejects(
    three.tunnels.join(encodeInvitation({ ...claims, publicKey: forger.publicKey }, forger.seed)),
    refuses(/key/, 'PEER_REFUSED'),
  )
  // Of another region, shown here under its name.
  const elsewhere = decodeInvitation(await invite(other))
  const { identity } = one
  const seed = identity.credentials()?.seed ?? new Uint8Array(32)
  const mixed = encodeInvitation({ ...claims, secret: elsewhere.secret }, seed)
  await assert.rejects(three.tunnels.join(mixed), refuses(/no such invitation/))
  assert.deepEqual(
    one.tunnels.status().peers.map(({ regionId }) => regionId),
    [2],
  )
})

test('an invitation expires by the clock of who made it, whatever that of the guest says', async (t) => {
  const network = open()
  const backend = network.backend()
  const one = await startRegion(t, 1, { backend })
  const two = await startRegion(t, 2, { backend })
  const early = await startRegion(t, 3, { backend, clockErrorMs: -3_600_000 })
  const { token } = await one.tunnels.invite({ validMs: 1 })
  await invite(one)
  await new Promise((resolve) => setTimeout(resolve, 5))
  await assert.rejects(two.tunnels.join(token), refuses(/expired/))
  await assert.rejects(early.tunnels.join(token), refuses(/expired/))
})

test('two regions with one number cannot be joined, nor one number with two keys', async (t) => {
  const network = open()
  const backend = network.backend()
  const one = await startRegion(t, 1, { backend })
  const twin = await startRegion(t, 1, { backend })
  const two = await startRegion(t, 2, { backend })
  const other = await startRegion(t, 2, { backend })
  await assert.rejects(twin.tunnels.join(await invite(one)), refuses(/both regions have the number 1/))
  await two.tunnels.join(await invite(one))
  await assert.rejects(other.tunnels.join(await invite(one)), refuses(/joined already with another key/))
})

test('revoking cuts the tunnel within a second, on all nodes of the region, and the other side is told why', async (t) => {
  const network = open()
  const store = new MemoryFederationStore()
  const one = await startRegion(t, 1, { backend: network.backend(), store })
  const second = await startRegion(t, 1, { backend: network.backend(), store, node: 'b' })
  const two = await startRegion(t, 2, { backend: network.backend() })
  await two.tunnels.join(await invite(one))
  await until(
    () => one.tunnels.connected().includes(2) && second.tunnels.connected().includes(2),
    'both nodes have a tunnel',
  )
  const [began, starved] = [performance.now(), starvedMs(process.pid)]
  await one.tunnels.revoke(2)
  assert.deepEqual(one.tunnels.connected(), [])
  await until(() => second.tunnels.connected().length === 0, 'the other node has cut it')
  const tookMs = performance.now() - began - (starvedMs(process.pid) - starved)
  assert.ok(tookMs < 1_000, `${tookMs} ms`)
  await until(() => two.tunnels.connected().length === 0, 'the revoked side notices')
  await until(
    () => /does not know|trusted no more/.test(two.tunnels.status().peers[0]?.problem ?? ''),
    'and says why',
  )
  await assert.rejects(one.tunnels.revoke(2), /not joined/)
})

test('a new key is told to the peers, takes over at its time, and the old one counts no more', async (t) => {
  const [one, two] = await joined(t)
  const before = one.identity.credentials()?.publicKey ?? ''
  await one.tunnels.rotate(1_000)
  const after = one.identity.record().keys.at(-1)?.publicKey ?? ''
  assert.notEqual(after, before)
  await until(() => two.identity.peer(1)?.publicKeys.length === 2, 'the peer knows both')
  await until(() => one.tunnels.status().peers[0]?.knowsNewestKey === true, 'and that is known')
  assert.equal(one.identity.credentials()?.publicKey, before)
  await assert.rejects(one.tunnels.rotate(1), refuses(/waits already/, 'CONFLICT'))
  await until(() => two.identity.peer(1)?.publicKeys.join() === after, 'the old one is forgotten')
  await until(
    () => one.tunnels.connected().includes(2) && two.tunnels.connected().includes(1),
    'a tunnel by the new key',
  )
  assert.equal(one.identity.credentials()?.publicKey, after)
  assert.equal(two.identity.peerOf(before), undefined)
})

test('a peer that was away while the key changed is told when it comes back', async (t) => {
  const [one, two, network] = await joined(t)
  const keys = [one, two].map(({ identity }) => identity.credentials()?.publicKey ?? '')
  const [first = '', second = ''] = keys
  network.cut(first, second)
  network.reset(first, second)
  await until(() => two.tunnels.connected().length === 0, 'no tunnel')
  await one.tunnels.rotate(1)
  await new Promise((resolve) => setTimeout(resolve, 300))
  network.heal(first, second)
  await until(
    () => two.identity.peer(1)?.publicKeys.join() === one.identity.credentials()?.publicKey,
    'it learns',
  )
  await until(() => two.tunnels.connected().includes(1), 'a tunnel by the new key')
})

test('after cuts the tunnel comes back, and both sides agree on one', async (t) => {
  const [one, two, network] = await joined(t)
  const [first = '', second = ''] = [one, two].map(({ identity }) => identity.credentials()?.publicKey)
  for (let round = 0; round < 5; round++) {
    const heard: boolean[] = []
    const stop = one.tunnels.onChange((_, isConnected) => heard.push(isConnected))
    network.reset(first, second)
    await until(() => heard.includes(false), 'it is gone')
    stop()
    await until(
      () => one.tunnels.connected().includes(2) && two.tunnels.connected().includes(1),
      'it is there again',
    )
  }
  await new Promise((resolve) => setTimeout(resolve, 1_500))
  const dialed = () => [one, two].map(({ tunnels }) => tunnels.status().peers[0]?.tunnel?.isDialed)
  await until(() => dialed().toSorted().join() === 'false,true', 'they agree on one')
})

test('a region that cannot be reached dials out and cannot invite', async (t) => {
  const network = open()
  const hub = await startRegion(t, 1, { backend: network.backend() })
  const edge = await startRegion(t, 2, { backend: network.backend(), isEdge: true })
  await assert.rejects(edge.tunnels.invite({ validMs: 1_000 }), refuses(/no address/, 'INVALID_ARGUMENT'))
  await edge.tunnels.join(await invite(hub))
  await until(() => hub.tunnels.connected().includes(2) && edge.tunnels.connected().includes(1), 'a tunnel')
  assert.deepEqual(hub.tunnels.status().peers[0]?.endpoints, [])
})

test('the seed of a key is not in the record', async (t) => {
  const one = await startRegion(t, 1, { backend: open().backend() })
  await invite(one)
  const seed = Buffer.from(one.identity.credentials()?.seed ?? []).toString('hex')
  assert.equal(seed.length, 64)
  const [key] = one.store.record().keys
  assert.ok(
    !Buffer.from(key?.sealedSeed ?? [])
      .toString('latin1')
      .includes(seed),
  )
  assert.ok(!JSON.stringify(one.tunnels.status()).includes(seed))
})
