import assert from 'node:assert/strict'
import { test } from 'node:test'
import fc from 'fast-check'
import { StorageError } from '../../../core/contract/errors.ts'
import {
  evaluatePolicy,
  isPublicPolicy,
  maxPolicyBytes,
  type PolicyEffect,
  parseBucketPolicy,
} from '../../../core/gateway/s3/bucket-policy.ts'
import type { Identity } from '../../../core/gateway/s3/operation.ts'
import { compilePattern, matchPattern } from '../../../core/gateway/s3/policy-pattern.ts'

const anonymous: Identity = { kind: 'anonymous' }
const alice: Identity = { kind: 'key', account: 'alice', accessKeyId: 'AKALICE', root: false }
const bob: Identity = { kind: 'key', account: 'bob', accessKeyId: 'AKBOB', root: false }

interface Asked {
  identity?: Identity
  action?: string
  resource?: string
  keys?: Record<string, string | string[]>
}

function ask(statements: unknown, asked: Asked = {}): PolicyEffect {
  const policy = parseBucketPolicy(JSON.stringify({ Version: '2012-10-17', Statement: statements }), 'b')
  const keys = new Map(Object.entries(asked.keys ?? {}))
  return evaluatePolicy(policy, {
    identity: asked.identity ?? anonymous,
    action: asked.action ?? 's3:GetObject',
    resource: asked.resource ?? 'arn:aws:s3:::b/k',
    context: {
      values(key) {
        const value = keys.get(key)
        return typeof value === 'string' ? [value] : value
      },
    },
  })
}

const open = { Effect: 'Allow', Principal: '*', Action: 's3:GetObject', Resource: 'arn:aws:s3:::b/*' }

test('a policy that does not speak of the request decides nothing', () => {
  assert.equal(ask([open]), 'allow')
  assert.equal(ask([open], { action: 's3:PutObject' }), 'none')
  assert.equal(ask([open], { resource: 'arn:aws:s3:::b' }), 'none')
})

test('a Deny wins over an Allow, whatever their order', () => {
  const deny = { ...open, Effect: 'Deny' }
  assert.equal(ask([open, deny]), 'deny')
  assert.equal(ask([deny, open]), 'deny')
})

test('principals are everyone, an account, an ARN or an access key', () => {
  const forms: [unknown, Identity, PolicyEffect][] = [
    [{ AWS: '*' }, anonymous, 'allow'],
    [{ AWS: ['x', '*'] }, anonymous, 'allow'],
    [{ AWS: 'alice' }, alice, 'allow'],
    [{ AWS: 'alice' }, bob, 'none'],
    [{ AWS: 'alice' }, anonymous, 'none'],
    [{ AWS: 'AKALICE' }, alice, 'allow'],
    [{ AWS: 'arn:aws:iam::alice:root' }, alice, 'allow'],
    [{ AWS: 'arn:aws:iam::bob:root' }, alice, 'none'],
    [{ AWS: 'arn:aws:iam::alice:user/AKALICE' }, alice, 'allow'],
    [{ AWS: 'arn:aws:iam::alice:user/AKOTHER' }, alice, 'none'],
    [{ AWS: 'arn:aws:iam::bob:user/AKALICE' }, alice, 'none'],
    [{ AWS: 'arn:aws:iam:::user/alice' }, alice, 'allow'],
    [{ CanonicalUser: 'alice' }, alice, 'allow'],
    [{ Service: 'logging.s3.amazonaws.com' }, alice, 'none'],
  ]
  for (const [Principal, identity, effect] of forms) {
    assert.equal(ask([{ ...open, Principal }], { identity }), effect, JSON.stringify(Principal))
  }
})

test('a key of another region is no principal of this one, whatever its id', () => {
  const mallory: Identity = { kind: 'key', account: 'mallory~1', accessKeyId: 'alice', root: false }
  const { Principal: _, ...rest } = open
  const deny = { ...rest, Effect: 'Deny' }
  assert.equal(ask([{ ...open, Principal: { AWS: 'alice' } }], { identity: mallory }), 'none')
  assert.equal(ask([{ ...deny, NotPrincipal: { AWS: 'alice' } }], { identity: mallory }), 'deny')
  assert.equal(ask([{ ...deny, Principal: { AWS: 'alice' } }], { identity: mallory }), 'deny')
  for (const AWS of ['mallory~1', 'alice~1', 'arn:aws:iam::mallory~1:user/alice']) {
    assert.equal(ask([{ ...open, Principal: { AWS } }], { identity: mallory }), 'allow', AWS)
  }
})

