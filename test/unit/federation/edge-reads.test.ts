import assert from 'node:assert/strict'
import { randomBytes } from 'node:crypto'
import { setMaxListeners } from 'node:events'
import { type TestContext, test } from 'node:test'
import { StorageError } from '../../../core/contract/errors.ts'
import { silentLogger } from '../../../core/contract/logger.ts'
import type { VersionId } from '../../../core/contract/object-model.ts'
import { defaultEdge } from '../../../core/contract/replication.ts'
import type { TunnelStream } from '../../../core/contract/tunnel.ts'
import { ReadThrough } from '../../../federation/edge/read-through.ts'
import { serveEdges } from '../../../federation/edge/serve-edges.ts'
import { edgeTopic } from '../../../federation/edge/wire.ts'
import { serveReplication } from '../../../federation/replication/serve.ts'
import { ReplicationSource } from '../../../federation/replication/source.ts'
import { replicationTopic } from '../../../federation/replication/wire.ts'
import { plainAttributes, realEnvironment } from '../../kit/catalog-commands.ts'
import { MemoryRegions } from '../../kit/memory-regions.ts'
import { ruleOf } from '../../kit/replicated-buckets.ts'
import { ReplicatingRegion } from '../../kit/replicating-region.ts'

/** Reads of an edge, region 2, whose questions and bodies the test holds up. */

const rule = ruleOf({
  ...{ mode: 'multi', edge: { ...defaultEdge, regions: [2], priorities: [], pinned: [] } },
})
const log = silentLogger
const codeOf = (code: string) => (error: unknown) => error instanceof StorageError && error.code === code

class Gate {
  open: () => void = () => undefined
  readonly opened = new Promise<void>((resolve) => {
    this.open = resolve
  })
}

/** The other side has answered; the answer is on its way. */
const held = ({ readable, writable }: TunnelStream, gate: Gate): TunnelStream => ({
  writable,
  readable: {
    read: async () => {
      await gate.opened
      return readable.read()
    },
    cancel: (reason) => readable.cancel(reason),
  },
})

function start(context: TestContext, versioning?: 'enabled') {
  const clock = {
    ...realEnvironment.clock,
    aheadMs: 0,
    now: () => realEnvironment.clock.now() + clock.aheadMs,
  }
  const environment = { ...realEnvironment, clock }
  const regions = new MemoryRegions({ clock: realEnvironment.clock })
  const [hub, edge] = [
    new ReplicatingRegion(1, regions, environment),
    new ReplicatingRegion(2, regions, environment),
  ]
  const [tunnelsOfHub, tunnels] = [regions.start(1), regions.start(2)]
  const { catalog, store: chunks, writes } = hub
  const { id: bucketId } = catalog.run({ type: 'create-bucket', name: 'b', owner: 'root' })
  if (versioning !== undefined) catalog.run({ type: 'set-versioning', bucketId, state: versioning })
  catalog.run({ type: 'set-replication', bucketId, rule })
  const source = new ReplicationSource({ regionId: 1, catalog, chunks, writes, clock, log })
  const atHub = { barrier: async (): Promise<void> => undefined }
  const stops = [
    serveReplication(tunnelsOfHub, source, log),
    serveEdges(tunnelsOfHub, { ...catalog, barrier: () => atHub.barrier() }, log, 1),
  ]
  const access = catalog.replication.accessSettings(catalog.bucket('b') ?? assert.fail(), 1)
  const here = edge.catalog.run({ type: 'create-bucket', name: 'b', owner: 'root' }).id
  edge.catalog.run({
    ...{ type: 'set-replication', bucketId: here, rule },
    ...(access === undefined ? {} : { access }),
    ...(versioning === undefined ? {} : { versioning }),
  })
  /** What is held up: of each topic the next streams, in turn. */
  const gates: { question: Gate[]; body: Gate[] } = { question: [], body: [] }
  const asked = { question: 0, body: 0 }
  const reads = new ReadThrough({
    ...{ regionId: 2, catalog: edge.catalog, chunks: edge.store, writes: edge.writes, clock, log },
    chunkBytes: 64 * 1024,
    tunnels: {
      async open(region, topic, signal) {
        const kind = topic === edgeTopic ? 'question' : 'body'
        asked[kind]++
        const gate = gates[kind].shift()
        const stream = await tunnels.open(region, topic, signal)
        return gate === undefined ? stream : held(stream, gate)
      },
    },
  })
  context.after(() => {
    reads.stop()
    for (const stop of stops) stop()
  })
  const signal = AbortSignal.timeout(20_000)
  setMaxListeners(0, signal)
  const read = (
    key: string,
    { version, withBody = true }: { version?: VersionId; withBody?: boolean } = {},
  ) => reads.look(here, key, version, withBody, signal)
  const until = async (holds: () => boolean): Promise<void> => {
    while (!holds()) await realEnvironment.clock.sleep(1, signal)
  }
  return { regions, tunnels, hub, atHub, edge, here, reads, gates, asked, clock, read, until }
}

