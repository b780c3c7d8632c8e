import assert from 'node:assert/strict'
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdtemp, readdir, readFile, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { test } from 'node:test'
import { fileURLToPath } from 'node:url'
import { isDeepStrictEqual } from 'node:util'
import { silentLogger } from '../../../core/contract/logger.ts'
import { loadAddon, openChunkStore } from '../../../native/addon.ts'
import { getBytes, pattern, rejectsWith, testId } from '../../kit/chunk-store-place.ts'

const addon = loadAddon()
const skip = addon instanceof Error && addon.message
const mebibyte = 1024 * 1024
const sizes = {
  capacityBytes: 512 * mebibyte,
  poolBytes: 32 * mebibyte,
  cacheBytes: 8 * mebibyte,
  reactors: 1,
}

async function inDirectory(body: (directory: string) => Promise<void>): Promise<void> {
  const directory = await mkdtemp(join(tmpdir(), 'pando-bridge-'))
  try {
    await body(directory)
  } finally {
    await rm(directory, { recursive: true, force: true })
  }
}

/** What is counted when it stays as it is: the kernel shows a thread for a moment after it has been joined. */
async function settled<T>(count: () => Promise<T>): Promise<T> {
  let last = await count()
  for (let same = 0, look = 0; same < 5 && look < 500; look++) {
    await new Promise((resolve) => setTimeout(resolve, 20))
    const now = await count()
    same = isDeepStrictEqual(now, last) ? same + 1 : 0
    last = now
  }
  return last
}

async function runChild(scenario: string, directory: string, backend: string) {
  const program = fileURLToPath(new URL('bridge-child.js', import.meta.url))
  const child = spawn(process.execPath, [program, scenario, directory, backend], {
    stdio: ['ignore', 'ignore', 'pipe'],
  })
  let errors = ''
  child.stderr.on('data', (bytes) => (errors += bytes))
  const killer = setTimeout(() => child.kill('SIGABRT'), 60_000)
  const [code, signal] = await once(child, 'close')
  clearTimeout(killer)
  const noted = await readFile(join(directory, 'acknowledged'), 'utf8').catch(() => '')
  await rm(join(directory, 'acknowledged'), { force: true })
  return { code, signal, errors, acknowledged: noted.split('\n').filter(Boolean).map(Number) }
}

const endings = [
  { scenario: 'idle', sentence: 'an idle store keeps no process alive', code: 0 },
  {
    scenario: 'end-busy',
    sentence: 'requests under way keep the process alive until they are answered',
    code: 0,
  },
  { scenario: 'exit-busy', sentence: 'process.exit with requests under way', code: 7 },
  { scenario: 'throw-busy', sentence: 'an uncaught exception with requests under way', code: 1 },
  { scenario: 'exit-while-opening', sentence: 'process.exit while the store is opening', code: 7 },
  { scenario: 'exit-while-closing', sentence: 'process.exit while the store is closing', code: 7 },
  { scenario: 'close-busy', sentence: 'closing twice with requests under way', code: 0 },
  { scenario: 'worker-exit', sentence: 'workers that exit with requests under way', code: 0 },
  { scenario: 'worker-terminate', sentence: 'workers that are terminated with requests under way', code: 0 },
]

for (const backend of ['memory', 'uring']) {
  for (const { scenario, sentence, code } of endings) {
    test(
      `${sentence} (${backend}): no crash, no hang, nothing acknowledged lost`,
      { skip, timeout: 120_000 },
      () =>
        inDirectory(async (directory) => {
          for (let round = 0; round < (backend === 'memory' ? 5 : 1); round++) {
            const ended = await runChild(scenario, directory, backend)
            assert.equal(ended.signal, null, ended.errors)
            assert.equal(ended.code, code, ended.errors)
            if (scenario === 'end-busy') assert.equal(ended.acknowledged.length, 300)
            if (backend === 'memory') continue
            const store = await openChunkStore({ directory, ...sizes, log: silentLogger })
            for (const seed of new Set(ended.acknowledged)) {
              assert.ok((await getBytes(store, testId(seed))).equals(pattern(seed, 20_000)), `chunk ${seed}`)
            }
            for await (const finding of store.scrub()) assert.fail(finding.detail)
            await store.close()
          }
        }),
    )
  }
}

test('opening and closing many times leaves no descriptor, thread or event-loop handle behind', {
  skip,
}, async () => {
  const open = () => openChunkStore({ directory: '', backend: 'memory', ...sizes, log: silentLogger })
  const count = async () => ({
    descriptors: (await readdir('/proc/self/fd')).length,
    threads: (await readdir('/proc/self/task')).length,
    handles: process.getActiveResourcesInfo().length,
  })
  await (await open()).close()
  const before = await settled(count)
  for (let round = 0; round < 30; round++) await (await open()).close()
  assert.deepEqual(await settled(count), before)
})

test('a store that fails to open leaves nothing behind and says why', { skip }, () =>
  inDirectory(async (directory) => {
    const store = await openChunkStore({ directory, ...sizes, log: silentLogger })
    const count = async (): Promise<number> => (await readdir('/proc/self/task')).length
    const threads = await settled(count)
    for (let round = 0; round < 5; round++) {
      await rejectsWith('ALREADY_OPEN', openChunkStore({ directory, ...sizes, log: silentLogger }))
    }
    assert.equal(await settled(count), threads)
    await store.close()
  }),
)

test('a view kept beyond close is empty, and releasing it does no harm', { skip }, async () => {
  const store = await openChunkStore({ directory: '', backend: 'memory', ...sizes, log: silentLogger })
  const buffer = await store.acquire(1000)
  buffer.bytes.fill(1)
  await store.close()
  assert.equal(buffer.bytes.length, 0)
  buffer.release()
})

test('a directory stays with the kind of store that wrote it', { skip }, () =>
  inDirectory(async (directory) => {
    const open = (backend: 'auto' | 'reference' | 'uring') =>
      openChunkStore({ directory, backend, ...sizes, log: silentLogger })
    await (await open('auto')).close()
    await rejectsWith('INVALID_CONFIG', open('reference'))
    await rm(directory, { recursive: true })
    const reference = await open('reference')
    const buffer = await reference.acquire(1)
    await reference.put(testId(1), buffer, 1)
    await reference.close()
    await rejectsWith('INVALID_CONFIG', open('uring'))
    const again = await open('auto')
    assert.equal(again.kind, 'reference')
    assert.equal(await again.has(testId(1)), true)
    await again.close()
  }),
)
