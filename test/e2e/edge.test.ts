import assert from 'node:assert/strict'
import { randomBytes } from 'node:crypto'
import test from 'node:test'
import type { FederationStatus } from '../../core/contract/federation.ts'
import type { BucketReplicationStatus } from '../../core/contract/replication-admin.ts'
import type { NodeProcess } from '../kit/node-process.ts'
import { openRegionClient, pando, startRegionOfOne } from '../kit/region-of-one.ts'
import type { S3Client } from '../kit/s3-client.ts'

/** A hub and an edge as real processes on loopback; the edge can only dial. */

async function edgeStatus(node: NodeProcess): Promise<BucketReplicationStatus | undefined> {
  const { stdout } = await node.command('edge', 'status', '--json')
  return (JSON.parse(stdout) as BucketReplicationStatus[])[0]
}

async function until<T>(
  what: string,
  nodes: NodeProcess[],
  look: () => Promise<T | undefined | false>,
): Promise<T> {
  for (let tries = 0; ; tries++) {
    const found = await look()
    if (found !== undefined && found !== false) return found
    const tails = tries < 120 ? '' : nodes.map((node) => node.logTail()).join('\n')
    assert.ok(tries < 120, `it did not come to it that ${what}\n${tails}`)
    await new Promise((resolve) => setTimeout(resolve, 250))
  }
}

test('an edge takes writes while its hub is gone, and hands each over once; beyond its quota it answers 507', {
  timeout: 300_000,
}, async (t) => {
  const [hub, edge] = await Promise.all([startRegionOfOne(t, 1), startRegionOfOne(t, 2, { role: 'edge' })])
  await pando(edge, 'federation', 'join', await pando(hub, 'federation', 'invite', '--for', '2'))
  // While there is no tunnel yet the command says so by its exit code.
  const status = JSON.parse((await edge.command('federation', 'status', '--json')).stdout) as FederationStatus
  assert.equal(status.isListening, false, 'an edge never listens')
  assert.notEqual((await edge.command('federation', 'invite')).code, 0)

  const atHub = openRegionClient(t, hub, 1)
  const atEdge = openRegionClient(t, edge, 2)
  assert.equal((await atHub.send({ method: 'PUT', bucket: 'site' })).status, 200)
  const versioning = '<VersioningConfiguration><Status>Enabled</Status></VersioningConfiguration>'
  const enabled = await atHub.send({
    method: 'PUT',
    bucket: 'site',
    query: { versioning: '' },
    body: versioning,
  })
  assert.equal(enabled.status, 200)
  await pando(hub, 'edge', 'set', 'site', '--edge', '2', '--first', 'alarms/', '--quota', '4MiB')
  await until('the bucket is at the edge', [hub, edge], async () => (await edgeStatus(edge)) !== undefined)

  const bodies = new Map<string, Buffer>()
  const put = async (key: string, size: number): Promise<void> => {
    const body = randomBytes(size)
    const { status: code, body: text } = await atEdge.send({ method: 'PUT', bucket: 'site', key, body })
    assert.equal(code, 200, text.toString())
    bodies.set(key, body)
  }
  await put('alarms/first', 100)
  await until('the hub has it', [hub, edge], async () => (await edgeStatus(edge))?.backlog?.entries === 0)

  await hub.kill()
  for (let number = 0; number < 20; number++) await put(`video/${number}`, 50_000)
  await put('alarms/1', 200)
  const read = await atEdge.send({ method: 'GET', bucket: 'site', key: 'alarms/1' })
  assert.deepEqual(read.body, bodies.get('alarms/1'), 'what is written at the edge is seen at once')
  await edge.kill()
  await edge.start()
  for (let number = 20; number < 30; number++) await put(`video/${number}`, 50_000)
  await put('alarms/2', 200)
  await put('video/0', 60_000)

  const large = randomBytes(3 * 1024 * 1024)
  const refused = await atEdge.send({ method: 'PUT', bucket: 'site', key: 'large', body: large })
  assert.equal(refused.status, 507)
  assert.equal(refused.code, 'InsufficientStorage')
  assert.match(refused.body.toString(), /<QuotaBytes>4194304<\/QuotaBytes>/)
  const again = await atEdge.send({ method: 'GET', bucket: 'site', key: 'video/7' })
  assert.deepEqual(again.body, bodies.get('video/7'), 'reads go on')
  const { backlog } = (await edgeStatus(edge)) ?? {}
  assert.deepEqual(backlog?.waitingByPriority, [2, 31])
  assert.match(await pando(edge, 'edge', 'status'), /site +to hub 1 +33 .*alarms\/: 2, all else: 31/)

  await hub.start()
  await until(
    'the edge has handed over all',
    [hub, edge],
    async () => (await edgeStatus(edge))?.backlog?.entries === 0,
  )
  for (const [key, body] of bodies) {
    const got = await atHub.send({ method: 'GET', bucket: 'site', key })
    assert.equal(got.status, 200, key)
    assert.ok(got.body.equals(body), `${key} has its bytes at the hub`)
  }
  const listed = (
    await atHub.send({ method: 'GET', bucket: 'site', query: { versions: '' } })
  ).body.toString()
  const versions = [...listed.matchAll(/<Version><Key>([^<]*)/g)].map(([, key]) => key)
  assert.equal(versions.length, bodies.size + 1, 'nothing is there twice: video/0 was written twice')
  const taken = await atEdge.send({ method: 'PUT', bucket: 'site', key: 'large', body: large })
  assert.equal(taken.status, 200, 'what was handed over has made room')
})

