import assert from 'node:assert/strict'
import { createHash } from 'node:crypto'
import type { Readable } from 'node:stream'
import { suite, type TestContext, test } from 'node:test'
import { GetObjectCommand, S3Client as SdkClient } from '@aws-sdk/client-s3'
import { Upload } from '@aws-sdk/lib-storage'
import { type NodeProcess, startNode, withoutNative } from '../kit/node-process.ts'
import { openS3Client } from '../kit/s3-client.ts'
import { digestStream, seededDigest, seededStream } from '../kit/seeded-bytes.ts'

/**
 * A large object up and down through one process whose resident memory stays below cache + 512 MiB. 512 MiB here;
 * `PANDO_LARGE_BYTES=5368709120` for the full 5 GiB of the promise. Figures are printed as diagnostics.
 */
const mebibyte = 1024 * 1024
const byteLength = Number(process.env['PANDO_LARGE_BYTES'] ?? 512 * mebibyte)
const cacheBytes = 64 * mebibyte
const limitBytes = cacheBytes + 512 * mebibyte
const bucket = 'large-bucket'
const seed = 'large'

async function measure(
  t: TestContext,
  node: NodeProcess,
  what: string,
  work: () => Promise<void>,
): Promise<void> {
  await node.resetPeak()
  const begun = performance.now()
  await work()
  const seconds = (performance.now() - begun) / 1000
  const peak = await node.peakResidentBytes()
  t.diagnostic(
    `${what} of ${(byteLength / mebibyte).toFixed(0)} MiB: ${seconds.toFixed(1)} s, ` +
      `${(byteLength / mebibyte / seconds).toFixed(0)} MiB/s, peak resident ${(peak / mebibyte).toFixed(0)} MiB ` +
      `(limit ${(limitBytes / mebibyte).toFixed(0)} MiB), ${node.store} store`,
  )
  assert.ok(peak < limitBytes, `${what} took the process to ${peak} bytes; the limit is ${limitBytes}`)
}

async function runTrial(t: TestContext, backend: string): Promise<void> {
  await using node = await startNode({
    config: {
      store: {
        backend,
        cache: `${cacheBytes}B`,
        capacity: `${Math.ceil(byteLength * 2.5) + 1024 * mebibyte}B`,
      },
    },
  })
  const digest = await seededDigest(seed, byteLength)
  const client = openS3Client({
    endpoint: node.endpoint,
    accessKey: node.accessKey,
    secretKey: node.secretKey,
  })
  const sdk = new SdkClient({
    endpoint: node.endpoint,
    region: 'us-east-1',
    forcePathStyle: true,
    credentials: { accessKeyId: node.accessKey, secretAccessKey: node.secretKey },
  })
  try {
    assert.equal((await client.send({ method: 'PUT', bucket })).status, 200)

    await measure(t, node, 'one streamed PUT', async () => {
      const source = { stream: seededStream(seed, byteLength), byteLength }
      const reply = await client.send({ method: 'PUT', bucket, key: 'single', source })
      assert.equal(reply.status, 200, `${reply.body}`)
    })
    await measure(t, node, 'GET', async () => {
      const { reply, body } = await client.stream({ method: 'GET', bucket, key: 'single' })
      assert.equal(reply.status, 200)
      assert.equal(await digestStream(body), digest)
    })
    await measure(t, node, 'GET by a slow reader', async () => {
      const { body } = await client.stream({ method: 'GET', bucket, key: 'single' })
      const hash = createHash('sha256')
      let received = 0
      for await (const piece of body) {
        hash.update(piece as Buffer)
        // Pauses for the first part only: what is buffered then would stay buffered.
        if (received < 64 * mebibyte) await new Promise((resolve) => setTimeout(resolve, 2))
        received += (piece as Buffer).length
      }
      assert.equal(hash.digest('hex'), digest)
    })
    await client.send({ method: 'DELETE', bucket, key: 'single' })

    await measure(t, node, 'multipart upload (lib-storage, 4 parts of 64 MiB at once)', async () => {
      const upload = new Upload({
        client: sdk,
        params: { Bucket: bucket, Key: 'multipart', Body: seededStream(seed, byteLength) },
        partSize: 64 * mebibyte,
        queueSize: 4,
      })
      await upload.done()
    })
    await measure(t, node, 'GET of the multipart object by the SDK', async () => {
      const got = await sdk.send(new GetObjectCommand({ Bucket: bucket, Key: 'multipart' }))
      assert.equal(got.ContentLength, byteLength)
      assert.equal(await digestStream(got.Body as Readable), digest)
    })
  } finally {
    client.close()
    sdk.destroy()
  }
}

suite('a large object streams both ways in bounded memory', { timeout: 3_600_000 }, () => {
  test('native store', { timeout: 3_600_000, skip: withoutNative }, (t) => runTrial(t, 'auto'))
  test('reference store', { timeout: 3_600_000 }, (t) => runTrial(t, 'reference'))
})