test('a read that begins after an object was replaced gets what replaced it, while the old body is on its way', async (context) => {
  const { hub, edge, gates, asked, read, until } = start(context)
  const [old, next] = [randomBytes(200_000), randomBytes(100_000)]
  await hub.put('b', 'k', old)
  const gate = new Gate()
  gates.body = [gate]
  const first = read('k')
  await until(() => asked.body === 1)
  await hub.put('b', 'k', next)
  assert.deepEqual(await read('k'), { state: 'miss' })
  assert.ok(next.equals((await edge.read('b', 'k')) ?? assert.fail()))
  gate.open()
  await first
  assert.ok(next.equals((await edge.read('b', 'k')) ?? assert.fail()), 'what came late takes no place')
  assert.deepEqual(await read('k'), { state: 'hit' })
  assert.equal(asked.body, 2)
})

test('a version is fetched once however many read it, and none of them is told what was asked before it came', async (context) => {
  const { hub, edge, gates, asked, read, reads, here, until } = start(context)
  const body = randomBytes(200_000)
  await hub.put('b', 'k', body)
  const [question, bodies] = [new Gate(), new Gate()]
  gates.question = [question]
  gates.body = [bodies]
  const first = read('k')
  const rest = Array.from({ length: 20 }, () => read('k'))
  await until(() => asked.question === 1)
  question.open()
  await until(() => asked.body === 1 && asked.question === 2)
  // Whoever leaves, also the first: the fetch goes on.
  const leaving = new AbortController()
  const left = reads.look(here, 'k', undefined, true, leaving.signal)
  await until(() => asked.question === 3)
  leaving.abort(new StorageError('CANCELLED', 'the client has gone'))
  await assert.rejects(left, codeOf('CANCELLED'))
  bodies.open()
  for (const look of await Promise.all([first, ...rest]))
    assert.ok(look?.state === 'miss' || look?.state === 'hit')
  assert.ok(body.equals((await edge.read('b', 'k')) ?? assert.fail()))
  assert.deepEqual(asked, { question: 3, body: 1 })
  assert.equal(reads.traffic()[0]?.fetchedBytes, body.length)
})

test('an answer that was held up undoes nothing of what a later one told', async (context) => {
  const { hub, edge, here, gates, asked, read, until } = start(context, 'enabled')
  const bucketId = hub.bucketId('b')
  const tag = (value: string) =>
    hub.catalog.run({ type: 'set-object-tags', bucketId, key: 'k', tags: { is: value } })
  await hub.put('b', 'k', randomBytes(1000))
  tag('open')
  const version = hub.catalog.object(bucketId, 'k')?.versionId ?? assert.fail()
  await read('k')
  tag('old')
  const gate = new Gate()
  gates.question = [gate]
  const late = read('k', { version })
  await until(() => asked.question === 2)
  // Its answer is on the way.
  await realEnvironment.clock.sleep(20)
  tag('new')
  assert.deepEqual(await read('k'), { state: 'hit' })
  assert.deepEqual(edge.catalog.object(here, 'k')?.attributes.tags, { is: 'new' })
  gate.open()
  await late
  assert.deepEqual(edge.catalog.object(here, 'k')?.attributes.tags, { is: 'new' })

  // Of what was deleted by its id while its body was on its way nothing is left.
  await hub.put('b', 'k', randomBytes(100_000))
  const { versionId } = hub.catalog.object(bucketId, 'k') ?? assert.fail()
  const bodies = new Gate()
  gates.body = [bodies]
  const before = asked.body
  const doomed = read('k')
  await until(() => asked.body > before)
  hub.catalog.run({
    type: 'delete-objects',
    bucketId,
    owner: 'root',
    items: [{ key: 'k', version: versionId }],
  })
  assert.deepEqual(await read('k'), { state: 'hit' }, 'the one before is the newest again')
  bodies.open()
  await doomed
  assert.deepEqual(edge.catalog.object(here, 'k')?.versionId, hub.catalog.object(bucketId, 'k')?.versionId)
  assert.equal(edge.catalog.object(here, 'k', versionId), undefined)
})

