import { StorageError } from '../../contract/errors.ts'
import { knownAccounts } from './accounts.ts'
import {
  type AccessControlList,
  type AclOwners,
  isPublicAcl,
  privateAcl,
  readAclHeaders,
  serializeAcl,
} from './acl.ts'
import { parseAclDocument, renderAcl } from './acl-document.ts'
import { objectAcl } from './authorize.ts'
import { bucketRules } from './bucket-rules.ts'
import { accessDenied } from './errors.ts'
import { changeJudged, readBeforeChange } from './judged-change.ts'
import { aclNotSupported } from './object-ownership.ts'
import type { Operation, OperationContext, S3Response } from './operation.ts'
import { bucketOf, objectOf, shownVersion } from './resources.ts'
import type { Route } from './route.ts'

/** Room for a hundred grants with long names. */
const maxAclDocumentBytes = 128 * 1024

const getBucketAcl: Operation = {
  name: 'GetBucketAcl',
  action: 's3:GetBucketAcl',
  async handle(context) {
    const bucket = bucketOf(context)
    const rules = bucketRules(context.gateway.catalog)
    const enforced = rules.ownership(bucket) === 'BucketOwnerEnforced'
    return {
      status: 200,
      body: renderAcl(bucket.owner, enforced ? privateAcl(bucket.owner) : rules.acl(bucket)),
    }
  },
}

const putBucketAcl: Operation = {
  name: 'PutBucketAcl',
  action: 's3:PutBucketAcl',
  async handle(context) {
    const bucket = bucketOf(context)
    checkListsApply(context)
    const text = await context.request.body.text(maxAclDocumentBytes)
    const acl = requestedAcl(context, { owner: bucket.owner, bucketOwner: bucket.owner }, text)
    await context.gateway.catalog.submit({
      type: 'set-bucket-config',
      bucketId: bucket.id,
      kind: 'acl',
      value: Buffer.from(serializeAcl(acl)),
    })
    return { status: 200 }
  },
}

const getObjectAcl: Operation = {
  name: 'GetObjectAcl',
  action: 's3:GetObjectAcl',
  async handle(context) {
    const bucket = bucketOf(context)
    const record = objectOf(context)
    const enforced = bucketRules(context.gateway.catalog).ownership(bucket) === 'BucketOwnerEnforced'
    const owner = enforced ? bucket.owner : record.owner
    return withVersion(shownVersion(bucket, record), {
      status: 200,
      body: renderAcl(owner, enforced ? privateAcl(owner) : objectAcl(record)),
    })
  },
}

const putObjectAcl: Operation = {
  name: 'PutObjectAcl',
  action: 's3:PutObjectAcl',
  async handle(context) {
    const bucket = bucketOf(context)
    // What is missing, or takes no list, is told before the body is read.
    objectOf(context)
    checkListsApply(context)
    const text = await readBeforeChange(context, maxAclDocumentBytes)
    return changeJudged(context, 's3:PutObjectAcl', async (object, record) => {
      const acl = requestedAcl(context, { owner: record.owner, bucketOwner: bucket.owner }, text)
      const { place } = await context.gateway.catalog.submit({
        type: 'set-object-acl',
        ...object,
        acl: serializeAcl(acl),
      })
      return withVersion(shownVersion(bucket, record), { status: 200, place })
    })
  },
}

function withVersion(version: string | undefined, response: S3Response): S3Response {
  return version === undefined ? response : { ...response, headers: { 'x-amz-version-id': version } }
}

function checkListsApply(context: OperationContext): void {
  const ownership = bucketRules(context.gateway.catalog).ownership(bucketOf(context))
  if (ownership === 'BucketOwnerEnforced') throw aclNotSupported()
}

/** From headers or the text of the body, judged by ownership controls and the public access block. */
function requestedAcl(context: OperationContext, owners: AclOwners, text: string): AccessControlList {
  const { gateway, request } = context
  const bucket = bucketOf(context)
  const rules = bucketRules(gateway.catalog)
  checkListsApply(context)
  const known = knownAccounts(gateway)
  const headers = readAclHeaders((name) => request.header(name), owners, known)
  if (headers.kind !== 'none' && text !== '') {
    throw new StorageError('INVALID_REQUEST', 'This request does not support content')
  }
  if (headers.kind === 'none' && text === '') {
    throw new StorageError('INVALID_REQUEST', 'Your request was missing a required header', {
      details: { MissingHeaderName: 'x-amz-acl' },
    })
  }
  const acl = headers.kind === 'none' ? parseAclDocument(text, owners, known) : headers.acl
  if (isPublicAcl(acl) && rules.publicAccessBlock(bucket)?.blockPublicAcls === true) throw accessDenied()
  return acl
}

export const aclRoutes: readonly Route[] = [
  { level: 'bucket', method: 'GET', subresource: 'acl', operation: getBucketAcl },
  { level: 'bucket', method: 'PUT', subresource: 'acl', operation: putBucketAcl },
  { level: 'object', method: 'GET', subresource: 'acl', operation: getObjectAcl },
  { level: 'object', method: 'PUT', subresource: 'acl', operation: putObjectAcl },
]
