import assert from 'node:assert/strict'
import { once } from 'node:events'
import { createServer, request as forward } from 'node:http'
import type { AddressInfo } from 'node:net'
import test from 'node:test'
import { PandoClient } from '../../../sdk/index.ts'
import { startNode } from '../../kit/node-process.ts'

const bucket = 'ledger'

test('what was done has one effect and one answer, though answers are lost and the node is killed in between', {
  timeout: 180_000,
}, async (t) => {
  const node = await startNode()
  t.after(() => node[Symbol.asyncDispose]())
  const credentials = { accessKeyId: node.accessKey, secretAccessKey: node.secretKey }

  // On the way the answers to the first attempts of writes get lost: done, and nobody is told.
  let lose = 0
  let lost = 0
  const way = createServer((message, response) => {
    const target = new URL(node.endpoint)
    const { method, url: path, headers } = message
    const sent = forward(
      { hostname: target.hostname, port: target.port, method, path, headers },
      (answer) => {
        if (lose > 0) {
          lose--
          lost++
          answer.resume().on('end', () => response.destroy())
          return
        }
        response.writeHead(answer.statusCode ?? 502, answer.headers)
        answer.pipe(response)
      },
    )
    sent.on('error', () => response.destroy())
    message.pipe(sent)
  }).listen(0, '127.0.0.1')
  await once(way, 'listening')
  t.after(() => {
    way.closeAllConnections()
    way.close()
  })
  const endpoint = `http://127.0.0.1:${(way.address() as AddressInfo).port}`
  const clientOf = (): PandoClient => new PandoClient({ endpoints: [endpoint], credentials })
  const client = clientOf()
  // The signature names the way's host; the node compares it with the Host header, which is passed on.
  await client.createBucket(bucket)
  await client.setVersioning(bucket, 'enabled')
  const versionsOf = async (prefix: string): Promise<number> => {
    let count = 0
    for await (const _ of client.listVersions(bucket, { prefix })) count++
    return count
  }
  const losing = async <T>(work: () => Promise<T>): Promise<T> => {
    lose = 2
    const result = await work()
    assert.equal(lose, 0, 'two answers were lost')
    return result
  }

  const put = await losing(() => client.put(bucket, 'put', 'a', { ifNoneMatch: '*' }))
  assert.equal((await client.head(bucket, 'put')).versionId, put.versionId)
  assert.equal(await versionsOf('put'), 1, 'one version, and no PreconditionFailed')
  const over = await losing(() => client.put(bucket, 'put', 'b', { ifMatch: put.etag }))
  assert.equal((await client.head(bucket, 'put')).versionId, over.versionId)
  const copy = await losing(() => client.copy({ bucket, key: 'put' }, { bucket, key: 'copied' }))
  assert.equal((await client.head(bucket, 'copied')).versionId, copy.versionId)
  assert.equal(await versionsOf('copied'), 1)
  const gone = await losing(() => client.delete(bucket, 'copied'))
  assert.equal(gone.deleteMarker, true)
  assert.equal(await versionsOf('copied'), 2, 'one marker')
  const { deleted } = await losing(() => client.deleteMany(bucket, ['put', 'never']))
  assert.equal(deleted, 2)
  assert.equal(await versionsOf('put'), 3)
  t.diagnostic(`${lost} answers lost, each write done once`)

  // The application's own key, over a node that is killed and another process of its own.
  const options = { idempotencyKey: 'order-4711' }
  const first = await client.put(bucket, 'order', 'one of each', options)
  await node.kill()
  await node.start()
  const again = await clientOf().put(bucket, 'order', 'one of each', options)
  assert.deepEqual([again.versionId, again.etag], [first.versionId, first.etag])
  assert.equal(await versionsOf('order'), 1)
  await assert.rejects(client.put(bucket, 'order', 'two of each', options), {
    ...{ code: 'IdempotencyKeyReused', retryable: false, status: 422 },
  })
})
