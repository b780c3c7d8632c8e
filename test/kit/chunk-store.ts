import assert from 'node:assert/strict'
import { createHash } from 'node:crypto'
import { mkdtemp, open as openFile, readdir, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import type { test as nodeTest } from 'node:test'
import type {
  ChunkBuffer,
  ChunkStore,
  DigestAlgorithm,
  ScrubFinding,
} from '../../core/contract/chunk-store.ts'
import { type ErrorCode, StorageError } from '../../core/contract/errors.ts'
import { maxChunkBytes } from '../../core/contract/ids.ts'

export interface ChunkStoreSubject {
  readonly name: string
  /** False for stores that forget everything when closed: the laws of durability are left out. */
  readonly persistent: boolean
  open(options: { readonly directory: string; readonly poolBytes: number }): Promise<ChunkStore>
}

const poolBytes = 16 * 1024 * 1024

/** Deterministic bytes that do not compress and differ for each seed. */
export function pattern(seed: number, byteLength: number): Buffer {
  const bytes = Buffer.allocUnsafe(byteLength)
  let state = (seed * 2654435761 + 1) >>> 0
  for (let at = 0; at < byteLength; at++) {
    state ^= state << 13
    state ^= state >>> 17
    state ^= state << 5
    bytes[at] = state >>> 11
  }
  return bytes
}

export function testId(seed: number): Uint8Array {
  return Uint8Array.from(createHash('sha256').update(`chunk ${seed}`).digest().subarray(0, 16))
}

export async function putBytes(store: ChunkStore, id: Uint8Array, bytes: Uint8Array): Promise<void> {
  const buffer = await store.acquire(bytes.length)
  try {
    buffer.bytes.set(bytes)
    await store.put(id, buffer, bytes.length)
  } finally {
    buffer.release()
  }
}

export async function getBytes(
  store: ChunkStore,
  id: Uint8Array,
  offset = 0,
  length = maxChunkBytes,
): Promise<Buffer> {
  const buffer = await store.get(id, offset, length)
  try {
    return Buffer.from(buffer.bytes)
  } finally {
    buffer.release()
  }
}

export async function rejectsWith(code: ErrorCode, work: Promise<unknown> | (() => unknown)): Promise<void> {
  const run = async (): Promise<unknown> => (typeof work === 'function' ? work() : work)
  await assert.rejects(run, (reason) => {
    assert.ok(reason instanceof StorageError, `a StorageError, not ${String(reason)}`)
    assert.equal(reason.code, code)
    return true
  })
}

/** The laws of core/contract/chunk-store.ts. Every implementation must pass all of them. */
export function proveChunkStore(test: typeof nodeTest, subject: ChunkStoreSubject): void {
  type Body = (store: ChunkStore, place: Place) => Promise<void>
  const law = (sentence: string, body: Body): void => {
    test(`${subject.name}: ${sentence}`, { timeout: 60_000 }, async () => {
      await using place = await Place.make(subject)
      await body(await place.open(), place)
    })
  }
  const durableLaw: typeof law = (sentence, body) => {
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

  // The pool

  law('an acquired buffer has exactly the length asked for', async (store) => {
    for (const byteLength of [0, 1, 4096, 5000, maxChunkBytes]) {
      const buffer = await store.acquire(byteLength)
      assert.equal(buffer.bytes.length, byteLength)
      buffer.release()
    }
  })

  law('buffers that are out at the same time never overlap', async (store) => {
    const buffers: { buffer: ChunkBuffer; seed: number }[] = []
    for (let seed = 0; seed < 60; seed++) {
      buffers.push({ buffer: await store.acquire([100, 4096, 9000, 65_536, 200_000][seed % 5] ?? 1), seed })
      if (seed % 7 === 3) buffers.splice(seed % buffers.length, 1)[0]?.buffer.release()
    }
    for (const { buffer, seed } of buffers) buffer.bytes.fill(seed)
    for (const { buffer, seed } of buffers) {
      assert.ok(
        buffer.bytes.every((byte) => byte === seed),
        `buffer ${seed} was overwritten by another`,
      )
      buffer.release()
    }
    assert.equal((await store.stats()).poolUsedBytes, 0)
  })

  law('an empty pool makes callers wait, first come, first served', async (store) => {
    const held = await exhaust(store)
    const order: number[] = []
    const waiting = [maxChunkBytes, 100, maxChunkBytes].map((byteLength, index) =>
      store.acquire(byteLength).then((buffer) => {
        order.push(index)
        return buffer
      }),
    )
    await tick()
    assert.deepEqual(order, [])
    for (const buffer of held) buffer.release()
    for (const buffer of await Promise.all(waiting)) buffer.release()
    assert.deepEqual(order, [0, 1, 2])
  })

  law('a large request is served although small ones keep coming', async (store) => {
    const held = await exhaust(store, 64 * 1024)
    let served = false
    const large = store.acquire(maxChunkBytes).then((buffer) => {
      served = true
      return buffer
    })
    while (held.length > 0) {
      held.pop()?.release()
      if (!served) void store.acquire(64 * 1024).then((buffer) => buffer.release())
      await Promise.resolve()
    }
    ;(await large).release()
    assert.equal(served, true)
  })

  law('a wait for the pool can be aborted, and those behind it go on', async (store) => {
    const held = await exhaust(store)
    const controller = new AbortController()
    const aborted = store.acquire(100, controller.signal)
    const behind = store.acquire(100)
    await tick()
    controller.abort()
    await rejectsWith('CANCELLED', aborted)
    held.pop()?.release()
    ;(await behind).release()
    for (const buffer of held) buffer.release()
    await rejectsWith('CANCELLED', store.acquire(1, AbortSignal.abort()))
    assert.equal((await store.stats()).poolUsedBytes, 0)
  })

  law('a get that waits for the pool can be aborted', async (store) => {
    await putBytes(store, testId(1), pattern(1, 100_000))
    const held = await exhaust(store)
    const controller = new AbortController()
    const aborted = store.get(testId(1), 0, 100_000, controller.signal)
    await tick()
    controller.abort()
    await rejectsWith('CANCELLED', aborted)
    for (const buffer of held) buffer.release()
    assert.ok((await getBytes(store, testId(1))).equals(pattern(1, 100_000)))
    assert.equal((await store.stats()).poolUsedBytes, 0)
  })

  law('releasing a buffer twice is refused', async (store) => {
    const buffer = await store.acquire(100)
    buffer.release()
    assert.throws(() => buffer.release())
    assert.equal((await store.stats()).poolUsedBytes, 0)
  })

  law('failed reads give their buffer back', async (store) => {
    await rejectsWith('CHUNK_NOT_FOUND', store.get(testId(1), 0, 100_000))
    assert.equal((await store.stats()).poolUsedBytes, 0)
  })

  // Digests

  law('digests of "123456789" are the published check values', async (store) => {
    const bytes = Buffer.from('123456789')
    const buffer = await store.acquire(bytes.length)
    buffer.bytes.set(bytes)
    for (const [algorithm, expected] of checkValues) {
      const digest = store.digest([algorithm])
      await digest.update(buffer, 0, bytes.length)
      assert.equal(hex((await digest.finish()).get(algorithm)), expected, algorithm)
    }
    buffer.release()
  })

  law('digests of an empty body are the published ones', async (store) => {
    const digests = await store.digest(allAlgorithms).finish()
    for (const [algorithm, expected] of emptyValues)
      assert.equal(hex(digests.get(algorithm)), expected, algorithm)
  })

  law('a body digested in odd pieces gives the same as in one piece, and as digestNow', async (store) => {
    const body = pattern(77, 60_000)
    const expected = store.digestNow(allAlgorithms, body)
    for (const [algorithm, name] of [
      ['md5', 'md5'],
      ['sha1', 'sha1'],
      ['sha256', 'sha256'],
    ] as const) {
      assert.equal(hex(expected.get(algorithm)), createHash(name).update(body).digest('hex'))
    }
    const buffer = await store.acquire(body.length)
    buffer.bytes.set(body)
    for (const piece of [1, 3, 7, 63, 64, 65, 1000, 4097, 60_000]) {
      const digest = store.digest(allAlgorithms)
      // Nobody waits between the updates: their order is the digest's to keep.
      const updates = []
      const end = piece < 63 ? piece * 300 : body.length
      for (let at = 0; at < end; at += piece) {
        updates.push(digest.update(buffer, at, Math.min(piece, end - at)))
      }
      await Promise.all(updates)
      const actual = await digest.finish()
      const wanted = store.digestNow(allAlgorithms, body.subarray(0, end))
      for (const algorithm of allAlgorithms) {
        assert.equal(
          hex(actual.get(algorithm)),
          hex(wanted.get(algorithm)),
          `${algorithm} in pieces of ${piece}`,
        )
      }
    }
    buffer.release()
  })

  law('a buffer may be changed and released once its update has settled', async (store) => {
    const digest = store.digest(['md5', 'crc64nvme'])
    const whole = createHash('md5')
    for (let seed = 0; seed < 20; seed++) {
      const bytes = pattern(seed, 100_000)
      whole.update(bytes)
      const buffer = await store.acquire(bytes.length)
      buffer.bytes.set(bytes)
      await digest.update(buffer, 0, bytes.length)
      buffer.bytes.fill(0xff)
      buffer.release()
    }
    assert.equal(hex((await digest.finish()).get('md5')), whole.digest('hex'))
  })

  law('many digests run side by side without mixing', async (store) => {
    await Promise.all(
      Array.from({ length: 40 }, async (_, seed) => {
        const bytes = pattern(seed, 50_000 + seed)
        const buffer = await store.acquire(bytes.length)
        buffer.bytes.set(bytes)
        const digest = store.digest(['sha256', 'md5'])
        for (let at = 0; at < bytes.length; at += 9_999) {
          void digest.update(buffer, at, Math.min(9_999, bytes.length - at))
        }
        const result = await digest.finish()
        assert.equal(hex(result.get('sha256')), createHash('sha256').update(bytes).digest('hex'))
        assert.equal(hex(result.get('md5')), createHash('md5').update(bytes).digest('hex'))
        buffer.release()
      }),
    )
  })

  law('an ended digest refuses more, and abort is safe at any time', async (store) => {
    const buffer = await store.acquire(10)
    const finished = store.digest(['md5'])
    await finished.finish()
    await rejectsWith('INVALID_ARGUMENT', finished.update(buffer, 0, 10))
    await rejectsWith('INVALID_ARGUMENT', finished.finish())
    finished.abort()
    const aborted = store.digest(['md5'])
    const update = aborted.update(buffer, 0, 10)
    aborted.abort()
    aborted.abort()
    await update.catch(() => undefined)
    await rejectsWith('INVALID_ARGUMENT', aborted.finish())
    await rejectsWith('INVALID_ARGUMENT', store.digest(['md5']).update(buffer, 5, 6))
    buffer.release()
  })

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
        // Deleting and putting it anew heals it.
        await again.delete(testId(2))
        await putBytes(again, testId(2), pattern(2, byteLength))
        assert.ok((await getBytes(again, testId(2))).equals(pattern(2, byteLength)))
        assert.equal((await again.stats()).poolUsedBytes, 0)
      },
    )
  }
}

