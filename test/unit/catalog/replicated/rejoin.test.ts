import assert from 'node:assert/strict'
import { cp, rm } from 'node:fs/promises'
import { test } from 'node:test'
import { peerRequest, placeAnswer, topic } from '../../../../core/catalog/replicated/peer-messages.ts'
import { type Logger, silentLogger } from '../../../../core/contract/logger.ts'
import { emptyObject, etagOf, putCommand, realEnvironment } from '../../../kit/catalog-commands.ts'
import { makeRegion, quickPace, type TestNode } from '../../../kit/replicated-region.ts'

const timeout = 60_000

/** What it asks the node as any voter would: how far it has come. */
const placeOf = (from: TestNode, to: string): Promise<Uint8Array> =>
  from.peers.request(to, topic, peerRequest.encode({ type: 'place', log: '', rules: false }), {
    deadlineMs: 10_000,
  })

test('a voter whose disk is as it was earlier says so, and has no vote before it holds what it had confirmed', {
  timeout,
}, async (t) => {
  // Whoever is not heard is waited for as long as the test takes.
  const pace = { ...quickPace, replica: { ...quickPace.replica, requestMs: 40_000 } }
  const region = await makeRegion(t, ['a', 'b', 'c'], pace)
  const [a, b, c] = (await Promise.all(['a', 'b', 'c'].map((name) => region.open(name)))) as [
    TestNode,
    TestNode,
    TestNode,
  ]
  await Promise.all([a, b, c].map(({ catalog }) => catalog.ready()))
  const bucket = await a.catalog.submit({ type: 'create-bucket', name: 'photos', owner: 'root' })
  await c.stop()
  const image = `${region.directory('c')}.image`
  await cp(region.directory('c'), image, { recursive: true })
  const whole = await region.open('c')
  await whole.catalog.ready()
  await whole.catalog.barrier()
  // With its word: b is not there.
  await b.stop()
  for (let index = 0; index < 20; index++) {
    await a.catalog.submit(putCommand(bucket.id, `key ${index}`, emptyObject(etagOf(index))))
  }
  await whole.catalog.barrier()
  const held = whole.catalog.status().position
  await whole.stop()
  await rm(region.directory('c'), { recursive: true })
  await cp(image, region.directory('c'), { recursive: true })

  // Those that know are cut off: it must not pass for what it was.
  region.network.cut('a', 'c')
  const errors: string[] = []
  const log: Logger = {
    ...silentLogger,
    child: () => log,
    error: (_fields: unknown, message?: string) => errors.push(message ?? ''),
  } as Logger
  const restored = await region.open('c', { log })
  const behind = await region.open('b')
  assert.equal(restored.catalog.incarnation, c.catalog.incarnation)
  await realEnvironment.clock.sleep(200)
  assert.match(restored.catalog.status().problems.join('; '), /has come back and does not vote yet/)
  await assert.rejects(placeOf(behind, 'c'), /does not know yet what the other voters hold/)

  region.network.heal()
  await restored.catalog.barrier()
  assert.equal(restored.catalog.object(bucket.id, 'key 19')?.etag, etagOf(19))
  assert.equal(errors.filter((message) => /holds less than the node had confirmed/.test(message)).length, 1)
  assert.doesNotMatch(restored.catalog.status().problems.join('; '), /does not vote/)
  assert.ok(placeAnswer.decode(await placeOf(behind, 'c')).position >= held)
  // Its word counts again.
  await a.stop()
  await restored.catalog.submit(putCommand(bucket.id, 'without a', emptyObject(etagOf(1))))
  await behind.catalog.barrier()
  assert.equal(behind.catalog.object(bucket.id, 'without a')?.etag, etagOf(1))
})

test('a voter that comes back votes although another one is away: it waits for that one only so long', {
  timeout,
}, async (t) => {
  const region = await makeRegion(t, ['a', 'b', 'c'])
  const nodes = await Promise.all(['a', 'b', 'c'].map((name) => region.open(name)))
  await Promise.all(nodes.map(({ catalog }) => catalog.ready()))
  for (const node of nodes) await node.stop()
  const [a, c] = await Promise.all([region.open('a'), region.open('c')])
  const bucket = await a?.catalog.submit({ type: 'create-bucket', name: 'photos', owner: 'root' })
  await c?.catalog.barrier()
  assert.equal(c?.catalog.bucket('photos')?.id, bucket?.id)
})
