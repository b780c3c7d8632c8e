import { StorageError } from '../../contract/errors.ts'
import type { AccountId } from '../../contract/object-model.ts'
import { displayName } from './accounts.ts'
import {
  type AccessControlList,
  type AclOwners,
  accountGrantee,
  type Grant,
  type Grantee,
  groupOfUri,
  groupUris,
  maxGrants,
  permissions,
  tooManyGrants,
  unresolvableEmail,
} from './acl.ts'
import { accessDenied, invalidArgument } from './errors.ts'
import { document, element, parseXml, type XmlElement } from './xml.ts'

/** The `AccessControlPolicy` document, in and out. */

export function renderAcl(owner: AccountId, acl: AccessControlList): string {
  // Groups first, as S3 shows them; the order within each kind is kept.
  const groups = acl.grants.filter(({ grantee }) => grantee.kind === 'group')
  const accounts = acl.grants.filter(({ grantee }) => grantee.kind === 'account')
  const grants = [...groups, ...accounts]
    .map(
      ({ grantee, permission }) =>
        `<Grant>${renderGrantee(grantee)}${element('Permission', permission)}</Grant>`,
    )
    .join('')
  return document(
    'AccessControlPolicy',
    `${renderOwner('Owner', owner)}<AccessControlList>${grants}</AccessControlList>`,
  )
}

export function renderOwner(name: 'Owner' | 'Initiator', account: AccountId): string {
  return `<${name}>${element('ID', account)}${element('DisplayName', displayName(account))}</${name}>`
}

function renderGrantee(grantee: Grantee): string {
  const open = (type: string) =>
    `<Grantee xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance" xsi:type="${type}">`
  if (grantee.kind === 'group') return `${open('Group')}${element('URI', groupUris[grantee.group])}</Grantee>`
  const { account } = grantee
  return `${open('CanonicalUser')}${element('ID', account)}${element('DisplayName', displayName(account))}</Grantee>`
}

/**
 * MALFORMED_XML, MALFORMED_ACL, INVALID_ARGUMENT (unknown account or group), UNRESOLVABLE_GRANT_BY_EMAIL; ACCESS_DENIED
 * when it names another owner: a list cannot give a resource away.
 */
export function parseAclDocument(
  text: string,
  owners: AclOwners,
  accountExists: (id: AccountId) => boolean,
): AccessControlList {
  const root = parseXml(text, 'AccessControlPolicy')
  const owner = root.child('Owner')?.textOf('ID')
  if (owner !== undefined && owner !== owners.owner) throw accessDenied()
  const list = root.child('AccessControlList')
  if (list === undefined) throw malformedAcl()
  const grants = list.all('Grant').map((grant) => parseGrant(grant, owners, accountExists))
  if (grants.length > maxGrants) throw tooManyGrants()
  return { grants }
}

function parseGrant(grant: XmlElement, owners: AclOwners, accountExists: (id: AccountId) => boolean): Grant {
  const permissionText = grant.textOf('Permission')?.trim()
  const permission = permissions.find((name) => name === permissionText)
  const grantee = grant.child('Grantee')
  if (permission === undefined || grantee === undefined) throw malformedAcl()
  const uri = grantee.textOf('URI')?.trim()
  const id = grantee.textOf('ID')?.trim()
  const email = grantee.textOf('EmailAddress')?.trim()
  const type = grantee.attributes.get('type') ?? grantee.attributes.get('xsi:type')
  if (type === 'Group' || (type === undefined && uri !== undefined)) {
    const group = groupOfUri(uri ?? '')
    if (group === undefined) throw invalidArgument('Invalid group uri', 'Group/URI', uri ?? '')
    return { grantee: { kind: 'group', group }, permission }
  }
  if (type === 'AmazonCustomerByEmail' || (type === undefined && email !== undefined)) {
    throw unresolvableEmail(email ?? '')
  }
  if ((type !== 'CanonicalUser' && type !== undefined) || id === undefined) throw malformedAcl()
  return { grantee: accountGrantee(id, owners, accountExists), permission }
}

const malformedAcl = (): StorageError =>
  new StorageError(
    'MALFORMED_ACL',
    'The XML you provided was not well-formed or did not validate against our published schema',
  )
