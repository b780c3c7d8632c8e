import assert from 'node:assert/strict'
import { after, before, test } from 'node:test'
import { setTimeout as sleep } from 'node:timers/promises'
import { type PandoAdmin, PandoError } from '../../../sdk/admin/index.ts'
import { PandoClient } from '../../../sdk/index.ts'
import { coded, openAdminWays } from '../../kit/admin-ways.ts'

/** Two real regions, joined: what an operator does with them, by each way to a node. */
const place = await openAdminWays()
const { node, credentials, ways, there } = place
after(() => place[Symbol.asyncDispose]())

async function until(what: string, isSo: () => Promise<boolean>): Promise<void> {
  const endMs = performance.now() + 60_000
  while (!(await isSo().catch(() => false))) {
    assert.ok(performance.now() < endMs, what)
    await sleep(50)
  }
}

before(async () => {
  const admin = ways['over HTTP']()
  const { token } = await admin.federation.invite({ regionId: 2 })
  const peer = await there().federation.join(token)
  assert.equal(peer.regionId, 1)
  await until('the regions are connected', async () =>
    (await admin.federation.status()).peers.every(({ isConnected }) => isConnected),
  )
})

for (const [number, [way, open]] of Object.entries(ways).entries()) {
  const bucket = `copied-${number}`
  const group = `group-${number}`

  test(`${way}: a bucket is replicated, compared, tried again, handed over and back`, {
    timeout: 240_000,
  }, async () => {
    const admin = open()
    await admin.buckets.create(bucket)
    const client = new PandoClient({ endpoints: [node.endpoint], credentials })
    await client.put(bucket, 'key', 'value')
    const replicated = await admin.replication.replicate({ bucket, regions: [2] })
    assert.deepEqual(replicated.find((each) => each.bucket === bucket)?.rule.members, [1, 2])
    const state = async () => {
      const found = (await admin.replication.report()).find((each) => each.bucket === bucket)
      return found ?? assert.fail(`${bucket} is not reported`)
    }
    await until('the copy is whole', async () => {
      const { isBackfilling, outgoing } = await state()
      return !isBackfilling && outgoing.every((to) => !to.needsFullSync && to.lagEntries === 0)
    })
    await admin.replication.compare(bucket)
    await until('the comparison is over', async () => (await state()).comparedMs > 0)
    assert.ok((await admin.replication.retry(bucket)).some((each) => each.bucket === bucket))
    await assert.rejects(admin.replication.compare('there-is-none'), coded('NO_SUCH_BUCKET'))

    const made = await admin.failover.set({ group, buckets: [bucket], flapMs: 1 })
    assert.deepEqual([made?.record.primary, made?.record.regions], [1, [1, 2]])
    const whole = (from: PandoAdmin, to: number) =>
      until(`region ${to} can take over`, async () => {
        const plan = await from.failover.plan(group, to)
        return plan.kind === 'planned' && plan.blockers.length === 0 && plan.lossEntries === 0
      })
    await whole(admin, 2)
    const result = await admin.failover.run({ group, to: 2 })
    assert.deepEqual([result.primary, result.kind, result.lossEntries], [2, 'planned', 0])
    assert.deepEqual(await admin.failover.losses(group), [])
    await whole(there(), 1)
    // The former primary takes in the history of its successor first, and says so until it has.
    await until('it is handed back', async () => {
      const back = await admin.failover.run({ group, to: 1 }).catch((error: unknown) => {
        assert.ok(error instanceof PandoError && error.retryable, String(error))
        return undefined
      })
      return back?.primary === 1
    })
    await assert.rejects(admin.failover.run({ group: 'there-is-none', to: 2 }), PandoError)
    await until('the group is gone', async () => {
      await admin.failover.remove(group)
      return (await admin.failover.report()).every(({ record }) => record.name !== group)
    })
    assert.ok((await admin.replication.stop(bucket)).every((each) => each.bucket !== bucket))
    admin.close()
  })

  test(`${way}: the key of the region is changed, and its peers learn the new one`, async () => {
    const admin = open()
    const [before] = (await there().federation.status()).peers
    await admin.federation.rotateKey(200)
    await until('the other region has the new key', async () => {
      const [peer] = (await there().federation.status()).peers
      return peer !== undefined && peer.publicKeys.at(-1) !== before?.publicKeys.at(-1)
    })
    await until('they are connected', async () =>
      (await admin.federation.status()).peers.every(({ isConnected }) => isConnected),
    )
    admin.close()
  })

  test(`${way}: what was asked and decided is shown and watched`, { timeout: 60_000 }, async () => {
    const admin = open()
    const client = new PandoClient({ endpoints: [node.endpoint], credentials })
    const name = `watched-${number}`
    await admin.buckets.create(name)
    const ender = new AbortController()
    let isWatching = true
    // The first look is what is there already: requests go on until one of them is seen.
    const asking = (async () => {
      while (isWatching) await client.put(name, 'key', 'value').then(() => sleep(20))
    })()
    try {
      for await (const seen of admin.policies.watch({ signal: ender.signal, intervalMs: 50 })) {
        if (seen.bucket !== name) continue
        // A request is shown from when it was decided on: it may be under way.
        if (seen.outcome !== 'ended') continue
        assert.deepEqual([seen.operation, seen.tenant], ['write', 'root'])
        const again = await admin.policies.request(seen.requestId)
        assert.equal(again?.requestId, seen.requestId)
        break
      }
    } finally {
      isWatching = false
      await asking
    }
    await assert.rejects(admin.policies.request('there-is-none'), coded('NO_SUCH_KEY'))
    const decisions = await admin.policies.decisions('classify')
    assert.ok(decisions.every(({ hook }) => hook === 'classify') && decisions.length > 0)
    admin.close()
  })

  test(`${way}: of a region of one node nothing can be moved, and that is said`, async () => {
    const admin = open()
    const told = await Promise.all(
      [
        admin.cluster.changeNode({ name: 'node-1', state: 'draining' }),
        admin.cluster.removeNode('node-1', { force: true }),
        admin.cluster.setReplicas(2),
      ].map((call) =>
        call.then(
          () => 'done',
          (error: unknown) => String(error),
        ),
      ),
    )
    for (const one of told) assert.match(one, /INVALID_ARGUMENT: this is a region of one node/)
    assert.equal((await admin.status()).state, 'ready')
    admin.close()
  })
}

test('a region that is revoked is a peer no more', async () => {
  const admin = ways['over HTTP']()
  const { peers } = await admin.federation.revoke(2)
  assert.deepEqual(
    peers.filter(({ isConnected }) => isConnected),
    [],
  )
  await assert.rejects(admin.federation.revoke(77), PandoError)
})
