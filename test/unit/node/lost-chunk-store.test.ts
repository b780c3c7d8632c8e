import assert from 'node:assert/strict'
import { mkdir, mkdtemp, readdir, rename, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { test } from 'node:test'
import { CreateBucketCommand, GetObjectCommand, PutObjectCommand, S3Client } from '@aws-sdk/client-s3'
import { silentLogger } from '../../../core/contract/logger.ts'
import { type OwnChunkStoreOptions, openOwnChunkStore } from '../../../core/node/own-chunk-store.ts'
import * as addon from '../../../native/addon.ts'
import { pattern, rejectsWith } from '../../kit/chunk-store-place.ts'
import { FakeClock, fakeEnvironment } from '../../kit/fake-clock.ts'
import { type NodeProcess, startNode } from '../../kit/node-process.ts'

const s3 = (node: NodeProcess): S3Client =>
  new S3Client({
    endpoint: node.endpoint,
    region: 'us-east-1',
    forcePathStyle: true,
    credentials: { accessKeyId: node.accessKey, secretAccessKey: node.secretKey },
    maxAttempts: 1,
  })

test('a node whose chunks are not where they were does not start, and puts nothing there', async () => {
  await using node = await startNode()
  const client = s3(node)
  const body = pattern(5, 300_000)
  await client.send(new CreateBucketCommand({ Bucket: 'first' }))
  await client.send(new PutObjectCommand({ Bucket: 'first', Key: 'a', Body: body }))
  await node.stop()
  const chunks = join(node.dataDirectory, 'chunks')
  await rename(chunks, `${chunks}-aside`)
  // A mount point without its disk.
  await mkdir(chunks)
  for (let attempt = 0; attempt < 2; attempt++) {
    await assert.rejects(node.start())
    assert.match(
      node.logTail(),
      /the chunk store [0-9a-f]{32} of the catalog in .* is not in .*Mount the disk/,
    )
    assert.deepEqual(await readdir(chunks), [])
  }
  // The disk of another node.
  await using other = await startNode()
  await other.stop()
  await rm(chunks, { recursive: true })
  await rename(join(other.dataDirectory, 'chunks'), chunks)
  await assert.rejects(node.start())
  assert.match(node.logTail(), /is [0-9a-f]{32}, and the catalog in .* belongs to [0-9a-f]{32}/)
  await rm(chunks, { recursive: true })
  await rename(`${chunks}-aside`, chunks)
  await node.start()
  const { Body } = await client.send(new GetObjectCommand({ Bucket: 'first', Key: 'a' }))
  assert.equal(Buffer.compare(Buffer.from((await Body?.transformToByteArray()) ?? []), body), 0)
  client.destroy()
})

for (const backend of ['posix', 'reference'] as const) {
  const skip = backend === 'posix' && addon.loadAddon() instanceof Error ? 'the addon is not built' : false
  test(`a chunk store (${backend}) belongs to one catalog from its first start on`, { skip }, async (t) => {
    const path = await mkdtemp(join(tmpdir(), 'pando-own-store-'))
    t.after(() => rm(path, { recursive: true, force: true }))
    const data = { catalogPath: join(path, 'catalog'), chunksPath: join(path, 'chunks') }
    let seed = 0
    const options = (
      isCluster: boolean,
      chosen: typeof backend | 'memory' = backend,
    ): OwnChunkStoreOptions => ({
      config: {
        store: {
          ...{ backend: chosen, bdevs: [], capacity: 1 << 30, reactors: 2 },
          ...{ pool: 8 << 20, cache: 8 << 20, spdkMemory: 0 },
        },
      },
      ...{ data, isCluster, addon, log: silentLogger },
      randomness: fakeEnvironment(new FakeClock(), ++seed).randomness,
    })
    const openAndClose = async (isCluster: boolean): Promise<void> =>
      (await openOwnChunkStore(options(isCluster))).close()
    await openAndClose(false)
    await openAndClose(false)
    await rejectsWith('INVALID_CONFIG', openOwnChunkStore(options(false, 'memory')))

    await rename(data.chunksPath, `${data.chunksPath}-aside`)
    for (const isCluster of [false, true]) {
      const message = isCluster ? /it joins as a new one/ : /use an empty data directory/
      await assert.rejects(openOwnChunkStore(options(isCluster)), { code: 'INVALID_CONFIG', message })
      assert.ok(!(await readdir(path)).includes('chunks'))
    }
    await rename(`${data.chunksPath}-aside`, data.chunksPath)
    if (backend === 'posix') {
      // One disk, and the files of the store are gone from it.
      const files = (await readdir(data.chunksPath)).filter((name) => name.endsWith('.pando'))
      assert.equal(files.length, 2)
      for (const name of files) await rename(join(data.chunksPath, name), join(path, name))
      await rejectsWith('INVALID_CONFIG', openOwnChunkStore(options(true)))
      for (const name of files) await rename(join(path, name), join(data.chunksPath, name))
      await openAndClose(true)
    }

    // The way out: the catalog goes, and whatever is there belongs to the next one.
    await rm(data.chunksPath, { recursive: true })
    await rename(data.catalogPath, `${data.catalogPath}-aside`)
    await openAndClose(true)
    await openAndClose(true)
    await rm(data.catalogPath, { recursive: true })
    await rename(`${data.catalogPath}-aside`, data.catalogPath)
    await rejectsWith('INVALID_CONFIG', openOwnChunkStore(options(true)))
  })
}
