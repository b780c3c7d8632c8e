import assert from 'node:assert/strict'
import { test } from 'node:test'
import fc from 'fast-check'
import { formatVersionId, parseVersionId } from '../../../core/gateway/s3/version-id.ts'

test('a version id survives being shown, and its text sorts as its bytes do', () => {
  const id = fc.uint8Array({ minLength: 16, maxLength: 16 })
  fc.assert(
    fc.property(id, id, (left, right) => {
      assert.deepEqual(parseVersionId(formatVersionId(left)), left)
      const byText = Math.sign(
        formatVersionId(left) < formatVersionId(right)
          ? -1
          : formatVersionId(left) > formatVersionId(right)
            ? 1
            : 0,
      )
      assert.equal(byText, Math.sign(Buffer.compare(left, right)))
    }),
  )
})

test('text that no version id has is not taken for one', () => {
  assert.equal(parseVersionId('null'), 'null')
  for (const bad of ['', 'x', '0'.repeat(25), '0'.repeat(27), 'w'.repeat(26), `${'0'.repeat(25)}1`]) {
    assert.equal(parseVersionId(bad), undefined, bad)
  }
})
