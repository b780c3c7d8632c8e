import assert from 'node:assert/strict'
import { type TestContext, test } from 'node:test'
import { createDirectCatalog } from '../../../core/catalog/direct-catalog.ts'
import { MemoryTables } from '../../../core/catalog/memory-tables.ts'
import type { FederationRecord } from '../../../core/contract/federation.ts'
import { silentLogger } from '../../../core/contract/logger.ts'
import type { RegionHealth } from '../../../core/contract/sharing.ts'
import { createSharedKeys } from '../../../core/node/federation/shared-keys.ts'
import { openIdentity } from '../../../core/node/federation/start-federation.ts'
import { createCredentialSource, createSecretSealer } from '../../../core/node/sealed-secrets.ts'
import { Sharing } from '../../../federation/sharing/sharing.ts'
import { type SharedKey, serveSharing } from '../../../federation/sharing/wire.ts'
import { realEnvironment as environment } from '../../kit/catalog-commands.ts'
import { MemoryRegions } from '../../kit/memory-regions.ts'

const { clock } = environment
const rootKeys = { accessKeyId: 'ROOT', secretKey: 'root-secret-key' }
const health: RegionHealth = {
  ...{ version: '1', role: 'region', state: 'ready', problems: [], groups: [] },
  ...{ lagMs: 1_500, backlogEntries: 3, backlogBytes: 70, breachedBuckets: 1, deadLetters: 0 },
}

async function until(what: string, isSo: () => boolean, withinMs = 15_000): Promise<void> {
  for (const end = clock.monotonic() + withinMs; !isSo(); await clock.sleep(20)) {
    if (clock.monotonic() > end) throw new Error(`it did not come to it that ${what}`)
  }
}

/** A region with a real catalog, a sealing key of its own, and tunnels in memory; joined with the regions that are named. */
async function region(t: TestContext, network: MemoryRegions, id: number, joined: readonly number[]) {
  const tables = new MemoryTables()
  const catalog = createDirectCatalog({ tables, environment, regionId: id })
  const sealer = createSecretSealer(new Uint8Array(32).fill(id), environment.randomness)
  const identity = openIdentity({ catalog, sealer, environment })
  const change = (make: (record: FederationRecord) => Partial<FederationRecord>) =>
    identity.change((record) => ({ ...record, ...make(record), epoch: record.epoch + 1 }))
  await change(() => ({
    peers: joined.map((regionId) => ({
      ...{ regionId, name: `region-${regionId}`, endpoints: [], joinedMs: 1, knowsKey: '', invitation: '' },
      publicKeys: [regionId.toString(16).padStart(64, '0')],
    })),
  }))
  const keys = createSharedKeys({ catalog, sealer, rootAccessKeyId: rootKeys.accessKeyId })
  const tunnels = network.start(id)
  const sharing = new Sharing({
    ...{ regionId: id, tunnels, identity, keys, clock, log: silentLogger },
    ...{ health: async () => health, isCoordinator: () => true },
  })
  t.after(() => sharing.stop())
  const credentials = createCredentialSource(rootKeys, catalog, sealer, () => assert.fail('a damaged key'))
  return {
    ...{ id, tables, catalog, sharing, tunnels, change, sealer },
    lookup: (accessKeyId: string) => credentials.lookup(accessKeyId),
    seen: (of: number) => sharing.status().regions.find(({ regionId }) => regionId === of),
    create: (accessKeyId: string, account: string, secret = `secret-of-${accessKeyId}`) =>
      catalog.submit({
        type: 'put-access-key',
        record: {
          ...{ accessKeyId, account, name: '', enabled: true, createdMs: 1 },
          sealedSecret: sealer.seal(accessKeyId, secret),
        },
      }),
    revoke: (regionId: number) =>
      change(({ peers }) => ({ peers: peers.filter((peer) => peer.regionId !== regionId) })),
  }
}

const open = (): MemoryRegions => new MemoryRegions({ clock })

