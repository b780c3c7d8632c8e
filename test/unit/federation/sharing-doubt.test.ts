import assert from 'node:assert/strict'
import { type TestContext, test } from 'node:test'
import { createDirectCatalog } from '../../../core/catalog/direct-catalog.ts'
import { MemoryTables } from '../../../core/catalog/memory-tables.ts'
import { silentLogger } from '../../../core/contract/logger.ts'
import type { AccessKeyRecord } from '../../../core/contract/object-model.ts'
import type { Acceptance } from '../../../core/contract/sharing.ts'
import { createSharedKeys } from '../../../core/node/federation/shared-keys.ts'
import { openIdentity } from '../../../core/node/federation/start-federation.ts'
import { createSecretSealer } from '../../../core/node/sealed-secrets.ts'
import type { PolicyPort } from '../../../federation/sharing/ports.ts'
import { Sharing } from '../../../federation/sharing/sharing.ts'
import {
  keysAnswer,
  type Offered,
  type Report,
  type SharingQuestion,
  serveSharing,
  sharingTopic,
} from '../../../federation/sharing/wire.ts'
import { realEnvironment as environment } from '../../kit/catalog-commands.ts'
import { MemoryRegions } from '../../kit/memory-regions.ts'

const { clock } = environment
const health: Report['health'] = {
  ...{ version: '1', role: 'region', state: 'ready', problems: [], groups: [] },
  ...{ lagMs: 0, backlogEntries: 0, backlogBytes: 0, breachedBuckets: 0, deadLetters: 0 },
}
const plainReport: Report = { health, accepts: [], taken: [], keysGiven: '', publications: [] }
const digest = 'ab'.repeat(32)

async function until(what: string, isSo: () => boolean, withinMs = 10_000): Promise<void> {
  for (const end = clock.monotonic() + withinMs; !isSo(); await clock.sleep(20)) {
    if (clock.monotonic() > end) throw new Error(`it did not come to it that ${what}`)
  }
}

/** Region 1, joined with region 2; `isBehind`: its node sees changes of keys that other nodes made only behind a barrier. */
async function regionOne(
  t: TestContext,
  {
    isBehind = false,
    policies,
    accepts = [],
  }: { isBehind?: boolean; policies?: PolicyPort; accepts?: readonly Acceptance[] } = {},
) {
  const network = new MemoryRegions({ clock })
  const catalog = createDirectCatalog({ tables: new MemoryTables(), environment, regionId: 1 })
  const sealer = createSecretSealer(new Uint8Array(32).fill(1), environment.randomness)
  const identity = openIdentity({ catalog, sealer, environment })
  const peer = { regionId: 2, name: 'two', endpoints: [], joinedMs: 1, knowsKey: '', invitation: '' }
  await identity.change((record) => ({
    ...record,
    epoch: record.epoch + 1,
    peers: [{ ...peer, publicKeys: ['2'.padStart(64, '0')], accepts }],
  }))
  let seen: readonly AccessKeyRecord[] = []
  const follower = {
    accessKey: catalog.accessKey,
    submit: catalog.submit,
    accessKeys: () => (isBehind ? seen : catalog.accessKeys()),
    async barrier() {
      seen = catalog.accessKeys()
    },
  }
  const keys = createSharedKeys({ catalog: follower, sealer, rootAccessKeyId: 'ROOT' })
  const sharing = new Sharing({
    ...{ regionId: 1, tunnels: network.start(1), identity, keys, clock, log: silentLogger },
    ...{ health: async () => health, isCoordinator: () => true },
    ...(policies === undefined ? {} : { policies }),
  })
  t.after(() => sharing.stop())
  const put = (accessKeyId: string, sealedSecret = sealer.seal(accessKeyId, 'a-secret-of-his')) =>
    catalog.submit({
      type: 'put-access-key',
      record: { accessKeyId, account: 'bob', name: '', enabled: true, createdMs: 1, sealedSecret },
    })
  return {
    ...{ network, catalog, sharing, put },
    enable: (accessKeyId: string, enabled: boolean) =>
      catalog.submit({ type: 'set-access-key-enabled', accessKeyId, enabled }),
    async asked() {
      return keysAnswer.parse((await sharing.answer(2, { kind: 'keys' })).value)
    },
    offer: (publications: readonly Offered[]) =>
      sharing.answer(2, { kind: 'report', report: { ...plainReport, publications: [...publications] } }),
  }
}

const offered = (name: string): Offered => ({ name, digest, revision: 1 })

test('a node that is behind its region gives no key back that the others have revoked', async (t) => {
  const one = await regionOne(t, { isBehind: true })
  await one.put('BOB')
  await one.sharing.shareKey('BOB', [2])
  assert.deepEqual(
    (await one.asked()).keys.map(({ enabled }) => enabled),
    [true],
  )
  await one.enable('BOB', false)
  assert.deepEqual(
    (await one.asked()).keys.map(({ enabled }) => enabled),
    [false],
  )
})

