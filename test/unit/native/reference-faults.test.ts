import assert from 'node:assert/strict'
import { test } from 'node:test'
import type { ChunkStore, ScrubFinding } from '../../../core/contract/chunk-store.ts'
import { openReferenceStore } from '../../../native/reference/reference-store.ts'
import { getBytes, pattern, putBytes, rejectsWith, testId } from '../../kit/chunk-store-place.ts'
import { FaultyFileSystem, seededRandom } from '../../kit/faulty-file-system.ts'

const poolBytes = 8 * 1024 * 1024

function open(fileSystem: FaultyFileSystem, capacityBytes = 512 * 1024 * 1024): Promise<ChunkStore> {
  return openReferenceStore({
    directory: 'disk',
    fileSystem,
    poolBytes,
    capacityBytes,
    segmentBytes: capacityBytes / 8,
  })
}

function failure(code: string): Error {
  return Object.assign(new Error(code), { code })
}

async function findings(store: ChunkStore): Promise<ScrubFinding[]> {
  const found: ScrubFinding[] = []
  for await (const finding of store.scrub()) found.push(finding)
  return found
}

for (const step of ['write', 'sync'] as const) {
  test(`after a failed ${step} the store refuses writes, serves reads, and is sound after a restart`, async () => {
    const fileSystem = new FaultyFileSystem(seededRandom(1))
    const store = await open(fileSystem)
    await putBytes(store, testId(1), pattern(1, 10_000))
    fileSystem.beforeStep = (kind) => {
      if (kind === step) throw failure('EIO')
    }
    await rejectsWith('IO_ERROR', putBytes(store, testId(2), pattern(2, 10_000)))
    fileSystem.beforeStep = () => {}
    // The disk works again, but what the kernel dropped is unknown: only a restart re-reads it.
    await rejectsWith('DEVICE_OFFLINE', putBytes(store, testId(3), pattern(3, 10_000)))
    await rejectsWith('DEVICE_OFFLINE', store.delete(testId(1)))
    assert.ok((await getBytes(store, testId(1))).equals(pattern(1, 10_000)))
    assert.equal((await store.stats()).online, false)
    await store.close()
    fileSystem.crash()
    const again = await open(fileSystem)
    assert.ok((await getBytes(again, testId(1))).equals(pattern(1, 10_000)))
    await putBytes(again, testId(2), pattern(2, 10_000))
    assert.deepEqual(await findings(again), [])
    await again.close()
  })
}

test('a full disk refuses writes and the store goes on once there is room', async () => {
  const fileSystem = new FaultyFileSystem(seededRandom(2))
  let store = await open(fileSystem)
  await putBytes(store, testId(1), pattern(1, 10_000))
  fileSystem.beforeStep = (kind) => {
    if (kind === 'write' || kind === 'create') throw failure('ENOSPC')
  }
  for (let attempt = 0; attempt < 3; attempt++) {
    await rejectsWith('INSUFFICIENT_STORAGE', putBytes(store, testId(2), pattern(2, 50_000)))
  }
  assert.equal((await store.stats()).online, true)
  fileSystem.beforeStep = () => {}
  await putBytes(store, testId(2), pattern(2, 50_000))
  await putBytes(store, testId(3), pattern(3, 500))
  await store.close()
  fileSystem.crash()
  store = await open(fileSystem)
  for (const [seed, byteLength] of [
    [1, 10_000],
    [2, 50_000],
    [3, 500],
  ] as const) {
    assert.ok((await getBytes(store, testId(seed))).equals(pattern(seed, byteLength)))
  }
  assert.deepEqual(await findings(store), [])
  await store.close()
})

test('a full disk at the first segment is INSUFFICIENT_STORAGE and no damage', async () => {
  const fileSystem = new FaultyFileSystem(seededRandom(2))
  const store = await open(fileSystem)
  fileSystem.beforeStep = (kind) => {
    if (kind === 'create') throw failure('ENOSPC')
  }
  await rejectsWith('INSUFFICIENT_STORAGE', putBytes(store, testId(2), pattern(2, 50_000)))
  fileSystem.beforeStep = () => {}
  await putBytes(store, testId(2), pattern(2, 50_000))
  await store.close()
})