test('NotPrincipal denies everyone but those named, and is refused in an Allow', () => {
  const { Principal: _, ...rest } = open
  const statement = { ...rest, Effect: 'Deny', NotPrincipal: { AWS: 'alice' } }
  assert.equal(ask([statement], { identity: alice }), 'none')
  assert.equal(ask([statement], { identity: bob }), 'deny')
  assert.equal(ask([statement]), 'deny')
  assert.throws(() => ask([{ ...statement, Effect: 'Allow' }]), { code: 'MALFORMED_POLICY' })
})

test('actions ignore case and take wildcards; NotAction is everything else', () => {
  assert.equal(ask([{ ...open, Action: 'S3:getobject' }]), 'allow')
  assert.equal(ask([{ ...open, Action: 's3:Get*' }]), 'allow')
  assert.equal(ask([{ ...open, Action: 's3:?etObject' }]), 'allow')
  assert.equal(ask([{ ...open, Action: '*' }]), 'allow')
  assert.equal(ask([{ ...open, Action: ['s3:PutObject', 's3:List*'] }]), 'none')
  const { Action: _, ...rest } = open
  assert.equal(ask([{ ...rest, NotAction: 's3:PutObject' }]), 'allow')
  assert.equal(ask([{ ...rest, NotAction: 's3:Get*' }]), 'none')
})

test('policy variables stand for the caller and cannot smuggle in wildcards', () => {
  const home = { ...open, Principal: { AWS: 'alice' }, Resource: `arn:aws:s3:::b/\${aws:username}/*` }
  const keys = (username: string) => ({ 'aws:username': username })
  const resource = 'arn:aws:s3:::b/AKALICE/x'
  assert.equal(ask([home], { identity: alice, resource, keys: keys('AKALICE') }), 'allow')
  assert.equal(ask([home], { identity: alice, resource, keys: keys('*') }), 'none')
  assert.equal(ask([home], { identity: alice, resource }), 'none')
  assert.equal(
    ask([{ ...home, Resource: `arn:aws:s3:::b/\${*}` }], { identity: alice, resource: 'arn:aws:s3:::b/*' }),
    'allow',
  )
})

