import { accountIn } from '../../contract/accounts.ts'
import type { BucketAccess } from '../../contract/bucket-access.ts'
import type { AccountId, BucketRecord, ObjectRecord } from '../../contract/object-model.ts'
import {
  type AccessControlList,
  aclGrants,
  deserializeAcl,
  isPublicAcl,
  type Permission,
  privateAcl,
} from './acl.ts'
import { type BucketPolicy, evaluatePolicy, isPublicPolicy, type PolicyEffect } from './bucket-policy.ts'
import { bucketRules } from './bucket-rules.ts'
import { accessDenied } from './errors.ts'
import type { Gateway, Identity, OperationContext, S3Request } from './operation.ts'
import { conditionContext } from './request-conditions.ts'
import { noTags, storesNoTags, type TagsAsked } from './request-tags.ts'
import { parseVersionId } from './version-id.ts'

/** One question of authorization. `bucket` is absent for actions of the service (ListBuckets, CreateBucket). */
export interface AuthorizationQuestion {
  readonly request: S3Request
  readonly identity: Identity
  readonly action: string
  readonly bucket: BucketRecord | undefined
  readonly key: string | undefined
  readonly versionId: string | undefined
  /** At an edge that is to answer with what its hub tells of the object: that, and not the version that the edge holds. */
  readonly told?: ObjectRecord | undefined
  /** What a form says in place of headers, by header name. */
  readonly formFields?: ReadonlyMap<string, string>
  /** Absent: it stores none. */
  readonly tags?: TagsAsked
}

/** Returns when the identity may do it; throws ACCESS_DENIED otherwise. Deny by default. */
export type Authorizer = (question: AuthorizationQuestion) => void

/**
 * The decision, in this order (in a copy of which the home has not said who may do what, 3 alone):
 * 1. an explicit Deny of the bucket policy is final, for everyone. One exception: the bucket's owner and the root account
 *    can always read, replace and delete the policy itself, so that nobody is locked out for good;
 * 2. an Allow of the bucket policy, unless the public access block takes it from strangers;
 * 3. the root account and the owner of the bucket (for objects of others in it: only deleting and writing over them);
 * 4. the access control list of the bucket or of the object, unless ownership controls turn lists off;
 * 5. nothing.
 */
export function createAuthorizer(gateway: Gateway): Authorizer {
  return (question) => {
    if (!decide(gateway, question)) throw accessDenied()
  }
}

