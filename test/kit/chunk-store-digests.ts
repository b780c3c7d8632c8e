import assert from 'node:assert/strict'
import { createHash } from 'node:crypto'
import type { DigestAlgorithm } from '../../core/contract/chunk-store.ts'
import { hex, type Law, pattern, rejectsWith } from './chunk-store-place.ts'

/** The laws of digests. */
export function proveDigests(law: Law): void {
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
