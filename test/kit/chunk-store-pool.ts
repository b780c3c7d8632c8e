import assert from 'node:assert/strict'
import type { ChunkBuffer } from '../../core/contract/chunk-store.ts'
import { maxChunkBytes } from '../../core/contract/ids.ts'
import {
  exhaust,
  getBytes,
  type Law,
  pattern,
  putBytes,
  rejectsWith,
  testId,
  tick,
} from './chunk-store-place.ts'

/** The laws of the buffer pool. */
export function provePool(law: Law): void {
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
}