const allAlgorithms: readonly DigestAlgorithm[] = ['md5', 'sha1', 'sha256', 'crc32', 'crc32c', 'crc64nvme']

// RFC 1321 and RFC 6234 (any tool prints them), the CRC catalogue's check values, the NVMe base specification.
const checkValues: readonly (readonly [DigestAlgorithm, string])[] = [
  ['md5', '25f9e794323b453885f5181f1b624d0b'],
  ['sha1', 'f7c3bc1d808e04732adf679965ccc34ca7ae3441'],
  ['sha256', '15e2b0d3c33891ebb0f1ef609ec419420c20e320ce94c65fbc8c3312448eb225'],
  ['crc32', 'cbf43926'],
  ['crc32c', 'e3069283'],
  ['crc64nvme', 'ae8b14860a799888'],
]

const emptyValues: readonly (readonly [DigestAlgorithm, string])[] = [
  ['md5', 'd41d8cd98f00b204e9800998ecf8427e'],
  ['sha1', 'da39a3ee5e6b4b0d3255bfef95601890afd80709'],
  ['sha256', 'e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855'],
  ['crc32', '00000000'],
  ['crc32c', '00000000'],
  ['crc64nvme', '0000000000000000'],
]

function hex(bytes: Uint8Array | undefined): string {
  return Buffer.from(bytes ?? []).toString('hex')
}

