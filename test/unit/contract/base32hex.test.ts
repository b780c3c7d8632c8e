import assert from 'node:assert/strict'
import { test } from 'node:test'
import fc from 'fast-check'
import { decodeBase32Hex, encodeBase32Hex } from '../../../core/contract/base32hex.ts'

const fixed = (length: number) => fc.uint8Array({ minLength: length, maxLength: length })

test('base32hex comes back, sorts as the bytes do, and refuses everything else', () => {
  fc.assert(
    fc.property(fixed(20), fixed(20), (left, right) => {
      const [shownLeft, shownRight] = [encodeBase32Hex(left), encodeBase32Hex(right)]
      assert.deepEqual(decodeBase32Hex(shownLeft, 20), left)
      assert.equal(
        shownLeft < shownRight ? -1 : shownLeft > shownRight ? 1 : 0,
        Math.sign(Buffer.compare(left, right)),
      )
    }),
  )
  assert.equal(encodeBase32Hex(new Uint8Array(Buffer.from('foobar'))), 'cpnmuoj1e8')
  for (const text of ['', 'w', 'CPNMUOJ1E8', 'cpnmuoj1e', 'cpnmuoj1e81', 'cpnmuoj1e9']) {
    assert.equal(decodeBase32Hex(text, 6), undefined, text)
  }
})
