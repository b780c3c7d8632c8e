import assert from 'node:assert/strict'
import { open, readdir, stat } from 'node:fs/promises'
import { join } from 'node:path'
import { suite, type TestContext, test } from 'node:test'
import { type NodeProcess, startNode, withoutNative } from '../kit/node-process.ts'
import { seededRandom } from '../kit/random.ts'
import { openS3Client } from '../kit/s3-client.ts'
import { seededBytes } from '../kit/seeded-bytes.ts'

const mebibyte = 1024 * 1024
const bucket = 'flipped-bucket'
const givenSeed = process.env['PANDO_SEED']

interface Target {
  readonly key: string
  readonly byteLength: number
}

/** Every regular file below the data directory, with its size. */
async function dataFiles(directory: string): Promise<{ path: string; byteLength: number }[]> {
  const files: { path: string; byteLength: number }[] = []
  for (const name of await readdir(directory, { recursive: true })) {
    const path = join(directory, name)
    const info = await stat(path)
    if (info.isFile()) files.push({ path, byteLength: info.size })
  }
  return files
}

/** Where the stored bytes of an object stand on the disk: found by searching for 64 bytes of its middle. */
async function locate(
  files: readonly { path: string }[],
  needle: Buffer,
): Promise<{ path: string; offset: number } | undefined> {
  const step = 8 * mebibyte
  for (const { path } of files) {
    const file = await open(path, 'r')
    try {
      const window = Buffer.alloc(step + needle.length)
      for (let offset = 0; ; offset += step) {
        const { bytesRead } = await file.read(window, 0, window.length, offset)
        const found = window.subarray(0, bytesRead).indexOf(needle)
        if (found >= 0) return { path, offset: offset + found }
        if (bytesRead < window.length) break
      }
    } finally {
      await file.close()
    }
  }
  return undefined
}

async function flipBit(path: string, offset: number, bit: number): Promise<void> {
  const file = await open(path, 'r+')
  try {
    const byte = Buffer.alloc(1)
    await file.read(byte, 0, 1, offset)
    byte.writeUInt8((byte.readUInt8(0) ^ (1 << bit)) & 0xff)
    await file.write(byte, 0, 1, offset)
    await file.sync()
  } finally {
    await file.close()
  }
}

async function runTrial(t: TestContext, backend: string): Promise<void> {
  const seed = givenSeed === undefined ? Math.floor(Math.random() * 2 ** 31) : Number(givenSeed)
  t.diagnostic(`seed ${seed}: repeat with PANDO_SEED=${seed}`)
  const random = seededRandom(seed)
  await using node = await startNode({ config: { store: { backend, capacity: '1GiB' } } })
  const connect = (running: NodeProcess) =>
    openS3Client({ endpoint: running.endpoint, accessKey: running.accessKey, secretKey: running.secretKey })
  let client = connect(node)
  assert.equal((await client.send({ method: 'PUT', bucket })).status, 200)
  const targets: Target[] = Array.from({ length: 24 }, (_, index) => ({
    key: `object-${index}`,
    byteLength: index % 4 === 0 ? 6 * mebibyte + index : 5000 + random.below(500_000),
  }))
  for (const { key, byteLength } of targets) {
    const reply = await client.send({
      method: 'PUT',
      bucket,
      key,
      body: seededBytes(`${seed}/${key}`, 0, byteLength),
    })
    assert.equal(reply.status, 200)
  }
  client.close()
  await node.stop()

  const files = await dataFiles(node.dataDirectory)
  const damaged = new Set<string>()
  for (const { key, byteLength } of targets) {
    if (random.next() < 0.5) continue
    const at = Math.min(byteLength - 64, Math.floor(byteLength / 2))
    const place = await locate(files, seededBytes(`${seed}/${key}`, at, 64))
    assert.ok(place, `the bytes of ${key} are not found on the disk`)
    await flipBit(place.path, place.offset + random.below(64), random.below(8))
    damaged.add(key)
  }
  assert.ok(damaged.size > 0)

  await node.start()
  client = connect(node)
  for (const { key, byteLength } of targets) {
    const bytes = seededBytes(`${seed}/${key}`, 0, byteLength)
    for (const range of [
      undefined,
      `bytes=${Math.floor(byteLength / 2)}-${Math.floor(byteLength / 2) + 63}`,
    ]) {
      const headers = range === undefined ? {} : { range }
      const { reply, body } = await client.stream({ method: 'GET', bucket, key, headers })
      const pieces: Buffer[] = []
      let cut = false
      try {
        for await (const piece of body) pieces.push(piece as Buffer)
        cut = !body.complete
      } catch {
        cut = true
      }
      const received = Buffer.concat(pieces)
      if (!damaged.has(key)) {
        assert.ok(
          !cut && reply.status === (range ? 206 : 200),
          `${key} is sound and answered ${reply.status}`,
        )
      }
      if (reply.status >= 400) {
        assert.equal(reply.status, 500)
        assert.match(received.toString(), /<Code>InternalError<\/Code>/)
        continue
      }
      const offset = range === undefined ? 0 : Math.floor(byteLength / 2)
      assert.ok(
        received.equals(bytes.subarray(offset, offset + received.length)),
        `wrong bytes of ${key} were served`,
      )
      if (damaged.has(key)) assert.ok(cut, `${key} is damaged and was served as if it were whole`)
      else assert.equal(received.length, range === undefined ? byteLength : 64)
    }
  }
  client.close()

  const scrub = await node.command('--json', 'debug', 'scrub')
  assert.equal(scrub.code, 7, `scrub did not report findings: ${scrub.stdout}${scrub.stderr}`)
  const reported = new Set<string>()
  for (const { key } of targets) {
    if (new RegExp(`"bucket":\\s*"${bucket}"[^{}]*"key":\\s*"${key}"`).test(scrub.stdout)) reported.add(key)
  }
  assert.deepEqual([...reported].sort(), [...damaged].sort())
  t.diagnostic(
    `${damaged.size} of ${targets.length} objects damaged in the ${node.store} store; none served wrong, all reported`,
  )
}

suite('flipped bits on the disk are never served and are reported by scrub with bucket and key', {
  timeout: 300_000,
}, () => {
  test('native store', { skip: withoutNative }, (t) => runTrial(t, 'auto'))
  test('reference store', (t) => runTrial(t, 'reference'))
})
