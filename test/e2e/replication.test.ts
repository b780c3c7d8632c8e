import assert from 'node:assert/strict'
import { randomBytes } from 'node:crypto'
import test from 'node:test'
import type { ReplicationReport } from '../../core/contract/replication-admin.ts'
import type { NodeProcess } from '../kit/node-process.ts'
import { openRegionClient, pando, startRegionOfOne } from '../kit/region-of-one.ts'

/** Two real regions, each a process, over loopback: a bucket is replicated while either of them is killed. */

async function statusOf(node: NodeProcess): Promise<ReplicationReport> {
  return JSON.parse((await node.command('replication', 'status', '--json')).stdout) as ReplicationReport
}

async function even(one: NodeProcess, two: NodeProcess): Promise<void> {
  for (let tries = 0; ; tries++) {
    const [bucket] = await statusOf(one)
    const to = bucket?.outgoing[0]
    if (bucket?.isBackfilling === false && to?.lagEntries === 0 && !to.needsFullSync && bucket.head > 0)
      return
    assert.ok(tries < 90, `${JSON.stringify(bucket)}\n${one.logTail()}\n${two.logTail()}`)
    await new Promise((resolve) => setTimeout(resolve, 200))
  }
}

test('a bucket is replicated to another region, over kill -9 of either (T1, T10, T11, T24, T25)', {
  timeout: 180_000,
}, async (t) => {
  const [one, two] = await Promise.all([startRegionOfOne(t, 1), startRegionOfOne(t, 2)])
  await pando(two, 'federation', 'join', await pando(one, 'federation', 'invite', '--for', '2'))
  const here = openRegionClient(t, one, 1)
  const there = openRegionClient(t, two, 2)
  const bodies = new Map<string, Buffer>()
  const put = async (key: string, size: number): Promise<void> => {
    const body = randomBytes(size)
    const headers = { 'content-type': 'text/x-test', 'x-amz-meta-note': key }
    const { status } = await here.send({ method: 'PUT', bucket: 'photos', key, body, headers })
    assert.equal(status, 200)
    bodies.set(key, body)
  }
  assert.equal((await here.send({ method: 'PUT', bucket: 'photos' })).status, 200)
  await put('before', 300_000)
  const refused = await one.command('replication', 'set', 'photos', '--to', '9')
  assert.notEqual(refused.code, 0)
  assert.match(refused.stderr, /not joined with region 9/)
  await pando(one, 'replication', 'set', 'photos', '--to', '2')
  for (let number = 0; number < 30; number++) await put(`small/${number}`, 10 + number)
  await put('large', 9_000_000)
  await even(one, two)

  const wrong = await there.send({ method: 'PUT', bucket: 'photos', key: 'mine', body: 'x' })
  assert.equal(wrong.status, 409)
  assert.equal(wrong.code, 'InvalidBucketState')
  assert.match(wrong.body.toString(), /<PrimaryRegion>1<\/PrimaryRegion>/)

  // The copy dies while it fetches, and the primary while it serves.
  for (const [round, victim] of [two, one].entries()) {
    const dying =
      victim === two ? new Promise((resolve) => setTimeout(resolve, 300)).then(() => two.kill()) : undefined
    for (let number = 0; number < 8; number++) await put(`round-${round}/${number}`, 400_000)
    await (dying ?? one.kill())
    await victim.start()
    await even(one, two)
  }
  assert.equal((await here.send({ method: 'DELETE', bucket: 'photos', key: 'before' })).status, 204)
  bodies.delete('before')
  await even(one, two)

  assert.equal((await there.send({ method: 'GET', bucket: 'photos', key: 'before' })).status, 404)
  for (const [key, body] of bodies) {
    const source = await here.send({ method: 'HEAD', bucket: 'photos', key })
    const copy = await there.send({ method: 'GET', bucket: 'photos', key })
    assert.equal(copy.status, 200, key)
    assert.ok(copy.body.equals(body), `${key} has its bytes`)
    for (const name of ['etag', 'last-modified', 'content-type', 'x-amz-meta-note']) {
      assert.equal(copy.headers[name], source.headers[name], `${key}: ${name}`)
    }
  }
  const listed = await there.send({ method: 'GET', bucket: 'photos', query: { 'list-type': '2' } })
  assert.equal(listed.body.toString().split('<Key>').length - 1, bodies.size)
  const report = await statusOf(two)
  assert.deepEqual(
    report[0]?.incoming.map(({ retries, dead, synchronizing }) => [retries, dead, synchronizing]),
    [[0, 0, false]],
  )
  assert.match(await pando(one, 'replication', 'status'), /photos +to 2 +0 +nothing/)
})
