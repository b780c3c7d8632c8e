import assert from 'node:assert/strict'
import { test } from 'node:test'
import { encodeOutboxEntry } from '../../../core/catalog/replication/entry-codec.ts'
import { accessKey } from '../../../core/catalog/replication/keys.ts'
import { verifyRows } from '../../../core/catalog/verify.ts'
import type { AccessKind } from '../../../core/contract/bucket-access.ts'
import { StorageError } from '../../../core/contract/errors.ts'
import { silentLogger } from '../../../core/contract/logger.ts'
import type { ObjectRecord } from '../../../core/contract/object-model.ts'
import { defaultEdge, type ReplicationRule } from '../../../core/contract/replication.ts'
import { cannedAcl, serializeAcl } from '../../../core/gateway/s3/acl.ts'
import { decide } from '../../../core/gateway/s3/authorize.ts'
import type { Gateway, Identity, S3Request } from '../../../core/gateway/s3/operation.ts'
import { acceptOffer } from '../../../federation/replication/accept-offer.ts'
import type { Offer } from '../../../federation/replication/peer.ts'
import { ReplicationSource } from '../../../federation/replication/source.ts'
import { decode, encode, offersSchema } from '../../../federation/replication/wire.ts'
import { plainAttributes, realEnvironment } from '../../kit/catalog-commands.ts'
import { createMemoryStore } from '../../kit/memory-store.ts'
import { ruleOf, ship, type TestRegion, testRegion } from '../../kit/replicated-buckets.ts'

const codeOf = (code: string) => (error: unknown) => error instanceof StorageError && error.code === code
const anonymous: Identity = { kind: 'anonymous' }
const keyOf = (account: string): Identity => ({
  ...{ kind: 'key', account, accessKeyId: `${account.toUpperCase().replaceAll('~', '')}KEY` },
  root: account === 'root',
})
const publicRead = serializeAcl(
  cannedAcl('public-read', { owner: 'alice', bucketOwner: 'alice' }) ?? { grants: [] },
)
const block = (fields: object = { ignorePublicAcls: true, restrictPublicBuckets: true }): string =>
  JSON.stringify(fields)

const idAt = ({ catalog }: TestRegion): number => catalog.bucket('b')?.id ?? 0

const set = (region: TestRegion, kind: AccessKind, value: string | null) =>
  region.catalog.run({
    ...{ type: 'set-bucket-config', bucketId: idAt(region), kind },
    value: value === null ? null : Buffer.from(value),
  })

const put = ({ catalog }: TestRegion, key: string, acl?: string) =>
  catalog.run({
    ...{ type: 'put-object', bucketId: catalog.bucket('b')?.id ?? 0, key, owner: 'alice' },
    object: {
      ...{ byteLength: 0, etag: 'd41d8cd98f00b204e9800998ecf8427e', layout: { kind: 'empty' } },
      attributes: { ...plainAttributes, ...(acl === undefined ? {} : { acl }) },
    },
  })

/** What the gateway of a region would say to a GET; `told`: to a HEAD that is answered with what the hub tells. */
function mayRead({ id, catalog }: TestRegion, identity: Identity, key: string, told?: ObjectRecord): boolean {
  const request = {
    ...{ id: 'r', method: 'GET', query: new Map(), bucketName: 'b', key, remoteAddress: '127.0.0.1' },
    header: () => undefined,
  } as unknown as S3Request
  const gateway = { catalog, replication: { regionId: id } } as unknown as Gateway
  const bucket = catalog.bucket('b')
  const action = 's3:GetObject'
  return decide(gateway, { request, identity, action, bucket, key, versionId: undefined, told })
}

function regionsOf(count: number, rule: Partial<ReplicationRule> = {}): TestRegion[] {
  const regions = Array.from({ length: count }, (_, at) => testRegion(at + 1))
  const members = regions.map(({ id }) => id)
  for (const { id, catalog } of regions) {
    const owner = id === 1 ? 'alice' : 'alice~1'
    const bucket = catalog.run({ type: 'create-bucket', name: 'b', owner })
    catalog.run({ type: 'set-replication', bucketId: bucket.id, rule: ruleOf({ members, ...rule }) })
  }
  return regions
}

function pair(rule: Partial<ReplicationRule> = {}): [TestRegion, TestRegion] {
  const [one, two] = regionsOf(2, rule)
  assert.ok(one !== undefined && two !== undefined)
  return [one, two]
}

