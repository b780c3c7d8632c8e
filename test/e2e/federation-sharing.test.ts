import assert from 'node:assert/strict'
import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import test, { type TestContext } from 'node:test'
import { setTimeout as sleep } from 'node:timers/promises'
import type { PublicationStatus, SharingStatus } from '../../core/contract/sharing.ts'
import { checkScrape } from '../kit/metrics-table.ts'
import { type NodeProcess, startNode } from '../kit/node-process.ts'
import { admitAll, policyModule } from '../kit/policies/assemble.ts'
import { pando } from '../kit/region-of-one.ts'
import { openS3Client } from '../kit/s3-client.ts'

/** Two real regions that share keys and policies, and say how they are. */

async function region(t: TestContext, regionId: number, policies?: object): Promise<NodeProcess> {
  const node = await startNode({
    config: {
      ...{ regionId, region: `region-${regionId}` },
      ...(policies === undefined ? {} : { policies }),
    },
  })
  t.after(() => node[Symbol.asyncDispose]())
  return node
}

async function statusOf(node: NodeProcess): Promise<SharingStatus['regions'][number] | undefined> {
  const { stdout } = await node.command('federation', 'status', '--json')
  return (JSON.parse(stdout) as SharingStatus).regions[0]
}

async function publicationsOf(node: NodeProcess): Promise<PublicationStatus | undefined> {
  const { stdout } = await node.command('federation', 'policies', '--json')
  return (JSON.parse(stdout) as SharingStatus).publications[0]
}

async function until(what: string, isSo: () => Promise<boolean>): Promise<void> {
  for (let tries = 0; !(await isSo()); tries++) {
    assert.ok(tries < 300, `it did not come to it that ${what}`)
    await sleep(200)
  }
}

async function joined(t: TestContext, policies?: object): Promise<readonly [NodeProcess, NodeProcess]> {
  const [one, two] = await Promise.all([region(t, 1), region(t, 2, policies)])
  await pando(two, 'federation', 'join', await pando(one, 'federation', 'invite'))
  await until('both have heard of each other', async () =>
    (await Promise.all([one, two].map(statusOf))).every((told) => told?.health !== undefined),
  )
  return [one, two]
}

test('a key that was made in one region reads its owner’s copies in another, and nobody else does', {
  timeout: 180_000,
}, async (t) => {
  const [one, two] = await joined(t)
  await pando(two, 'federation', 'accept', '1', '--keys')
  const bob = JSON.parse(await pando(one, 'key', 'create', '--account', 'bob', '--regions', '2', '--json'))
  const stranger = JSON.parse(await pando(two, 'key', 'create', '--account', 'bob', '--json'))
  const as = (node: NodeProcess, key: { accessKeyId: string; secretKey: string }) => {
    const { endpoint } = node
    const signer = { accessKey: key.accessKeyId, secretKey: key.secretKey }
    const client = openS3Client({ endpoint, ...signer, region: node === one ? 'region-1' : 'region-2' })
    t.after(() => client.close())
    return client
  }
  const home = as(one, bob)
  const away = as(two, bob)
  const other = as(two, stranger)
  assert.equal((await home.send({ method: 'PUT', bucket: 'photos' })).status, 200)
  assert.equal((await home.send({ method: 'PUT', bucket: 'photos', key: 'a', body: 'mine' })).status, 200)
  await pando(one, 'replication', 'set', 'photos', '--to', '2', '--multi')
  await until('the copy can be read with it', async () => {
    const reply = await away.send({ method: 'GET', bucket: 'photos', key: 'a' })
    return reply.status === 200 && reply.body.toString() === 'mine'
  })
  assert.equal((await other.send({ method: 'GET', bucket: 'photos', key: 'a' })).code, 'AccessDenied')
  assert.equal((await other.send({ method: 'GET', bucket: 'photos' })).code, 'AccessDenied')
  // What he writes there is his at home, and the bucket is his in both.
  assert.equal((await away.send({ method: 'PUT', bucket: 'photos', key: 'b', body: 'too' })).status, 200)
  assert.equal((await away.send({ method: 'GET', bucket: 'photos' })).status, 200)
  await until('it is at home', async () => {
    const reply = await home.send({ method: 'GET', bucket: 'photos', key: 'b' })
    return reply.status === 200 && reply.body.toString() === 'too'
  })

  assert.match((await pando(two, 'key', 'list')) ?? '', /bob~1 .* of 1/)
  // Region 2 tells that it has the key after it has taken it.
  await until('its home knows that it is there', async () => (await statusOf(one))?.keysLagMs === 0)
  const told = await statusOf(two)
  assert.equal(told?.keysTaken, 1)
  assert.equal(told?.health?.role, 'region')
  const scrape = await (await fetch(`${one.consoleUrl}/metrics`)).text()
  checkScrape(scrape)
  assert.match(scrape, /^pando_federation_region_ready\{region="region-2"\} 1$/m)
  assert.match(scrape, /^pando_federation_keys_lag_seconds\{region="region-2"\} 0$/m)

  // Revoked while the other region is not there: it says so, and the key ends when it is back.
  await two.kill()
  await until('the tunnel is gone', async () => (await statusOf(one))?.isConnected === false)
  await pando(one, 'key', 'disable', bob.accessKeyId)
  await until('the lag is told', async () => ((await statusOf(one))?.keysLagMs ?? 0) > 0)
  await two.start()
  const again = as(two, bob)
  await until('the key is refused there', async () => {
    const { status } = await again.send({ method: 'GET', bucket: 'photos', key: 'a' })
    return status === 403
  })
  await until('its home knows', async () => (await statusOf(one))?.keysLagMs === 0)
  await pando(two, 'federation', 'accept', '1')
  assert.doesNotMatch(await pando(two, 'key', 'list'), /bob~1/)
})