test('an edge reads through to its hub, keeps what was read, and serves it when the hub is gone, with its age', {
  timeout: 300_000,
}, async (t) => {
  const [hub, edge] = await Promise.all([startRegionOfOne(t, 1), startRegionOfOne(t, 2, { role: 'edge' })])
  await pando(edge, 'federation', 'join', await pando(hub, 'federation', 'invite', '--for', '2'))
  const atHub = openRegionClient(t, hub, 1)
  const atEdge = openRegionClient(t, edge, 2)
  assert.equal((await atHub.send({ method: 'PUT', bucket: 'site' })).status, 200)
  const [small, large] = [randomBytes(300), randomBytes(9_000_000)]
  const put = async (client: S3Client, key: string, body: Uint8Array): Promise<void> => {
    const headers = { 'content-type': 'text/x-test', 'x-amz-meta-note': key, 'x-amz-tagging': 'a=b' }
    assert.equal((await client.send({ method: 'PUT', bucket: 'site', key, body, headers })).status, 200)
  }
  await put(atHub, 'maps/small', small)
  await put(atHub, 'maps/large', large)
  await put(atHub, 'other', small)
  await pando(hub, 'edge', 'set', 'site', '--edge', '2', '--cache', '4MiB', '--pin', 'maps/')
  await until('the bucket is at the edge', [hub, edge], async () => (await edgeStatus(edge)) !== undefined)
  await until(
    'the tunnel is there',
    [hub, edge],
    async () => (await edge.command('federation', 'status')).code === 0,
  )
  const get = (key: string, query: Record<string, string> = {}, method = 'GET') =>
    atEdge.send({ method, bucket: 'site', key, query })
  const list = async (query: Record<string, string> = {}) => {
    const { headers, body } = await atEdge.send({
      method: 'GET',
      bucket: 'site',
      query: { 'list-type': '2', ...query },
    })
    const keys = [...body.toString().matchAll(/<Key>([^<]*)/g)].map(([, key]) => key)
    const prefixes = [...body.toString().matchAll(/<CommonPrefixes><Prefix>([^<]*)/g)].map(([, key]) => key)
    return { state: headers['x-pando-cache'], keys, prefixes }
  }

  const head = await get('maps/large', {}, 'HEAD')
  assert.deepEqual(
    [head.status, head.headers['content-length'], head.headers['x-pando-cache']],
    [200, '9000000', 'miss'],
  )
  for (const [state, key, body] of [
    ['miss', 'maps/large', large],
    ['hit', 'maps/large', large],
    ['miss', 'maps/small', small],
    ['hit', 'maps/small', small],
  ] as const) {
    const got = await get(key)
    assert.equal(got.status, 200, got.body.toString('latin1', 0, 200))
    assert.equal(got.headers['x-pando-cache'], state, key)
    assert.equal(got.headers['x-amz-meta-note'], key)
    assert.ok(got.body.equals(body), key)
  }
  assert.match((await get('other', { tagging: '' })).body.toString(), /<Key>a<\/Key><Value>b<\/Value>/)
  const missing = await get('none')
  assert.deepEqual([missing.status, missing.headers['x-pando-cache']], [404, 'miss'])

  // What the hub replaces, or deletes, the edge does not serve any more.
  const newer = randomBytes(400)
  await put(atHub, 'maps/small', newer)
  assert.ok((await get('maps/small')).body.equals(newer))
  await put(atHub, 'gone', small)
  assert.equal((await get('gone')).status, 200)
  assert.equal((await atHub.send({ method: 'DELETE', bucket: 'site', key: 'gone' })).status, 204)
  assert.equal((await get('gone')).status, 404)
  assert.deepEqual(await list(), { state: 'miss', keys: ['maps/large', 'maps/small', 'other'], prefixes: [] })

  await hub.kill()
  await until(
    'the edge knows that the hub is gone',
    [edge],
    async () => (await get('maps/small')).headers['x-pando-cache'] === 'stale',
  )
  await put(atEdge, 'mine', small)
  const stale = await get('maps/large')
  assert.ok(stale.body.equals(large))
  assert.equal(stale.headers['x-pando-cache'], 'stale')
  const seconds = Number(stale.headers['x-pando-stale-seconds'])
  assert.ok(seconds >= 1 && seconds < 180, `stale for ${stale.headers['x-pando-stale-seconds']} s`)
  assert.equal(stale.headers['age'], String(seconds))
  assert.equal((await get('mine')).headers['x-pando-cache'], 'hit', 'what the hub lacks cannot be stale')
  const unknown = await get('never-read')
  assert.deepEqual(
    [unknown.status, unknown.code],
    [503, 'ServiceUnavailable'],
    'nobody knows whether it is there',
  )
  const cutOff = await list({ delimiter: '/' })
  assert.deepEqual(cutOff, { state: 'stale', keys: ['mine', 'other'], prefixes: ['maps/'] })

  await hub.start()
  await until(
    'the hub has what was written',
    [hub, edge],
    async () => (await edgeStatus(edge))?.backlog?.entries === 0,
  )
  assert.equal((await get('mine')).headers['x-pando-cache'], 'hit')
  // What is pinned stays; of the rest no more is kept than the rule says.
  for (let number = 0; number < 4; number++) {
    await put(atHub, `film/${number}`, large.subarray(0, 2_000_000))
    assert.equal((await get(`film/${number}`)).headers['x-pando-cache'], 'miss')
  }
  await until('the cache is within its bytes', [edge], async () => {
    const metrics = await (await fetch(`${edge.consoleUrl}/metrics`)).text()
    return /pando_edge_evicted_versions_total\{bucket="site"\} [1-9]/.test(metrics)
  })
  assert.equal((await get('maps/large')).headers['x-pando-cache'], 'hit')
  assert.equal((await get('film/3')).headers['x-pando-cache'], 'hit')
  assert.equal((await get('film/0')).headers['x-pando-cache'], 'miss')
})
