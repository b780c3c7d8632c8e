import { StorageError } from '../../contract/errors.ts'
import type { AccountId } from '../../contract/object-model.ts'
import { invalidArgument } from './errors.ts'
import type { Identity } from './operation.ts'

/**
 * Access control lists of buckets and objects. Stored as JSON; where none is stored the resource is private to its owner.
 * https://docs.aws.amazon.com/AmazonS3/latest/userguide/acl-overview.html
 */
export interface AccessControlList {
  readonly grants: readonly Grant[]
}

export type Permission = 'READ' | 'WRITE' | 'READ_ACP' | 'WRITE_ACP' | 'FULL_CONTROL'
export type Group = 'AllUsers' | 'AuthenticatedUsers' | 'LogDelivery'
export type Grantee =
  | { readonly kind: 'account'; readonly account: AccountId }
  | { readonly kind: 'group'; readonly group: Group }

export interface Grant {
  readonly grantee: Grantee
  readonly permission: Permission
}

export const permissions: readonly Permission[] = ['READ', 'WRITE', 'READ_ACP', 'WRITE_ACP', 'FULL_CONTROL']
/** S3's own limit. */
export const maxGrants = 100

export const groupUris: Readonly<Record<Group, string>> = {
  AllUsers: 'http://acs.amazonaws.com/groups/global/AllUsers',
  AuthenticatedUsers: 'http://acs.amazonaws.com/groups/global/AuthenticatedUsers',
  LogDelivery: 'http://acs.amazonaws.com/groups/s3/LogDelivery',
}

export function groupOfUri(uri: string): Group | undefined {
  return (Object.keys(groupUris) as Group[]).find((group) => groupUris[group] === uri)
}

const account = (id: AccountId, permission: Permission): Grant => ({
  grantee: { kind: 'account', account: id },
  permission,
})
const group = (name: Group, permission: Permission): Grant => ({
  grantee: { kind: 'group', group: name },
  permission,
})

export function privateAcl(owner: AccountId): AccessControlList {
  return { grants: [account(owner, 'FULL_CONTROL')] }
}

export type CannedAcl =
  | 'private'
  | 'public-read'
  | 'public-read-write'
  | 'authenticated-read'
  | 'bucket-owner-read'
  | 'bucket-owner-full-control'
  | 'log-delivery-write'

export interface AclOwners {
  /** Of the bucket or object that the list is for. */
  readonly owner: AccountId
  /** Of the bucket that the object is in; the same as `owner` for buckets. */
  readonly bucketOwner: AccountId
}

/** Undefined for a name that is not a canned list. Groups come before the owner: the order in which S3 shows them. */
export function cannedAcl(name: string, owners: AclOwners): AccessControlList | undefined {
  const full = account(owners.owner, 'FULL_CONTROL')
  const ownsBucket = owners.owner === owners.bucketOwner
  switch (name as CannedAcl) {
    case 'private':
      return { grants: [full] }
    case 'public-read':
      return { grants: [group('AllUsers', 'READ'), full] }
    case 'public-read-write':
      return { grants: [group('AllUsers', 'READ'), group('AllUsers', 'WRITE'), full] }
    case 'authenticated-read':
      return { grants: [group('AuthenticatedUsers', 'READ'), full] }
    case 'bucket-owner-read':
      return { grants: ownsBucket ? [full] : [full, account(owners.bucketOwner, 'READ')] }
    case 'bucket-owner-full-control':
      return { grants: ownsBucket ? [full] : [full, account(owners.bucketOwner, 'FULL_CONTROL')] }
    case 'log-delivery-write':
      return { grants: [group('LogDelivery', 'WRITE'), group('LogDelivery', 'READ_ACP'), full] }
    default:
      return undefined
  }
}

const grantHeaders: readonly (readonly [string, Permission])[] = [
  ['x-amz-grant-read', 'READ'],
  ['x-amz-grant-write', 'WRITE'],
  ['x-amz-grant-read-acp', 'READ_ACP'],
  ['x-amz-grant-write-acp', 'WRITE_ACP'],
  ['x-amz-grant-full-control', 'FULL_CONTROL'],
]

/** What a request says about the list of a new or existing resource, before it is judged. */
export type AclRequest =
  | { readonly kind: 'none' }
  | { readonly kind: 'canned'; readonly name: string; readonly acl: AccessControlList }
  | { readonly kind: 'grants'; readonly acl: AccessControlList }

/**
 * Reads `x-amz-acl` and `x-amz-grant-*`. INVALID_ARGUMENT for unknown names, groups and accounts; INVALID_REQUEST when
 * both forms are used; UNRESOLVABLE_GRANT_BY_EMAIL, since accounts have no addresses.
 */
