import assert from 'node:assert/strict'
import { Readable } from 'node:stream'
import { after, before, test } from 'node:test'
import { setTimeout as delay } from 'node:timers/promises'
import {
  AbortMultipartUploadCommand,
  CopyObjectCommand,
  CreateBucketCommand,
  CreateMultipartUploadCommand,
  DeleteBucketCommand,
  DeleteObjectCommand,
  DeleteObjectsCommand,
  GetObjectCommand,
  PutBucketVersioningCommand,
  PutObjectCommand,
  PutObjectTaggingCommand,
  type S3Client,
  S3ServiceException,
  UploadPartCommand,
} from '@aws-sdk/client-s3'
import { silentLogger } from '../../../core/contract/logger.ts'
import type { AdmitDecision } from '../../../core/contract/policy.ts'
import { openQos, type Qos } from '../../../core/qos/open-qos.ts'
import { qosConfig } from '../../kit/qos-bench.ts'
import { type S3Region, startS3Region, systemEnvironment } from '../../kit/s3-region.ts'

const MiB = 1024 * 1024
let qos: Qos
let region: S3Region
let alice: S3Client
/** What the policy says to everything; undefined: as without one. */
let verdict: Partial<AdmitDecision> | undefined

before(async () => {
  qos = openQos({
    config: qosConfig({
      budgets: [
        { bucket: 'slow-reads', bytesOut: '2MiB' },
        { bucket: 'slow-writes', bytesIn: '2MiB' },
        { tenant: 'bob', requests: 5, burst: '1ms' },
      ],
      classes: { interactive: { queueTimeout: '20s' } },
    }),
    environment: systemEnvironment,
    log: silentLogger,
  })
  const { fallback } = qos
  qos.decideBy({
    ...fallback,
    admit: (input) =>
      verdict === undefined
        ? fallback.admit(input)
        : { policy: 'test@1', reason: 42, verdict: 'admit', delayMs: 0, ...verdict },
  })
  region = await startS3Region({ hooks: { admission: qos.admission } })
  alice = region.client('alice')
  for (const name of ['plain', 'slow-reads', 'slow-writes', 'going', 'empty']) {
    await alice.send(new CreateBucketCommand({ Bucket: name }))
  }
  await alice.send(new PutObjectCommand({ Bucket: 'plain', Key: 'kept', Body: 'first' }))
})

after(async () => {
  await region.close()
  qos.close()
})

const queued = (): number => qos.inspection.status().classes.reduce((sum, each) => sum + each.queued, 0)

async function until(what: string, holds: () => boolean): Promise<void> {
  for (let round = 0; round < 500; round++) {
    if (holds()) return
    await delay(10)
  }
  assert.fail(`never: ${what}`)
}

test('a request that is shed has no effect, whatever it is', async () => {
  const Bucket = 'plain'
  const { UploadId } = await alice.send(new CreateMultipartUploadCommand({ Bucket, Key: 'parts' }))
  const { position } = region.catalog.stats()
  const { chunkCount } = await region.chunks.stats()
  const small = Buffer.alloc(100, 1)
  const large = Buffer.alloc(3 * MiB, 2)
  const requests: readonly (() => Promise<unknown>)[] = [
    () => alice.send(new PutObjectCommand({ Bucket, Key: 'new', Body: small })),
    () => alice.send(new PutObjectCommand({ Bucket, Key: 'new', Body: large })),
    () => alice.send(new PutObjectCommand({ Bucket, Key: 'kept', Body: small })),
    () => alice.send(new CopyObjectCommand({ Bucket, Key: 'copy', CopySource: 'plain/kept' })),
    () => alice.send(new DeleteObjectCommand({ Bucket, Key: 'kept' })),
    () => alice.send(new DeleteObjectsCommand({ Bucket, Delete: { Objects: [{ Key: 'kept' }] } })),
    () => alice.send(new CreateMultipartUploadCommand({ Bucket, Key: 'other' })),
    () => alice.send(new UploadPartCommand({ Bucket, Key: 'parts', UploadId, PartNumber: 1, Body: large })),
    () => alice.send(new AbortMultipartUploadCommand({ Bucket, Key: 'parts', UploadId })),
    () => alice.send(new PutObjectTaggingCommand({ Bucket, Key: 'kept', Tagging: { TagSet: [] } })),
    () =>
      alice.send(new PutBucketVersioningCommand({ Bucket, VersioningConfiguration: { Status: 'Enabled' } })),
    () => alice.send(new CreateBucketCommand({ Bucket: 'another' })),
    () => alice.send(new DeleteBucketCommand({ Bucket: 'empty' })),
  ]
  verdict = { verdict: 'shed', delayMs: 6500 }
  try {
    for (const request of requests) {
      await assert.rejects(request, (error) => {
        assert.ok(error instanceof S3ServiceException, String(error))
        assert.equal(error.$metadata.httpStatusCode, 503)
        assert.equal(error.name, 'SlowDown')
        assert.equal(error.$response?.headers['retry-after'], '7')
        const explained = qos.inspection.explain(error.$metadata.requestId ?? '')
        assert.equal(explained?.outcome, 'shed')
        assert.equal(explained?.admittedBy, 'test@1')
        assert.equal(explained?.admitReason, 42)
        return true
      })
    }
  } finally {
    verdict = undefined
  }
  assert.equal(region.catalog.stats().position, position, 'something was written to the log')
  assert.equal((await region.chunks.stats()).chunkCount, chunkCount)
  assert.equal(qos.inspection.status().inFlight, 0)
  const kept = await alice.send(new GetObjectCommand({ Bucket, Key: 'kept' }))
  assert.equal(await kept.Body?.transformToString(), 'first')
})

