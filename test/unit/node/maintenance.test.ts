import assert from 'node:assert/strict'
import { open, readdir, readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { PassThrough } from 'node:stream'
import { test } from 'node:test'
import { setTimeout as delay } from 'node:timers/promises'
import {
  CreateBucketCommand,
  DeleteObjectCommand,
  GetObjectCommand,
  PutObjectCommand,
  S3Client,
} from '@aws-sdk/client-s3'
import { withProgress } from '../../../core/node/with-progress.ts'
import { FakeClock } from '../../kit/fake-clock.ts'
import { type NodeProcess, startNode } from '../../kit/node-process.ts'
import { seededBytes } from '../../kit/seeded-bytes.ts'

/** A node on the reference store, whose files are plain enough to be damaged by hand. */
const startWith = (settings: Record<string, Record<string, unknown>>): Promise<NodeProcess> =>
  startNode({ config: { ...settings, store: { backend: 'reference', pool: '64MiB' } } })

const s3 = (node: NodeProcess) =>
  new S3Client({
    endpoint: node.endpoint,
    region: 'us-east-1',
    forcePathStyle: true,
    credentials: { accessKeyId: node.accessKey, secretAccessKey: node.secretKey },
    maxAttempts: 1,
  })

interface JobOutput {
  readonly clean: boolean
  readonly counts: Record<string, number>
  readonly findings: readonly { problem: string; bucket: string; key: string; chunkId: string }[]
}

async function job(node: NodeProcess, ...args: string[]): Promise<JobOutput & { code: number }> {
  const { code, stdout, stderr } = await node.command('debug', ...args, '--json')
  assert.ok(stdout.startsWith('{"clean"'), stdout + stderr)
  return { ...(JSON.parse(stdout) as JobOutput), code }
}

async function metric(node: NodeProcess, name: string): Promise<number> {
  const text = await (await fetch(`${node.consoleUrl}/metrics`)).text()
  return Number(new RegExp(`^${name} (\\S+)$`, 'm').exec(text)?.[1])
}

async function waitFor(condition: () => Promise<boolean>, timeoutMs = 15_000): Promise<void> {
  const deadline = performance.now() + timeoutMs
  while (!(await condition())) {
    if (performance.now() > deadline) throw new Error('waited in vain')
    await delay(50)
  }
}

test('what is deleted and overwritten is given back, by the clock and by hand', async () => {
  await using node = await startWith({ maintenance: { collectInterval: '200ms' } })
  const client = s3(node)
  await client.send(new CreateBucketCommand({ Bucket: 'first' }))
  const put = (key: string, seed: string) =>
    client.send(new PutObjectCommand({ Bucket: 'first', Key: key, Body: seededBytes(seed, 0, 100_000) }))
  await put('a', '1')
  await put('a', '2')
  await put('b', '3')
  await client.send(new DeleteObjectCommand({ Bucket: 'first', Key: 'b' }))
  await waitFor(async () => (await metric(node, 'pando_collector_writes_total')) === 2)
  assert.equal(await metric(node, 'pando_store_chunks'), 1)
  assert.equal(await metric(node, 'pando_catalog_garbage_writes'), 0)
  const scan = await job(node, 'scan')
  assert.deepEqual(
    { code: scan.code, clean: scan.clean, counts: scan.counts },
    {
      code: 0,
      clean: true,
      counts: { chunks: 1, findings: 0 },
    },
  )
  assert.equal((await job(node, 'collect')).code, 0)
  client.destroy()
})

test('orphans of a crash are freed soon after the next start without being asked for', async () => {
  await using node = await startWith({ s3: { chunkBytes: '64KiB' } })
  const client = s3(node)
  await client.send(new CreateBucketCommand({ Bucket: 'first' }))
  const body = new PassThrough()
  const put = client
    .send(new PutObjectCommand({ Bucket: 'first', Key: 'half', Body: body, ContentLength: 2_000_000 }))
    .catch((error: unknown) => error)
  body.write(seededBytes('half', 0, 1_000_000))
  await waitFor(async () => (await metric(node, 'pando_store_chunks')) >= 4)
  await node.kill()
  await put
  client.destroy()
  await node.start()
  await waitFor(async () => (await metric(node, 'pando_orphan_chunks_total')) >= 4)
  assert.equal((await job(node, 'scan', '--repair')).clean, true)
  assert.equal(await metric(node, 'pando_store_chunks'), 0)
})

test('a flipped bit is never served, and scrub says whose it is; the node stays in service', async () => {
  await using node = await startWith({})
  const client = s3(node)
  await client.send(new CreateBucketCommand({ Bucket: 'first' }))
  const content = seededBytes('bits', 0, 300_000)
  await client.send(new PutObjectCommand({ Bucket: 'first', Key: 'dir/hurt', Body: content }))
  await client.send(
    new PutObjectCommand({ Bucket: 'first', Key: 'whole', Body: seededBytes('other', 0, 300_000) }),
  )
  client.destroy()
  assert.equal((await job(node, 'scrub')).code, 0)
  await node.stop()
  await flipBit(join(node.dataDirectory, 'chunks'), content.subarray(150_000, 150_064))
  await node.start()

  const again = s3(node)
  await assert.rejects(
    again
      .send(new GetObjectCommand({ Bucket: 'first', Key: 'dir/hurt' }))
      .then((answer) => answer.Body?.transformToByteArray()),
  )
  const whole = await again.send(new GetObjectCommand({ Bucket: 'first', Key: 'whole' }))
  assert.equal((await whole.Body?.transformToByteArray())?.length, 300_000)
  again.destroy()

  const scrub = await job(node, 'scrub')
  assert.equal(scrub.code, 7)
  assert.deepEqual(
    scrub.findings.map(({ bucket, key }) => `${bucket}/${key}`),
    ['first/dir/hurt'],
  )
  const status = await node.command('status')
  assert.equal(status.code, 7)
  assert.match(status.stdout, /degraded/)
  // One damaged object is no reason to take a node out of service.
  const health = await fetch(`${node.consoleUrl}/healthz`)
  assert.equal(health.status, 200)
  const told = (await health.json()) as { status: string; problems: string[] }
  assert.equal(told.status, 'degraded')
  assert.ok(told.problems.length > 0)
  assert.ok(!JSON.stringify(told).includes('hurt'), 'health names no object: anybody may ask for it')
})

test('progress is told while a job works in silence, and its source is ended with its reader', async () => {
  const clock = new FakeClock()
  let ended = false
  async function* slow() {
    try {
      await clock.sleep(700)
      yield 'found'
      for (;;) {
        await clock.sleep(1)
        yield 'more'
      }
    } finally {
      ended = true
    }
  }
  let isRead = false
  const seen: string[] = []
  const updates = withProgress(
    slow(),
    clock,
    () => ({ stage: 'working', done: 0, total: 0 }),
    (detail) => ({ finding: { problem: '', detail, chunkId: '', bucket: '', key: '' } }),
  )
  const reading = (async () => {
    for await (const update of updates) {
      seen.push('progress' in update ? 'progress' : 'finding')
      if (seen.at(-1) === 'finding') break
    }
    isRead = true
  })()
  for (let ms = 0; ms < 2000 && !isRead; ms++) await clock.advance(1)
  await reading
  assert.deepEqual(seen, ['progress', 'progress', 'finding'])
  await clock.advance(1)
  assert.equal(ended, true)
})

/** Turns one bit of the only place where `pattern` is stored. */
async function flipBit(directory: string, pattern: Buffer): Promise<void> {
  let flipped = 0
  for (const name of await readdir(directory)) {
    const path = join(directory, name)
    const content = await readFile(path).catch(() => Buffer.alloc(0))
    const at = content.indexOf(pattern)
    if (at < 0) continue
    const file = await open(path, 'r+')
    await file.write(Buffer.of((content[at] ?? 0) ^ 0x10), 0, 1, at)
    await file.close()
    flipped++
  }
  assert.equal(flipped, 1)
}