test('the store is full at 92 % of its capacity; deletes go on and make room', async () => {
  const fileSystem = new FaultyFileSystem(seededRandom(3))
  const capacityBytes = 8 * 1024 * 1024
  const store = await open(fileSystem, capacityBytes)
  const chunk = pattern(1, capacityBytes / 50)
  let stored = 0
  await rejectsWith('INSUFFICIENT_STORAGE', async () => {
    for (; stored < 100; stored++) await putBytes(store, testId(stored), chunk)
  })
  assert.ok(stored >= 44 && stored <= 46, `${stored} chunks of 2 %`)
  for (let index = 0; index < 20; index++) assert.equal(await store.delete(testId(index)), true)
  for (let index = 200; index < 215; index++) await putBytes(store, testId(index), chunk)
  assert.ok((await getBytes(store, testId(30))).equals(chunk))
  await store.close()
})

test('a damaged record header is reported, and everything else is served', async () => {
  const fileSystem = new FaultyFileSystem(seededRandom(4))
  let store = await open(fileSystem)
  for (let seed = 0; seed < 10; seed++) await putBytes(store, testId(seed), pattern(seed, 5_000))
  await store.close()
  const [name = ''] = fileSystem.names()
  const at = fileSystem.file(name).indexOf(Buffer.from(testId(4)))
  fileSystem.file(name)[at] = (fileSystem.file(name)[at] ?? 0) ^ 1
  store = await open(fileSystem)
  for (let seed = 0; seed < 10; seed++) {
    if (seed === 4) await rejectsWith('CHUNK_NOT_FOUND', getBytes(store, testId(seed)))
    else assert.ok((await getBytes(store, testId(seed))).equals(pattern(seed, 5_000)))
  }
  const found = await findings(store)
  assert.equal(found.length, 1)
  assert.equal(found[0]?.problem, 'corrupt-header')
  assert.equal((await store.stats()).corruptChunks, 1)
  await store.close()
})

test('damage in the last record is corruption after a clean close, not a torn tail', async () => {
  const fileSystem = new FaultyFileSystem(seededRandom(4))
  let store = await open(fileSystem)
  for (let seed = 0; seed < 3; seed++) await putBytes(store, testId(seed), pattern(seed, 5_000))
  await store.close()
  const [name = ''] = fileSystem.names()
  const at = fileSystem.file(name).indexOf(pattern(2, 5_000).subarray(0, 64))
  fileSystem.file(name)[at] = (fileSystem.file(name)[at] ?? 0) ^ 1
  store = await open(fileSystem)
  await rejectsWith('CORRUPT_CHUNK', getBytes(store, testId(2)))
  assert.deepEqual(
    (await findings(store)).map(({ problem }) => problem),
    ['corrupt-payload'],
  )
  // Putting the same bytes again heals a chunk that is known to be damaged.
  await putBytes(store, testId(2), pattern(2, 5_000))
  assert.ok((await getBytes(store, testId(2))).equals(pattern(2, 5_000)))
  await store.close()
})

test('bytes of a chunk that look like records of a store are never taken for some', async () => {
  const fileSystem = new FaultyFileSystem(seededRandom(6))
  let store = await open(fileSystem)
  await putBytes(store, testId(1), pattern(1, 3_000))
  const [name = ''] = fileSystem.names()
  // A backup of the log itself, stored as a chunk, and damage that makes the start search through it.
  const backup = Buffer.from(fileSystem.file(name))
  await putBytes(store, testId(2), backup)
  await putBytes(store, testId(3), pattern(3, 3_000))
  await store.close()
  const at = fileSystem.file(name).indexOf(Buffer.from(testId(2)))
  fileSystem.file(name)[at] = (fileSystem.file(name)[at] ?? 0) ^ 1
  store = await open(fileSystem)
  assert.deepEqual((await store.list(null, 10)).length, 2)
  assert.ok((await getBytes(store, testId(3))).equals(pattern(3, 3_000)))
  await store.close()
})