/** Entry by entry, with a look after each; `isLacking`: bodies cannot be fetched. */
function shipSlowly(from: TestRegion, to: TestRegion, look: () => void, isLacking = false): number {
  const logId = from.catalog.replication.outbox(idAt(from))?.id ?? ''
  const cursor = () => to.catalog.replication.cursor(idAt(to), from.id)
  if (cursor() === undefined) {
    const at = { lsn: 0, chain: new Uint8Array(32) }
    to.catalog.run({ type: 'set-cursor', bucketId: idAt(to), source: from.id, logId, at })
  }
  for (let steps = 0; ; steps++) {
    const after = cursor()?.received.lsn ?? 0
    const [row] = from.catalog.replication.entries(idAt(from), after, 1, 1 << 20)
    if (row === undefined) return steps
    const isPut = from.catalog.replication.decode(row.bytes).change.type === 'put'
    const entry =
      isPut && isLacking
        ? { bytes: row.bytes, failure: 'it cannot be fetched' }
        : { bytes: row.bytes, layout: { kind: 'empty' as const } }
    to.catalog.run({
      ...{ type: 'apply-remote', bucketId: idAt(to), source: from.id, logId, after },
      entries: [entry],
    })
    look()
  }
}

test('what a bucket keeps from strangers at home no copy shows them, at no entry on the way', () => {
  const regions = [testRegion(1), testRegion(2)] as const
  const [one, two] = regions
  one.catalog.run({
    ...{ type: 'create-bucket', name: 'b', owner: 'alice' },
    configs: { 'public-access-block': Buffer.from(block()) },
  })
  put(one, 'before', publicRead)
  const rule = ruleOf()
  one.catalog.run({ type: 'set-replication', bucketId: idAt(one), rule })
  const { id } = two.catalog.run({ type: 'create-bucket', name: 'b', owner: 'alice~1' })
  two.catalog.run({ type: 'set-replication', bucketId: id, rule })
  put(one, 'after', publicRead)
  const keys = ['before', 'after']
  while (!one.catalog.run({ type: 'backfill', bucketId: idAt(one) }).done);
  const steps = shipSlowly(one, two, () => {
    for (const key of keys) assert.equal(mayRead(two, anonymous, key), false, key)
  })
  assert.ok(steps >= 3)
  for (const key of keys) {
    assert.ok(two.catalog.object(idAt(two), key) !== undefined)
    assert.equal(mayRead(two, keyOf('alice~1'), key), true)
    assert.equal(mayRead(one, anonymous, key), false)
  }
  for (const region of regions) assert.deepEqual(verifyRows(region.tables), [])
})

test('what was copied while it was public is closed with the entry that closes it at home, and not opened before', () => {
  const [one, two] = pair()
  put(one, 'k', publicRead)
  ship(one, two, 'b')
  assert.equal(mayRead(two, anonymous, 'k'), true, 'it is public at home')
  set(one, 'public-access-block', block())
  ship(one, two, 'b')
  assert.equal(mayRead(two, anonymous, 'k'), false)
  // First the object is made private, then the bucket is opened: in a copy no earlier than that.
  put(one, 'k')
  set(one, 'public-access-block', null)
  shipSlowly(one, two, () => assert.equal(mayRead(two, anonymous, 'k'), false))
  put(one, 'open', publicRead)
  ship(one, two, 'b')
  assert.equal(mayRead(two, anonymous, 'open'), true)
  set(one, 'ownership', 'BucketOwnerEnforced')
  ship(one, two, 'b')
  assert.equal(mayRead(two, anonymous, 'open'), false, 'lists are off at home')
})

test('a version that cannot be fetched does not hold up what it came with', () => {
  const [one, two] = pair()
  put(one, 'k', publicRead)
  ship(one, two, 'b')
  set(one, 'public-access-block', block())
  put(one, 'lacking', publicRead)
  shipSlowly(one, two, () => assert.equal(mayRead(two, anonymous, 'k'), false), true)
  assert.equal(two.catalog.replication.cursor(idAt(two), 1)?.retries, 1)
})

