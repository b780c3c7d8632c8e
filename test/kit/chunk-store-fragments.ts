import assert from 'node:assert/strict'
import {
  type ErasureScheme,
  type Fragment,
  fragmentId,
  fragmentLength,
  parityOffset,
  type Stripe,
  stripeBufferBytes,
  stripeWidth,
} from '../../core/contract/erasure.ts'
import { getBytes, type Law, pattern, rejectsWith, testId } from './chunk-store-place.ts'

const schemes: readonly ErasureScheme[] = [
  { dataFragments: 4, parityFragments: 2 },
  { dataFragments: 1, parityFragments: 1 },
  { dataFragments: 5, parityFragments: 3 },
  { dataFragments: 16, parityFragments: 8 },
]

/** Those of a chunk's buffer: data where it is, parity behind it. */
function fragmentsOf(stripe: Stripe, bytes: Uint8Array): readonly Fragment[] {
  return Array.from({ length: stripeWidth(stripe) }, (_, fragment) => {
    const length = fragmentLength(stripe, fragment)
    const at =
      fragment < stripe.dataFragments
        ? Math.min(fragment * stripe.fragmentBytes, bytes.length)
        : parityOffset(stripe.byteLength) +
          (fragment - stripe.dataFragments) * parityOffset(fragmentLength(stripe, 0))
    return { fragment, bytes: bytes.subarray(at, at + length) }
  })
}

/** The laws of erasure codes, for stores that have them. */
export function proveFragments(law: Law): void {
  law('lost fragments are computed of any k others, in the buffers of the store', async (store) => {
    for (const scheme of schemes) {
      for (const byteLength of [1, 4096, 40_000, scheme.dataFragments * 8192]) {
        const stripe = {
          ...scheme,
          fragmentBytes: 8192,
          byteLength: Math.min(byteLength, scheme.dataFragments * 8192),
        }
        const width = stripeWidth(scheme)
        const buffer = await store.acquire(stripeBufferBytes(stripe))
        buffer.bytes.set(pattern(byteLength, stripe.byteLength))
        const all = fragmentsOf(stripe, buffer.bytes)
        const { dataFragments: k } = scheme
        await store.recompute?.({ scheme, sources: all.slice(0, k), targets: all.slice(k) })
        // All data that may be lost, from the end, so that parity is among what is left.
        const lost = all.slice(0, Math.min(k, scheme.parityFragments))
        const left = all.slice(lost.length, lost.length + k)
        const room = await store.acquire(lost.length * 8192)
        const targets = lost.map(({ fragment }, at) => ({
          fragment,
          bytes: room.bytes.subarray(at * 8192, at * 8192 + fragmentLength(stripe, 0)),
        }))
        await store.recompute?.({ scheme, sources: left, targets })
        for (const [at, { fragment, bytes }] of lost.entries()) {
          const found = targets[at]?.bytes ?? assert.fail()
          assert.ok(
            Buffer.compare(found.subarray(0, bytes.length), bytes) === 0,
            `fragment ${fragment} of ${width}`,
          )
          assert.ok(
            found.subarray(bytes.length).every((byte) => byte === 0),
            'what was not stored is zeros',
          )
        }
        room.release()
        buffer.release()
      }
    }
  })

  law('parity is the same in every implementation', async (store) => {
    const scheme = { dataFragments: 4, parityFragments: 2 }
    const buffer = await store.acquire(6 * 4096)
    const all = Array.from({ length: 6 }, (_, fragment) => ({
      fragment,
      bytes: buffer.bytes.subarray(fragment * 4096, fragment * 4096 + 1),
    }))
    for (const { fragment, bytes } of all) bytes[0] = fragment + 1
    await store.recompute?.({ scheme, sources: all.slice(0, 4), targets: all.slice(4) })
    assert.deepEqual(
      all.map(({ bytes }) => bytes[0]),
      [1, 2, 3, 4, 0x48, 0x0f],
    )
    buffer.release()
  })

  law('a fragment is stored from where it stands in the buffer of its chunk', async (store) => {
    const bytes = pattern(5, 3 * 8192)
    const buffer = await store.acquire(bytes.length)
    buffer.bytes.set(bytes)
    const [first, last] = [fragmentId(testId(1), 0), fragmentId(testId(1), 2)]
    const slice = (at: number) => ({ bytes: buffer.bytes.subarray(at, at + 8192), release() {} })
    await Promise.all([store.put(first, slice(0), 8192), store.put(last, slice(16_384), 5000)])
    buffer.release()
    assert.ok((await getBytes(store, first)).equals(bytes.subarray(0, 8192)))
    assert.ok((await getBytes(store, last)).equals(bytes.subarray(16_384, 21_384)))
  })

  law('what is no code is refused', async (store) => {
    const { recompute } = store
    if (recompute === undefined) return
    const buffer = await store.acquire(3 * 4096)
    const at = (fragment: number, byteLength = 4096) => ({
      fragment,
      bytes: buffer.bytes.subarray(fragment * 4096, fragment * 4096 + byteLength),
    })
    const scheme = { dataFragments: 2, parityFragments: 1 }
    for (const code of [
      { scheme, sources: [at(0)], targets: [at(2)] },
      { scheme, sources: [at(0), at(0)], targets: [at(2)] },
      { scheme, sources: [at(0), at(1)], targets: [at(2, 100)] },
      { scheme, sources: [at(0), at(1)], targets: [] },
      { scheme: { dataFragments: 17, parityFragments: 1 }, sources: [at(0), at(1)], targets: [at(2)] },
    ]) {
      await rejectsWith('INVALID_ARGUMENT', recompute.call(store, code))
    }
    buffer.release()
  })
}