function tick(): Promise<void> {
  return new Promise((resolve) => setImmediate(resolve))
}

async function findings(store: ChunkStore): Promise<ScrubFinding[]> {
  const found: ScrubFinding[] = []
  for await (const finding of store.scrub()) found.push(finding)
  return found
}

/** Takes everything the pool has, in pieces. */
async function exhaust(store: ChunkStore, pieceBytes = maxChunkBytes): Promise<ChunkBuffer[]> {
  const held: ChunkBuffer[] = []
  for (let piece = pieceBytes; piece >= 4096; piece /= 2) {
    for (;;) {
      const controller = new AbortController()
      const next = store.acquire(piece, controller.signal).catch(() => null)
      const buffer = await Promise.race([next, tick().then(() => null)])
      if (!buffer) {
        controller.abort()
        ;(await next)?.release()
        break
      }
      held.push(buffer)
    }
  }
  return held
}

/** Flips one bit of the only place below the directory where `needle` stands. */
async function flipBit(directory: string, needle: Uint8Array, at: number): Promise<void> {
  let found = 0
  for (const entry of await readdir(directory, { recursive: true, withFileTypes: true })) {
    if (!entry.isFile()) continue
    const file = await openFile(join(entry.parentPath ?? entry.path, entry.name), 'r+')
    try {
      const window = Buffer.alloc(8 * 1024 * 1024)
      for (let position = 0; ; position += window.length - needle.length) {
        const { bytesRead } = await file.read(window, 0, window.length, position)
        const index = window.subarray(0, bytesRead).indexOf(needle)
        if (index >= 0) {
          found++
          await file.write(Uint8Array.of((needle[at] ?? 0) ^ 1), 0, 1, position + index + at)
        }
        if (bytesRead < window.length) break
      }
    } finally {
      await file.close()
    }
  }
  assert.equal(found, 1, 'the chunk stands once in the store')
}

/** A directory of a test's own and the stores opened in it. */
class Place {
  readonly directory: string
  readonly #subject: ChunkStoreSubject
  readonly #stores: ChunkStore[] = []

  constructor(subject: ChunkStoreSubject, directory: string) {
    this.#subject = subject
    this.directory = directory
  }

  static async make(subject: ChunkStoreSubject): Promise<Place> {
    return new Place(subject, await mkdtemp(join(tmpdir(), 'pando-chunk-store-')))
  }

  async open(): Promise<ChunkStore> {
    const store = await this.#subject.open({ directory: this.directory, poolBytes })
    this.#stores.push(store)
    return store
  }

  async [Symbol.asyncDispose](): Promise<void> {
    for (const store of this.#stores) await store.close()
    await rm(this.directory, { recursive: true, force: true })
  }
}