test('what opens a bucket opens no copy in which something waits that came before it, or that is still being replaced', () => {
  const [one, two] = pair()
  put(one, 'k', publicRead)
  set(one, 'public-access-block', block())
  ship(one, two, 'b')
  const setAcl = () =>
    one.catalog.run({
      type: 'set-object-acl',
      bucketId: idAt(one),
      key: 'k',
      acl: '[["a","alice","FULL_CONTROL"]]',
    })
  const mayStrangers = () => [anonymous, keyOf('carol~1')].some((identity) => mayRead(two, identity, 'k'))
  // The next version cannot be fetched, the object is made private behind it, and then the bucket is opened.
  const { versionId } = one.catalog.object(idAt(one), 'k') ?? assert.fail()
  one.catalog.run({ type: 'set-versioning', bucketId: idAt(one), state: 'enabled' })
  put(one, 'k', publicRead)
  setAcl()
  set(one, 'public-access-block', null)
  shipSlowly(one, two, () => assert.equal(mayStrangers(), false), true)
  assert.ok((two.catalog.replication.cursor(idAt(two), 1)?.retries ?? 0) >= 2)
  assert.notDeepEqual(versionId, one.catalog.object(idAt(one), 'k')?.versionId)
  assert.equal(mayRead(two, keyOf('alice~1'), 'k'), true)
  put(one, 'open', publicRead)
  for (let retries = 1; retries > 0; ) {
    assert.equal(mayStrangers(), false)
    const [retry] = two.catalog.replication.retries(idAt(two), 1, 0, 1)
    assert.ok(retry !== undefined)
    const layout = { kind: 'empty' } as const
    two.catalog.run({ type: 'retry-remote', bucketId: idAt(two), source: 1, lsn: retry.lsn, layout })
    retries = two.catalog.replication.cursor(idAt(two), 1)?.retries ?? 0
  }
  assert.equal(mayStrangers(), false, 'it is private')
  ship(one, two, 'b')
  assert.equal(mayRead(two, anonymous, 'open'), true, 'the bucket is open')

  // The copy falls behind, and synchronizes anew: settings come first, what they open is what it was long ago.
  set(one, 'public-access-block', block())
  put(one, 'old', publicRead)
  ship(one, two, 'b')
  one.catalog.run({
    type: 'set-object-acl',
    bucketId: idAt(one),
    key: 'old',
    acl: '[["a","alice","FULL_CONTROL"]]',
  })
  set(one, 'public-access-block', null)
  one.catalog.run({ type: 'start-full-sync', bucketId: idAt(one), region: 2 })
  while (!one.catalog.run({ type: 'backfill', bucketId: idAt(one) }).done);
  const from = one.catalog.replication.members(idAt(one))[0]?.acknowledged ?? 0
  const { lsn, chain } = one.catalog.replication.entryAt(idAt(one), from) ?? assert.fail()
  const logId = one.catalog.replication.outbox(idAt(one))?.id ?? ''
  two.catalog.run({ type: 'set-cursor', bucketId: idAt(two), source: 1, logId, at: { lsn, chain } })
  shipSlowly(one, two, () => assert.equal(mayRead(two, anonymous, 'old'), false))
  assert.equal(mayRead(two, anonymous, 'open'), true)
})

test('a policy means the accounts of the region that it was written in, in every region', () => {
  const [one, two] = pair()
  put(one, 'k')
  const statement = (Effect: string, Principal: object, Condition?: object) => ({
    ...{ Effect, Principal, Action: 's3:GetObject', Resource: 'arn:aws:s3:::b/*' },
    ...(Condition === undefined ? {} : { Condition }),
  })
  const policy = (...statements: object[]) => JSON.stringify({ Version: '2012-10-17', Statement: statements })
  const may = (account: string) => [
    mayRead(one, keyOf(account), 'k'),
    mayRead(two, keyOf(account), 'k'),
    mayRead(two, keyOf(`${account}~1`), 'k'),
  ]

  set(one, 'policy', policy(statement('Allow', { AWS: ['bob', 'arn:aws:iam::carol:root'] })))
  ship(one, two, 'b')
  assert.deepEqual(may('bob'), [true, false, true])
  assert.deepEqual(may('carol'), [true, false, true])
  set(one, 'policy', policy(statement('Allow', { AWS: 'bob~2' })))
  ship(one, two, 'b')
  assert.deepEqual(
    may('bob'),
    [false, true, false],
    "region 2's bob is called bob~2 at the home of the policy",
  )
  // What is said by conditions is said of the same names.
  const named = { StringEquals: { 'aws:PrincipalAccount': 'bob' } }
  set(one, 'policy', policy(statement('Allow', { AWS: '*' }, named)))
  ship(one, two, 'b')
  assert.deepEqual(may('bob'), [true, false, true])
  set(one, 'policy', policy(statement('Allow', { AWS: '*' }), statement('Deny', { AWS: 'bob' })))
  ship(one, two, 'b')
  assert.deepEqual(may('bob'), [false, true, false])
  assert.equal(mayRead(two, keyOf('root~1'), 'k'), true, 'as anybody')
  set(one, 'policy', policy(statement('Allow', { AWS: 'root' })))
  ship(one, two, 'b')
  assert.equal(mayRead(two, keyOf('root~1'), 'k'), false, 'no key of another region makes its holder root')
  assert.equal(
    two.catalog.bucketConfig(idAt(two), 'policy')?.length,
    one.catalog.bucketConfig(idAt(one), 'policy')?.length,
  )

  // The bucket stops being a copy: the policy still means whom it meant.
  set(one, 'policy', policy(statement('Allow', { AWS: 'bob' })))
  ship(one, two, 'b')
  while (!two.catalog.run({ type: 'set-replication', bucketId: idAt(two), rule: null }).done);
  assert.deepEqual(may('bob'), [true, false, true])
  set(two, 'policy', policy(statement('Allow', { AWS: 'bob' })))
  assert.deepEqual(may('bob'), [true, true, false])
})

