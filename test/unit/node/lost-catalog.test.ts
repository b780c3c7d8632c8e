import assert from 'node:assert/strict'
import { rename } from 'node:fs/promises'
import { join } from 'node:path'
import { test } from 'node:test'
import { setTimeout as delay } from 'node:timers/promises'
import { CreateBucketCommand, GetObjectCommand, PutObjectCommand, S3Client } from '@aws-sdk/client-s3'
import { createDirectCatalog } from '../../../core/catalog/direct-catalog.ts'
import { MemoryTables } from '../../../core/catalog/memory-tables.ts'
import { refuseLostCatalog } from '../../../core/node/lost-catalog.ts'
import { pattern, rejectsWith } from '../../kit/chunk-store-place.ts'
import { clusterMap } from '../../kit/cluster-maps.ts'
import { FakeClock, fakeEnvironment } from '../../kit/fake-clock.ts'
import { createMemoryStore } from '../../kit/memory-store.ts'
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
    assert.match(node.logTail(), /has never had a bucket, and 1 chunks are in/)
  }
  await rename(catalog, join(node.dataDirectory, 'catalog-empty'))
  await rename(aside, catalog)
  await node.start()
  const { Body } = await client.send(new GetObjectCommand({ Bucket: 'first', Key: 'a' }))
  assert.equal(Buffer.compare(Buffer.from((await Body?.transformToByteArray()) ?? []), body), 0)
  client.destroy()
})

test('nor does one of a region that was founded anew over the chunks of another one', async () => {
  const clock = new FakeClock()
  const environment = fakeEnvironment(clock, 1)
  const catalog = createDirectCatalog({ tables: new MemoryTables(), environment, regionId: 1 })
  const chunks = createMemoryStore(clock)
  const paths = { catalogPath: '/data/catalog', chunksPath: '/data/chunks' }
  catalog.run({ type: 'set-cluster-map', map: clusterMap(['a', 'b', 'c']) })
  await refuseLostCatalog(catalog, chunks, paths)
  const buffer = await chunks.acquire(10)
  await chunks.put(new Uint8Array(16), buffer, 10)
  buffer.release()
  await rejectsWith('CATALOG_CORRUPT', refuseLostCatalog(catalog, chunks, paths))
  catalog.run({ type: 'create-bucket', name: 'first', owner: 'root' })
  catalog.run({ type: 'delete-bucket', name: 'first' })
  // Of a bucket that is gone there may be something left to be freed.
  await refuseLostCatalog(catalog, chunks, paths)
})