export function decide(gateway: Gateway, question: AuthorizationQuestion): boolean {
  const { identity, bucket } = question
  // Without a bucket there is no policy and no list: accounts may list and create buckets, strangers may not. A bucket
  // that is there already has no say in its creation: the catalog answers that it exists.
  if (bucket === undefined || question.action === 's3:CreateBucket') return identity.kind === 'key'
  const rules = bucketRules(gateway.catalog)
  const access = accessOf(gateway, bucket)
  const isRoot = identity.kind === 'key' && identity.root
  // A copy whose home has not said who may do what: nobody can say that a stranger may.
  if (!access.isKnown) return isRoot || (identity.kind === 'key' && identity.account === bucket.owner)
  const policy = rules.policy(bucket)
  // Nothing below could say no: the shortest way for whoever administers the region.
  if (isRoot && policy === undefined) return true
  const ownsBucket = isRoot || (identity.kind === 'key' && identity.account === bucket.owner)
  const named = identityIn(identity, gateway, access)
  const action = versionedAction(question)

  const existing = existingObject(gateway, bucket, question)
  const effectOf = (asked: string, key: string | undefined, prefix?: string): PolicyEffect => {
    if (policy === undefined) return 'none'
    const effect = policyEffect(policy, {
      gateway,
      question,
      bucket,
      named,
      action: asked,
      key,
      prefix,
      existing,
    })
    // RestrictPublicBuckets: a public policy serves the owner's account only.
    const restricted = (): boolean => rules.publicAccessBlock(bucket)?.restrictPublicBuckets === true
    return effect === 'allow' && !ownsBucket && restricted() && isPublicPolicy(policy) ? 'none' : effect
  }

  // Listing rights that are asked for on account of a key are asked for the listing of just that key.
  const listed = action === 's3:ListBucket' ? question.request.key : undefined
  const effect = effectOf(action, objectActions.has(action) ? question.key : undefined, listed)
  if (effect === 'deny') return ownsBucket && policyActions.has(action)

  const listsApply = (): boolean => rules.ownership(bucket) !== 'BucketOwnerEnforced'
  const grants = (acl: AccessControlList, permission: Permission): boolean =>
    listsApply() &&
    aclGrants(acl, identity, permission, {
      ignorePublic: rules.publicAccessBlock(bucket)?.ignorePublicAcls === true,
    })
  const bucketGrants = (permission: Permission): boolean => grants(rules.acl(bucket), permission)

  // Whether a key exists is a secret of the listing: without the right to list, a missing key is a denial.
  if (readActions.has(action) && question.key !== undefined && existing() === undefined) {
    const list = effectOf('s3:ListBucket', undefined, question.key)
    if (list === 'deny') return false
    return list === 'allow' || ownsBucket || bucketGrants('READ')
  }
  if (effect === 'allow') return true
  if (isRoot) return true

  const objectPermission = objectAclPermissions.get(action)
  if (objectPermission !== undefined && question.key !== undefined) {
    const record = existing()
    if (record === undefined) return ownsBucket
    const wroteIt = identity.kind === 'key' && identity.account === record.owner
    // With enforced ownership everything in the bucket is its owner's, and nothing anybody else's.
    if (ownsBucket ? wroteIt || !listsApply() : wroteIt && listsApply()) return true
    return grants(objectAcl(record), objectPermission)
  }
  if (ownsBucket) return true
  if (ownedObjectActions.has(action) && identity.kind === 'key') {
    return existing()?.owner === identity.account && listsApply()
  }
  if (uploadActions.has(action)) return startedUpload(gateway, bucket, question)
  const bucketPermission = bucketAclPermissions.get(action)
  return bucketPermission !== undefined && bucketGrants(bucketPermission)
}

/**
 * Whether the bucket's policy refuses it: for what S3 wants a right of its own for, and here comes with the right that the request has been let in
 * by unless somebody says otherwise.
 */
export function isDenied(gateway: Gateway, question: AuthorizationQuestion): boolean {
  const { bucket, identity, key } = question
  if (bucket === undefined) return false
  const access = accessOf(gateway, bucket)
  const policy = access.isKnown ? bucketRules(gateway.catalog).policy(bucket) : undefined
  if (policy === undefined) return false
  const existing = existingObject(gateway, bucket, question)
  const named = identityIn(identity, gateway, access)
  const action = versionedAction(question)
  return policyEffect(policy, { gateway, question, bucket, named, action, key, existing }) === 'deny'
}

/** What a handler asks of the policy for itself, as whoever was let in. */
export function rightsOf(
  gateway: Gateway,
  authorize: Authorizer,
  request: S3Request,
  identity: Identity,
): Pick<OperationContext, 'authorize' | 'refuseDenied'> {
  return {
    authorize: (action, bucket, key, versionId, tags = noTags) =>
      authorize({ request, identity, action, bucket, key, versionId, tags: () => tags }),
    refuseDenied(action, bucket, key, versionId, tags = noTags) {
      if (isDenied(gateway, { request, identity, action, bucket, key, versionId, tags: () => tags }))
        throw accessDenied()
    },
  }
}

interface PolicyQuestion {
  readonly gateway: Gateway
  readonly question: AuthorizationQuestion
  readonly bucket: BucketRecord
  /** Who asks, as the policy calls them. */
  readonly named: Identity
  readonly action: string
  readonly key: string | undefined
  readonly prefix?: string | undefined
  readonly existing: () => ObjectRecord | undefined
}

function policyEffect(policy: BucketPolicy, asked: PolicyQuestion): PolicyEffect {
  const { gateway, question, bucket, named, action, key, prefix, existing } = asked
  const { request, versionId, formFields, tags = storesNoTags } = question
  return evaluatePolicy(policy, {
    identity: named,
    action,
    resource: `arn:aws:s3:::${bucket.name}${key === undefined ? '' : `/${key}`}`,
    context: conditionContext({
      ...{ gateway, request, identity: named, prefix, versionId, tags, formFields, existing },
    }),
  })
}

