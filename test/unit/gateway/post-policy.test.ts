import assert from 'node:assert/strict'
import { test } from 'node:test'
import { checkPostPolicy, parsePostPolicy } from '../../../core/gateway/s3/post-policy.ts'

const expiration = '2030-01-01T00:00:00Z'
const now = Date.parse('2029-01-01T00:00:00Z')
const encode = (document: unknown) => Buffer.from(JSON.stringify(document)).toString('base64')
const parse = (conditions: unknown, more: object = {}) =>
  parsePostPolicy(encode({ expiration, conditions, ...more }))
const fields = (values: Record<string, string>) => new Map(Object.entries(values))

test('a form that keeps to the policy passes', () => {
  const policy = parse([
    { bUcKeT: 'b' },
    ['StArTs-WiTh', '$KeY', 'foo'],
    ['eq', '$acl', 'private'],
    ['content-length-range', 0, '1024'],
  ])
  const good = {
    bucket: 'b',
    key: 'foo.txt',
    acl: 'private',
    policy: 'x',
    signature: 'y',
    'x-ignore-me': 'z',
  }
  checkPostPolicy(policy, fields(good), now)
  assert.deepEqual(policy.contentLength, { min: 0, max: 1024 })
  const denied = (values: Record<string, string>, at = now) =>
    assert.throws(() => checkPostPolicy(policy, fields(values), at), { code: 'ACCESS_DENIED' })
  denied({ ...good, key: 'bar' })
  denied({ ...good, bucket: 'c' })
  denied({ ...good, acl: 'public-read' })
  denied({ bucket: 'b', key: 'foo.txt' })
  denied({ ...good, 'x-amz-meta-a': '1' })
  denied(good, Date.parse(expiration))
})

test('a field that the policy asks for must be there, even when any value would do', () => {
  const policy = parse([['starts-with', '$tagging', '']])
  checkPostPolicy(policy, fields({ tagging: '' }), now)
  assert.throws(() => checkPostPolicy(policy, fields({}), now), { code: 'ACCESS_DENIED' })
})

test('documents that are no policy are refused', () => {
  const bad: unknown[] = [
    { conditions: [] },
    { EXPIRATION: expiration, conditions: [] },
    { expiration: '2030-01-01 00:00:00', conditions: [] },
    { expiration: 7, conditions: [] },
    { expiration },
    { expiration, CONDITIONS: [] },
    { expiration, conditions: {} },
    { expiration, conditions: [{}] },
    { expiration, conditions: [{ a: '1', b: '2' }] },
    { expiration, conditions: [{ a: 1 }] },
    { expiration, conditions: [['eq', 'key', 'x']] },
    { expiration, conditions: [['eq', '$key']] },
    { expiration, conditions: [['almost', '$key', 'x']] },
    { expiration, conditions: [['content-length-range', 0]] },
    { expiration, conditions: [['content-length-range', -1, 0]] },
    { expiration, conditions: [['content-length-range', 5, 1]] },
    { expiration, conditions: [null] },
    [],
    'x',
  ]
  for (const document of bad) {
    assert.throws(
      () => parsePostPolicy(encode(document)),
      { code: 'INVALID_POLICY_DOCUMENT' },
      JSON.stringify(document),
    )
  }
  assert.throws(() => parsePostPolicy('!!!'), { code: 'INVALID_POLICY_DOCUMENT' })
  const long = { expiration, conditions: [['eq', '$key', 'x'.repeat(30_000)]] }
  assert.throws(() => parsePostPolicy(encode(long)), { code: 'INVALID_POLICY_DOCUMENT' })
})

test('a document cannot lend fields from prototypes', () => {
  const text = Buffer.from(`{"__proto__":{"expiration":"${expiration}","conditions":[]}}`).toString('base64')
  assert.throws(() => parsePostPolicy(text), { code: 'INVALID_POLICY_DOCUMENT' })
})
