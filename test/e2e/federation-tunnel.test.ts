import assert from 'node:assert/strict'
import test, { type TestContext } from 'node:test'
import type { FederationStatus } from '../../core/contract/federation.ts'
import { checkScrape } from '../kit/metrics-table.ts'
import { type NodeProcess, startNode } from '../kit/node-process.ts'

/** Two real regions, each a process, over loopback. */

async function region(t: TestContext, regionId: number): Promise<NodeProcess> {
  // Each dials in another way first; where QUIC is not installed both use TLS.
  const transports = regionId === 1 ? ['tls', 'quic'] : ['quic', 'tls']
  const node = await startNode({ config: { regionId, region: `region-${regionId}`, tunnel: { transports } } })
  t.after(() => node[Symbol.asyncDispose]())
  return node
}

async function statusOf(node: NodeProcess): Promise<FederationStatus> {
  const { stdout } = await node.command('federation', 'status', '--json')
  return JSON.parse(stdout) as FederationStatus
}

async function pando(node: NodeProcess, ...args: string[]): Promise<string> {
  const { code, stdout, stderr } = await node.command('federation', ...args)
  assert.equal(code, 0, `${args.join(' ')}: ${stdout}${stderr}`)
  return stdout.trim()
}

async function connected(...nodes: readonly NodeProcess[]): Promise<void> {
  for (let tries = 0; ; tries++) {
    const all = await Promise.all(nodes.map(statusOf))
    if (all.every(({ peers }) => peers.length > 0 && peers.every(({ isConnected }) => isConnected))) return
    assert.ok(tries < 300, `${JSON.stringify(all)}\n${nodes.map((node) => node.logTail()).join('\n')}`)
    await new Promise((resolve) => setTimeout(resolve, 200))
  }
}

test('two regions join by invitation, stay joined over kill -9 of either, and part when revoked', {
  timeout: 300_000,
}, async (t) => {
  const [one, two] = await Promise.all([region(t, 1), region(t, 2)])
  const before = await statusOf(one)
  assert.equal(before.isListening, false, 'no port is open before anybody is invited')
  assert.deepEqual(before.peers, [])

  const token = await pando(one, 'invite', '--for', '2')
  assert.match(token, /^pando1\.[\w-]+\.[\w-]+$/)
  assert.match(await pando(two, 'join', token), /joined with region 1 \(region-1\)/)
  await connected(one, two)
  const refused = await two.command('federation', 'join', `${token.slice(0, -6)}AAAAAA`)
  assert.notEqual(refused.code, 0)
  assert.match(refused.stderr, /forged|damaged/)

  const scrape = await (await fetch(`${one.consoleUrl}/metrics`)).text()
  assert.match(scrape, /^pando_tunnel_up\{region="region-2",transport="(tls|quic)"\} 1$/m)
  checkScrape(scrape)

  const key = (await statusOf(one)).keys[0]?.publicKey
  for (const victim of [two, one]) {
    await victim.kill()
    await victim.start()
    await connected(one, two)
  }
  const after = await statusOf(one)
  assert.equal(after.keys[0]?.publicKey, key, 'the key of a region survives')
  assert.deepEqual(
    after.peers.map(({ regionId, name }) => [regionId, name]),
    [[2, 'region-2']],
  )

  await pando(one, 'rotate', '--after', '1s')
  for (let tries = 0; ; tries++) {
    const [peer] = (await statusOf(two)).peers
    if (peer?.publicKeys.length === 1 && peer.publicKeys[0] !== key && peer.isConnected) break
    assert.ok(tries < 300, 'the new key takes over')
    await new Promise((resolve) => setTimeout(resolve, 100))
  }

  await pando(one, 'revoke', '2')
  const { code, stdout } = await one.command('federation', 'list', '--json')
  assert.equal(code, 0)
  assert.deepEqual(JSON.parse(stdout), [])
  // It hears of it a moment later; a tunnel that is being made then is refused in other words, and the next one is not made at all.
  for (let tries = 0; ; tries++) {
    const told = await two.command('federation', 'status')
    if (told.code === 7 && /trusted no more|does not know/.test(told.stdout)) break
    assert.ok(tries < 300, `${told.code}: ${told.stdout}${told.stderr}`)
    await new Promise((resolve) => setTimeout(resolve, 100))
  }
})