export function readAclHeaders(
  header: (name: string) => string | undefined,
  owners: AclOwners,
  accountExists: (id: AccountId) => boolean,
): AclRequest {
  const canned = header('x-amz-acl')
  const grants: Grant[] = []
  for (const [name, permission] of grantHeaders) {
    const value = header(name)
    if (value === undefined) continue
    for (const grantee of parseGrantees(value, name, owners, accountExists))
      grants.push({ grantee, permission })
  }
  if (canned !== undefined) {
    if (grants.length > 0) {
      throw new StorageError(
        'INVALID_REQUEST',
        'Specifying both Canned ACLs and Header Grants is not allowed',
      )
    }
    const acl = cannedAcl(canned, owners)
    if (acl === undefined) throw invalidArgument('', 'x-amz-acl', canned)
    return { kind: 'canned', name: canned, acl }
  }
  if (grants.length === 0) return { kind: 'none' }
  if (grants.length > maxGrants) throw tooManyGrants()
  return { kind: 'grants', acl: { grants } }
}

export const tooManyGrants = (): StorageError =>
  new StorageError('MALFORMED_ACL', `An access control list has at most ${maxGrants} grants`)

/** `id="x", uri="y"`, quotes optional. */
function parseGrantees(
  value: string,
  header: string,
  owners: AclOwners,
  accountExists: (id: AccountId) => boolean,
): Grantee[] {
  const grantees: Grantee[] = []
  for (const part of value.split(',')) {
    const equals = part.indexOf('=')
    if (equals < 0) throw invalidArgument('Argument format not recognized', header, value)
    const kind = part.slice(0, equals).trim().toLowerCase()
    const id = part
      .slice(equals + 1)
      .trim()
      .replace(/^"(.*)"$/, '$1')
    grantees.push(resolveGrantee(kind, id, owners, accountExists, header, value))
  }
  return grantees
}

function resolveGrantee(
  kind: string,
  id: string,
  owners: AclOwners,
  accountExists: (id: AccountId) => boolean,
  argument: string,
  value: string,
): Grantee {
  if (kind === 'uri') {
    const name = groupOfUri(id)
    if (name === undefined) throw invalidArgument('Invalid group uri', 'uri', id)
    return { kind: 'group', group: name }
  }
  if (kind === 'id') return accountGrantee(id, owners, accountExists)
  if (kind === 'emailaddress') throw unresolvableEmail(id)
  throw invalidArgument('Argument format not recognized', argument, value)
}

export function accountGrantee(
  id: AccountId,
  owners: AclOwners,
  accountExists: (id: AccountId) => boolean,
): Grantee {
  if (id !== owners.owner && id !== owners.bucketOwner && !accountExists(id)) {
    throw invalidArgument('Invalid id', 'CanonicalUser/ID', id)
  }
  return { kind: 'account', account: id }
}

export const unresolvableEmail = (address: string): StorageError =>
  new StorageError(
    'UNRESOLVABLE_GRANT_BY_EMAIL',
    'The e-mail address you provided does not match any account on record.',
    { details: { EmailAddress: address } },
  )

/** Whether the list lets an identity do something by itself; owners' implicit rights are judged elsewhere. */
export function aclGrants(
  acl: AccessControlList,
  identity: Identity,
  permission: Permission,
  options: { ignorePublic: boolean },
): boolean {
  return acl.grants.some((grant) => {
    if (grant.permission !== permission && grant.permission !== 'FULL_CONTROL') return false
    const { grantee } = grant
    if (grantee.kind === 'account') return identity.kind === 'key' && identity.account === grantee.account
    if (options.ignorePublic) return false
    if (grantee.group === 'AllUsers') return true
    return grantee.group === 'AuthenticatedUsers' && identity.kind === 'key'
  })
}

/** Grants to everyone or to every account: what "public" means for BlockPublicAcls and PolicyStatus. */
export function isPublicAcl(acl: AccessControlList): boolean {
  return acl.grants.some(({ grantee }) => grantee.kind === 'group' && grantee.group !== 'LogDelivery')
}

/** The stored form: `[["a", account, permission] | ["g", group, permission], ...]`. */
export function serializeAcl(acl: AccessControlList): string {
  return JSON.stringify(
    acl.grants.map(({ grantee, permission }) =>
      grantee.kind === 'account' ? ['a', grantee.account, permission] : ['g', grantee.group, permission],
    ),
  )
}

/** Our own form from the catalog; anything else there is damage and grants nothing: CATALOG_CORRUPT. */
export function deserializeAcl(text: string): AccessControlList {
  const rows: unknown = JSON.parse(text)
  if (!Array.isArray(rows)) throw new StorageError('CATALOG_CORRUPT', 'an access control list cannot be read')
  return {
    grants: rows.map((row: unknown): Grant => {
      const [kind, id, permission] = Array.isArray(row) ? (row as unknown[]) : []
      const known = permissions.find((name) => name === permission)
      if (typeof id === 'string' && known !== undefined) {
        if (kind === 'a') return account(id, known)
        if (kind === 'g' && Object.hasOwn(groupUris, id)) return group(id as Group, known)
      }
      throw new StorageError('CATALOG_CORRUPT', 'an access control list cannot be read')
    }),
  }
}
