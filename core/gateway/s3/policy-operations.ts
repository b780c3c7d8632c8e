import { StorageError } from '../../contract/errors.ts'
import type { BucketConfigKind } from '../../contract/object-model.ts'
import { isPublicBucket } from './authorize.ts'
import { isPublicPolicy, maxPolicyBytes, parseBucketPolicy } from './bucket-policy.ts'
import { bucketRules, type PublicAccessBlock } from './bucket-rules.ts'
import { accessDenied } from './errors.ts'
import { invalidBucketAcl, isObjectOwnership } from './object-ownership.ts'
import type { Operation, OperationContext } from './operation.ts'
import { bucketOf } from './resources.ts'
import type { Route } from './route.ts'
import { document, element, parseXml } from './xml.ts'

/** Bucket policy, policy status, public access block and ownership controls. */

const maxConfigBytes = 64 * 1024

const malformedXml = (): StorageError =>
  new StorageError(
    'MALFORMED_XML',
    'The XML you provided was not well-formed or did not validate against our published schema',
  )

async function setConfig(
  context: OperationContext,
  kind: BucketConfigKind,
  value: string | null,
): Promise<void> {
  await context.gateway.catalog.submit({
    type: 'set-bucket-config',
    bucketId: bucketOf(context).id,
    kind,
    value: value === null ? null : Buffer.from(value),
  })
}

const getBucketPolicy: Operation = {
  name: 'GetBucketPolicy',
  action: 's3:GetBucketPolicy',
  async handle(context) {
    const bucket = bucketOf(context)
    const stored = context.gateway.catalog.bucketConfig(bucket.id, 'policy')
    if (stored === undefined) {
      throw new StorageError('NO_SUCH_BUCKET_POLICY', 'The bucket policy does not exist', {
        details: { BucketName: bucket.name },
      })
    }
    return {
      status: 200,
      headers: { 'content-type': 'application/json' },
      body: Buffer.from(stored).toString(),
    }
  },
}

const putBucketPolicy: Operation = {
  name: 'PutBucketPolicy',
  action: 's3:PutBucketPolicy',
  async handle(context) {
    const bucket = bucketOf(context)
    // One byte more than allowed is enough to see that a policy is too long.
    const text = await context.request.body.text(maxPolicyBytes + 1)
    const policy = parseBucketPolicy(text, bucket.name)
    const block = bucketRules(context.gateway.catalog).publicAccessBlock(bucket)
    if (block?.blockPublicPolicy === true && isPublicPolicy(policy)) throw accessDenied()
    await setConfig(context, 'policy', text)
    return { status: 204 }
  },
}

const deleteBucketPolicy: Operation = {
  name: 'DeleteBucketPolicy',
  action: 's3:DeleteBucketPolicy',
  async handle(context) {
    await setConfig(context, 'policy', null)
    return { status: 204 }
  },
}

const getBucketPolicyStatus: Operation = {
  name: 'GetBucketPolicyStatus',
  action: 's3:GetBucketPolicyStatus',
  async handle(context) {
    const isPublic = isPublicBucket(context.gateway, bucketOf(context))
    return { status: 200, body: document('PolicyStatus', element('IsPublic', isPublic)) }
  },
}

const blockFields: readonly (readonly [keyof PublicAccessBlock, string])[] = [
  ['blockPublicAcls', 'BlockPublicAcls'],
  ['ignorePublicAcls', 'IgnorePublicAcls'],
  ['blockPublicPolicy', 'BlockPublicPolicy'],
  ['restrictPublicBuckets', 'RestrictPublicBuckets'],
]

const getPublicAccessBlock: Operation = {
  name: 'GetPublicAccessBlock',
  action: 's3:GetBucketPublicAccessBlock',
  async handle(context) {
    const bucket = bucketOf(context)
    const block = bucketRules(context.gateway.catalog).publicAccessBlock(bucket)
    if (block === undefined) {
      throw new StorageError(
        'NO_SUCH_PUBLIC_ACCESS_BLOCK',
        'The public access block configuration was not found',
        { details: { BucketName: bucket.name } },
      )
    }
    const fields = blockFields.map(([field, name]) => element(name, block[field])).join('')
    return { status: 200, body: document('PublicAccessBlockConfiguration', fields) }
  },
}