test('whoever hangs up while waiting leaves the queue, and nothing was done', async () => {
  verdict = { verdict: 'delay', delayMs: 15_000 }
  const abort = new AbortController()
  const { position } = region.catalog.stats()
  try {
    const sent = alice.send(new PutObjectCommand({ Bucket: 'plain', Key: 'gone', Body: 'x' }), {
      abortSignal: abort.signal,
    })
    sent.catch(() => undefined)
    await until('the request waits', () => queued() === 1)
    abort.abort()
    await assert.rejects(sent)
    await until('the queue is empty', () => queued() === 0)
  } finally {
    verdict = undefined
  }
  await until('nothing is at work', () => qos.inspection.status().inFlight === 0)
  assert.equal(region.catalog.stats().position, position)
})

test('a bucket that goes while a request waits for it is gone when its turn comes', async () => {
  // Longer than a busy machine needs until the bucket is gone.
  verdict = { verdict: 'delay', delayMs: 3000 }
  const waiting = alice.send(new PutObjectCommand({ Bucket: 'going', Key: 'a', Body: 'x' }))
  waiting.catch(() => undefined)
  await until('the request waits', () => queued() === 1)
  verdict = undefined
  await alice.send(new DeleteBucketCommand({ Bucket: 'going' }))
  await assert.rejects(waiting, { name: 'NoSuchBucket' })
})

test('a delayed request is told from a shed one, and found by its id', async () => {
  const bob = region.client('bob')
  await bob.send(new CreateBucketCommand({ Bucket: 'bobs' }))
  // Five in a second: on a busy machine they may come as slowly as that by themselves.
  for (let round = 0, isDelayed = false; !isDelayed; round++) {
    const answers = await Promise.all(
      Array.from({ length: 4 }, () => bob.send(new CreateBucketCommand({ Bucket: 'bobs' }))),
    )
    const explained = answers.map(({ $metadata }) => qos.inspection.explain($metadata.requestId ?? ''))
    for (const each of explained) {
      assert.equal(each?.tenant, 'bob')
      assert.equal(each?.outcome, 'ended')
      assert.equal(each?.class, 'interactive')
    }
    isDelayed = explained.some((each) => (each?.queuedMs ?? 0) > 100 && each?.reason.includes('budget'))
    assert.ok(isDelayed || round < 20, JSON.stringify(explained))
  }
})

/** Bytes of the buffer pool that are in use, looked at fifteen times in one and a half seconds, from the first one on. */
async function heldMeanwhile(): Promise<number[]> {
  const held: number[] = []
  for (let look = 0; look < 50 && (await region.chunks.stats()).poolUsedBytes === 0; look++) await delay(10)
  for (let look = 0; look < 15; look++) {
    await delay(100)
    held.push((await region.chunks.stats()).poolUsedBytes)
  }
  return held
}

/**
 * After the machine has stood still everybody's turn has come at once, and a disk that others use keeps buffers longer than their bytes take to
 * come: for some looks more is at work. What waits for its turn with its buffers holds all four bodies of 1 MiB all the time.
 */
const whileWaiting = (held: readonly number[]): number => held.toSorted((one, other) => one - other)[5] ?? 0

test('downloads are paced by their budget and hold no buffers while they wait', async () => {
  const Bucket = 'slow-reads'
  await alice.send(new PutObjectCommand({ Bucket, Key: 'large', Body: Buffer.alloc(MiB, 3) }))
  const began = performance.now()
  const reading = Promise.all(
    Array.from({ length: 4 }, async () => {
      const { Body } = await alice.send(new GetObjectCommand({ Bucket, Key: 'large' }))
      return (await Body?.transformToByteArray())?.length
    }),
  )
  const [lengths, held] = await Promise.all([reading, heldMeanwhile()])
  assert.deepEqual(lengths, [MiB, MiB, MiB, MiB])
  // 4 MiB at 2 MiB/s: two seconds, less the burst; never sooner, however fast the machine.
  assert.ok(performance.now() - began > 1800)
  assert.ok(whileWaiting(held) <= 4 * 64 * 1024, `held ${held}`)
})

test('uploads are paced by their budget, one buffer after the other', async () => {
  const Bucket = 'slow-writes'
  const began = performance.now()
  const writing = Promise.all(
    Array.from({ length: 4 }, (_, index) =>
      alice.send(new PutObjectCommand({ Bucket, Key: `${index}`, Body: Buffer.alloc(MiB, index) })),
    ),
  )
  const [, held] = await Promise.all([writing, heldMeanwhile()])
  assert.ok(performance.now() - began > 1800)
  assert.ok(whileWaiting(held) <= 512 * 1024, `held ${held}`)
  for (let index = 0; index < 4; index++) {
    const { Body } = await alice.send(new GetObjectCommand({ Bucket, Key: `${index}` }))
    assert.deepEqual(Buffer.from((await Body?.transformToByteArray()) ?? []), Buffer.alloc(MiB, index))
  }
})

test('a paced download that is given up frees everything', async () => {
  const abort = new AbortController()
  const { Body } = await alice.send(new GetObjectCommand({ Bucket: 'slow-reads', Key: 'large' }), {
    abortSignal: abort.signal,
  })
  assert.ok(Body instanceof Readable)
  Body.on('error', () => undefined)
  abort.abort()
  await until('nothing is at work', () => qos.inspection.status().inFlight === 0)
  // A read that was under way ends after the request.
  for (let round = 0; (await region.chunks.stats()).poolUsedBytes > 0; round++) {
    assert.ok(round < 500, 'a buffer is never given back')
    await delay(10)
  }
})
