import assert from 'node:assert/strict'
import type { test as nodeTest } from 'node:test'
import { StorageError } from '../../core/contract/errors.ts'
import { maxChunkBytes } from '../../core/contract/ids.ts'
import { proveDigests } from './chunk-store-digests.ts'
import { proveFragments } from './chunk-store-fragments.ts'
import {
  type ChunkStoreSubject,
  exhaust,
  findings,
  flipBit,
  getBytes,
  hex,
  type Law,
  lawOf,
  pattern,
  poolBytes,
  putBytes,
  rejectsWith,
  testId,
  tick,
} from './chunk-store-place.ts'
import { provePool } from './chunk-store-pool.ts'

/** The laws of core/contract/chunk-store.ts. Every implementation must pass all of them. */
export function proveChunkStore(test: typeof nodeTest, subject: ChunkStoreSubject): void {
  const law = lawOf(test, subject)
  const durableLaw: Law = (sentence, body) => {
    if (subject.persistent) law(sentence, body)
  }

  for (const byteLength of [
    1,
    63,
    3071,
    3072,
    4095,
    4096,
    4097,
    65_535,
    65_536,
    65_537,
    1_000_003,
    maxChunkBytes,
  ]) {
    law(`a chunk of ${byteLength} bytes comes back as it was put`, async (store) => {
      const bytes = pattern(byteLength, byteLength)
      await putBytes(store, testId(1), bytes)
      assert.ok((await getBytes(store, testId(1))).equals(bytes))
      assert.equal(await store.has(testId(1)), true)
    })
  }

  law('only the first byteLength bytes of the buffer are stored', async (store) => {
    const buffer = await store.acquire(8192)
    buffer.bytes.fill(7)
    await store.put(testId(1), buffer, 5000)
    buffer.release()
    assert.equal((await getBytes(store, testId(1))).length, 5000)
  })

  law('any range of a chunk can be read', async (store) => {
    const bytes = pattern(9, 300_001)
    await putBytes(store, testId(1), bytes)
    const edges = [0, 1, 511, 512, 4095, 4096, 4097, 65_535, 65_536, 65_537, 131_072, 262_144, 300_000]
    for (const offset of edges) {
      for (const length of [0, 1, 100, 4096, 65_536, 65_537, 200_000]) {
        const expected = bytes.subarray(offset, offset + length)
        const actual = await getBytes(store, testId(1), offset, length)
        assert.ok(actual.equals(expected), `offset ${offset}, length ${length}: ${actual.length} bytes`)
      }
    }
  })

  law(
    'a read past the end is cut there, at the end is empty, and behind it INVALID_ARGUMENT',
    async (store) => {
      const bytes = pattern(3, 10_000)
      await putBytes(store, testId(1), bytes)
      assert.ok((await getBytes(store, testId(1), 9_990, 100)).equals(bytes.subarray(9_990)))
      assert.equal((await getBytes(store, testId(1), 10_000, 1)).length, 0)
      assert.equal((await getBytes(store, testId(1), 10_000, 0)).length, 0)
      for (const offset of [10_001, 50_000, maxChunkBytes + 1]) {
        for (const length of [0, 10])
          await rejectsWith('INVALID_ARGUMENT', getBytes(store, testId(1), offset, length))
      }
      await rejectsWith('CHUNK_NOT_FOUND', getBytes(store, testId(2), 0, 0))
      assert.equal((await store.stats()).poolUsedBytes, 0)
    },
  )

  law('an unknown chunk is CHUNK_NOT_FOUND, is not had and is not deleted', async (store) => {
    await rejectsWith('CHUNK_NOT_FOUND', getBytes(store, testId(404)))
    assert.equal(await store.has(testId(404)), false)
    assert.equal(await store.delete(testId(404)), false)
  })

  law('putting the same content again succeeds and takes no more space', async (store) => {
    const bytes = pattern(5, 100_000)
    await putBytes(store, testId(1), bytes)
    const before = await store.stats()
    await putBytes(store, testId(1), bytes)
    const after = await store.stats()
    assert.equal(after.chunkCount, 1)
    assert.equal(after.liveBytes, before.liveBytes)
    assert.equal(after.freeBytes, before.freeBytes)
  })

  law('putting other content under a known id is a CONFLICT and changes nothing', async (store) => {
    const bytes = pattern(5, 10_000)
    await putBytes(store, testId(1), bytes)
    await rejectsWith('CONFLICT', putBytes(store, testId(1), pattern(6, 10_000)))
    await rejectsWith('CONFLICT', putBytes(store, testId(1), bytes.subarray(0, 9_999)))
    assert.ok((await getBytes(store, testId(1))).equals(bytes))
  })

  law('of concurrent puts of different content under one id exactly one wins', async (store) => {
    const contents = Array.from({ length: 8 }, (_, seed) => pattern(seed, 5_000))
    const results = await Promise.allSettled(contents.map((bytes) => putBytes(store, testId(1), bytes)))
    const winners = results.flatMap(({ status }, index) => (status === 'fulfilled' ? [index] : []))
    assert.equal(winners.length, 1)
    assert.ok((await getBytes(store, testId(1))).equals(contents[winners[0] ?? 0] ?? Buffer.alloc(0)))
    for (const result of results) {
      if (result.status === 'rejected') assert.equal(StorageError.from(result.reason).code, 'CONFLICT')
    }
  })

  law('concurrent puts of the same content under one id all succeed', async (store) => {
    const bytes = pattern(5, 70_000)
    await Promise.all(Array.from({ length: 8 }, () => putBytes(store, testId(1), bytes)))
    assert.ok((await getBytes(store, testId(1))).equals(bytes))
    assert.equal((await store.stats()).chunkCount, 1)
  })

  law('a deleted chunk is gone, and its id can be used again', async (store) => {
    await putBytes(store, testId(1), pattern(1, 5_000))
    assert.equal(await store.delete(testId(1)), true)
    assert.equal(await store.has(testId(1)), false)
    await rejectsWith('CHUNK_NOT_FOUND', getBytes(store, testId(1)))
    assert.equal(await store.delete(testId(1)), false)
    await putBytes(store, testId(1), pattern(2, 6_000))
    assert.ok((await getBytes(store, testId(1))).equals(pattern(2, 6_000)))
  })

  law('the list is ascending, pages without gaps, and tells length and CRC-32C', async (store) => {
    const seeds = Array.from({ length: 100 }, (_, seed) => seed)
    await Promise.all(seeds.map((seed) => putBytes(store, testId(seed), pattern(seed, 1 + seed * 50))))
    await store.delete(testId(42))
    const expected = seeds
      .filter((seed) => seed !== 42)
      .map((seed) => ({ hex: Buffer.from(testId(seed)).toString('hex'), seed }))
      .sort((a, b) => (a.hex < b.hex ? -1 : 1))
    for (const limit of [1, 7, 99, 1000]) {
      const listed = []
      let after: Uint8Array | null = null
      for (;;) {
        const page: readonly { id: Uint8Array; byteLength: number; crc32c: number }[] = await store.list(
          after,
          limit,
        )
        assert.ok(page.length <= limit)
        listed.push(...page)
        const last = page.at(-1)
        if (!last) break
        after = last.id
      }
      assert.deepEqual(
        listed.map(({ id }) => Buffer.from(id).toString('hex')),
        expected.map(({ hex }) => hex),
      )
      for (const [index, { byteLength, crc32c }] of listed.entries()) {
        const seed = expected[index]?.seed ?? -1
        assert.equal(byteLength, 1 + seed * 50)
        const digest =
          store.digestNow(['crc32c'], pattern(seed, 1 + seed * 50)).get('crc32c') ?? new Uint8Array(4)
        assert.equal(crc32c, Buffer.from(digest).readUInt32BE())
      }
    }
  })

  law('statistics follow puts and deletes', async (store) => {
    await putBytes(store, testId(1), pattern(1, 10_000))
    await putBytes(store, testId(2), pattern(2, 20_000))
    const both = await store.stats()
    assert.equal(both.chunkCount, 2)
    assert.equal(both.liveBytes, 30_000)
    assert.equal(both.poolUsedBytes, 0)
    assert.equal(both.online, true)
    await store.delete(testId(1))
    const one = await store.stats()
    assert.equal(one.chunkCount, 1)
    assert.equal(one.liveBytes, 20_000)
    assert.ok(one.staleBytes >= 10_000)
  })

  law('malformed requests are INVALID_ARGUMENT', async (store) => {
    const buffer = await store.acquire(100)
    await rejectsWith('INVALID_ARGUMENT', store.put(new Uint8Array(15), buffer, 100))
    await rejectsWith('INVALID_ARGUMENT', store.put(testId(1), buffer, 101))
    await rejectsWith('INVALID_ARGUMENT', store.put(testId(1), buffer, -1))
    await rejectsWith('INVALID_ARGUMENT', store.put(testId(1), buffer, 0))
    await rejectsWith('INVALID_ARGUMENT', store.get(testId(1), -1, 10))
    await rejectsWith('INVALID_ARGUMENT', store.get(testId(1), 0, -10))
    await rejectsWith('INVALID_ARGUMENT', store.acquire(maxChunkBytes + 1))
    await rejectsWith('INVALID_ARGUMENT', store.acquire(-1))
    buffer.release()
  })

  provePool(law)
  proveDigests(law)
  proveFragments(law)

  // Many at once, and the end

  law('hundreds of operations at once each get their own answer', async (store) => {
    const seeds = Array.from({ length: 400 }, (_, seed) => seed)
    await Promise.all(
      seeds.map((seed) => putBytes(store, testId(seed), pattern(seed, 1 + ((seed * 997) % 40_000)))),
    )
    await Promise.all(
      seeds.map(async (seed) => {
        if (seed % 3 === 0) assert.equal(await store.delete(testId(seed)), true)
        else
          assert.ok((await getBytes(store, testId(seed))).equals(pattern(seed, 1 + ((seed * 997) % 40_000))))
      }),
    )
    const had = await Promise.all(seeds.map((seed) => store.has(testId(seed))))
    assert.deepEqual(
      had,
      seeds.map((seed) => seed % 3 !== 0),
    )
    assert.equal((await store.stats()).poolUsedBytes, 0)
  })

  law('puts and deletes of one id settle in the order they were made', async (store) => {
    for (let round = 0; round < 20; round++) {
      const put = putBytes(store, testId(1), pattern(round, 3_000))
      await put
      const deleted = store.delete(testId(1))
      const again = putBytes(store, testId(1), pattern(round + 100, 3_000))
      await Promise.allSettled([deleted, again])
      assert.equal(await deleted, true)
      if ((await again.catch(() => 'conflict')) !== 'conflict') {
        assert.ok((await getBytes(store, testId(1))).equals(pattern(round + 100, 3_000)))
      }
      await store.delete(testId(1))
    }
  })

  law('closing waits for what is under way, and what was under way is kept', async (store, place) => {
    const puts = Promise.all([1, 2, 3].map((seed) => putBytes(store, testId(seed), pattern(seed, 500_000))))
    await tick()
    const closed = store.close()
    await puts.catch(() => undefined)
    await closed
    if (!subject.persistent) return
    const again = await place.open()
    for (const { id } of await again.list(null, 10)) await getBytes(again, id)
  })

  law('after close every call is CLOSED, and closing again is harmless', async (store) => {
    const buffer = await store.acquire(10)
    const held = await exhaust(store)
    const waiting = store.acquire(10)
    const refused = rejectsWith('CLOSED', waiting)
    await Promise.all([store.close(), refused])
    await store.close()
    await rejectsWith('CLOSED', store.acquire(1))
    await rejectsWith('CLOSED', store.put(testId(1), buffer, 10))
    await rejectsWith('CLOSED', store.get(testId(1), 0, 1))
    await rejectsWith('CLOSED', store.has(testId(1)))
    await rejectsWith('CLOSED', store.delete(testId(1)))
    await rejectsWith('CLOSED', store.list(null, 1))
    await rejectsWith('CLOSED', store.stats())
    await rejectsWith('CLOSED', async () => {
      for await (const _ of store.scrub()) break
    })
    await rejectsWith('CLOSED', () => store.digest(['md5']))
    buffer.release()
    for (const other of held) other.release()
  })

  law('a scrub of a sound store finds nothing, and can be aborted', async (store) => {
    for (let seed = 0; seed < 20; seed++) await putBytes(store, testId(seed), pattern(seed, 1 + seed * 9_000))
    assert.deepEqual(await findings(store), [])
    await rejectsWith('CANCELLED', async () => {
      for await (const _ of store.scrub(AbortSignal.abort())) assert.fail('nothing is wrong')
    })
  })

  durableLaw(
    'what was acknowledged is there after a restart, and what was deleted is not',
    async (store, place) => {
      for (let seed = 0; seed < 50; seed++)
        await putBytes(store, testId(seed), pattern(seed, 1 + seed * 3_001))
      for (let seed = 0; seed < 50; seed += 5) await store.delete(testId(seed))
      await putBytes(store, testId(5), pattern(1005, 777))
      const before = await store.list(null, 1000)
      await store.close()
      const again = await place.open()
      assert.deepEqual(await again.list(null, 1000), before)
      for (let seed = 0; seed < 50; seed++) {
        if (seed === 5) assert.ok((await getBytes(again, testId(seed))).equals(pattern(1005, 777)))
        else if (seed % 5 === 0) assert.equal(await again.has(testId(seed)), false)
        else assert.ok((await getBytes(again, testId(seed))).equals(pattern(seed, 1 + seed * 3_001)))
      }
      await rejectsWith('CONFLICT', putBytes(again, testId(1), pattern(999, 10)))
      const stats = await again.stats()
      assert.equal(stats.chunkCount, before.length)
      assert.equal(stats.corruptChunks, 0)
    },
  )

  durableLaw('one directory has one owner at a time', async (store, place) => {
    await rejectsWith('ALREADY_OPEN', subject.open({ directory: place.directory, poolBytes }))
    await store.close()
    await (await place.open()).close()
  })

  for (const byteLength of [500, 20_000, 300_000]) {
    durableLaw(
      `a flipped bit in a chunk of ${byteLength} bytes is never served and is found`,
      async (store, place) => {
        for (const seed of [1, 2, 3]) await putBytes(store, testId(seed), pattern(seed, byteLength))
        await store.close()
        const flippedAt = byteLength - 100
        await flipBit(place.directory, pattern(2, byteLength).subarray(flippedAt - 64, flippedAt + 64), 64)
        const again = await place.open()
        for (const seed of [1, 3])
          assert.ok((await getBytes(again, testId(seed))).equals(pattern(seed, byteLength)))
        await rejectsWith('CORRUPT_CHUNK', getBytes(again, testId(2)))
        await rejectsWith('CORRUPT_CHUNK', getBytes(again, testId(2), flippedAt, 1))
        const found = await findings(again)
        // A store may add that its own structures around the chunk are damaged, but names no other chunk.
        const named = found.flatMap(({ id }) => (id ? [hex(id)] : []))
        assert.deepEqual(named, [hex(testId(2))])
        assert.ok((await again.stats()).corruptChunks >= 1)
        assert.equal(await again.has(testId(2)), false, 'nobody may rely on it')
        assert.equal(await again.has(testId(1)), true)
        // So does putting it: in one step, while the damaged one is still listed.
        assert.equal((await again.list(null, 10)).length, 3)
        await putBytes(again, testId(2), pattern(2, byteLength))
        assert.equal(await again.has(testId(2)), true)
        assert.ok((await getBytes(again, testId(2))).equals(pattern(2, byteLength)))
        // Deleting and putting it anew heals it, too.
        await again.delete(testId(2))
        await putBytes(again, testId(2), pattern(2, byteLength))
        assert.ok((await getBytes(again, testId(2))).equals(pattern(2, byteLength)))
        assert.equal((await again.stats()).poolUsedBytes, 0)
      },
    )
  }
}
