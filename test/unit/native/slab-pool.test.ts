import assert from 'node:assert/strict'
import { test } from 'node:test'
import fc from 'fast-check'
import { type SlabBuffer, SlabPool } from '../../../native/slab-pool.ts'

const mebibyte = 1024 * 1024

test('whatever is taken and released, slices never overlap and everything comes back', () => {
  const step = fc.record({ byteLength: fc.integer({ min: 0, max: 4 * mebibyte }), release: fc.nat(20) })
  fc.assert(
    fc.property(fc.array(step, { maxLength: 200 }), (steps) => {
      const pool = new SlabPool({ slab: new ArrayBuffer(16 * mebibyte) })
      const held: SlabBuffer[] = []
      for (const { byteLength, release } of steps) {
        if (release < held.length) held.splice(release, 1)[0]?.release()
        const buffer = pool.tryAcquire(byteLength)
        if (!buffer) continue
        assert.equal(buffer.bytes.byteOffset % 4096, 0)
        const end = buffer.bytes.byteOffset + Math.max(4096, byteLength)
        for (const other of held) {
          const otherEnd = other.bytes.byteOffset + Math.max(4096, other.bytes.length)
          assert.ok(end <= other.bytes.byteOffset || buffer.bytes.byteOffset >= otherEnd)
        }
        held.push(buffer)
      }
      for (const buffer of held) buffer.release()
      assert.equal(pool.usedBytes, 0)
      // All of it is whole again: the largest slices fit as if nothing had happened.
      const whole = Array.from({ length: 4 }, () => pool.tryAcquire(4 * mebibyte))
      assert.ok(whole.every((buffer) => buffer !== null))
      assert.equal(pool.tryAcquire(1), null)
    }),
    { numRuns: 200 },
  )
})

test('waiters are served in order, whatever is released in whatever order', async () => {
  await fc.assert(
    fc.asyncProperty(
      fc.array(fc.integer({ min: 1, max: 4 * mebibyte }), { maxLength: 40 }),
      fc.infiniteStream(fc.nat()),
      async (sizes, picks) => {
        const pool = new SlabPool({ slab: new ArrayBuffer(8 * mebibyte) })
        const served: number[] = []
        const held: SlabBuffer[] = []
        const all = sizes.map(async (size, index) => {
          const buffer = await pool.acquire(size)
          served.push(index)
          held.push(buffer)
        })
        while (served.length < sizes.length || held.length > 0) {
          await new Promise<void>((resolve) => setImmediate(resolve))
          const pick = picks.next().value ?? 0
          if (held.length > 0) held.splice(pick % held.length, 1)[0]?.release()
        }
        await Promise.all(all)
        assert.deepEqual(
          served,
          sizes.map((_, index) => index),
        )
        assert.equal(pool.usedBytes, 0)
      },
    ),
    { numRuns: 50 },
  )
})

test('an aborted large waiter at the head lets the small ones behind it go', async () => {
  const pool = new SlabPool({ slab: new ArrayBuffer(4 * mebibyte) })
  const small = pool.tryAcquire(4096)
  const controller = new AbortController()
  const large = pool.acquire(4 * mebibyte, controller.signal)
  const behind = pool.acquire(4096)
  controller.abort(new Error('enough'))
  await assert.rejects(large)
  ;(await behind).release()
  small?.release()
  assert.equal(pool.usedBytes, 0)
  assert.equal(pool.waiting, 0)
})

test('a buffer dropped without a release is reported where leaks are watched', {
  skip: !globalThis.gc && 'needs --expose-gc',
}, async () => {
  const leaks: number[] = []
  const pool = new SlabPool({
    slab: new ArrayBuffer(4 * mebibyte),
    onLeak: (byteLength) => leaks.push(byteLength),
  })
  pool.tryAcquire(5000)
  for (let turn = 0; turn < 20 && leaks.length === 0; turn++) {
    globalThis.gc?.()
    await new Promise<void>((resolve) => setImmediate(resolve))
  }
  assert.deepEqual(leaks, [8192])
})
