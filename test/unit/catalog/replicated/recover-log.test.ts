import assert from 'node:assert/strict'
import { rm } from 'node:fs/promises'
import { test } from 'node:test'
import { readStoppedReplica, recoverLog } from '../../../../core/catalog/replicated/recover-log.ts'
import { recoveryMaps } from '../../../../core/cluster/placement/recovery-maps.ts'
import type { StorageError } from '../../../../core/contract/errors.ts'
import type { GroupRecord } from '../../../../core/contract/failover.ts'
import { emptyObject, etagOf, putCommand, realEnvironment } from '../../../kit/catalog-commands.ts'
import { ruleOf } from '../../../kit/replicated-buckets.ts'
import { makeRegion, type TestNode, type TestRegion } from '../../../kit/replicated-region.ts'

const timeout = 90_000
const names = ['a', 'b', 'c']

async function put(node: TestNode, bucketId: number, prefix: string, count: number): Promise<string[]> {
  const keys = Array.from({ length: count }, (_, index) => `${prefix} ${index}`)
  await Promise.all(keys.map((key) => node.catalog.submit(putCommand(bucketId, key, emptyObject(etagOf(1))))))
  return keys
}

const sleep = (ms: number) => realEnvironment.clock.sleep(ms)

async function until(what: string, holds: () => boolean): Promise<void> {
  const deadline = performance.now() + 20_000
  while (!holds()) {
    assert.ok(performance.now() < deadline, what)
    await sleep(20)
  }
}

/** As `pando cluster recover` does it, on the stopped node `name`. */
async function recover(region: TestRegion, name: string, kept: readonly string[] = []): Promise<void> {
  const directory = region.directory(name)
  const { map, incarnation } = await readStoppedReplica(directory)
  await recoverLog({
    ...{ directory, environment: realEnvironment, regionId: 1, name, knownRound: 0 },
    maps: recoveryMaps(map, { name, incarnation }, new Set(kept)),
  })
}

/** A region of which `c` alone is left: what it had, and what was acknowledged without it. */
async function loseTwo(region: TestRegion) {
  const [a, b, c] = await Promise.all(names.map((name) => region.open(name)))
  assert.ok(a && b && c)
  await Promise.all([a, b, c].map(({ catalog }) => catalog.ready()))
  const { id } = await a.catalog.submit({ type: 'create-bucket', name: 'photos', owner: 'root' })
  const reached = [...(await put(a, id, 'from a', 40)), ...(await put(c, id, 'from c', 40))]
  await until('c has all', () => c.catalog.status().confirmed >= a.catalog.status().confirmed)
  await c.stop()
  const missed = await put(b, id, 'without c', 20)
  await Promise.all([a.stop(), b.stop()])
  return { bucketId: id, reached, missed }
}

test('a region goes on from one of three nodes with all that had reached it', { timeout }, async (t) => {
  const region = await makeRegion(t, names)
  const { bucketId, reached, missed } = await loseTwo(region)
  const before = await readStoppedReplica(region.directory('c'))
  assert.equal(before.voters.length, 3)
  await recover(region, 'c')
  const after = await readStoppedReplica(region.directory('c'))
  assert.notEqual(after.founding.log, before.founding.log)
  assert.deepEqual(after.founding.replaced, [before.founding.log])
  assert.deepEqual(
    after.map.nodes.map(({ name, voter }) => [name, voter]),
    [['c', true]],
  )

  const c = await region.open('c')
  await c.catalog.ready(AbortSignal.timeout(20_000))
  await c.catalog.barrier()
  for (const key of reached) assert.ok(c.catalog.object(bucketId, key), key)
  for (const key of missed) assert.equal(c.catalog.object(bucketId, key), undefined, key)
  const more = await put(c, bucketId, 'later', 10)

  // What comes after it, a restart too, is in the new log.
  await c.stop()
  const again = await region.open('c')
  await again.catalog.ready(AbortSignal.timeout(20_000))
  await again.catalog.barrier()
  for (const key of [...reached, ...more]) assert.ok(again.catalog.object(bucketId, key), key)
  assert.deepEqual(again.catalog.status().problems, [])
})

test('a node that comes back with the old log stops with words; with an empty disk it joins', {
  timeout,
}, async (t) => {
  const region = await makeRegion(t, names)
  const { bucketId, reached, missed } = await loseTwo(region)
  await recover(region, 'c')
  const c = await region.open('c')
  await c.catalog.ready(AbortSignal.timeout(20_000))

  const failures = new Map<string, StorageError>()
  const old = await Promise.all(
    ['a', 'b'].map((name) => region.open(name, { onFailure: (error) => failures.set(name, error) })),
  )
  await until('both have been told', () => failures.size === 2)
  for (const [name, error] of failures) {
    assert.equal(error.code, 'PEER_REFUSED')
    assert.match(
      error.reason,
      /recovered without it .*and c goes on from there: move the directory `catalog`/,
      name,
    )
  }
  await Promise.all(old.map((node) => node.stop()))
  await c.catalog.barrier()
  for (const key of missed) assert.equal(c.catalog.object(bucketId, key), undefined, key)

  await rm(region.directory('a'), { recursive: true })
  const joined = await region.open('a', { onFailure: (error) => failures.set('new a', error) })
  await until('a has the catalog', () => joined.catalog.status().position >= c.catalog.status().position)
  assert.equal(failures.has('new a'), false)
  for (const key of reached) assert.ok(c.catalog.object(bucketId, key), key)
})