test('conditions hold as the operators say, with and without the key', () => {
  const cases: [string, Record<string, unknown>, Record<string, string | string[]>, boolean][] = [
    ['StringEquals', { 's3:prefix': ['a', 'b'] }, { 's3:prefix': 'b' }, true],
    ['StringEquals', { 's3:prefix': 'B' }, { 's3:prefix': 'b' }, false],
    ['StringEquals', { 's3:prefix': 'b*' }, { 's3:prefix': 'bc' }, false],
    ['StringEquals', { 's3:prefix': 'b' }, {}, false],
    ['StringEqualsIfExists', { 's3:prefix': 'b' }, {}, true],
    ['StringEqualsIgnoreCase', { 'S3:Prefix': 'B' }, { 's3:prefix': 'b' }, true],
    ['StringNotEquals', { 's3:prefix': ['a', 'b'] }, { 's3:prefix': 'b' }, false],
    ['StringNotEquals', { 's3:prefix': ['a', 'b'] }, { 's3:prefix': 'c' }, true],
    ['StringNotEquals', { 's3:prefix': 'a' }, {}, true],
    ['StringLike', { 's3:prefix': 'p/*' }, { 's3:prefix': 'p/q/r' }, true],
    ['StringLike', { 's3:prefix': 'p?' }, { 's3:prefix': 'p' }, false],
    ['StringNotLike', { 's3:prefix': 'p*' }, { 's3:prefix': 'pq' }, false],
    ['Bool', { 'aws:SecureTransport': 'false' }, { 'aws:securetransport': 'false' }, true],
    ['Bool', { 'aws:SecureTransport': true }, { 'aws:securetransport': 'false' }, false],
    ['IpAddress', { 'aws:SourceIp': '10.0.0.0/8' }, { 'aws:sourceip': '10.200.3.4' }, true],
    ['IpAddress', { 'aws:SourceIp': '10.0.0.0/8' }, { 'aws:sourceip': '::ffff:10.200.3.4' }, true],
    ['IpAddress', { 'aws:SourceIp': '10.0.0.1' }, { 'aws:sourceip': '10.0.0.2' }, false],
    ['IpAddress', { 'aws:SourceIp': '2001:db8::/32' }, { 'aws:sourceip': '2001:db8::7' }, true],
    ['IpAddress', { 'aws:SourceIp': '2001:db8::/32' }, { 'aws:sourceip': '10.0.0.1' }, false],
    ['NotIpAddress', { 'aws:SourceIp': '10.0.0.0/8' }, { 'aws:sourceip': '10.1.1.1' }, false],
    ['NumericLessThanEquals', { 's3:max-keys': 10 }, { 's3:max-keys': '10' }, true],
    ['NumericLessThan', { 's3:max-keys': '10' }, { 's3:max-keys': '9' }, true],
    ['NumericGreaterThan', { 's3:max-keys': '10' }, { 's3:max-keys': '9' }, false],
    ['NumericGreaterThan', { 's3:max-keys': '10' }, { 's3:max-keys': 'many' }, false],
    [
      'DateLessThan',
      { 'aws:CurrentTime': '2030-01-01T00:00:00Z' },
      { 'aws:currenttime': '2029-12-31T23:59:59Z' },
      true,
    ],
    ['DateGreaterThan', { 'aws:EpochTime': '1700000000' }, { 'aws:epochtime': '1800000000' }, true],
    ['Null', { 's3:x-amz-acl': 'true' }, {}, true],
    ['Null', { 's3:x-amz-acl': 'false' }, {}, false],
    ['Null', { 's3:x-amz-acl': 'true' }, { 's3:x-amz-acl': 'private' }, false],
    ['StringEquals', { 's3:ExistingObjectTag/Team': 'x' }, { 's3:existingobjecttag/Team': 'x' }, true],
    ['StringEquals', { 's3:ExistingObjectTag/team': 'x' }, { 's3:existingobjecttag/Team': 'x' }, false],
    [
      'ForAllValues:StringEquals',
      { 's3:RequestObjectTagKeys': ['a', 'b'] },
      { 's3:requestobjecttagkeys': ['a'] },
      true,
    ],
    [
      'ForAllValues:StringEquals',
      { 's3:RequestObjectTagKeys': ['a'] },
      { 's3:requestobjecttagkeys': ['a', 'z'] },
      false,
    ],
    [
      'ForAnyValue:StringEquals',
      { 's3:RequestObjectTagKeys': ['a'] },
      { 's3:requestobjecttagkeys': ['a', 'z'] },
      true,
    ],
    ['ForAnyValue:StringEquals', { 's3:RequestObjectTagKeys': ['a'] }, {}, false],
  ]
  for (const [operator, block, keys, expected] of cases) {
    const effect = ask([{ ...open, Condition: { [operator]: block } }], { keys })
    assert.equal(
      effect,
      expected ? 'allow' : 'none',
      `${operator} ${JSON.stringify(block)} ${JSON.stringify(keys)}`,
    )
  }
})

test('every condition of a statement must hold', () => {
  const Condition = {
    StringEquals: { 's3:prefix': 'p', 's3:delimiter': '/' },
    Bool: { 'aws:SecureTransport': 'true' },
  }
  const keys = { 's3:prefix': 'p', 's3:delimiter': '/', 'aws:securetransport': 'true' }
  assert.equal(ask([{ ...open, Condition }], { keys }), 'allow')
  for (const key of Object.keys(keys)) {
    assert.equal(ask([{ ...open, Condition }], { keys: { ...keys, [key]: 'other' } }), 'none', key)
  }
})