test('a policy is offered to other regions: refused, taken, unreachable and resumed, each told', {
  timeout: 180_000,
}, async (t) => {
  const [one, two] = await joined(t)
  const scratch = await mkdtemp(join(tmpdir(), 'pando-sharing-'))
  t.after(() => rm(scratch, { recursive: true }))
  const file = async (number: number): Promise<string> => {
    const path = join(scratch, `demo-${number}.wasm`)
    await writeFile(
      path,
      policyModule({ name: 'demo', version: `${number}.0.0`, hooks: { admit: admitAll } }),
    )
    return path
  }
  const serves = async (node: NodeProcess): Promise<readonly string[]> => {
    const { deployment } = JSON.parse(await pando(node, 'policy', 'list', '--json'))
    return (deployment?.policies ?? [])
      .filter(({ name }: { name: string }) => name === 'demo')
      .flatMap(({ versions }: { versions: { digest: string }[] }) => versions.map(({ digest }) => digest))
  }

  const refused = await one.command('policy', 'push', await file(1), '--activate', '--federation')
  assert.equal(refused.code, 7, refused.stderr)
  assert.match(refused.stdout, /refused .*takes no policies/)
  assert.deepEqual(await serves(two), [])

  // Allowed, it comes by itself.
  await pando(two, 'federation', 'accept', '1', '--policies')
  await until('it is accepted', async () => (await publicationsOf(one))?.state === 'accepted')
  const [first] = await serves(one)
  assert.deepEqual(await serves(two), [first])
  await until(
    'what serves there is told',
    async () => (await publicationsOf(one))?.serves[0]?.digest === first,
  )

  // Taken out by the operator there it stays out, over a restart, too.
  await pando(two, 'policy', 'deactivate', 'demo')
  await two.kill()
  const away = await one.command('federation', 'policies')
  assert.ok(away.stdout.includes('accepted'))
  await until('the tunnel is gone', async () => (await statusOf(one))?.isConnected === false)
  const gone = await one.command('policy', 'push', await file(2), '--activate', '--regions', '2')
  assert.equal(gone.code, 7)
  assert.match(gone.stdout, /unreachable/)
  await two.start()
  await until('the second one is accepted', async () => (await publicationsOf(one))?.state === 'accepted')
  const [second] = await serves(one)
  assert.notEqual(second, first)
  assert.deepEqual(await serves(two), [second])

  await pando(one, 'federation', 'withdraw', 'demo')
  assert.equal(await publicationsOf(one), undefined)
  assert.deepEqual(await serves(two), [second], 'where it was taken it stays')
})

test('a region that wants signatures refuses a policy that has none, whoever offers it', {
  timeout: 180_000,
}, async (t) => {
  const [one, two] = await joined(t, {
    keys: [{ publicKey: 'ab'.repeat(32), names: ['demo'], hooks: ['admit'] }],
  })
  const scratch = await mkdtemp(join(tmpdir(), 'pando-sharing-'))
  t.after(() => rm(scratch, { recursive: true }))
  const path = join(scratch, 'demo.wasm')
  await writeFile(path, policyModule({ name: 'demo', version: '1.0.0', hooks: { admit: admitAll } }))
  await pando(two, 'federation', 'accept', '1', '--policies')
  const isAccepting = async (): Promise<boolean> =>
    (await statusOf(one))?.isAccepting.includes('policies') === true
  await until('the other region has heard of it', isAccepting)
  const outcome = await one.command('policy', 'push', path, '--activate', '--federation')
  assert.equal(outcome.code, 7, outcome.stderr)
  assert.match(outcome.stdout, /refused .*sign/)
})
