import assert from 'node:assert/strict'
import { test } from 'node:test'
import {
  bucketTagLimits,
  checkTags,
  objectTagLimits,
  parseTagging,
  parseTaggingHeader,
  renderTagSet,
} from '../../../core/gateway/s3/tag-set.ts'

const numbered = (count: number) => Array.from({ length: count }, (_, index) => [`k${index}`, 'v'] as const)

test('an object takes ten tags, a bucket fifty', () => {
  assert.equal(checkTags(numbered(10), objectTagLimits).size, 10)
  assert.throws(() => checkTags(numbered(11), objectTagLimits), { code: 'INVALID_TAG' })
  assert.equal(checkTags(numbered(50), bucketTagLimits).size, 50)
  assert.throws(() => checkTags(numbered(51), bucketTagLimits), { code: 'INVALID_TAG' })
})

test('keys have 1 to 128 characters, values up to 256, of letters, digits and a few signs', () => {
  const check = (key: string, value: string) => checkTags([[key, value]], objectTagLimits)
  assert.ok(check('k'.repeat(128), 'v'.repeat(256)))
  assert.ok(check('Schlüssel +-=._:/@', '値'))
  for (const [key, value] of [
    ['', 'v'],
    ['k'.repeat(129), 'v'],
    ['k', 'v'.repeat(257)],
    ['k!', 'v'],
    ['k', '<'],
    ['aws:x', 'v'],
  ] as const) {
    assert.throws(() => check(key, value), { code: 'INVALID_TAG' }, key)
  }
  assert.throws(
    () =>
      checkTags(
        [
          ['a', '1'],
          ['a', '2'],
        ],
        objectTagLimits,
      ),
    { code: 'INVALID_TAG' },
  )
})

test('the header is a query string, decoded once', () => {
  assert.deepEqual(
    [...parseTaggingHeader('Hello=World&foo=bar')],
    [
      ['Hello', 'World'],
      ['foo', 'bar'],
    ],
  )
  assert.deepEqual(
    [...parseTaggingHeader('a+b=c%2Bd&e')],
    [
      ['a b', 'c+d'],
      ['e', ''],
    ],
  )
  assert.deepEqual([...parseTaggingHeader('')], [])
  assert.throws(() => parseTaggingHeader('a=%zz'), { code: 'INVALID_ARGUMENT' })
})

test('the document round-trips, and a broken one is malformed', () => {
  const pairs: [string, string][] = [
    ['a', '1'],
    ['__proto__', 'x'],
  ]
  const text = `<Tagging>${renderTagSet(pairs)}</Tagging>`
  assert.deepEqual([...parseTagging(text, objectTagLimits)], pairs)
  for (const bad of [
    '<Tagging/>',
    '<Tagging><TagSet><Tag><Key>a</Key></Tag></TagSet></Tagging>',
    '<Other/>',
    'x',
  ]) {
    assert.throws(() => parseTagging(bad, objectTagLimits), { code: 'MALFORMED_XML' }, bad)
  }
})
