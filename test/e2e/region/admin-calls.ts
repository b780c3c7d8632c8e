import assert from 'node:assert/strict'
import { type LockRecord, PandoAdmin } from '../../../sdk/admin/index.ts'
import { coded, socketAdmin } from '../../kit/admin-ways.ts'
import type { Region, RegionNode } from '../../kit/region/region.ts'
import { say, until } from './scenario.ts'

/** Where the consoles of a region listen that is asked over HTTP from beside it. */
export const reachableConsole = { listen: '0.0.0.0:9002' }

/**
 * What changes a region of three nodes, by the SDK: each call at another node than the last, over HTTP and through the socket. Leaves
 * the region as it was, with two more versions of its configuration, the newest of which is the text of version `version`.
 */
export async function checkAdminCalls(region: Region, version: number): Promise<void> {
  const [one, two, three] = region.nodes
  assert.ok(one && two && three)
  const { accessKey: accessKeyId, secretKey: secretAccessKey } = region
  const overHttp = ({ host }: RegionNode): PandoAdmin =>
    new PandoAdmin({
      endpoint: `http://${host.address}:9002`,
      credentials: { accessKeyId, secretAccessKey },
    })
  // A socket is a file: it is reached from beside the node's host, too.
  const admins = [overHttp(one), socketAdmin(two), overHttp(three)]
  const [first, second, third] = admins
  assert.ok(first && second && third)
  try {
    await checkNodes(first, second, third)
    await checkConfiguration(first, second, third, version)
  } finally {
    for (const admin of admins) admin.close()
  }
}

const coordinatorOf = async (admin: PandoAdmin): Promise<string | undefined> =>
  (await admin.cluster.report()).nodes.find(({ coordinator }) => coordinator)?.name

const ownersOf = (locks: readonly LockRecord[]): string =>
  locks.map(({ name, owner }) => `${name}: ${owner}`).join()

async function checkNodes(first: PandoAdmin, second: PandoAdmin, third: PandoAdmin): Promise<void> {
  const admins = [first, second, third]
  const began = await first.cluster.report()
  assert.deepEqual([began.enabled, began.node, began.replicas], [true, 'n1', 3])
  await until('one node coordinates, by the word of all', async () => {
    const coordinators = new Set(await Promise.all(admins.map(coordinatorOf)))
    return coordinators.size === 1 && !coordinators.has(undefined)
  })
  await until('locks are held by the same nodes, by the word of all', async () => {
    const owners = await Promise.all(admins.map(async (admin) => ownersOf(await admin.cluster.locks())))
    return owners[0] !== '' && owners.every((one) => one === owners[0])
  })

  // Each is a step of the one map: of steps that three nodes make at once none undoes another.
  const changes = admins.map((admin, index) => {
    const name = `n${index + 1}`
    return admin.cluster.changeNode({ name, rack: `rack-${name}` })
  })
  const epochs = (await Promise.all(changes)).map(({ epoch }) => epoch)
  assert.ok(Math.max(...epochs) >= began.epoch + 3, `${epochs} after ${began.epoch}`)
  const racks = async (admin: PandoAdmin): Promise<readonly string[]> =>
    (await admin.cluster.report()).nodes.map(({ rack }) => rack)
  for (const admin of admins) {
    await until(
      'every node has all three changes',
      async () => `${await racks(admin)}` === 'rack-n1,rack-n2,rack-n3',
    )
  }

  await assert.rejects(first.cluster.changeNode({ name: 'n9', weight: 2 }), coded('INVALID_ARGUMENT'))
  await assert.rejects(second.cluster.setReplicas(6), coded('INVALID_ARGUMENT'))
  await assert.rejects(third.cluster.removeNode('n3'), coded('INVALID_REQUEST'))
  assert.equal((await second.cluster.report()).nodes.length, 3)

  /** Where everything is as the map says, by the word of all. */
  const settled = (what: string): Promise<number> =>
    until(
      what,
      async () => {
        const reports = await Promise.all(admins.map((admin) => admin.cluster.report()))
        return reports.every(({ repair }) => repair.missing === 0 && repair.movingNodes === 0)
      },
      60_000,
    )
  const stateOf = async (admin: PandoAdmin, wanted: string): Promise<string | undefined> =>
    (await admin.cluster.report()).nodes.find(({ name }) => name === wanted)?.state
  /** A change that moves chunks waits for the one before. */
  const whenMoved = async (change: () => Promise<unknown>): Promise<void> => {
    let refused: unknown
    await until(
      'the next change',
      () =>
        change().then(
          () => true,
          (error: unknown) => {
            assert.ok(coded('CONFLICT')(error), String(error))
            refused = error
            return false
          },
        ),
      60_000,
    ).catch((error: unknown) => assert.fail(`${String(error)}: ${String(refused)}`))
  }

  const draining = await second.cluster.changeNode({ name: 'n3', state: 'draining' })
  assert.equal(draining.nodes.find(({ name }) => name === 'n3')?.state, 'draining')
  await until('n1 knows of the drain', async () => (await stateOf(first, 'n3')) === 'draining')
  const drainedMs = await settled('n3 is drained')
  await whenMoved(() => first.cluster.changeNode({ name: 'n3', state: 'active' }))
  await until('n3 knows that it is active', async () => (await stateOf(third, 'n3')) === 'active')
  const backMs = await settled('n3 has its chunks again')

  await whenMoved(() => third.cluster.setReplicas(2))
  await until('n2 knows of two copies', async () => (await second.cluster.report()).replicas === 2)
  await settled('two copies of each chunk')
  await whenMoved(() => second.cluster.setReplicas(3))
  await until('n1 knows of three copies', async () => (await first.cluster.report()).replicas === 3)
  const copiedMs = await settled('three copies again')
  say(
    `by the SDK: n3 drained (${Math.round(drainedMs)} ms) and taken back (${Math.round(backMs)} ms), ` +
      `two copies and three again (${Math.round(copiedMs)} ms), three changes at once at three nodes`,
  )
}

