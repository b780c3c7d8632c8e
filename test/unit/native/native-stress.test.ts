import assert from 'node:assert/strict'
import { createHash } from 'node:crypto'
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { test } from 'node:test'
import type { ChunkStore } from '../../../core/contract/chunk-store.ts'
import { StorageError } from '../../../core/contract/errors.ts'
import { silentLogger } from '../../../core/contract/logger.ts'
import { loadAddon, openChunkStore } from '../../../native/addon.ts'
import { getBytes, pattern, testId } from '../../kit/chunk-store-place.ts'
import { seededRandom } from '../../kit/faulty-file-system.ts'

const addon = loadAddon()
const skip = addon instanceof Error && addon.message
const mebibyte = 1024 * 1024
const seed = Number(process.env['PANDO_SEED'] ?? Date.now() % 1_000_000)
const seconds = Number(process.env['PANDO_STRESS_SECONDS'] ?? 4)

function open(directory: string, backend: 'uring' | 'posix' | 'memory'): Promise<ChunkStore> {
  // The pool is much smaller than what the lanes want at once, so waiting for it is part of the test.
  const sizes = { capacityBytes: 1024 * mebibyte, poolBytes: 8 * mebibyte, cacheBytes: 2 * mebibyte }
  return openChunkStore({ directory, backend, reactors: 2, ...sizes, log: silentLogger })
}

/** One lane owns its ids, so it knows at every moment what each must be. */
async function runLane(
  store: ChunkStore,
  lane: number,
  until: number,
  held: Map<number, number>,
): Promise<number> {
  const random = seededRandom(seed + lane)
  let operations = 0
  while (Date.now() < until) {
    operations++
    const key = lane * 1000 + Math.floor(random() * 12)
    const byteLength = held.get(key)
    const dice = random()
    if (byteLength === undefined) {
      const size = 1 + Math.floor(random() ** 8 * 2 * mebibyte)
      await putDigested(store, key, size, random)
      held.set(key, size)
    } else if (dice < 0.3) {
      assert.equal(await store.delete(testId(key)), true)
      held.delete(key)
      assert.equal(await store.has(testId(key)), false)
    } else if (dice < 0.4) {
      const controller = new AbortController()
      const reading = getAborted(store, key, controller.signal)
      setImmediate(() => controller.abort())
      await reading
    } else if (dice < 0.43) {
      const listed = await store.list(testId(key), 50)
      assert.ok(listed.length <= 50)
    } else {
      const offset = Math.floor(random() * byteLength)
      const length = Math.floor(random() * (byteLength - offset + 1))
      const expected = pattern(key, byteLength).subarray(offset, offset + length)
      assert.ok((await getBytes(store, testId(key), offset, length)).equals(expected), `key ${key}`)
    }
  }
  return operations
}

async function putDigested(
  store: ChunkStore,
  key: number,
  size: number,
  random: () => number,
): Promise<void> {
  const buffer = await store.acquire(size)
  try {
    const bytes = pattern(key, size)
    buffer.bytes.set(bytes)
    const digest = store.digest(['md5', 'sha256', 'crc64nvme'])
    const put = store.put(testId(key), buffer, size)
    const half = Math.floor(size * random())
    const updates = [digest.update(buffer, 0, half), digest.update(buffer, half, size - half)]
    if (random() < 0.1) digest.abort()
    else {
      const results = await digest.finish()
      const expected = createHash('md5').update(bytes).digest('hex')
      assert.equal(Buffer.from(results.get('md5') ?? []).toString('hex'), expected)
    }
    await Promise.all([put, ...updates])
  } finally {
    buffer.release()
  }
}

async function getAborted(store: ChunkStore, key: number, signal: AbortSignal): Promise<void> {
  try {
    ;(await store.get(testId(key), 0, 2 * mebibyte, signal)).release()
  } catch (reason) {
    assert.equal(StorageError.from(reason).code, 'CANCELLED')
  }
}

for (const backend of ['uring', 'posix', 'memory'] as const) {
  test(`many lanes over a small pool keep every byte right (${backend}, PANDO_SEED=${seed})`, {
    skip,
  }, async (context) => {
    const directory = await mkdtemp(join(tmpdir(), 'pando-stress-'))
    try {
      const store = await open(directory, backend)
      const held = new Map<number, number>()
      const until = Date.now() + seconds * 1000
      const lanes = Array.from({ length: 48 }, (_, lane) => runLane(store, lane, until, held))
      const operations = (await Promise.all(lanes)).reduce((sum, count) => sum + count, 0)
      context.diagnostic(`${operations} operations`)
      const stats = await store.stats()
      assert.equal(stats.poolUsedBytes, 0)
      assert.equal(stats.chunkCount, held.size)
      for await (const finding of store.scrub()) assert.fail(`${finding.problem} ${finding.detail}`)
      await store.close()
      if (backend === 'memory') return
      const again = await open(directory, backend)
      assert.equal((await again.stats()).chunkCount, held.size)
      for (const [key, byteLength] of held) {
        assert.ok(
          (await getBytes(again, testId(key))).equals(pattern(key, byteLength)),
          `key ${key} after a restart`,
        )
      }
      await again.close()
    } finally {
      await rm(directory, { recursive: true, force: true })
    }
  })
}
