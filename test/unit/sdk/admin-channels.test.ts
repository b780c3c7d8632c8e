import assert from 'node:assert/strict'
import { after, test } from 'node:test'
import { PandoAdmin, PandoError } from '../../../sdk/admin/index.ts'
import { grpcChannel } from '../../../sdk/admin-grpc/index.ts'
import { PandoClient } from '../../../sdk/index.ts'
import { readTrace } from '../../../sdk/policy/index.ts'
import { coded, openAdminWays } from '../../kit/admin-ways.ts'
import { admitAll, policyModule } from '../../kit/policies/assemble.ts'

/** One suite for every way to a node: what holds over one holds over the others. */
const place = await openAdminWays()
const { node, other, credentials, adminEndpoint, ways } = place
after(() => place[Symbol.asyncDispose]())

for (const [number, [way, open]] of Object.entries(ways).entries()) {
  test(`${way}: a node is looked at and looked after`, async () => {
    const admin = open()
    const status = await admin.status()
    assert.deepEqual([status.node, status.state, status.problems], ['node-1', 'ready', []])
    assert.ok(status.store.capacityBytes > 0 && status.pid === node.pid)
    assert.ok((await admin.stats()).process.residentBytes > 1_000_000)
    assert.equal((await admin.links()).enabled, false)
    assert.equal((await admin.metrics()).sum('pando_build_info'), 1)
    assert.equal((await admin.cluster.report()).enabled, false)
    const [own] = (await admin.federation.status()).peers
    assert.equal(own, undefined)
    assert.deepEqual([await admin.replication.report(), await admin.failover.report()], [[], []])

    const name = `bucket-${number}`
    assert.equal((await admin.buckets.create(name, 'root')).name, name)
    await assert.rejects(admin.buckets.create(name), coded('BUCKET_ALREADY_OWNED_BY_YOU'))
    await assert.rejects(admin.buckets.create('No Name'), coded('INVALID_BUCKET_NAME'))
    await assert.rejects(
      admin.buckets.create('192.168.1.1'),
      /'192\.168\.1\.1' is not a bucket name: .* no IP address/,
    )
    const listed: string[] = []
    for await (const bucket of admin.buckets.list()) listed.push(bucket.name)
    assert.ok(listed.includes(name))
    await assert.rejects(admin.buckets.measure('there-is-none'), coded('NO_SUCH_BUCKET'))
    assert.equal((await admin.maintenance.scan()).clean, true)

    // The secret that is told is the one that counts, however it came.
    const { key, secretAccessKey } = await admin.keys.create({ name: `by ${way}`, account: 'root' })
    const client = new PandoClient({
      endpoints: [node.endpoint],
      credentials: { accessKeyId: key.accessKeyId, secretAccessKey },
    })
    await client.put(name, 'key', 'value')
    assert.equal((await admin.buckets.measure(name)).objects, 1)
    await assert.rejects(admin.buckets.delete(name), coded('BUCKET_NOT_EMPTY'))
    assert.equal((await admin.keys.setEnabled(key.accessKeyId, false)).enabled, false)
    await assert.rejects(client.head(name, 'key'), PandoError)
    assert.ok((await admin.keys.list()).some(({ accessKeyId }) => accessKeyId === key.accessKeyId))
    admin.close()
  })

  test(`${way}: a policy is pushed byte for byte, and a configuration becomes a version once`, async () => {
    const admin = open()
    const wasm = policyModule({ name: `policy-${number}`, version: '1.0.0', hooks: { admit: admitAll } })
    const pushed = await admin.policies.push(wasm)
    assert.equal(pushed.byteLength, wasm.length)
    assert.deepEqual(pushed.failure, null)
    await admin.policies.activate({ name: `policy-${number}` })
    const { deployment } = await admin.policies.list()
    assert.ok(deployment?.policies.some((policy) => policy.name === `policy-${number}`))
    await assert.rejects(admin.policies.push(new Uint8Array([1, 2])), coded('POLICY_REFUSED'))
    await assert.rejects(admin.policies.rollback('nobody'), coded('POLICY_NOT_FOUND'))
    assert.ok(readTrace(await admin.policies.record()).tables.classes.includes('interactive'))
    await admin.policies.deactivate(`policy-${number}`)

    const { versions } = await admin.config.versions()
    const base = versions[0]?.version ?? 0
    const text = `log: { level: ${number === 1 ? 'warn' : 'info'} }\n# ${way}\n`
    const applied = await admin.config.apply({ base, text, comment: way })
    assert.deepEqual([applied.versions[0]?.version, applied.versions[0]?.text], [base + 1, text])
    await assert.rejects(admin.config.apply({ base, text: `${text}#` }), coded('CONFLICT'))
    const back = await admin.config.rollback(base + 1)
    assert.deepEqual(
      [back.versions[0]?.version, back.versions[0]?.text, back.versions[0]?.comment],
      [base + 2, text, `as in version ${base + 1}`],
    )
    await assert.rejects(admin.config.rollback(4711), coded('InvalidArgument'))
    await assert.rejects(admin.config.apply({ base: base + 2, text: 'no: key' }), coded('INVALID_CONFIG'))
    admin.close()
  })

  test(`${way}: a call ends with its signal`, async () => {
    const admin = open()
    const reason = new Error('no longer wanted')
    await assert.rejects(admin.status({ signal: AbortSignal.abort(reason) }), reason)
    const controller = new AbortController()
    const call = admin.status({ signal: controller.signal })
    controller.abort(reason)
    await assert.rejects(call, reason)
    assert.equal((await admin.status()).state, 'ready', 'the next one is none the worse for it')
    admin.close()
  })
}

