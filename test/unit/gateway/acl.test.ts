import assert from 'node:assert/strict'
import { test } from 'node:test'
import {
  aclGrants,
  cannedAcl,
  deserializeAcl,
  isPublicAcl,
  type Permission,
  readAclHeaders,
  serializeAcl,
} from '../../../core/gateway/s3/acl.ts'
import { parseAclDocument, renderAcl } from '../../../core/gateway/s3/acl-document.ts'
import type { Identity } from '../../../core/gateway/s3/operation.ts'

const owners = { owner: 'alice', bucketOwner: 'carol' }
const known = (id: string) => id === 'bob'
const anonymous: Identity = { kind: 'anonymous' }
const bob: Identity = { kind: 'key', account: 'bob', accessKeyId: 'AKBOB', root: false }

const headers = (values: Record<string, string>) => readAclHeaders((name) => values[name], owners, known)

test('canned lists give what their names say', () => {
  const may = (name: string, identity: Identity, permission: Permission) => {
    const acl = cannedAcl(name, owners)
    assert.ok(acl, name)
    return aclGrants(acl, identity, permission, { ignorePublic: false })
  }
  assert.equal(may('private', anonymous, 'READ'), false)
  assert.equal(may('private', bob, 'READ'), false)
  assert.equal(may('public-read', anonymous, 'READ'), true)
  assert.equal(may('public-read', anonymous, 'WRITE'), false)
  assert.equal(may('public-read-write', anonymous, 'WRITE'), true)
  assert.equal(may('public-read-write', anonymous, 'WRITE_ACP'), false)
  assert.equal(may('authenticated-read', anonymous, 'READ'), false)
  assert.equal(may('authenticated-read', bob, 'READ'), true)
  const carol: Identity = { kind: 'key', account: 'carol', accessKeyId: 'AKC', root: false }
  assert.equal(may('bucket-owner-read', carol, 'READ'), true)
  assert.equal(may('bucket-owner-read', carol, 'WRITE_ACP'), false)
  assert.equal(may('bucket-owner-full-control', carol, 'WRITE_ACP'), true)
  assert.equal(cannedAcl('public', owners), undefined)
  assert.equal(cannedAcl('__proto__', owners), undefined)
})

test('ignoring public grants leaves the grants to accounts', () => {
  const acl = { grants: [...(cannedAcl('public-read', owners)?.grants ?? []), ...headersGrants()] }
  assert.equal(aclGrants(acl, anonymous, 'READ', { ignorePublic: true }), false)
  assert.equal(aclGrants(acl, bob, 'READ', { ignorePublic: true }), true)
  function headersGrants() {
    const request = headers({ 'x-amz-grant-read': 'id=bob' })
    assert.equal(request.kind, 'grants')
    return request.kind === 'grants' ? request.acl.grants : []
  }
})

test('grant headers name accounts and groups, with or without quotes', () => {
  const request = headers({
    'x-amz-grant-read': 'id="bob", uri="http://acs.amazonaws.com/groups/global/AllUsers"',
    'x-amz-grant-full-control': 'id=alice',
  })
  assert.deepEqual(request.kind === 'grants' ? request.acl.grants : [], [
    { grantee: { kind: 'account', account: 'bob' }, permission: 'READ' },
    { grantee: { kind: 'group', group: 'AllUsers' }, permission: 'READ' },
    { grantee: { kind: 'account', account: 'alice' }, permission: 'FULL_CONTROL' },
  ])
})

test('headers that make no sense get the precise error', () => {
  assert.throws(() => headers({ 'x-amz-acl': 'public' }), { code: 'INVALID_ARGUMENT' })
  assert.throws(() => headers({ 'x-amz-acl': 'private', 'x-amz-grant-read': 'id=bob' }), {
    code: 'INVALID_REQUEST',
  })
  assert.throws(() => headers({ 'x-amz-grant-read': 'id=nobody' }), { code: 'INVALID_ARGUMENT' })
  assert.throws(() => headers({ 'x-amz-grant-read': 'uri=http://x' }), { code: 'INVALID_ARGUMENT' })
  assert.throws(() => headers({ 'x-amz-grant-read': 'bob' }), { code: 'INVALID_ARGUMENT' })
  assert.throws(() => headers({ 'x-amz-grant-read': 'emailAddress=a@b' }), {
    code: 'UNRESOLVABLE_GRANT_BY_EMAIL',
  })
  assert.deepEqual(headers({}), { kind: 'none' })
})

test('a list survives being stored, and being shown and sent back', () => {
  for (const name of [
    'private',
    'public-read-write',
    'authenticated-read',
    'bucket-owner-read',
    'log-delivery-write',
  ]) {
    const acl = cannedAcl(name, owners)
    assert.ok(acl)
    assert.deepEqual(deserializeAcl(serializeAcl(acl)), acl)
    const back = parseAclDocument(renderAcl('alice', acl), owners, known)
    assert.deepEqual(back, acl)
  }
  assert.equal(isPublicAcl(deserializeAcl('[["g","LogDelivery","WRITE"]]')), false)
  assert.throws(() => deserializeAcl('[["x","y","READ"]]'), { code: 'CATALOG_CORRUPT' })
})

test('a document cannot give the resource to another owner or grant to strangers', () => {
  const grant = (grantee: string, permission = 'READ', owner = 'alice') =>
    `<AccessControlPolicy><Owner><ID>${owner}</ID></Owner><AccessControlList><Grant><Grantee xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance" ${grantee}</Grantee><Permission>${permission}</Permission></Grant></AccessControlList></AccessControlPolicy>`
  const parse = (text: string) => parseAclDocument(text, owners, known)
  assert.equal(parse(grant('xsi:type="CanonicalUser"><ID>bob</ID>')).grants.length, 1)
  assert.throws(() => parse(grant('xsi:type="CanonicalUser"><ID>bob</ID>', 'READ', 'bob')), {
    code: 'ACCESS_DENIED',
  })
  assert.throws(() => parse(grant('xsi:type="CanonicalUser"><ID>_foo</ID>')), { code: 'INVALID_ARGUMENT' })
  assert.throws(() => parse(grant('xsi:type="Group"><URI>http://x</URI>')), { code: 'INVALID_ARGUMENT' })
  assert.throws(() => parse(grant('xsi:type="CanonicalUser"><ID>bob</ID>', 'ALL')), { code: 'MALFORMED_ACL' })
  assert.throws(() => parse('<AccessControlPolicy/>'), { code: 'MALFORMED_ACL' })
  assert.throws(() => parse(grant('xsi:type="AmazonCustomerByEmail"><EmailAddress>a@b</EmailAddress>')), {
    code: 'UNRESOLVABLE_GRANT_BY_EMAIL',
  })
})
