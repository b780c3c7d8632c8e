import assert from 'node:assert/strict'
import { test } from 'node:test'
import { setTimeout as sleep } from 'node:timers/promises'
import {
  AbortMultipartUploadCommand,
  CompleteMultipartUploadCommand,
  CopyObjectCommand,
  CreateBucketCommand,
  CreateMultipartUploadCommand,
  DeleteObjectCommand,
  GetObjectCommand,
  PutObjectCommand,
  UploadPartCommand,
  UploadPartCopyCommand,
} from '@aws-sdk/client-s3'
import { createCollector } from '../../../core/catalog/collector.ts'
import { fullScan } from '../../../core/catalog/full-scan.ts'
import type { ChunkStore } from '../../../core/contract/chunk-store.ts'
import { StorageError } from '../../../core/contract/errors.ts'
import { startS3Region } from '../../kit/s3-region.ts'
import { SeededRandom } from '../../simulation/seeded-random.ts'

const seed = Number(process.env['PANDO_SEED'] ?? 1)
const rounds = Number(process.env['PANDO_ROUNDS'] ?? 30)
const workers = 12
const Bucket = 'raced'
const keys = ['a', 'b', 'c', 'd']
const chunkBytes = 64 * 1024

/** Its own bytes and nothing else: the number of the body at every place. */
function bodyOf(number: number, byteLength: number): Buffer {
  const body = Buffer.alloc(byteLength)
  for (let at = 0; at + 8 <= byteLength; at += 8) {
    body.writeUInt32LE(number, at)
    body.writeUInt32LE(at, at + 4)
  }
  return body
}

const lengthOf = (number: number): number => chunkBytes * (1 + (number % 5)) + 8 * (number % 13)

/** What is read is one body that somebody wrote, whole. */
function assertWhole(body: Buffer, key: string): void {
  const number = body.readUInt32LE(0)
  assert.ok(
    Buffer.compare(body, bodyOf(number, lengthOf(number))) === 0,
    `${key}: body ${number} is not as it was written`,
  )
}

interface Slow {
  isOn: boolean
}

/** Work takes time, so that everything meets everything, and a chunk in thirty cannot be stored. */
function slowly(store: ChunkStore, random: SeededRandom, slow: Slow): ChunkStore {
  const late = async (mostMs: number): Promise<void> => {
    if (slow.isOn) await sleep(random.below(mostMs))
  }
  const over: Partial<ChunkStore> = {
    async put(...given) {
      await late(4)
      if (slow.isOn && random.chance(1 / 30)) throw new StorageError('UNAVAILABLE', 'told to fail')
      await store.put(...given)
      await late(4)
    },
    async get(...given) {
      await late(12)
      return store.get(...given)
    },
    async delete(...given) {
      await late(4)
      return store.delete(...given)
    },
  }
  return new Proxy(store, {
    get(target, name) {
      const value: unknown = Reflect.get(over, name) ?? Reflect.get(target, name, target)
      return typeof value === 'function' ? value.bind(target) : value
    },
  })
}

/** Answers that a race may have; anything else is a defect, above all a chunk that is not there. */
const expected = new Set([
  'NoSuchKey',
  'NoSuchUpload',
  'InvalidPart',
  'ServiceUnavailable',
  'SlowDown',
  'AbortError',
])

