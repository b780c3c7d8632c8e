import assert from 'node:assert/strict'
import { type TestContext, test } from 'node:test'
import { createWriteRegistry } from '../../../../core/catalog/write-registry.ts'
import { StorageError } from '../../../../core/contract/errors.ts'
import {
  emptyObject,
  etagOf,
  inlineObject,
  putCommand,
  realEnvironment,
} from '../../../kit/catalog-commands.ts'
import {
  makeRegion,
  mapOf,
  quickPace,
  type TestNode,
  type TestRegion,
} from '../../../kit/replicated-region.ts'

const registry = createWriteRegistry(realEnvironment)
const timeout = 60_000

async function openThree(
  t: TestContext,
): Promise<{ region: TestRegion; nodes: [TestNode, TestNode, TestNode] }> {
  const region = await makeRegion(t, ['a', 'b', 'c'])
  const nodes = [await region.open('a'), await region.open('b'), await region.open('c')] as [
    TestNode,
    TestNode,
    TestNode,
  ]
  await Promise.all(nodes.map(({ catalog }) => catalog.ready()))
  return { region, nodes }
}

async function converged(nodes: readonly TestNode[]): Promise<void> {
  const deadline = performance.now() + 20_000
  for (;;) {
    const places = nodes.map(({ catalog }) => `${catalog.status().position} ${catalog.status().confirmed}`)
    const isSame =
      new Set(nodes.map(({ catalog }) => Buffer.from(catalog.checkpoint().chain).toString('hex'))).size === 1
    if (isSame && new Set(places).size === 1) break
    assert.ok(
      performance.now() < deadline,
      JSON.stringify(
        nodes.map(({ catalog }) => catalog.status()),
        null,
        1,
      ),
    )
    await realEnvironment.clock.sleep(20)
  }
  assert.equal(new Set(nodes.map(({ catalog }) => catalog.stateHash())).size, 1)
}

test('three nodes found a region, and what one writes all read', { timeout }, async (t) => {
  const { nodes } = await openThree(t)
  const [a, b, c] = nodes
  assert.equal(a.catalog.clusterMap().epoch, 1)
  const bucket = await a.catalog.submit({ type: 'create-bucket', name: 'photos', owner: 'root' })
  const writeId = registry.begin()
  await b.catalog.barrier()
  await b.catalog.submit(
    putCommand(bucket.id, 'sea', inlineObject(writeId, new Uint8Array([1, 2]), etagOf(1))),
  )
  await c.catalog.barrier()
  assert.equal(c.catalog.object(bucket.id, 'sea')?.etag, etagOf(1))
  assert.deepEqual(c.catalog.inlineBody(writeId), new Uint8Array([1, 2]))
  await Promise.all(
    Array.from({ length: 300 }, (_, index) =>
      nodes[index % 3]?.catalog.submit(putCommand(bucket.id, `key ${index}`, emptyObject(etagOf(index)))),
    ),
  )
  await converged(nodes)
  assert.deepEqual(a.catalog.status().problems, [])
  assert.equal(a.catalog.status().activity, 'following')
})

test('of conditional writes from all gateways at once one wins', { timeout }, async (t) => {
  const { nodes } = await openThree(t)
  const bucket = await nodes[0].catalog.submit({ type: 'create-bucket', name: 'photos', owner: 'root' })
  const results = await Promise.allSettled(
    Array.from({ length: 12 }, (_, index) =>
      nodes[index % 3]?.catalog.submit(
        putCommand(bucket.id, 'only one', emptyObject(etagOf(index)), { ifNoneMatch: '*' }),
      ),
    ),
  )
  assert.equal(results.filter(({ status }) => status === 'fulfilled').length, 1)
})

test('a minority acknowledges nothing and shows nothing that is not confirmed', { timeout }, async (t) => {
  const { region, nodes } = await openThree(t)
  const [a] = nodes
  const bucket = await a.catalog.submit({ type: 'create-bucket', name: 'photos', owner: 'root' })
  region.network.cut('a', 'b')
  region.network.cut('a', 'c')
  // The stream still takes it, and node a applies it: nobody confirms it to a.
  const put = a.catalog.submit(putCommand(bucket.id, 'unseen', emptyObject(etagOf(1))))
  let isSettled = false
  put.finally(() => (isSettled = true)).catch(() => undefined)
  await realEnvironment.clock.sleep(300)
  assert.equal(isSettled, false)
  assert.equal(a.catalog.object(bucket.id, 'unseen'), undefined)
  await assert.rejects(
    a.catalog.barrier(),
    (error) => error instanceof StorageError && error.code === 'UNAVAILABLE',
  )
  region.network.heal()
  await put
  assert.equal(a.catalog.object(bucket.id, 'unseen')?.etag, etagOf(1))
  await converged(nodes)
})