test('what is told is the same, whichever way it came', async () => {
  const told = await Promise.all(
    Object.values(ways).map(async (open) => {
      const admin = open()
      const buckets: unknown[] = []
      for await (const bucket of admin.buckets.list()) buckets.push(bucket)
      const {
        objectives: _objectives,
        store,
        catalog,
        ...status
      } = (await admin.status()) as Awaited<ReturnType<typeof admin.status>> & { objectives: unknown }
      const answers = {
        ...{ buckets, status, objects: catalog.objects, capacityBytes: store.capacityBytes },
        keys: await admin.keys.list(),
        policies: await admin.policies.list(),
        policyStatus: (await admin.policies.status()).policies.map(({ name, hooks, failure }) => ({
          ...{ name, hooks, failure },
        })),
        config: await admin.config.versions(),
        federation: await admin.federation.status(),
        locks: await admin.cluster.locks().catch((error: PandoError) => [error.code, error.retryable]),
      }
      admin.close()
      return JSON.parse(JSON.stringify(answers)) as unknown
    }),
  )
  assert.deepEqual(told[1], told[0])
  assert.deepEqual(told[2], told[0])
})

test('over gRPC strangers are refused, sessions are not there, and nobody is told from somebody who refuses', async () => {
  const stranger = new PandoAdmin({
    channel: grpcChannel({
      endpoint: adminEndpoint,
      credentials: { ...credentials, secretAccessKey: 'a guess' },
    }),
  })
  await assert.rejects(stranger.buckets.create('by-a-stranger'), coded('UNAUTHENTICATED'))
  stranger.close()
  const admin = ways['over gRPC']()
  await assert.rejects(admin.session(), coded('InvalidArgument'))
  await assert.rejects(admin.events(), coded('NOT_IMPLEMENTED'))
  admin.close()
  const nobody = new PandoAdmin({ channel: grpcChannel({ socketPath: '/tmp/there-is-no-node.sock' }) })
  await assert.rejects(nobody.status(), (error: unknown) => {
    assert.ok(error instanceof PandoError)
    return error.code === 'NetworkError' && error.retryable && error.ambiguous
  })
  nobody.close()
  for (const endpoint of ['', 'localhost', 'ftp://a:1', 'http://a:1/path'])
    assert.throws(() => grpcChannel({ endpoint, credentials }), coded('InvalidArgument'), endpoint)
})

test('what is shared with a joined region is said by one way and told by all', async () => {
  const admins = Object.values(ways).map((open) => open())
  const [first] = admins
  assert.ok(first !== undefined)
  for (const admin of admins) {
    assert.deepEqual(await admin.sharing.status(), { regions: [], publications: [] })
    await assert.rejects(admin.sharing.accept(2, ['keys']), coded('INVALID_ARGUMENT'))
  }
  const { token } = await first.federation.invite()
  await new PandoAdmin({ endpoint: other.consoleUrl, credentials }).federation.join(token)
  const wasm = policyModule({ name: 'shared', version: '1.0.0', hooks: { admit: admitAll } })
  const { digest } = await first.policies.push(wasm)

  for (const admin of admins) {
    const { key } = await admin.keys.create({ name: 'travels', account: 'traveller' })
    await admin.sharing.shareKey(key.accessKeyId, [2])
    const accepted = await admin.sharing.accept(2, ['keys', 'policies'])
    assert.deepEqual(accepted.regions[0]?.accepts, ['keys', 'policies'])
    const { publications } = await admin.sharing.publish({ name: 'shared', digest, regions: [2] })
    assert.deepEqual(
      publications.map(({ name, digest: hex, regionId }) => [name, hex, regionId]),
      [['shared', digest, 2]],
    )
    for (const each of admins) {
      const { regions } = await each.sharing.status()
      assert.deepEqual([regions[0]?.regionId, regions[0]?.accepts], [2, ['keys', 'policies']])
      // Never null: whoever was not heard of has no health at all.
      assert.ok(regions[0]?.health === undefined || typeof regions[0].health === 'object')
      assert.notEqual(regions[0]?.health, null)
      const found = (await each.keys.list()).find(({ accessKeyId }) => accessKeyId === key.accessKeyId)
      assert.deepEqual(found?.regions, [2])
    }
    await admin.sharing.shareKey(key.accessKeyId, [])
    assert.deepEqual((await admin.sharing.withdraw('shared')).publications, [])
    assert.deepEqual((await admin.sharing.accept(2, [])).regions[0]?.accepts, [])

    await assert.rejects(admin.sharing.withdraw('shared'), coded('POLICY_NOT_FOUND'))
    await assert.rejects(admin.sharing.shareKey('NOSUCHKEY', [2]), coded('NO_SUCH_ACCESS_KEY'))
    await assert.rejects(admin.sharing.shareKey(key.accessKeyId, [70_000]), coded('INVALID_ARGUMENT'))
    await assert.rejects(
      admin.sharing.publish({ name: 'shared', digest: 'f'.repeat(64) }),
      coded('POLICY_NOT_FOUND'),
    )
  }
  for (const admin of admins) admin.close()
})