test('a key is good in the regions that are named and take it, as an account of its home, and nowhere else', async (t) => {
  const network = open()
  const one = await region(t, network, 1, [2, 3])
  const two = await region(t, network, 2, [1])
  const three = await region(t, network, 3, [1])
  await one.create('BOB', 'bob')
  await one.create('OTHER', 'bob')
  await two.create('LOCAL', 'bob')
  await one.sharing.shareKey('BOB', [2])
  await three.sharing.accept(1, ['keys'])
  await until('region 2 has heard', () => two.seen(1)?.heardMs !== -1)
  await clock.sleep(700)
  assert.equal(two.lookup('BOB'), undefined, 'nothing is taken before an operator says so')
  await until('the home region knows', () => (one.seen(2)?.keysLagMs ?? 0) > 0)

  await two.sharing.accept(1, ['keys'])
  await until('the key is there', () => two.lookup('BOB') !== undefined)
  assert.deepEqual(two.lookup('BOB'), { account: 'bob~1', secretKey: 'secret-of-BOB', root: false })
  assert.deepEqual(two.lookup('LOCAL'), { account: 'bob', secretKey: 'secret-of-LOCAL', root: false })
  const [here, there] = [one, two].map(({ catalog }) => catalog.accessKey('BOB'))
  assert.notDeepEqual(
    there?.sealedSecret,
    here?.sealedSecret,
    'sealed with the key of the region that has it',
  )
  assert.equal(two.lookup('OTHER'), undefined)
  await until('region 1 knows that it is there', () => one.seen(2)?.keysLagMs === 0)
  await until('region 3 has heard', () => three.seen(1)?.heardMs !== -1)
  assert.equal(three.lookup('BOB'), undefined)
  // Of the state that comes with it.
  assert.deepEqual(two.seen(1)?.health, health)

  // A copy is changed where it comes from.
  await assert.rejects(
    two.catalog.submit({ type: 'set-access-key-enabled', accessKeyId: 'BOB', enabled: false }),
    { code: 'INVALID_ARGUMENT' },
  )
  await assert.rejects(two.sharing.shareKey('BOB', [1]), { code: 'INVALID_ARGUMENT' })
  await assert.rejects(two.create('BOB', 'mallory'), { code: 'CONFLICT' })
  await one.create('MINE', 'root')
  await assert.rejects(one.sharing.shareKey('MINE', [2]), { code: 'INVALID_ARGUMENT' })
  await assert.rejects(one.sharing.shareKey('ROOT', [2]), { code: 'INVALID_ARGUMENT' })
  await assert.rejects(one.sharing.shareKey('BOB', [9]), { code: 'INVALID_ARGUMENT' })
  await assert.rejects(one.sharing.shareKey('NONE', [2]), { code: 'NO_SUCH_ACCESS_KEY' })

  // Back to this region only.
  await one.sharing.shareKey('BOB', [])
  await until('it is gone', () => two.lookup('BOB') === undefined)
})

test('a key that is revoked while the link is down counts until it is back, the lag is told, and then it ends within seconds', async (t) => {
  const network = open()
  const one = await region(t, network, 1, [2])
  const two = await region(t, network, 2, [1])
  await one.create('BOB', 'bob')
  await one.create('EVE', 'eve')
  await one.sharing.shareKey('BOB', [2])
  await one.sharing.shareKey('EVE', [2])
  await two.sharing.accept(1, ['keys'])
  await until('the keys are there', () => two.seen(1)?.keysTaken === 2 && one.seen(2)?.keysLagMs === 0)

  network.paths.cut('1', '2')
  network.paths.reset('1', '2')
  await until('the tunnel is gone', () => one.seen(2)?.isConnected === false)
  await one.catalog.submit({ type: 'set-access-key-enabled', accessKeyId: 'BOB', enabled: false })
  await until('the lag is told', () => (one.seen(2)?.keysLagMs ?? 0) > 200)
  assert.equal(two.lookup('BOB') !== 'disabled', true)
  assert.ok((two.seen(1)?.heardMs ?? 0) > 0)
  const heardMs = two.seen(1)?.heardMs ?? 0
  await clock.sleep(50)
  assert.ok((two.seen(1)?.heardMs ?? 0) > heardMs, 'what was heard grows old')

  network.paths.heal('1', '2')
  network.connect(1, 2)
  const backMs = clock.monotonic()
  await until('it is revoked', () => two.lookup('BOB') === 'disabled')
  assert.ok(clock.monotonic() - backMs < 5_000)
  assert.deepEqual(two.lookup('EVE'), { account: 'eve~1', secretKey: 'secret-of-EVE', root: false })
  await until('the home region knows', () => one.seen(2)?.keysLagMs === 0)
})