/** The object that is asked about, looked up when it is wanted and once. */
function existingObject(
  gateway: Gateway,
  bucket: BucketRecord,
  question: AuthorizationQuestion,
): () => ObjectRecord | undefined {
  let object: ObjectRecord | undefined
  let looked = false
  return () => {
    if (!looked) {
      looked = true
      object = findObject(gateway, bucket, question)
    }
    return object
  }
}

const hereOf = (gateway: Gateway): number => gateway.replication?.regionId ?? 0

const accessOf = (gateway: Gateway, bucket: BucketRecord): BucketAccess =>
  gateway.catalog.replication.access(bucket, hereOf(gateway))

/** Who asks, in the words of the region that the bucket's policy was written in. */
function identityIn(identity: Identity, gateway: Gateway, { policyRegion }: BucketAccess): Identity {
  const here = hereOf(gateway)
  if (identity.kind !== 'key' || policyRegion === here) return identity
  return { ...identity, account: accountIn(identity.account, here, policyRegion) }
}

/** Whether everything in the bucket that is not about one object in particular is allowed, whatever is in it. */
export function isForOwner(gateway: Gateway, bucket: BucketRecord, identity: Identity): boolean {
  const isOwner = identity.kind === 'key' && (identity.root || identity.account === bucket.owner)
  return isOwner && bucketRules(gateway.catalog).policy(bucket) === undefined
}

/** False: strangers may delete nothing in the bucket, whatever key they name. True: by some key it may be allowed. */
export function mayStrangersDelete(gateway: Gateway, question: Omit<AuthorizationQuestion, 'key'>): boolean {
  const { bucket } = question
  if (bucket === undefined || !accessOf(gateway, bucket).isKnown) return false
  // Without a policy only the bucket's list speaks, and it is the same for all keys.
  if (bucketRules(gateway.catalog).policy(bucket) !== undefined) return true
  return decide(gateway, { ...question, key: undefined })
}

export function objectAcl(record: ObjectRecord): AccessControlList {
  const stored = record.attributes.acl
  return stored === undefined ? privateAcl(record.owner) : deserializeAcl(stored)
}

/** PolicyStatus: whether strangers or every account can get at the bucket through its policy or list. */
export function isPublicBucket(gateway: Gateway, bucket: BucketRecord): boolean {
  if (!accessOf(gateway, bucket).isKnown) return false
  const rules = bucketRules(gateway.catalog)
  const block = rules.publicAccessBlock(bucket)
  const policy = rules.policy(bucket)
  if (policy !== undefined && block?.restrictPublicBuckets !== true && isPublicPolicy(policy)) return true
  if (block?.ignorePublicAcls === true || rules.ownership(bucket) === 'BucketOwnerEnforced') return false
  return isPublicAcl(rules.acl(bucket))
}

const versioned: ReadonlyMap<string, string> = new Map([
  ['s3:GetObject', 's3:GetObjectVersion'],
  ['s3:GetObjectAcl', 's3:GetObjectVersionAcl'],
  ['s3:PutObjectAcl', 's3:PutObjectVersionAcl'],
  ['s3:GetObjectTagging', 's3:GetObjectVersionTagging'],
  ['s3:PutObjectTagging', 's3:PutObjectVersionTagging'],
  ['s3:DeleteObjectTagging', 's3:DeleteObjectVersionTagging'],
  ['s3:GetObjectAttributes', 's3:GetObjectVersionAttributes'],
  ['s3:DeleteObject', 's3:DeleteObjectVersion'],
])

/** A request that names a version needs the action of versions. */
function versionedAction(question: AuthorizationQuestion): string {
  if (question.versionId === undefined) return question.action
  return versioned.get(question.action) ?? question.action
}

