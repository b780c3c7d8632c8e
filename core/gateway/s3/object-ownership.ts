import { StorageError } from '../../contract/errors.ts'
import type { AccountId, BucketConfigKind, BucketRecord } from '../../contract/object-model.ts'
import { knownAccounts } from './accounts.ts'
import { type AclRequest, isPublicAcl, readAclHeaders, serializeAcl } from './acl.ts'
import { bucketRules, type ObjectOwnership, objectOwnerships } from './bucket-rules.ts'
import { accessDenied, invalidArgument } from './errors.ts'
import type { Gateway, Identity } from './operation.ts'

/** Who will own a new object and what its list will be. `acl` is absent where the object is private to its owner. */
export interface NewObjectOwnership {
  readonly owner: AccountId
  /** The request says who may do what with the object. */
  readonly isListed: boolean
  readonly acl?: string
}

type Header = (name: string) => string | undefined

/**
 * Judges the ACL headers of a request that creates an object (PutObject, CopyObject, CreateMultipartUpload, POST) by the
 * bucket's ownership controls and public access block. To be called before body bytes are accepted.
 */
export function newObjectOwnership(
  gateway: Gateway,
  bucket: BucketRecord,
  identity: Identity,
  header: Header,
): NewObjectOwnership {
  const rules = bucketRules(gateway.catalog)
  const ownership = rules.ownership(bucket)
  // What a stranger writes belongs to the owner of the bucket that let him in.
  const writer = identity.kind === 'key' ? identity.account : bucket.owner
  const request = readAclHeaders(header, { owner: writer, bucketOwner: bucket.owner }, knownAccounts(gateway))
  const isListed = request.kind !== 'none'
  if (ownership === 'BucketOwnerEnforced') {
    if (!givesBucketOwnerFullControl(request, bucket.owner)) throw aclNotSupported()
    return { owner: bucket.owner, isListed }
  }
  if (!isListed) return { owner: writer, isListed }
  if (isPublicAcl(request.acl) && rules.publicAccessBlock(bucket)?.blockPublicAcls === true)
    throw accessDenied()
  if (
    ownership === 'BucketOwnerPreferred' &&
    request.kind === 'canned' &&
    request.name === 'bucket-owner-full-control'
  ) {
    return { owner: bucket.owner, isListed }
  }
  return { owner: writer, isListed, acl: serializeAcl(request.acl) }
}

/** The only lists that a bucket with enforced ownership takes: those that say what holds anyway. */
function givesBucketOwnerFullControl(request: AclRequest, bucketOwner: AccountId): boolean {
  if (request.kind === 'none') return true
  if (request.kind === 'canned') return request.name === 'bucket-owner-full-control'
  return request.acl.grants.every(
    ({ grantee, permission }) =>
      permission === 'FULL_CONTROL' && grantee.kind === 'account' && grantee.account === bucketOwner,
  )
}

export const aclNotSupported = (): StorageError =>
  new StorageError('ACL_NOT_SUPPORTED', 'The bucket does not allow ACLs')

const text = new TextEncoder()

/** The configurations that CreateBucket's headers ask for (`x-amz-acl`, `x-amz-grant-*`, `x-amz-object-ownership`). */
export function newBucketConfigs(
  gateway: Gateway,
  owner: AccountId,
  header: Header,
): Readonly<Partial<Record<BucketConfigKind, Uint8Array>>> {
  const configs: Partial<Record<BucketConfigKind, Uint8Array>> = {}
  const ownership = header('x-amz-object-ownership')
  if (ownership !== undefined) {
    if (!isObjectOwnership(ownership)) {
      throw invalidArgument('Invalid x-amz-object-ownership header', 'x-amz-object-ownership', ownership)
    }
    configs.ownership = text.encode(ownership)
  }
  const request = readAclHeaders(header, { owner, bucketOwner: owner }, knownAccounts(gateway))
  if (request.kind === 'none') return configs
  if (ownership === 'BucketOwnerEnforced' && !(request.kind === 'canned' && request.name === 'private')) {
    throw invalidBucketAcl()
  }
  configs.acl = text.encode(serializeAcl(request.acl))
  return configs
}

export function isObjectOwnership(value: string): value is ObjectOwnership {
  return objectOwnerships.some((name) => name === value)
}

export const invalidBucketAcl = (): StorageError =>
  new StorageError(
    'INVALID_BUCKET_ACL_WITH_OWNERSHIP',
    "Bucket cannot have ACLs set with ObjectOwnership's BucketOwnerEnforced setting",
  )