test('whose keys are accepted no more, or who is revoked, has none here from that entry on; and gets none of ours', async (t) => {
  const network = open()
  const one = await region(t, network, 1, [2])
  const two = await region(t, network, 2, [1])
  await one.create('BOB', 'bob')
  await one.sharing.shareKey('BOB', [2])
  for (const end of [() => two.sharing.accept(1, ['policies']), () => two.revoke(1)]) {
    await two.sharing.accept(1, ['keys'])
    await until('the key is there', () => two.lookup('BOB') !== undefined)
    await end()
    assert.equal(two.lookup('BOB'), undefined)
    assert.deepEqual(two.catalog.accessKeys(), [])
  }
  await assert.rejects(two.catalog.submit({ type: 'take-access-keys', home: 1, keys: [] }), {
    code: 'ACCESS_DENIED',
  })
  // At home: whoever comes to be region 2 later is given nothing that the first one was.
  assert.deepEqual(one.catalog.accessKey('BOB')?.regions, [2])
  await one.revoke(2)
  assert.equal(one.catalog.accessKey('BOB')?.regions, undefined)
})

test('a hostile region gives keys of its own accounts only: no local, root or third region’s one, whatever it says', async (t) => {
  const network = open()
  const two = await region(t, network, 2, [1, 3])
  const three = await region(t, network, 3, [2])
  await two.create('LOCAL', 'bob')
  await three.create('THIRD', 'carol')
  await three.sharing.shareKey('THIRD', [2])
  await two.sharing.accept(3, ['keys'])
  await until('the third region’s key is there', () => two.lookup('THIRD') !== undefined)

  // Region 1 is whoever holds its key: it speaks the protocol as it likes.
  const hostile = network.start(1)
  let told: readonly Partial<SharedKey>[] = []
  let round = 0
  const key = (accessKeyId: string, account: string): SharedKey => ({
    ...{ accessKeyId, account, secretKey: 'mallorys-secret', name: '', enabled: true, createdMs: 1 },
  })
  const report = (): object => ({
    ...{ health, accepts: [], keysKnown: '', taken: [], publications: [] },
    keysGiven: (++round).toString(16).padStart(64, '0'),
  })
  t.after(
    serveSharing(
      hostile,
      async (_, question) => ({
        value:
          question.kind === 'report'
            ? { report: report() }
            : { digest: round.toString(16).padStart(64, '0'), keys: told },
      }),
      silentLogger,
    ),
  )
  await two.sharing.accept(1, ['keys'])
  const offer = async (keys: readonly Partial<SharedKey>[], problem: RegExp): Promise<void> => {
    told = keys
    // A change of the record makes it ask again at once.
    await two.change(() => ({}))
    await until(`it says ${problem}`, () => problem.test(two.seen(1)?.keysProblem ?? ''))
  }
  await offer(
    [key('LOCAL', 'bob'), key('ROOT', 'mallory'), key('THIRD', 'carol'), key('OWN', 'mallory')],
    /LOCAL/,
  )
  assert.match(two.seen(1)?.keysProblem ?? '', /ROOT.*/)
  assert.match(two.seen(1)?.keysProblem ?? '', /THIRD/)
  assert.deepEqual(two.lookup('LOCAL'), { account: 'bob', secretKey: 'secret-of-LOCAL', root: false })
  assert.deepEqual(two.lookup('THIRD'), { account: 'carol~3', secretKey: 'secret-of-THIRD', root: false })
  assert.deepEqual(two.lookup('ROOT'), { account: 'root', secretKey: rootKeys.secretKey, root: true })
  assert.deepEqual(two.lookup('OWN'), { account: 'mallory~1', secretKey: 'mallorys-secret', root: false })

  for (const wrong of [
    key('X', 'root'),
    key('X', 'bob~2'),
    key('X', 'carol~3'),
    key('../..', 'mallory'),
    { ...key('X', 'mallory'), secretKey: '' },
    { ...key('X', 'mallory'), account: '' },
  ]) {
    await offer([], /^$/)
    await offer([wrong], /cannot be understood/)
    assert.equal(two.lookup('X'), undefined)
  }
  await offer(
    Array.from({ length: 1_025 }, (_, at) => key(`KEY${at}`, 'mallory')),
    /cannot be understood/,
  )
  // Past the checks of the wire the state machine has its own.
  const record = {
    ...{ accessKeyId: 'X', name: '', enabled: true, createdMs: 1 },
    sealedSecret: new Uint8Array(40),
  }
  for (const account of ['root', 'bob', 'carol~3']) {
    const { refused } = await two.catalog.submit({
      ...{ type: 'take-access-keys', home: 1, keys: [{ ...record, account }] },
    })
    assert.deepEqual(refused, ['X'])
    assert.equal(two.catalog.accessKey('X'), undefined)
  }
  assert.equal(two.lookup('THIRD') !== undefined, true)
})
