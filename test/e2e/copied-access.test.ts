import assert from 'node:assert/strict'
import test from 'node:test'
import type { NodeProcess } from '../kit/node-process.ts'
import { openRegionClient, pando, startRegionOfOne } from '../kit/region-of-one.ts'

/** A home, a copy and an edge as real processes: what a stranger is kept from at home, he is kept from everywhere. */

const blocked =
  '<PublicAccessBlockConfiguration><IgnorePublicAcls>true</IgnorePublicAcls></PublicAccessBlockConfiguration>'
const policyOf = (bucket: string): string =>
  JSON.stringify({
    Version: '2012-10-17',
    Statement: [
      { Effect: 'Allow', Principal: '*', Action: 's3:GetObject', Resource: `arn:aws:s3:::${bucket}/*` },
    ],
  })

test('what its home keeps from strangers a copy and an edge keep from them, too', {
  timeout: 300_000,
}, async (t) => {
  const [home, copy, edge] = await Promise.all([
    startRegionOfOne(t, 1),
    startRegionOfOne(t, 2),
    startRegionOfOne(t, 3, { role: 'edge' }),
  ])
  for (const [node, region] of [
    [copy, '2'],
    [edge, '3'],
  ] as const) {
    const { stdout } = await home.command('federation', 'invite', '--for', region)
    await pando(node, 'federation', 'join', stdout.trim())
  }
  const atHome = openRegionClient(t, home, 1)
  const send = async (request: Parameters<typeof atHome.send>[0], expected = 200): Promise<void> => {
    const { status, body } = await atHome.send(request)
    assert.equal(status, expected, body.toString())
  }
  const asked = async (node: NodeProcess, bucket: string, key: string): Promise<number> => {
    const answer = await fetch(`${node.endpoint}/${bucket}/${key}`)
    await answer.arrayBuffer()
    return answer.status
  }
  /** The first answer that is none of a region on its way there. */
  const settled = async (node: NodeProcess, bucket: string, key: string, expected: number): Promise<void> => {
    for (let tries = 0; (await asked(node, bucket, key)) !== expected; tries++) {
      assert.ok(tries < 150, `${bucket}/${key} does not come to be ${expected}\n${node.logTail()}`)
      await new Promise((resolve) => setTimeout(resolve, 100))
    }
  }

  for (const [bucket, node] of [
    ['copied', copy],
    ['cached', edge],
  ] as const) {
    const put = (key: string) =>
      send({ method: 'PUT', bucket, key, body: key, headers: { 'x-amz-acl': 'public-read' } })
    await send({ method: 'PUT', bucket })
    await put('open')
    const rule =
      bucket === 'copied'
        ? ['replication', 'set', bucket, '--to', '2']
        : ['edge', 'set', bucket, '--edge', '3']
    await pando(home, ...rule)
    const owner = openRegionClient(t, node, node === copy ? 2 : 3)
    // An edge shows nobody but who may list what it does not hold yet.
    const held = async (key: string): Promise<boolean> =>
      (await owner.send({ method: 'GET', bucket, key })).status === 200
    for (let tries = 0; !(await held('open')); tries++) {
      assert.ok(tries < 150, node.logTail())
      await new Promise((resolve) => setTimeout(resolve, 100))
    }
    await settled(node, bucket, 'open', 200)

    await send({ method: 'PUT', bucket, query: { publicAccessBlock: '' }, body: blocked })
    await put('late')
    assert.equal(await asked(home, bucket, 'open'), 403)
    await settled(node, bucket, 'open', 403)
    // At no moment on the way it is readable there: it came behind what keeps strangers from it.
    for (let isThere = false; !isThere; isThere = await held('late')) {
      assert.notEqual(await asked(node, bucket, 'late'), 200)
    }
    assert.notEqual(await asked(node, bucket, 'late'), 200)
    const refused = await owner.send({ method: 'DELETE', bucket, query: { publicAccessBlock: '' } })
    assert.equal(refused.status, 409, 'only its home opens it')

    await send({ method: 'PUT', bucket, query: { policy: '' }, body: policyOf(bucket) }, 204)
    await settled(node, bucket, 'late', 200)
    await send({ method: 'DELETE', bucket, query: { policy: '' } }, 204)
    await settled(node, bucket, 'late', 403)
    // As it was told last, it is after a restart and without its home.
    await node.kill()
    await node.start()
    assert.equal(await asked(node, bucket, 'late'), 403)
  }
})