test('a copy that was not told lets nobody in but its owner, until it is told', () => {
  const [one, two] = pair()
  put(one, 'k', publicRead)
  const rowless = (region: TestRegion) =>
    region.tables.transact((writer) => writer.remove(accessKey(idAt(region))))
  assert.equal(two.catalog.replication.access(two.catalog.bucket('b') ?? assert.fail(), 2).isKnown, false)
  ship(one, two, 'b')
  assert.equal(mayRead(two, anonymous, 'k'), true)
  // As it is after an update from a software that told nothing: the home knows what holds there, the copy does not.
  for (const region of [one, two]) rowless(region)
  assert.equal(mayRead(one, anonymous, 'k'), true)
  for (const identity of [anonymous, keyOf('carol'), keyOf('carol~1')])
    assert.equal(mayRead(two, identity, 'k'), false)
  for (const account of ['root', 'alice~1']) assert.equal(mayRead(two, keyOf(account), 'k'), true)
  // Nothing has changed, and it is told all the same: with a comparison, or by itself.
  one.catalog.run({ type: 'compare-content', bucketId: idAt(one) })
  ship(one, two, 'b')
  assert.equal(mayRead(two, anonymous, 'k'), true)
})

test('only a region that writes the bucket says who may do what in it; other documents are its own', () => {
  const [one, two] = pair()
  assert.throws(() => set(two, 'public-access-block', block()), codeOf('NOT_PRIMARY'))
  assert.throws(() => set(two, 'policy', null), codeOf('NOT_PRIMARY'))
  two.catalog.run({
    ...{ type: 'set-bucket-config', bucketId: idAt(two), kind: 'cors', value: Buffer.from('[]') },
  })
  put(one, 'k')
  ship(one, two, 'b')
  assert.equal(two.catalog.bucketConfig(idAt(two), 'cors')?.length, 2)
  // What somebody had said of the bucket before it became a copy does not count.
  const three = testRegion(3)
  three.catalog.run({
    ...{ type: 'create-bucket', name: 'b', owner: 'root' },
    configs: { acl: Buffer.from(publicRead) },
  })
  const rule = ruleOf({ members: [1, 2, 3], epoch: 2 })
  for (const region of [one, two, three])
    region.catalog.run({ type: 'set-replication', bucketId: idAt(region), rule })
  ship(one, three, 'b')
  assert.equal(three.catalog.bucketConfig(idAt(three), 'acl'), undefined)
})