test('a recovered region votes for nobody in a group whose votes it may have forgotten, and leads nothing in it', {
  timeout,
}, async (t) => {
  const region = await makeRegion(t, names)
  const [a, b, c] = await Promise.all(names.map((name) => region.open(name)))
  assert.ok(a && b && c)
  await Promise.all([a, b, c].map(({ catalog }) => catalog.ready()))
  const { id: bucketId } = await a.catalog.submit({ type: 'create-bucket', name: 'photos', owner: 'root' })
  await a.catalog.submit({ type: 'set-replication', bucketId, rule: ruleOf() })
  const record: GroupRecord = {
    ...{ name: 'g', regions: [1, 2], witnesses: [3], buckets: ['photos'], syncBuckets: [] },
    ...{ automatic: true, flapMs: 60_000, leaseMs: 8_000 },
    ...{ primary: 1, epoch: 4, revision: 0, automaticMs: 0, reigns: [] },
  }
  await a.catalog.submit({ type: 'put-group', record })
  await until('c has all', () => c.catalog.failover.group('g') !== undefined)
  await c.stop()
  // The vote for region 2 is confirmed without c.
  await b.catalog.submit({ type: 'vote-group', name: 'g', epoch: 5, primary: 2 })
  await Promise.all([a.stop(), b.stop()])
  const { groups, sharedBuckets } = await readStoppedReplica(region.directory('c'))
  assert.deepEqual([groups, sharedBuckets], [['g'], 1])
  await recover(region, 'c')

  const again = await region.open('c')
  const { catalog } = again
  await catalog.ready(AbortSignal.timeout(20_000))
  assert.equal(catalog.failover.group('g')?.ballot.epoch, 4, 'it has forgotten its vote')
  const refused = /STALE_EPOCH: this region was recovered/
  const own = { type: 'vote-group', name: 'g', epoch: 5, primary: 1 } as const
  await assert.rejects(catalog.submit(own), refused)
  const lease = { type: 'grant-lease', name: 'g', epoch: 4, primary: 1 } as const
  await assert.rejects(catalog.submit(lease), refused)
  const taken = { type: 'take-group', name: 'g', epoch: 5, cause: 'automatic' } as const
  await assert.rejects(catalog.submit(taken), refused)
  const write = { ...putCommand(bucketId, 'x', emptyObject(etagOf(1))), groupEpoch: 4 }
  await assert.rejects(catalog.submit(write), /UNAVAILABLE: this region was recovered/)

  // It hears of others' primaries, and is still no voter.
  const led = { ...record, primary: 2, epoch: 6 }
  await catalog.submit({ type: 'put-group', record: led })
  assert.equal(catalog.failover.group('g')?.record.primary, 2)
  await assert.rejects(
    catalog.submit({ type: 'vote-group', name: 'g', epoch: 7, primary: 2 }),
    /STALE_EPOCH: this region was recovered/,
  )
})

test('a disk that is not the one of the map, or holds no region, cannot be recovered from', {
  timeout,
}, async (t) => {
  const region = await makeRegion(t, names)
  await assert.rejects(readStoppedReplica(region.directory('c')), /INVALID_REQUEST: .*holds no catalog/)
  const map = {
    epoch: 3,
    replicas: 3,
    nodes: names.map((name) => ({
      ...{ name, incarnation: `${name}1`, voter: true, zone: '', rack: '', weight: 1 },
      ...{ state: 'active' as const, control: '127.0.0.1:1', transports: {} },
    })),
  }
  assert.throws(() => recoveryMaps(map, { name: 'c', incarnation: 'c2' }, new Set()), /with another disk/)
  assert.throws(
    () => recoveryMaps(map, { name: 'd', incarnation: 'd1' }, new Set()),
    /taken out of the region/,
  )
  const maps = recoveryMaps(map, { name: 'c', incarnation: 'c1' }, new Set(['b']))
  assert.deepEqual(
    maps.map(({ epoch, nodes }) => [
      epoch,
      nodes.map(({ name, voter }) => `${name}${voter ? '*' : ''}`).join(' '),
    ]),
    [
      [4, 'a b* c*'],
      [5, 'a b c*'],
      [6, 'b c*'],
    ],
  )
})