const putPublicAccessBlock: Operation = {
  name: 'PutPublicAccessBlock',
  action: 's3:PutBucketPublicAccessBlock',
  async handle(context) {
    const root = parseXml(await context.request.body.text(maxConfigBytes), 'PublicAccessBlockConfiguration')
    const block: Record<string, boolean> = {}
    for (const [field, name] of blockFields) {
      const value = root.textOf(name)?.trim().toLowerCase() ?? 'false'
      if (value !== 'true' && value !== 'false') throw malformedXml()
      block[field] = value === 'true'
    }
    await setConfig(context, 'public-access-block', JSON.stringify(block))
    return { status: 200 }
  },
}

const deletePublicAccessBlock: Operation = {
  name: 'DeletePublicAccessBlock',
  action: 's3:PutBucketPublicAccessBlock',
  async handle(context) {
    await setConfig(context, 'public-access-block', null)
    return { status: 204 }
  },
}

const getOwnershipControls: Operation = {
  name: 'GetBucketOwnershipControls',
  action: 's3:GetBucketOwnershipControls',
  async handle(context) {
    const bucket = bucketOf(context)
    const ownership = bucketRules(context.gateway.catalog).ownership(bucket)
    if (ownership === undefined) {
      throw new StorageError('NO_SUCH_OWNERSHIP_CONTROLS', 'The bucket ownership controls were not found', {
        details: { BucketName: bucket.name },
      })
    }
    return {
      status: 200,
      body: document('OwnershipControls', `<Rule>${element('ObjectOwnership', ownership)}</Rule>`),
    }
  },
}

const putOwnershipControls: Operation = {
  name: 'PutBucketOwnershipControls',
  action: 's3:PutBucketOwnershipControls',
  async handle(context) {
    const bucket = bucketOf(context)
    const root = parseXml(await context.request.body.text(maxConfigBytes), 'OwnershipControls')
    const rules = root.all('Rule')
    const ownership = rules[0]?.textOf('ObjectOwnership')?.trim()
    if (rules.length !== 1 || ownership === undefined || !isObjectOwnership(ownership)) throw malformedXml()
    if (ownership === 'BucketOwnerEnforced') {
      // Turning lists off must not silently take away what a list gives to others.
      const { grants } = bucketRules(context.gateway.catalog).acl(bucket)
      const onlyOwner = grants.every(
        ({ grantee }) => grantee.kind === 'account' && grantee.account === bucket.owner,
      )
      if (!onlyOwner) throw invalidBucketAcl()
    }
    await setConfig(context, 'ownership', ownership)
    return { status: 200 }
  },
}

const deleteOwnershipControls: Operation = {
  name: 'DeleteBucketOwnershipControls',
  action: 's3:PutBucketOwnershipControls',
  async handle(context) {
    await setConfig(context, 'ownership', null)
    return { status: 204 }
  },
}

export const policyRoutes: readonly Route[] = [
  { level: 'bucket', method: 'GET', subresource: 'policy', operation: getBucketPolicy },
  { level: 'bucket', method: 'PUT', subresource: 'policy', operation: putBucketPolicy },
  { level: 'bucket', method: 'DELETE', subresource: 'policy', operation: deleteBucketPolicy },
  { level: 'bucket', method: 'GET', subresource: 'policyStatus', operation: getBucketPolicyStatus },
  { level: 'bucket', method: 'GET', subresource: 'publicAccessBlock', operation: getPublicAccessBlock },
  { level: 'bucket', method: 'PUT', subresource: 'publicAccessBlock', operation: putPublicAccessBlock },
  { level: 'bucket', method: 'DELETE', subresource: 'publicAccessBlock', operation: deletePublicAccessBlock },
  { level: 'bucket', method: 'GET', subresource: 'ownershipControls', operation: getOwnershipControls },
  { level: 'bucket', method: 'PUT', subresource: 'ownershipControls', operation: putOwnershipControls },
  { level: 'bucket', method: 'DELETE', subresource: 'ownershipControls', operation: deleteOwnershipControls },
]