test('where several regions write, the later change of each document lasts in all, and no object goes ahead of it', () => {
  const [one, two, three] = regionsOf(3, { mode: 'multi' })
  assert.ok(one !== undefined && two !== undefined && three !== undefined)
  const all = [one, two, three]
  const even = () => {
    for (let round = 0; round < 2; round++)
      for (const from of all) for (const to of all) if (from !== to) ship(from, to, 'b')
  }
  const stateOf = (region: TestRegion) =>
    (['acl', 'policy', 'ownership', 'public-access-block'] as const).map((kind) =>
      Buffer.from(region.catalog.bucketConfig(idAt(region), kind) ?? []).toString(),
    )
  assert.throws(
    () => set(three, 'public-access-block', block()),
    codeOf('UNAVAILABLE'),
    'it has not been told',
  )
  put(one, 'first')
  even()
  set(one, 'public-access-block', block())
  set(three, 'ownership', 'ObjectWriter')
  two.clock.nowMs += 1_000
  set(two, 'public-access-block', block({ blockPublicAcls: true }))
  even()
  for (const region of all) {
    assert.deepEqual(stateOf(region), ['', '', 'ObjectWriter', block({ blockPublicAcls: true })])
  }
  one.clock.nowMs += 5_000
  // Region 2 hears of the block and then takes a public object, which region 3 gets from it before it hears of region 1.
  set(one, 'public-access-block', block())
  ship(one, two, 'b')
  put(two, 'k', publicRead)
  ship(two, three, 'b')
  assert.ok(three.catalog.object(idAt(three), 'k') !== undefined)
  assert.equal(mayRead(three, anonymous, 'k'), false)
  even()
  const heads = () => all.map((region) => region.catalog.replication.outbox(idAt(region))?.head.lsn)
  const before = heads()
  even()
  assert.deepEqual(heads(), before, 'what is told again and again ends')
})

test('a copy that was never told and becomes the primary stays closed until somebody says who may do what', () => {
  const [one, two] = pair()
  put(one, 'k', publicRead)
  ship(one, two, 'b')
  two.tables.transact((writer) => writer.remove(accessKey(idAt(two))))
  const rule = ruleOf({ primary: 2, epoch: 2 })
  for (const region of [two, one])
    region.catalog.run({ type: 'set-replication', bucketId: idAt(region), rule })
  assert.equal(mayRead(two, anonymous, 'k'), false)
  put(two, 'later', publicRead)
  ship(two, one, 'b')
  assert.equal(mayRead(one, anonymous, 'k'), true, 'what it does not know it tells nobody')
  set(two, 'public-access-block', block())
  ship(two, one, 'b')
  for (const region of [one, two]) assert.equal(mayRead(region, anonymous, 'later'), false)
  set(two, 'public-access-block', null)
  ship(two, one, 'b')
  for (const region of [one, two]) assert.equal(mayRead(region, anonymous, 'later'), true)
})

test('a former primary takes the settings of its successor, older ones too', () => {
  const [one, two] = pair()
  put(one, 'k', publicRead)
  set(one, 'public-access-block', block())
  ship(one, two, 'b')
  set(one, 'public-access-block', null)
  const rule = ruleOf({ primary: 2, epoch: 2 })
  for (const region of [two, one])
    region.catalog.run({ type: 'set-replication', bucketId: idAt(region), rule })
  assert.equal(mayRead(one, anonymous, 'k'), true, 'nobody has heard of that but the region itself')
  put(two, 'later')
  ship(two, one, 'b')
  for (const region of [one, two]) assert.equal(mayRead(region, anonymous, 'k'), false)
})

test('settings from the future, of half the documents or too large are no entry', () => {
  const [one, two] = pair({ mode: 'multi' })
  put(one, 'k', publicRead)
  ship(one, two, 'b')
  const [row] = one.catalog.replication.entries(idAt(one), 0, 1, 1 << 20)
  assert.ok(row !== undefined)
  const entry = one.catalog.replication.decode(row.bytes)
  const { access = [] } = entry
  assert.equal(access.length, 4)
  const decode = one.catalog.replication.decode
  const later = access.map((setting) => ({ ...setting, changed: new Uint8Array(10).fill(0x7f) }))
  assert.throws(() => decode(encodeOutboxEntry({ ...entry, access: later })), codeOf('PROTOCOL_ERROR'))
  assert.throws(
    () => decode(encodeOutboxEntry({ ...entry, access: access.slice(1) })),
    codeOf('PROTOCOL_ERROR'),
  )
  const [first] = access
  assert.ok(first !== undefined)
  const twice = [first, first, ...access.slice(2)]
  assert.throws(() => decode(encodeOutboxEntry({ ...entry, access: twice })), codeOf('PROTOCOL_ERROR'))
  const large = access.map((setting) => ({ ...setting, value: new Uint8Array(64 * 1024 + 1) }))
  assert.throws(() => decode(encodeOutboxEntry({ ...entry, access: large })), codeOf('PROTOCOL_ERROR'))
})

const edgeRule = ruleOf({
  ...{ mode: 'multi', edge: { ...defaultEdge, regions: [2], priorities: [], pinned: [] } },
})