test('documents that S3 refuses are refused with MalformedPolicy', () => {
  const { Effect: _e, ...noEffect } = open
  const { Principal: _p, ...noPrincipal } = open
  const { Action: _a, ...noAction } = open
  const { Resource: _r, ...noResource } = open
  const bad: unknown[] = [
    [],
    'x',
    null,
    [noEffect],
    [noPrincipal],
    [noAction],
    [noResource],
    [{ ...open, Effect: 'allow' }],
    [{ ...open, Principal: 'alice' }],
    [{ ...open, Principal: {} }],
    [{ ...open, Principal: { AWS: [] } }],
    [{ ...open, Principal: { AWS: 'arn:aws:s3:::b' } }],
    [{ ...open, Principal: { AWS: 'a*' } }],
    [{ ...open, Principal: { Robot: 'x' } }],
    [{ ...open, Action: 'ec2:Run' }],
    [{ ...open, Action: 7 }],
    [{ ...open, Resource: 'arn:aws:s3:::other/*' }],
    [{ ...open, Resource: 'b/*' }],
    [{ ...open, Resource: 'arn:aws:s3:::' }],
    [{ ...open, NotResource: 'arn:aws:s3:::b/x' }],
    [{ ...open, Condition: { StringAlmost: { 's3:prefix': 'x' } } }],
    [{ ...open, Condition: { StringEquals: { prefix: 'x' } } }],
    [{ ...open, Condition: { StringEquals: { 's3:prefix': { a: 1 } } } }],
    [{ ...open, Condition: { IpAddress: { 'aws:SourceIp': '10.0.0.0/33' } } }],
    [{ ...open, Condition: { Bool: { 'aws:SecureTransport': 'maybe' } } }],
    [{ ...open, Condition: { NumericLessThan: { 's3:max-keys': 'ten' } } }],
    [{ ...open, Sid: 4 }],
    [{ ...open, Extra: true }],
  ]
  for (const statements of bad) {
    assert.throws(() => ask(statements), { code: 'MALFORMED_POLICY' }, JSON.stringify(statements))
  }
  for (const text of ['', '[]', '"x"', '{', '{"Version":"2020-01-01","Statement":[]}']) {
    assert.throws(() => parseBucketPolicy(text, 'b'), { code: 'MALFORMED_POLICY' }, text)
  }
})

test('a policy over 20 KiB is refused before it is parsed', () => {
  const text = `{"Version":"2012-10-17","Statement":[${JSON.stringify(open)}]}`
  assert.ok(parseBucketPolicy(text.padEnd(maxPolicyBytes), 'b'))
  assert.throws(() => parseBucketPolicy(text.padEnd(maxPolicyBytes + 1), 'b'), { code: 'MALFORMED_POLICY' })
})

test('a deeply nested document is refused, not a stack that overflows', () => {
  const deep = '['.repeat(9000) + ']'.repeat(9000)
  assert.throws(() => parseBucketPolicy(`{"Statement":${deep}}`, 'b'), { code: 'MALFORMED_POLICY' })
})

test('a pattern of a thousand stars is matched; a matcher that tries every way would never end', () => {
  const pattern = compilePattern(`${'*a'.repeat(1023)}*b`, { wildcards: true, variables: false })
  assert.equal(matchPattern(pattern, 'a'.repeat(1024)), false)
  assert.equal(matchPattern(pattern, `${'a'.repeat(1023)}b`), true)
})

test('a document cannot reach the prototypes of the process', () => {
  const text =
    '{"Version":"2012-10-17","Statement":[{"__proto__":{"Effect":"Allow","Principal":"*"},"Action":"*","Resource":"*"}]}'
  assert.throws(() => parseBucketPolicy(text, 'b'), { code: 'MALFORMED_POLICY' })
  assert.throws(() => parseBucketPolicy('{"constructor":{"prototype":{"x":1}}}', 'b'), StorageError)
  assert.equal(Object.hasOwn(Object.prototype, 'Effect'), false)
})

