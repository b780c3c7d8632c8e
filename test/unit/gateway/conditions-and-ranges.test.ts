import assert from 'node:assert/strict'
import { describe, test } from 'node:test'
import fc from 'fast-check'
import { StorageError } from '../../../core/contract/errors.ts'
import type { ObjectRecord } from '../../../core/contract/object-model.ts'
import { evaluate, type ReadConditions } from '../../../core/gateway/s3/preconditions.ts'
import { parseCopyRange, parseRange } from '../../../core/gateway/s3/range.ts'

const code = (expected: string) => (error: unknown) =>
  error instanceof StorageError && error.code === expected

describe('ranges', () => {
  test('first-last, first-, and the last n', () => {
    assert.deepEqual(parseRange('bytes=0-0', 10), { start: 0, length: 1 })
    assert.deepEqual(parseRange('bytes=4-', 10), { start: 4, length: 6 })
    assert.deepEqual(parseRange('bytes=4-100', 10), { start: 4, length: 6 })
    assert.deepEqual(parseRange('bytes=-3', 10), { start: 7, length: 3 })
    assert.deepEqual(parseRange('bytes=-100', 10), { start: 0, length: 10 })
  })

  test('outside of the object there is nothing', () => {
    for (const header of ['bytes=10-', 'bytes=10-20', 'bytes=-0']) {
      assert.throws(() => parseRange(header, 10), code('INVALID_RANGE'), header)
    }
    assert.throws(() => parseRange('bytes=0-', 0), code('INVALID_RANGE'))
    assert.throws(() => parseRange('bytes=-1', 0), code('INVALID_RANGE'))
  })

  test('several ranges, other units and nonsense are no range: the whole object answers', () => {
    for (const header of ['bytes=0-1,3-4', 'items=0-1', 'bytes=-', 'bytes=5-2', 'bytes', 'bytes=a-b', '']) {
      assert.equal(parseRange(header, 10), undefined, header)
    }
    assert.equal(parseRange(undefined, 10), undefined)
  })

  test('whatever is answered lies inside the object and agrees with slicing it', () => {
    fc.assert(
      fc.property(fc.nat(300), fc.nat(300), fc.integer({ min: 1, max: 200 }), (first, last, size) => {
        const bytes = Uint8Array.from({ length: size }, (_, index) => index % 251)
        let range: ReturnType<typeof parseRange>
        try {
          range = parseRange(`bytes=${first}-${last}`, size)
        } catch {
          assert.ok(first >= size)
          return
        }
        if (range === undefined) assert.ok(last < first)
        else {
          assert.deepEqual(bytes.slice(range.start, range.start + range.length), bytes.slice(first, last + 1))
        }
      }),
    )
  })

  test('a copy range has two ends inside its source', () => {
    assert.deepEqual(parseCopyRange('bytes=0-9', 10), { start: 0, length: 10 })
    for (const header of ['bytes=0-', 'bytes=-5', 'bytes=5-4', '0-9', 'bytes=0-9,1-2', 'bytes=a-b']) {
      assert.throws(() => parseCopyRange(header, 10), code('INVALID_ARGUMENT'), header)
    }
    assert.throws(() => parseCopyRange('bytes=0-10', 10), code('INVALID_RANGE'))
  })
})

describe('conditional reads', () => {
  const modified = Date.UTC(2026, 0, 1, 12, 0, 0) + 400
  const record = { etag: 'abc', modifiedMs: modified } as ObjectRecord
  const before = 'Thu, 01 Jan 2026 11:59:59 GMT'
  const same = 'Thu, 01 Jan 2026 12:00:00 GMT'
  const after = 'Thu, 01 Jan 2026 12:00:01 GMT'
  const answer = (conditions: Partial<ReadConditions>): string => {
    const outcome = evaluate(
      {
        ifMatch: undefined,
        ifNoneMatch: undefined,
        ifModifiedSince: undefined,
        ifUnmodifiedSince: undefined,
        ...conditions,
      },
      record,
    )
    return outcome === 'met' ? '200' : outcome.notModified ? '304' : '412'
  }

  test('each alone', () => {
    assert.equal(answer({ ifMatch: '"abc"' }), '200')
    assert.equal(answer({ ifMatch: 'abc' }), '200')
    assert.equal(answer({ ifMatch: '*' }), '200')
    assert.equal(answer({ ifMatch: '"x", "abc"' }), '200')
    assert.equal(answer({ ifMatch: '"x"' }), '412')
    assert.equal(answer({ ifNoneMatch: '"abc"' }), '304')
    assert.equal(answer({ ifNoneMatch: 'W/"abc"' }), '304')
    assert.equal(answer({ ifNoneMatch: '*' }), '304')
    assert.equal(answer({ ifNoneMatch: '"x"' }), '200')
    assert.equal(answer({ ifModifiedSince: before }), '200')
    assert.equal(answer({ ifModifiedSince: same }), '304')
    assert.equal(answer({ ifModifiedSince: after }), '304')
    assert.equal(answer({ ifUnmodifiedSince: before }), '412')
    assert.equal(answer({ ifUnmodifiedSince: same }), '200')
    assert.equal(answer({ ifUnmodifiedSince: after }), '200')
  })

  test('entity tags overrule dates', () => {
    assert.equal(answer({ ifMatch: '"abc"', ifUnmodifiedSince: before }), '200')
    assert.equal(answer({ ifMatch: '"x"', ifUnmodifiedSince: after }), '412')
    assert.equal(answer({ ifNoneMatch: '"x"', ifModifiedSince: after }), '200')
    assert.equal(answer({ ifNoneMatch: '"abc"', ifModifiedSince: before }), '304')
  })

  test('what is no date is no condition', () => {
    assert.equal(answer({ ifModifiedSince: 'yesterday' }), '200')
    assert.equal(answer({ ifUnmodifiedSince: 'never' }), '200')
  })
})