test('an edge has what its hub says of who may do what, with the offer of the bucket, and says nothing of it', async () => {
  const [hub, edge] = [testRegion(1), testRegion(2)]
  hub.catalog.run({ type: 'create-bucket', name: 'b', owner: 'alice' })
  hub.catalog.run({ type: 'set-replication', bucketId: idAt(hub), rule: edgeRule })
  put(hub, 'k', publicRead)
  const environment = { clock: realEnvironment.clock, log: silentLogger }
  const source = new ReplicationSource({
    ...{ ...environment, regionId: 1, catalog: hub.catalog, chunks: createMemoryStore(environment.clock) },
    writes: { pin: () => () => undefined },
  })
  const hear = async () => {
    const reply = await source.offers(2, { after: '', seen: '', waitMs: 0 }, new AbortController().signal)
    // Over the wire and back.
    const { offers } = decode(offersSchema, encode(reply))
    const [offer] = offers
    assert.ok(offer !== undefined)
    await acceptOffer({ regionId: 2, catalog: edge.catalog }, 1, offer as Offer)
    return reply.tag
  }
  const cache = () => {
    const entry = hub.catalog.replication.versionEntry(idAt(hub), 'k')
    assert.ok(entry !== undefined)
    edge.catalog.run({ type: 'cache-version', bucketId: idAt(edge), key: 'k', entry })
  }
  const tagOf = (region: TestRegion) =>
    region.catalog.replication.access(region.catalog.bucket('b') ?? assert.fail(), region.id).tag

  const first = await hear()
  cache()
  assert.equal(mayRead(edge, anonymous, 'k'), true)
  assert.equal(tagOf(edge), tagOf(hub))
  set(hub, 'public-access-block', block())
  assert.notEqual(tagOf(edge), tagOf(hub), 'an answer of the hub shows that something is on its way')
  assert.notEqual(await hear(), first, 'the offers are others')
  assert.equal(mayRead(edge, anonymous, 'k'), false)
  assert.equal(tagOf(edge), tagOf(hub))
  set(hub, 'public-access-block', null)
  await hear()
  assert.equal(mayRead(edge, anonymous, 'k'), true)
  assert.throws(() => set(edge, 'policy', null), codeOf('NOT_PRIMARY'))

  // What the hub tells of a version that is not here is judged by itself, not by the version that is here.
  put(hub, 'k')
  const told = edge.catalog.replication.recordOf(
    hub.catalog.replication.versionEntry(idAt(hub), 'k') ?? assert.fail(),
    ...([1, 2] as const),
  )
  assert.equal(mayRead(edge, anonymous, 'k', told), false)
  assert.equal(mayRead(edge, keyOf('alice~1'), 'k', told), true)
  assert.equal(mayRead(edge, anonymous, 'k'), true, 'the edge holds the one that was public')
  cache()
  assert.equal(mayRead(edge, anonymous, 'k'), false)

  // An edge that was taken over tells of settings all the same.
  set(hub, 'public-access-block', block())
  put(edge, 'mine')
  const logId = edge.catalog.replication.outbox(idAt(edge))?.id ?? ''
  edge.catalog.run({ type: 'stage-outbox', bucketId: idAt(edge), askedFrom: 1 })
  const rows = edge.catalog.replication.entries(idAt(edge), 0, 10, 1 << 20)
  const access = hub.catalog.replication.accessSettings(hub.catalog.bucket('b') ?? assert.fail(), 1) ?? []
  const entries = rows.map(({ bytes }) => {
    const entry = edge.catalog.replication.decode(bytes)
    assert.equal(entry.access, undefined)
    const changed = edge.catalog.object(idAt(edge), 'mine')?.versionId.slice(0, 10) ?? assert.fail()
    const opened = access.map((one) => ({ ...one, value: null, changed }))
    return { bytes: encodeOutboxEntry({ ...entry, access: opened }), layout: { kind: 'empty' as const } }
  })
  const at = { lsn: 0, chain: new Uint8Array(32) }
  hub.catalog.run({ type: 'set-cursor', bucketId: idAt(hub), source: 2, logId, at })
  hub.catalog.run({ type: 'apply-remote', bucketId: idAt(hub), source: 2, logId, after: 0, entries })
  assert.ok(hub.catalog.object(idAt(hub), 'mine') !== undefined)
  assert.equal(mayRead(hub, anonymous, 'k'), false)
})
