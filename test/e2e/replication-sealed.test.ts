import assert from 'node:assert/strict'
import { randomBytes } from 'node:crypto'
import { once } from 'node:events'
import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { type AddressInfo, createServer } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import test, { type TestContext } from 'node:test'
import { type NodeProcess, startNode } from '../kit/node-process.ts'
import { openS3Client } from '../kit/s3-client.ts'

/** Two real regions that share a secret beside their tunnel. */

async function freePort(): Promise<number> {
  const server = createServer().listen(0, '127.0.0.1')
  await once(server, 'listening')
  const { port } = server.address() as AddressInfo
  server.close()
  await once(server, 'close')
  return port
}

async function region(t: TestContext, regionId: number, secret: string): Promise<NodeProcess> {
  const node = await startNode({
    config: {
      ...{ regionId, region: `region-${regionId}` },
      tunnel: { payloadKeys: { [3 - regionId]: secret } },
    },
    env: { PANDO_TUNNEL_LISTEN: `127.0.0.1:${await freePort()}` },
  })
  t.after(() => node[Symbol.asyncDispose]())
  return node
}

async function pando(node: NodeProcess, ...args: string[]): Promise<string> {
  const { code, stdout, stderr } = await node.command(...args)
  assert.equal(code, 0, `${args.join(' ')}: ${stdout}${stderr}`)
  return stdout.trim()
}

async function until(condition: () => boolean | Promise<boolean>, what: () => string): Promise<void> {
  const end = performance.now() + 60_000
  while (!(await condition())) {
    assert.ok(performance.now() < end, what())
    await new Promise((resolve) => setTimeout(resolve, 100))
  }
}

test('a bucket is replicated through streams that are sealed with a secret of the two regions', {
  timeout: 180_000,
}, async (t) => {
  const directory = await mkdtemp(join(tmpdir(), 'pando-sealed-'))
  t.after(() => rm(directory, { recursive: true }))
  const secret = join(directory, 'secret')
  await writeFile(secret, `${randomBytes(32).toString('hex')}\n`, { mode: 0o600 })
  const [one, two] = await Promise.all([region(t, 1, secret), region(t, 2, secret)])
  await pando(two, 'federation', 'join', await pando(one, 'federation', 'invite', '--for', '2'))
  const clientOf = (node: NodeProcess, name: string) => {
    const { endpoint, accessKey, secretKey } = node
    const client = openS3Client({ endpoint, accessKey, secretKey, region: name })
    t.after(() => client.close())
    return client
  }
  const here = clientOf(one, 'region-1')
  const there = clientOf(two, 'region-2')
  assert.equal((await here.send({ method: 'PUT', bucket: 'photos' })).status, 200)
  await pando(one, 'replication', 'set', 'photos', '--to', '2')
  const bodies = new Map([1, 300_000, 9_000_001].map((size) => [`of-${size}`, randomBytes(size)]))
  for (const [key, body] of bodies) {
    assert.equal((await here.send({ method: 'PUT', bucket: 'photos', key, body })).status, 200)
  }
  for (const [key, body] of bodies) {
    await until(
      async () => (await there.send({ method: 'HEAD', bucket: 'photos', key })).status === 200,
      () => `${one.logTail()}\n${two.logTail()}`,
    )
    const { body: got } = await there.send({ method: 'GET', bucket: 'photos', key })
    assert.ok(body.equals(got), key)
  }
})
