import assert from 'node:assert/strict'
import { rename } from 'node:fs/promises'
import { join } from 'node:path'
import { test } from 'node:test'
import { setTimeout as delay } from 'node:timers/promises'
import { CreateBucketCommand, GetObjectCommand, PutObjectCommand, S3Client } from '@aws-sdk/client-s3'
import { pattern } from '../../kit/chunk-store-place.ts'
import { startNode } from '../../kit/node-process.ts'

test('a node whose catalog is not where it was does not start, and frees nothing that the catalog owns', async () => {
  await using node = await startNode()
  const client = new S3Client({
    endpoint: node.endpoint,
    region: 'us-east-1',
    forcePathStyle: true,
    credentials: { accessKeyId: node.accessKey, secretAccessKey: node.secretKey },
    maxAttempts: 1,
  })
  const body = pattern(5, 300_000)
  await client.send(new CreateBucketCommand({ Bucket: 'first' }))
  await client.send(new PutObjectCommand({ Bucket: 'first', Key: 'a', Body: body }))
  await node.stop()
  const [catalog, aside] = ['catalog', 'catalog-aside'].map((name) => join(node.dataDirectory, name)) as [
    string,
    string,
  ]
  await rename(catalog, aside)
  for (let attempt = 0; attempt < 2; attempt++) {
    await assert.rejects(async () => {
      await node.start()
      // Orphans are looked for two seconds after a start.
      await delay(4000)
      await node.stop()
    })
    assert.equal(node.running, false)
    assert.match(node.logTail(), /is empty, and 1 chunks are in/)
  }
  await rename(catalog, join(node.dataDirectory, 'catalog-empty'))
  await rename(aside, catalog)
  await node.start()
  const { Body } = await client.send(new GetObjectCommand({ Bucket: 'first', Key: 'a' }))
  assert.equal(Buffer.compare(Buffer.from((await Body?.transformToByteArray()) ?? []), body), 0)
  client.destroy()
})