test('public means allowed to everyone without being pinned to fixed callers', () => {
  const isPublic = (statement: unknown) =>
    isPublicPolicy(parseBucketPolicy(JSON.stringify({ Version: '2012-10-17', Statement: statement }), 'b'))
  assert.equal(isPublic(open), true)
  assert.equal(isPublic({ ...open, Effect: 'Deny' }), false)
  assert.equal(isPublic({ ...open, Principal: { AWS: 'arn:aws:iam::alice:root' } }), false)
  const withIp = (ip: string) => ({ ...open, Condition: { IpAddress: { 'aws:SourceIp': ip } } })
  assert.equal(isPublic(withIp('10.0.0.0/32')), false)
  assert.equal(isPublic(withIp('0.0.0.0/0')), true)
  assert.equal(isPublic({ ...open, Condition: { StringLike: { 'aws:Referer': 'x' } } }), true)
  assert.equal(isPublic({ ...open, Condition: { StringLike: { 'aws:PrincipalArn': '*' } } }), true)
  assert.equal(isPublic({ ...open, Condition: { NotIpAddress: { 'aws:SourceIp': '10.0.0.1' } } }), true)
})

/** The slow and obvious matcher: every split of the text is tried. */
function naiveMatch(pattern: string, text: string): boolean {
  if (pattern === '') return text === ''
  const rest = pattern.slice(1)
  if (pattern.startsWith('*')) {
    for (let index = 0; index <= text.length; index += 1) if (naiveMatch(rest, text.slice(index))) return true
    return false
  }
  return text !== '' && (pattern.startsWith('?') || pattern[0] === text[0]) && naiveMatch(rest, text.slice(1))
}

test('wildcards match as a naive matcher does', () => {
  const letters = fc.string({ unit: fc.constantFrom('a', 'b', '*', '?'), maxLength: 8 })
  const text = fc.string({ unit: fc.constantFrom('a', 'b', '*'), maxLength: 8 })
  fc.assert(
    fc.property(letters, text, (pattern, value) => {
      const compiled = compilePattern(pattern, { wildcards: true, variables: false })
      assert.equal(matchPattern(compiled, value), naiveMatch(pattern, value))
    }),
    { numRuns: 2000 },
  )
})

test('evaluation agrees with a naive model on random policies', () => {
  const actions = ['s3:GetObject', 's3:PutObject', 's3:ListBucket']
  const accounts = ['alice', 'bob']
  const keys = ['a', 'ab', 'b']
  const statement = fc.record({
    allow: fc.boolean(),
    principal: fc.constantFrom('*', ...accounts),
    action: fc.constantFrom(...actions, 's3:*', '*', 's3:Get*'),
    notAction: fc.boolean(),
    resource: fc.constantFrom('*', 'a*', '?', 'a', 'b'),
    prefix: fc.option(fc.constantFrom('x', 'y'), { nil: undefined }),
  })
  const question = fc.record({
    identity: fc.constantFrom<Identity>(anonymous, alice, bob),
    action: fc.constantFrom(...actions),
    key: fc.constantFrom(...keys),
    prefix: fc.option(fc.constantFrom('x', 'y', 'z'), { nil: undefined }),
  })
  fc.assert(
    fc.property(fc.array(statement, { minLength: 1, maxLength: 5 }), question, (statements, asked) => {
      const hits = statements.filter((one) => {
        const isWho =
          one.principal === '*' || (asked.identity.kind === 'key' && asked.identity.account === one.principal)
        const isWhat = naiveMatch(one.action.toLowerCase(), asked.action.toLowerCase()) !== one.notAction
        const isWhere = naiveMatch(one.resource, asked.key)
        return isWho && isWhat && isWhere && (one.prefix === undefined || one.prefix === asked.prefix)
      })
      const expected = hits.some((one) => !one.allow) ? 'deny' : hits.length > 0 ? 'allow' : 'none'
      const documents = statements.map((one) => ({
        Effect: one.allow ? 'Allow' : 'Deny',
        Principal: one.principal === '*' ? '*' : { AWS: `arn:aws:iam::${one.principal}:root` },
        [one.notAction ? 'NotAction' : 'Action']: one.action,
        Resource: `arn:aws:s3:::b/${one.resource}`,
        ...(one.prefix === undefined ? {} : { Condition: { StringEquals: { 's3:prefix': one.prefix } } }),
      }))
      const effect = ask(documents, {
        identity: asked.identity,
        action: asked.action,
        resource: `arn:aws:s3:::b/${asked.key}`,
        ...(asked.prefix === undefined ? {} : { keys: { 's3:prefix': asked.prefix } }),
      })
      assert.equal(effect, expected)
    }),
    { numRuns: 2000 },
  )
})
