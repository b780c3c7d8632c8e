import assert from 'node:assert/strict'
import { test } from 'node:test'
import { accountFrom, foreignAccount } from '../../../core/contract/accounts.ts'
import { aclGrants, deserializeAcl, serializeAcl } from '../../../core/gateway/s3/acl.ts'
import { plainAttributes, realEnvironment } from '../../kit/catalog-commands.ts'
import { MemoryRegions } from '../../kit/memory-regions.ts'
import { ruleOf } from '../../kit/replicated-buckets.ts'
import { ReplicatingRegion } from '../../kit/replicating-region.ts'

const { clock } = realEnvironment

async function until(what: string, isSo: () => boolean): Promise<void> {
  for (const end = clock.monotonic() + 10_000; !isSo(); await clock.sleep(20)) {
    if (clock.monotonic() > end) throw new Error(`it did not come to it that ${what}`)
  }
}

const grant = (account: string): string =>
  serializeAcl({ grants: [{ grantee: { kind: 'account', account }, permission: 'READ' }] })

test('a name means the account of the region that says it, and only root is everywhere root', () => {
  assert.equal(accountFrom('bob', 1, 2), 'bob~1')
  assert.equal(accountFrom('bob~2', 1, 2), 'bob', 'what another region calls ours is ours')
  assert.equal(accountFrom('bob~3', 1, 2), 'bob~3', 'a third region is called the same everywhere')
  assert.equal(accountFrom('root', 1, 2), 'root')
  // What is no name that this software gives comes out as an account of the region that says it.
  for (const odd of ['bob~', '~1', 'bob~01', 'bob~99999999', 'b~b', 'bob~-1']) {
    assert.equal(accountFrom(odd, 1, 2), `${odd}~1`)
  }
  assert.equal(foreignAccount('root', 1), 'root~1', "no key makes anybody another region's root")
  for (const name of ['bob', 'bob~3', 'b~b', 'root']) {
    assert.equal(accountFrom(accountFrom(name, 1, 2), 2, 1), name, 'there and back')
  }
})

test('a local bob owns nothing of a bob elsewhere, and that one owns his objects in every region', async (context) => {
  const network = new MemoryRegions({ clock })
  const [one, two] = [1, 2].map((id) => new ReplicatingRegion(id, network, realEnvironment))
  assert.ok(one !== undefined && two !== undefined)
  for (const region of [one, two]) region.start()
  context.after(() => Promise.all([one.kill(), two.kill()]))
  const write = (region: ReplicatingRegion, key: string, owner: string, acl: string) =>
    region.catalog.submit({
      ...{ type: 'put-object', bucketId: region.bucketId('b'), key, owner },
      object: {
        ...{ byteLength: 0, etag: 'd41d8cd98f00b204e9800998ecf8427e' },
        attributes: { ...plainAttributes, acl },
        layout: { kind: 'empty' },
      },
    })
  const accounts = (region: ReplicatingRegion, key: string) => {
    const record = region.catalog.object(region.bucketId('b'), key)
    return { owner: record?.owner, grants: deserializeAcl(record?.attributes.acl ?? '[]').grants }
  }
  const to = (account: string) => [{ grantee: { kind: 'account', account }, permission: 'READ' }]

  await one.catalog.submit({ type: 'create-bucket', name: 'b', owner: 'bob' })
  await write(one, 'before', 'bob', grant('carol'))
  await one.catalog.submit({
    ...{ type: 'set-replication', bucketId: one.bucketId('b'), rule: ruleOf({ mode: 'multi' }) },
  })
  await until('the object is there', () => {
    const bucket = two.catalog.bucket('b')
    return bucket !== undefined && two.catalog.object(bucket.id, 'before') !== undefined
  })
  assert.equal(two.catalog.bucket('b')?.owner, 'bob~1')
  assert.deepEqual(accounts(two, 'before'), { owner: 'bob~1', grants: to('carol~1') })
  const stranger = { kind: 'key', account: 'carol', accessKeyId: 'K', root: false } as const
  const acl = deserializeAcl(two.catalog.object(two.bucketId('b'), 'before')?.attributes.acl ?? '[]')
  assert.equal(aclGrants(acl, stranger, 'READ', { ignorePublic: false }), false)
  assert.equal(aclGrants(acl, { ...stranger, account: 'carol~1' }, 'READ', { ignorePublic: false }), true)

  // With a key of region 1 he writes in region 2; a local bob there writes, too.
  await write(two, 'his', 'bob~1', grant('bob'))
  await write(two, 'local', 'bob', grant('bob~1'))
  await until('they are in region 1', () => one.catalog.object(one.bucketId('b'), 'local') !== undefined)
  assert.deepEqual(accounts(one, 'his'), { owner: 'bob', grants: to('bob~2') })
  assert.deepEqual(accounts(one, 'local'), { owner: 'bob~2', grants: to('bob') })

  // A list that changes later.
  const acl2 = grant('dave')
  await one.catalog.submit({
    ...{ type: 'set-object-acl', bucketId: one.bucketId('b'), key: 'his', acl: acl2 },
  })
  await until(
    'the list is there',
    () => JSON.stringify(accounts(two, 'his').grants) === JSON.stringify(to('dave~1')),
  )
  assert.equal(accounts(two, 'his').owner, 'bob~1')
  // Same content, whatever each region calls the accounts: a comparison finds no difference.
  await one.catalog.submit({ type: 'compare-content', bucketId: one.bucketId('b') })
  await until('it was compared', () => (two.replicator?.status()[0]?.incoming[0]?.comparedRanges ?? 0) > 0)
  assert.equal(two.replicator?.status()[0]?.incoming[0]?.differences, 0)
})
