import assert from 'node:assert/strict'
import { test } from 'node:test'
import fc from 'fast-check'
import { digestStream, seededBytes, seededDigest, seededStream } from '../../kit/seeded-bytes.ts'

test('any slice of seeded bytes equals the slice of the whole', () => {
  const whole = seededBytes('s', 0, 5000)
  fc.assert(
    fc.property(fc.nat(4999), fc.nat(4999), (a, b) => {
      const [from, to] = [Math.min(a, b), Math.max(a, b)]
      assert.ok(seededBytes('s', from, to - from).equals(whole.subarray(from, to)))
    }),
  )
  assert.ok(!seededBytes('other', 0, 5000).equals(whole))
})

test('a stream gives the same bytes whatever its pieces', async () => {
  assert.equal(await digestStream(seededStream('s', 100_001, 777)), await seededDigest('s', 100_001))
})