test('the digest of an answer is that of its keys, however quickly they change: no two sets have the same', async (t) => {
  const one = await regionOne(t)
  await one.put('BOB')
  await one.sharing.shareKey('BOB', [2])
  const before = await one.asked()
  await one.enable('BOB', false)
  const revoked = await one.asked()
  await one.enable('BOB', true)
  const after = await one.asked()
  assert.deepEqual(
    [before, revoked, after].map(({ keys }) => keys[0]?.enabled),
    [true, false, true],
  )
  assert.notEqual(revoked.digest, before.digest)
  assert.equal(after.digest, before.digest)
})

test('a secret that is damaged closes one key, not the revocation of the others', async (t) => {
  const one = await regionOne(t)
  await one.put('BOB')
  await one.put('BROKEN', new Uint8Array(40))
  await one.sharing.shareKey('BOB', [2])
  await one.sharing.shareKey('BROKEN', [2])
  await one.enable('BOB', false)
  assert.deepEqual(
    (await one.asked()).keys.map(({ accessKeyId, enabled }) => [accessKeyId, enabled]),
    [['BOB', false]],
  )
})

test('of a region that was heard, but not on keys, nobody says that it has them as they are', async (t) => {
  const one = await regionOne(t)
  await one.put('BOB')
  await one.sharing.shareKey('BOB', [2])
  // A node of region 2 that does not follow the keys: its report has no `keysKnown`.
  t.after(serveSharing(one.network.start(2), async () => ({ value: { report: plainReport } }), silentLogger))
  const seen = () => one.sharing.status().regions[0]
  await until('it was heard', () => seen()?.heardMs !== -1)
  assert.equal(seen()?.keysLagMs, -1)
  await one.sharing.shareKey('BOB', [])
  assert.equal(seen()?.keysLagMs, -1, 'nor that it has none any more')
  await one.sharing.shareKey('BOB', [2])
  await one.sharing.answer(2, { kind: 'report', report: { ...plainReport, keysKnown: digest } })
  await until('the lag is told', () => (seen()?.keysLagMs ?? 0) > 0)
})

test('a region that thinks of names of policies without end is asked for no more than one may offer', async (t) => {
  const one = await regionOne(t, { accepts: ['policies'], policies: takesNothing })
  let asked = 0
  // It never answers.
  t.after(
    one.network.start(2).serve(sharingTopic, async () => {
      asked++
      await new Promise(() => undefined)
    }),
  )
  for (let round = 0; round < 20; round++) {
    await one.offer(Array.from({ length: 16 }, (_, at) => offered(`p${round}-${at}`)))
  }
  await until('as many are asked as may be', () => asked >= 16)
  await clock.sleep(200)
  // And one report, which region 1 makes by itself.
  assert.ok(asked <= 17, `${asked} questions at once`)
})

test('how long to wait for a policy is forgotten with the offer', async (t) => {
  const one = await regionOne(t, { accepts: ['policies'], policies: takesNothing })
  let asked = 0
  const answer = async (_: number, question: SharingQuestion) => {
    if (question.kind === 'policy') throw new Error(`no policy for the ${++asked}th time`)
    return { value: { report: { ...plainReport, publications: [offered('demo')] } } }
  }
  t.after(serveSharing(one.network.start(2), answer, silentLogger))
  await one.offer([offered('demo')])
  await until('it was asked', () => asked === 1)
  await clock.sleep(100)
  await one.offer([offered('demo')])
  await clock.sleep(100)
  assert.equal(asked, 1, 'not again at once')
  await one.offer([])
  await one.offer([offered('demo')])
  // It would have waited for five seconds.
  await until('it is asked for the new offer', () => asked === 2, 3_000)
})

test('a rollout comes with the bounds that an operator here has', async (t) => {
  const taken: unknown[] = []
  const policies: PolicyPort = {
    ...takesNothing,
    async take({ gradual }) {
      taken.push(gradual)
    },
  }
  const one = await regionOne(t, { accepts: ['policies'], policies })
  const good = { shadowCalls: 0, canaryPercent: 10, canaryCalls: 1e9, stepTimeoutMs: 60_000 }
  const rollouts = [
    { ...good, canaryCalls: 2 ** 50 },
    { ...good, shadowCalls: 2 ** 50 },
    { ...good, stepTimeoutMs: 2 ** 50 },
    { ...good, stepTimeoutMs: 0 },
    good,
  ]
  const answer = async (_: number, question: SharingQuestion) => {
    if (question.kind !== 'policy') return { value: { report: plainReport } }
    const gradual = rollouts[Number(question.name.slice(1))]
    return { value: { digest, config: '{}', activate: true, gradual }, module: new Uint8Array(8) }
  }
  t.after(serveSharing(one.network.start(2), answer, silentLogger))
  await one.offer(rollouts.map((_, at) => offered(`p${at}`)))
  await until('the good one came', () => taken.length > 0)
  await clock.sleep(200)
  assert.deepEqual(taken, [good])
})

const takesNothing: PolicyPort = {
  package: async () => undefined,
  take: async () => undefined,
  serves: () => [],
}