test('copies, parts and completed uploads keep their bytes while sources are overwritten, deleted and collected', {
  timeout: 300_000,
}, async (t) => {
  const random = new SeededRandom(seed)
  const repeat = `seed ${seed}: PANDO_SEED=${seed} PANDO_ROUNDS=${rounds}`
  const slow: Slow = { isOn: true }
  const region = await startS3Region({
    config: { chunkBytes, windowBytes: chunkBytes, inlineBytes: 1024 },
    wrapStore: (store) => slowly(store, random, slow),
  })
  t.after(() => region.close())
  const s3 = region.client('alice', { requestChecksumCalculation: 'WHEN_REQUIRED' })
  await s3.send(new CreateBucketCommand({ Bucket }))
  let numbers = 0
  const done = { copied: 0, completed: 0, read: 0, freed: 0, refused: 0 }

  const newBody = (): Buffer => {
    const number = ++numbers
    return bodyOf(number, lengthOf(number))
  }
  async function read(Key: string): Promise<void> {
    const { Body } = await s3.send(new GetObjectCommand({ Bucket, Key }))
    assertWhole(Buffer.from((await Body?.transformToByteArray()) ?? []), Key)
    done.read++
  }
  const source = (): string => `${Bucket}/${random.pick(keys)}`

  /** Of one part, which is copied or sent, again at the same time, while somebody may abort. */
  async function upload(Key: string): Promise<void> {
    const { UploadId } = await s3.send(new CreateMultipartUploadCommand({ Bucket, Key }))
    const place = { Bucket, Key, UploadId, PartNumber: 1 }
    const copyPart = async () =>
      (await s3.send(new UploadPartCopyCommand({ ...place, CopySource: source() }))).CopyPartResult?.ETag
    const sendPart = async () => (await s3.send(new UploadPartCommand({ ...place, Body: newBody() }))).ETag
    const ETag = random.chance(0.7) ? await copyPart() : await sendPart()
    const meanwhile: Promise<unknown>[] = []
    if (random.chance(0.5)) meanwhile.push(random.chance(0.5) ? copyPart() : sendPart())
    if (random.chance(0.2))
      meanwhile.push(s3.send(new AbortMultipartUploadCommand({ Bucket, Key, UploadId })))
    const MultipartUpload = { Parts: [{ PartNumber: 1, ETag }] }
    const completing = s3.send(new CompleteMultipartUploadCommand({ Bucket, Key, UploadId, MultipartUpload }))
    const [outcome, ...others] = await Promise.allSettled([completing, ...meanwhile])
    if (outcome?.status === 'fulfilled') done.completed++
    for (const one of [outcome, ...others]) if (one?.status === 'rejected') throw one.reason
  }

  /** A client that goes away somewhere in the middle. */
  async function breakOff(Key: string): Promise<void> {
    const gone = new AbortController()
    const copying = s3.send(
      new CopyObjectCommand({ Bucket, Key, CopySource: source(), MetadataDirective: 'REPLACE' }),
      { abortSignal: gone.signal },
    )
    setTimeout(() => gone.abort(), random.below(15))
    await copying
  }

  async function act(): Promise<void> {
    const Key = random.pick(keys)
    const which = random.below(10)
    if (which < 2) await s3.send(new PutObjectCommand({ Bucket, Key, Body: newBody() }))
    else if (which < 3) await s3.send(new DeleteObjectCommand({ Bucket, Key }))
    else if (which < 6) {
      await s3.send(
        new CopyObjectCommand({ Bucket, Key, CopySource: source(), MetadataDirective: 'REPLACE' }),
      )
      done.copied++
    } else if (which < 8) await upload(Key)
    else if (which < 9) await breakOff(Key)
    else await read(Key)
  }

  const { catalog, chunks, writes, gateway } = region
  const collector = createCollector({ catalog, chunks, writes, clock: gateway.environment.clock })
  let isOver = false
  const whileRunning = async (work: () => Promise<void>): Promise<void> => {
    while (!isOver) {
      await work()
      await sleep(1)
    }
  }
  const collecting = Promise.all([
    whileRunning(async () => {
      done.freed += (await collector.collect()).writes
    }),
    whileRunning(async () => {
      await collector.collectOrphans()
    }),
  ])
  collecting.catch(() => undefined)

  const work = Array.from({ length: workers }, async () => {
    for (let round = 0; round < rounds; round++) {
      try {
        await act()
      } catch (reason) {
        const { name } = reason as Error
        if (!expected.has(name)) throw new Error(`${repeat}: ${name}`, { cause: reason })
        done.refused++
      }
    }
  })
  const outcomes = await Promise.allSettled(work)
  isOver = true
  await collecting
  for (const outcome of outcomes) if (outcome.status === 'rejected') throw outcome.reason

  slow.isOn = false
  for (const Key of keys) {
    await read(Key).catch((reason: Error) => assert.equal(reason.name, 'NoSuchKey', `${repeat}: ${Key}`))
  }
  while ((await collector.collect()).writes > 0);
  await collector.collectOrphans()
  const findings = []
  for await (const finding of fullScan({ catalog, chunks, writes })) findings.push(finding)
  assert.deepEqual(findings, [], `${repeat}: the store and the catalog agree`)
  assert.deepEqual(writes.counts(), { inFlight: 0, pinned: 0 })
  t.diagnostic(JSON.stringify(done))
  assert.ok(done.copied > 0 && done.completed > 0 && done.freed > 0, 'nothing met anything')
})
