import assert from 'node:assert/strict'
import { describe, test } from 'node:test'
import fc from 'fast-check'
import { StorageError } from '../../../core/contract/errors.ts'
import { isBucketName, parseQuery, parseTarget } from '../../../core/gateway/s3/target.ts'

const code = (expected: string) => (error: unknown) =>
  error instanceof StorageError && error.code === expected
const path = (target: string, domains: readonly string[] = [], host = 'localhost:9000') => {
  const { bucketName, key } = parseTarget(target, host, domains)
  return [bucketName, key]
}

describe('request targets', () => {
  test('path style names service, bucket and object', () => {
    assert.deepEqual(path('/'), [undefined, undefined])
    assert.deepEqual(path('/?x=1'), [undefined, undefined])
    assert.deepEqual(path('/bucket'), ['bucket', undefined])
    assert.deepEqual(path('/bucket/'), ['bucket', undefined])
    assert.deepEqual(path('/bucket/key?acl'), ['bucket', 'key'])
    assert.deepEqual(path('http://localhost:9000/bucket/key'), ['bucket', 'key'])
    assert.deepEqual(path('http://localhost:9000'), [undefined, undefined])
  })

  test('virtual-host style names the bucket in the host, any case, any port', () => {
    const domains = ['s3.example.com', 'localhost']
    assert.deepEqual(path('/key', domains, 'Bucket.s3.example.com:9000'), ['bucket', 'key'])
    assert.deepEqual(path('/', domains, 'a.b.localhost'), ['a.b', undefined])
    assert.deepEqual(path('/bucket/key', domains, 's3.example.com'), ['bucket', 'key'])
    assert.deepEqual(path('/bucket/key', domains, 'nots3.example.com'), ['bucket', 'key'])
  })

  test('keys are names, never paths: dots, double slashes and escapes stay what they are', () => {
    assert.deepEqual(path('/b/../../etc/passwd'), ['b', '../../etc/passwd'])
    assert.deepEqual(path('/b//a//'), ['b', '/a//'])
    assert.deepEqual(path('/b/./a/..'), ['b', './a/..'])
    assert.deepEqual(path('/b/a%2Fb%2f%2E%2E'), ['b', 'a/b/..'])
    assert.deepEqual(path('/b/a+b%20c%2B'), ['b', 'a+b c+'])
    assert.deepEqual(path('/b/%00'), ['b', '\u0000'])
    assert.deepEqual(path('/b/\u00c3\u00bc'), ['b', 'ü'])
  })

  test('every key of valid UTF-8 comes back from its escaped form', () => {
    fc.assert(
      fc.property(fc.string({ unit: 'binary', minLength: 1, maxLength: 200 }), (key) => {
        assert.deepEqual(path(`/b/${encodeURIComponent(key)}`), ['b', key])
      }),
    )
  })

  test('bytes that are not UTF-8 and broken escapes are no keys', () => {
    for (const raw of ['%ae%8a-', '%', '%zz', '%e0%80%80', '\u00ae\u008a', '%ed%a0%80']) {
      assert.throws(() => path(`/b/${raw}`), code('INVALID_URI'), raw)
    }
    assert.throws(() => path('*'), code('INVALID_URI'))
  })

  test('a key has at most 1024 bytes, not characters', () => {
    assert.equal(path(`/b/${'k'.repeat(1024)}`)[1]?.length, 1024)
    assert.throws(() => path(`/b/${'k'.repeat(1025)}`), code('KEY_TOO_LONG'))
    assert.equal(path(`/b/${'%C3%BC'.repeat(512)}`)[1]?.length, 512)
    assert.throws(() => path(`/b/${'%C3%BC'.repeat(512)}x`), code('KEY_TOO_LONG'))
  })
})

test('queries: plus is a space, the first of repeated names counts, no value is an empty one', () => {
  const query = parseQuery('prefix=a+b%2B&prefix=other&acl&=x&&marker=%C3%BC=1')
  assert.deepEqual(
    [...query],
    [
      ['prefix', 'a b+'],
      ['acl', ''],
      ['', 'x'],
      ['marker', 'ü=1'],
    ],
  )
  assert.throws(() => parseQuery('prefix=%ff'), code('INVALID_URI'))
})

test('bucket names', () => {
  for (const name of ['abc', 'a.b.c', '0ab', 'a-b', 'a'.repeat(63), '1.2.3.4.5'])
    assert.ok(isBucketName(name), name)
  const bad = [
    ...['', 'ab', 'a'.repeat(64), 'Abc', 'a_b', '-ab', 'ab-', '.ab', 'ab.', 'a..b', 'a.-b', 'a-.b'],
    ...['192.168.5.4', 'xn--abc', 'a b', 'a/b', 'ä-bc', 'abc\n'],
  ]
  for (const name of bad) assert.ok(!isBucketName(name), name)
})
