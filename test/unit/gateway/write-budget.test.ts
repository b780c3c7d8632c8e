import assert from 'node:assert/strict'
import { connect, type Socket } from 'node:net'
import { after, before, describe, test } from 'node:test'
import {
  CreateBucketCommand,
  GetObjectCommand,
  PutBucketAclCommand,
  PutObjectCommand,
} from '@aws-sdk/client-s3'
import { StorageError } from '../../../core/contract/errors.ts'
import { WriteBudget } from '../../../core/gateway/s3/write-budget.ts'
import { type S3Region, startS3Region } from '../../kit/s3-region.ts'

const MiB = 1024 * 1024

test('bodies get smaller chunks while many arrive, and are refused before they hold more than half of the pool', () => {
  const budget = new WriteBudget(256 * MiB)
  const sizes = new Map<number, number>()
  let held = 0
  assert.throws(
    () => {
      for (;;) {
        const bytes = budget.chunkBytes(4 * MiB)
        budget.hold(bytes)
        held += bytes
        sizes.set(bytes, (sizes.get(bytes) ?? 0) + 1)
      }
    },
    (error: unknown) => error instanceof StorageError && error.code === 'SLOW_DOWN',
  )
  assert.deepEqual(
    [...sizes],
    [
      [4 * MiB, 16],
      [MiB / 4, 128],
      [MiB / 16, 512],
    ],
  )
  assert.equal(held, 128 * MiB)
  budget.drop(held)
  assert.equal(budget.chunkBytes(4 * MiB), 4 * MiB)
})

test('a single body is let through however small the pool', () => {
  assert.equal(new WriteBudget(4 * MiB).chunkBytes(4 * MiB), 4 * MiB)
})

describe('uploads that trickle', () => {
  let region: S3Region
  const sockets: Socket[] = []
  before(async () => {
    region = await startS3Region({ poolBytes: 32 * MiB })
    const client = region.client()
    await client.send(new CreateBucketCommand({ Bucket: 'open-bucket' }))
    await client.send(new PutBucketAclCommand({ Bucket: 'open-bucket', ACL: 'public-read-write' }))
  })
  after(async () => {
    for (const socket of sockets) socket.destroy()
    await region.close()
  })

  test('do not keep others from writing: 40 of them against a pool of eight large buffers', async () => {
    for (let index = 0; index < 40; index++) {
      const socket = connect(region.port, '127.0.0.1')
      socket.on('error', () => undefined)
      socket.write(
        `PUT /open-bucket/slow${index} HTTP/1.1\r\nHost: x\r\nContent-Length: 8000000\r\n\r\nfirst bytes`,
      )
      sockets.push(socket)
    }
    const deadline = performance.now() + 20_000
    while (region.writes.counts().inFlight < 40) {
      assert.ok(performance.now() < deadline, `only ${region.writes.counts().inFlight} bodies have begun`)
      await new Promise((resolve) => setTimeout(resolve, 10))
    }
    const client = region.client()
    const Body = Buffer.alloc(3 * MiB, 7)
    await client.send(new PutObjectCommand({ Bucket: 'open-bucket', Key: 'quick', Body }), {
      abortSignal: AbortSignal.timeout(20_000),
    })
    const { Body: back } = await client.send(new GetObjectCommand({ Bucket: 'open-bucket', Key: 'quick' }))
    assert.ok(Body.equals(Buffer.from((await back?.transformToByteArray()) ?? [])))
  })
})
