import assert from 'node:assert/strict'
import { test } from 'node:test'
import { loadAddon } from '../../native/addon.ts'
import { presigner } from '../bench/s3/presign.ts'
import { startNode } from '../kit/node-process.ts'

const addon = loadAddon()
const skip = addon instanceof Error && addon.message
const mebibyte = 1024 * 1024

test('a class is held to its limit where chunks are read, and the other classes are not', {
  skip,
}, async () => {
  // The gateway lets one request go at once and charges it afterwards: what slows a single one down is the chunk store.
  const limit = 100
  const objectBytes = 16 * mebibyte
  await using node = await startNode({
    config: {
      store: { reactors: 1, capacity: '1GiB', pool: '64MiB' },
      qos: {
        classes: { bulk: { limit } },
        // The policy would put the large uploads into the class too, whose debt at the gateway the read would then wait for.
        rules: [{ class: 'bulk', bucket: 'slow', operations: ['read'] }, { class: 'interactive' }],
      },
    },
  })
  const made = await node.command('key', 'create', 'tester', '--account', 'tester', '--json')
  assert.equal(made.code, 0, made.stderr)
  const { accessKeyId: accessKey, secretKey } = JSON.parse(made.stdout)
  const signer = presigner({ url: node.endpoint, accessKey, secretKey }, new Date())
  const body = Buffer.alloc(objectBytes, 'pando')
  for (const bucket of ['slow', 'quick']) {
    for (const [path, payload] of [
      [signer.sign('PUT', bucket), Buffer.alloc(0)],
      [signer.sign('PUT', bucket, 'object'), body],
    ] as const) {
      const answer = await fetch(`${node.endpoint}${path}`, { method: 'PUT', body: payload })
      assert.equal(answer.status, 200, await answer.text())
    }
  }
  const read = async (bucket: string): Promise<number> => {
    const began = performance.now()
    const answer = await fetch(`${node.endpoint}${signer.sign('GET', bucket, 'object')}`)
    assert.equal(answer.status, 200)
    assert.ok(body.equals(Buffer.from(await answer.arrayBuffer())))
    return performance.now() - began
  }
  let slowIsOver = false
  const slow = read('slow').finally(() => {
    slowIsOver = true
  })
  await read('quick')
  assert.equal(slowIsOver, false, 'a class without a limit is served while the other waits')
  const slowMs = await slow
  // 17 units for each MiB; a quarter of a second's worth at once (the policy's burst), and the last piece on credit.
  const leastMs = ((16 * 17 - limit / 4 - 17) / limit) * 1000 * 0.95
  assert.ok(slowMs >= leastMs, `${slowMs} ms, but the limit makes it at least ${leastMs} ms`)
})