function findObject(
  gateway: Gateway,
  bucket: BucketRecord,
  question: AuthorizationQuestion,
): ObjectRecord | undefined {
  if (question.key === undefined) return undefined
  const version = question.versionId === undefined ? undefined : parseVersionId(question.versionId)
  if (question.versionId !== undefined && version === undefined) return undefined
  const record = question.told ?? gateway.catalog.object(bucket.id, question.key, version)
  // A current delete marker is a missing key; one that is asked for by its id is there.
  return record?.deleteMarker === true && version === undefined ? undefined : record
}

/** Whoever started an upload may list its parts and abort it. Strangers share one name: the id is their secret. */
function startedUpload(gateway: Gateway, bucket: BucketRecord, question: AuthorizationQuestion): boolean {
  const uploadId = question.request.query.get('uploadId')
  if (question.key === undefined || uploadId === undefined) return false
  const upload = gateway.catalog.upload(bucket.id, question.key, uploadId)
  return upload !== undefined && upload.initiator === initiatorOf(question.identity)
}

/** What an upload records as its initiator. */
export function initiatorOf(identity: Identity): AccountId {
  return identity.kind === 'key' ? identity.account : 'anonymous'
}

const uploadActions: ReadonlySet<string> = new Set(['s3:AbortMultipartUpload', 's3:ListMultipartUploadParts'])

const policyActions: ReadonlySet<string> = new Set([
  's3:GetBucketPolicy',
  's3:PutBucketPolicy',
  's3:DeleteBucketPolicy',
])

const readActions: ReadonlySet<string> = new Set([
  's3:GetObject',
  's3:GetObjectVersion',
  's3:GetObjectAcl',
  's3:GetObjectVersionAcl',
  's3:GetObjectTagging',
  's3:GetObjectVersionTagging',
  's3:GetObjectAttributes',
  's3:GetObjectVersionAttributes',
  's3:GetObjectRetention',
  's3:GetObjectLegalHold',
  's3:GetObjectTorrent',
])

/** Granted by the object's own list. */
const objectAclPermissions: ReadonlyMap<string, Permission> = new Map([
  ['s3:GetObject', 'READ'],
  ['s3:GetObjectVersion', 'READ'],
  ['s3:GetObjectAttributes', 'READ'],
  ['s3:GetObjectVersionAttributes', 'READ'],
  ['s3:GetObjectTorrent', 'READ'],
  ['s3:GetObjectAcl', 'READ_ACP'],
  ['s3:GetObjectVersionAcl', 'READ_ACP'],
  ['s3:PutObjectAcl', 'WRITE_ACP'],
  ['s3:PutObjectVersionAcl', 'WRITE_ACP'],
])

/** No list grants these; the owner of the object has them beside the owner of the bucket. */
const ownedObjectActions: ReadonlySet<string> = new Set([
  's3:GetObjectTagging',
  's3:GetObjectVersionTagging',
  's3:PutObjectTagging',
  's3:PutObjectVersionTagging',
  's3:DeleteObjectTagging',
  's3:DeleteObjectVersionTagging',
])

/** Granted by the bucket's list. */
const bucketAclPermissions: ReadonlyMap<string, Permission> = new Map([
  ['s3:ListBucket', 'READ'],
  ['s3:ListBucketVersions', 'READ'],
  ['s3:ListBucketMultipartUploads', 'READ'],
  ['s3:PutObject', 'WRITE'],
  ['s3:DeleteObject', 'WRITE'],
  ['s3:DeleteObjectVersion', 'WRITE'],
  ['s3:GetBucketAcl', 'READ_ACP'],
  ['s3:PutBucketAcl', 'WRITE_ACP'],
])

/** Actions on objects: their resource is `bucket/key`. Everything else is an action on the bucket. */
const objectActions: ReadonlySet<string> = new Set([
  ...readActions,
  ...objectAclPermissions.keys(),
  ...ownedObjectActions,
  's3:PutObject',
  's3:DeleteObject',
  's3:DeleteObjectVersion',
  's3:AbortMultipartUpload',
  's3:ListMultipartUploadParts',
  's3:PutObjectRetention',
  's3:PutObjectLegalHold',
  's3:BypassGovernanceRetention',
  's3:RestoreObject',
  's3:ReplicateObject',
  's3:ReplicateDelete',
])