test('an edge that is cut off says since when the hub may have had something newer', async (context) => {
  const { hub, edge, regions, clock, read } = start(context)
  const old = randomBytes(1000)
  await hub.put('b', 'k', old)
  await read('k')
  clock.aheadMs += 60_000
  await hub.put('b', 'k', randomBytes(2000))
  const told = await read('k', { withBody: false })
  assert.equal(told?.record?.byteLength, 2000)
  regions.kill(1)
  const look = await read('k')
  assert.equal(look?.state, 'stale')
  assert.ok((look?.staleMs ?? 0) >= 60_000, 'it was told of another one, and holds the one of a minute ago')
  assert.ok(old.equals((await edge.read('b', 'k')) ?? assert.fail()))
  await assert.rejects(async () => read('never'), codeOf('UNAVAILABLE'))
})

test('so many keys are asked for at once, and more clients are told to come again', async (context) => {
  const { hub, gates, asked, read, until } = start(context)
  const object = {
    byteLength: 0,
    etag: 'd41d8cd98f00b204e9800998ecf8427e',
    layout: { kind: 'empty' },
  } as const
  hub.catalog.run({
    ...{ type: 'put-object', bucketId: hub.bucketId('b'), key: '0', owner: 'root' },
    object: { ...object, attributes: plainAttributes },
  })
  const gate = new Gate()
  gates.question = Array.from({ length: 256 }, () => gate)
  const all = Array.from({ length: 256 }, (_, at) => read(String(at)))
  await until(() => asked.question === 256)
  await assert.rejects(async () => read('more'), codeOf('SLOW_DOWN'))
  const again = read('0')
  gate.open()
  await Promise.all(all)
  assert.deepEqual(await again, { state: 'hit' })
  assert.deepEqual(await read('more'), { state: 'miss' })
})

test('a hub that has too much to do is not taken for one that cannot be reached', async (context) => {
  const { hub, atHub, here, reads, read } = start(context)
  await hub.put('b', 'k', randomBytes(1000))
  await read('k')
  await hub.put('b', 'k', randomBytes(2000))
  atHub.barrier = async () => {
    throw new StorageError('OVERLOADED', 'too many questions at once')
  }
  await assert.rejects(async () => read('k'), codeOf('SLOW_DOWN'))
  const query = { prefix: '', delimiter: '', after: '', limit: 10 }
  const { signal } = new AbortController()
  await assert.rejects(async () => reads.list(here, query, signal), codeOf('SLOW_DOWN'))
  atHub.barrier = async () => {
    throw new StorageError('UNAVAILABLE', 'no majority')
  }
  assert.equal((await read('k'))?.state, 'stale')
})

test('nor is one that has too much to do when it is asked for a body', async (context) => {
  const { tunnels, hub, edge, asked, read } = start(context)
  const [old, next] = [randomBytes(100_000), randomBytes(200_000)]
  await hub.put('b', 'k', old)
  await read('k')
  await hub.put('b', 'k', next)
  const { signal } = new AbortController()
  // As many as the hub answers at once.
  const others = await Promise.all(
    Array.from({ length: 256 }, () => tunnels.open(1, replicationTopic, signal)),
  )
  const before = asked.body
  await assert.rejects(async () => read('k'), codeOf('SLOW_DOWN'))
  assert.equal(asked.body, before + 1, 'whoever waits for the first byte is told at once')
  for (const { readable, writable } of others) {
    await readable.cancel('not wanted any more')
    await writable.abort('not wanted any more')
  }
  assert.deepEqual(await read('k'), { state: 'miss' })
  assert.ok(next.equals((await edge.read('b', 'k')) ?? assert.fail()))
})