test('B8: a stream that loses acknowledged records is replaced, and nothing acknowledged is lost', {
  timeout,
}, async (t) => {
  const { region, nodes } = await openThree(t)
  const [a, b, c] = nodes
  const bucket = await a.catalog.submit({ type: 'create-bucket', name: 'photos', owner: 'root' })
  for (let index = 0; index < 20; index++) {
    await a.catalog.submit(putCommand(bucket.id, `key ${index}`, emptyObject(etagOf(index))))
  }
  const [stream = ''] = region.servers.names
  region.servers.loseSuffix(stream, 10)
  const later = await b.catalog.submit(putCommand(bucket.id, 'later', emptyObject(etagOf(99))))
  assert.equal(later.versionId, 'null')
  await converged(nodes)
  assert.ok(c.catalog.status().generation > 1)
  for (let index = 0; index < 20; index++) {
    assert.equal(c.catalog.object(bucket.id, `key ${index}`)?.etag, etagOf(index))
  }
})

test('a stream that is gone altogether is replaced', { timeout }, async (t) => {
  const { region, nodes } = await openThree(t)
  const bucket = await nodes[0].catalog.submit({ type: 'create-bucket', name: 'photos', owner: 'root' })
  region.servers.loseStream(region.servers.names[0] ?? '')
  await nodes[1].catalog.submit(putCommand(bucket.id, 'later', emptyObject(etagOf(1))))
  await converged(nodes)
})

test('a node that was away catches up; one whose disk was wiped is another node', { timeout }, async (t) => {
  const { region, nodes } = await openThree(t)
  const [a, b, c] = nodes
  const bucket = await a.catalog.submit({ type: 'create-bucket', name: 'photos', owner: 'root' })
  await c.stop()
  for (let index = 0; index < 30; index++) {
    await b.catalog.submit(putCommand(bucket.id, `key ${index}`, emptyObject(etagOf(index))))
  }
  const again = await region.open('c')
  assert.equal(again.catalog.incarnation, c.catalog.incarnation)
  await again.catalog.ready()
  await again.catalog.barrier()
  assert.equal(again.catalog.object(bucket.id, 'key 29')?.etag, etagOf(29))
  await again.stop()
  await import('node:fs/promises').then(({ rm }) => rm(region.directory('c'), { recursive: true }))
  const wiped = await region.open('c')
  assert.notEqual(wiped.catalog.incarnation, c.catalog.incarnation)
  await wiped.catalog.ready()
  assert.equal(wiped.catalog.status().isVoter, false)
  await wiped.catalog.barrier()
  assert.equal(wiped.catalog.object(bucket.id, 'key 29')?.etag, etagOf(29))
  // It takes its seat again with its new incarnation.
  const map = a.catalog.clusterMap()
  const { incarnation } = wiped.catalog
  await a.catalog.submit({
    type: 'set-cluster-map',
    map: {
      ...map,
      epoch: 2,
      nodes: map.nodes.map((node) => (node.name === 'c' ? { ...node, incarnation } : node)),
    },
  })
  await converged([a, b, wiped])
  assert.equal(wiped.catalog.status().isVoter, true)
  await b.stop()
  // Without another entry: those who voted before it have nothing to say any more.
  await wiped.catalog.barrier()
  await wiped.catalog.submit(putCommand(bucket.id, 'without b', emptyObject(etagOf(1))))
})

test('a node that comes back is told at once how far the others are: it listens later than it is connected', {
  timeout,
}, async (t) => {
  // Nobody tells anything unasked for as long as the test may take.
  const pace = { ...quickPace, replica: { ...quickPace.replica, progressMs: 600_000 } }
  const region = await makeRegion(t, ['a', 'b', 'c'], pace)
  const nodes = await Promise.all(['a', 'b', 'c'].map((name) => region.open(name)))
  await Promise.all(nodes.map(({ catalog }) => catalog.ready()))
  await nodes[0]?.catalog.submit({ type: 'create-bucket', name: 'photos', owner: 'root' })
  await nodes[2]?.stop()
  const again = await region.open('c')
  await again.catalog.ready()
  assert.equal(again.catalog.bucket('photos')?.owner, 'root')
})

test('a region of one node becomes a cluster with all that it had', { timeout }, async (t) => {
  const { openCatalog } = await import('../../../../core/catalog/catalog.ts')
  const region = await makeRegion(t, ['a'])
  const options = { environment: realEnvironment, regionId: 1, inlineBytes: 4096 }
  const alone = await openCatalog({ directory: region.directory('a'), ...options })
  const bucket = await alone.submit({ type: 'create-bucket', name: 'photos', owner: 'root' })
  for (let index = 0; index < 20; index++) {
    await alone.submit(putCommand(bucket.id, `key ${index}`, emptyObject(etagOf(index))))
  }
  await alone.close()
  const a = await region.open('a')
  await a.catalog.ready()
  assert.equal(a.catalog.object(bucket.id, 'key 7')?.etag, etagOf(7))
  const b = await region.open('b')
  await b.catalog.ready()
  assert.equal(b.catalog.object(bucket.id, 'key 7')?.etag, etagOf(7))
  const members = [a, b].map(({ name, catalog }) => ({ name, incarnation: catalog.incarnation }))
  await b.catalog.submit({ type: 'set-cluster-map', map: mapOf(2, members) })
  await b.catalog.submit(putCommand(bucket.id, 'both', emptyObject(etagOf(1))))
  await converged([a, b])
  await a.stop()
  await assert.rejects(
    openCatalog({ directory: region.directory('a'), ...options }),
    (error) => error instanceof StorageError && error.code === 'INVALID_CONFIG',
  )
})