/** A node that is lost for good is taken out by the SDK, which takes a word for it: it holds chunks that nobody has moved away. */
export async function takeOutLost(lost: string, gateway: RegionNode): Promise<void> {
  const admin = socketAdmin(gateway)
  try {
    await assert.rejects(admin.cluster.removeNode(lost), coded('INVALID_REQUEST'))
    assert.ok((await admin.cluster.report()).nodes.some(({ name }) => name === lost))
    const { nodes } = await admin.cluster.removeNode(lost, { force: true })
    assert.ok(nodes.every(({ name }) => name !== lost))
    await assert.rejects(admin.cluster.removeNode(lost, { force: true }), coded('INVALID_ARGUMENT'))
  } finally {
    admin.close()
  }
}

async function checkConfiguration(
  first: PandoAdmin,
  second: PandoAdmin,
  third: PandoAdmin,
  version: number,
): Promise<void> {
  const before = await first.config.versions()
  assert.deepEqual(
    before.versions.map((one) => one.version),
    [version],
  )
  const text = 'qos: {tenantWeights: {batch: 3}}\n'
  const applied = await Promise.allSettled([
    second.config.apply({ base: version, text, author: 'n2' }),
    third.config.apply({ base: version, text: text.replace('3', '4'), author: 'n3' }),
  ])
  const refused = applied.filter((one) => one.status === 'rejected')
  assert.equal(refused.length, 1, 'of two who change the same version one wins')
  assert.ok(coded('CONFLICT')(refused[0]?.reason), String(refused[0]?.reason))
  await assert.rejects(
    first.config.apply({ base: version + 1, text: 'qos: {planInterval: never}' }),
    coded('INVALID_CONFIG'),
  )
  await until('all have taken it', async () => {
    const { nodes, silent } = await first.config.versions()
    return silent.length === 0 && nodes.every((node) => node.version === version + 1)
  })
  const back = await third.config.rollback(version, { author: 'n3' })
  assert.equal(back.versions[0]?.text, before.versions[0]?.text)
  assert.deepEqual(
    back.versions.map((one) => one.version),
    [version + 2, version + 1, version],
  )
  say('of two configurations at once one is refused, and the one before is in force again')
}
