import { StorageError } from '../../contract/errors.ts'
import type { BucketRecord } from '../../contract/object-model.ts'
import { renderOwner } from './acl-document.ts'
import { accessDenied, invalidArgument, notImplemented } from './errors.ts'
import { decodeToken, encodeToken, listObjects, listObjectsV2, listObjectVersions } from './list-objects.ts'
import { newBucketConfigs } from './object-ownership.ts'
import type { Gateway, Operation, OperationContext } from './operation.ts'
import { bucketOf } from './resources.ts'
import type { Route } from './route.ts'
import { bucketTagLimits, parseTags, type TagSet } from './tag-set.ts'
import { document, element, escapeXml, maxDocumentBytes, parseXml } from './xml.ts'

/** Buckets themselves. */

const createBucket: Operation = {
  name: 'CreateBucket',
  action: 's3:CreateBucket',
  bucketOptional: true,
  async handle(context) {
    const { request, gateway, identity } = context
    const name = request.bucketName ?? ''
    if (identity.kind !== 'key') throw accessDenied()
    if (request.header('x-amz-bucket-object-lock-enabled')?.toLowerCase() === 'true') {
      throw notImplemented('x-amz-bucket-object-lock-enabled')
    }
    const tags = parseConfiguration(await request.body.text(maxDocumentBytes), gateway.config.region)
    const configs = {
      ...newBucketConfigs(gateway, identity.account, (header) => request.header(header)),
      ...(tags.size === 0 ? {} : { tagging: Buffer.from(JSON.stringify([...tags])) }),
    }
    try {
      await gateway.catalog.submit({ type: 'create-bucket', name, owner: identity.account, configs })
    } catch (reason) {
      if (!(reason instanceof StorageError) || reason.code !== 'BUCKET_ALREADY_OWNED_BY_YOU') throw reason
      // Making one's own bucket again is no error in us-east-1, and changes nothing here: neither its objects nor its rules.
      if (!sameConfigs(gateway, name, configs)) {
        throw new StorageError(
          'BUCKET_ALREADY_EXISTS',
          'The requested bucket name is not available: you own it, with other settings.',
          { details: { BucketName: name } },
        )
      }
    }
    return { status: 200, headers: { location: `/${name}` } }
  },
}

/**
 * The tags of the new bucket; LocationConstraint names this region or nothing. MALFORMED_XML, INVALID_LOCATION_CONSTRAINT,
 * INVALID_TAG.
 */
function parseConfiguration(text: string, region: string): TagSet {
  if (text.trim() === '') return new Map()
  const configuration = parseXml(text, 'CreateBucketConfiguration')
  const location = configuration.textOf('LocationConstraint')?.trim() ?? ''
  if (location !== '' && location !== region) {
    throw new StorageError('INVALID_LOCATION_CONSTRAINT', 'The specified location-constraint is not valid', {
      details: { LocationConstraint: location },
    })
  }
  const tags = configuration.child('Tags')
  return tags === undefined ? new Map() : parseTags(tags, bucketTagLimits)
}

function sameConfigs(gateway: Gateway, name: string, configs: ReturnType<typeof newBucketConfigs>): boolean {
  const bucket = gateway.catalog.bucket(name)
  if (bucket === undefined) return false
  for (const kind of ['acl', 'ownership', 'tagging'] as const) {
    const stored = gateway.catalog.bucketConfig(bucket.id, kind)
    const given = configs[kind]
    // Who names no tags has none to differ.
    if (kind === 'tagging' && given === undefined) continue
    if (
      stored === undefined ? given !== undefined : given === undefined || !Buffer.from(stored).equals(given)
    ) {
      return false
    }
  }
  return true
}

const deleteBucket: Operation = {
  name: 'DeleteBucket',
  action: 's3:DeleteBucket',
  async handle(context) {
    const { catalog } = context.gateway
    const command = { type: 'delete-bucket', name: bucketOf(context).name } as const
    // Each round aborts some of the uploads in progress; an object that appears meanwhile ends it with BucketNotEmpty.
    for (let deleted = false; !deleted; ) ({ deleted } = await catalog.submit(command))
    return { status: 204 }
  },
}

const headBucket: Operation = {
  name: 'HeadBucket',
  action: 's3:ListBucket',
  async handle(context) {
    return {
      status: 200,
      headers: {
        'x-amz-bucket-region': context.gateway.config.region,
        'x-amz-access-point-alias': 'false',
        'content-type': 'application/xml',
      },
    }
  },
}

const getBucketLocation: Operation = {
  name: 'GetBucketLocation',
  action: 's3:GetBucketLocation',
  async handle(context) {
    const { region } = context.gateway.config
    // The oldest region of S3 has no name here.
    return {
      status: 200,
      body: document('LocationConstraint', region === 'us-east-1' ? '' : escapeXml(region)),
    }
  },
}

/** Of one answer, as in S3. */
const maxBucketsPerPage = 10_000

const listBuckets: Operation = {
  name: 'ListBuckets',
  action: null,
  listsBuckets: true,
  async handle(context) {
    const { request, gateway, identity } = context
    if (identity.kind !== 'key') throw accessDenied()
    const limit = parseMaxBuckets(request.query.get('max-buckets'))
    const token = request.query.get('continuation-token')
    const prefix = request.query.get('prefix') ?? ''
    const wantedRegion = request.query.get('bucket-region')
    const { buckets, next } =
      wantedRegion === undefined || wantedRegion === gateway.config.region
        ? pageOfBuckets(context, identity.account, prefix, token, limit)
        : { buckets: [], next: undefined }
    const body =
      renderOwner('Owner', identity.account) +
      `<Buckets>${buckets.map((bucket) => renderBucket(bucket, gateway.config.region)).join('')}</Buckets>` +
      (next === undefined ? '' : element('ContinuationToken', encodeToken(next))) +
      (prefix === '' ? '' : element('Prefix', prefix))
    return { status: 200, body: document('ListAllMyBucketsResult', body) }
  },
}

function parseMaxBuckets(text: string | undefined): number {
  if (text === undefined) return maxBucketsPerPage
  const value = /^\d{1,5}$/.test(text) ? Number(text) : 0
  if (value < 1 || value > maxBucketsPerPage) {
    throw invalidArgument(
      `Argument max-buckets must be an integer between 1 and ${maxBucketsPerPage}`,
      'max-buckets',
      text,
    )
  }
  return value
}

/** The account's own buckets, ascending by name. */
function pageOfBuckets(
  context: OperationContext,
  account: string,
  prefix: string,
  token: string | undefined,
  limit: number,
): { buckets: readonly BucketRecord[]; next: string | undefined } {
  const { catalog } = context.gateway
  const buckets: BucketRecord[] = []
  let after = token === undefined || token === '' ? undefined : decodeToken(token)
  for (;;) {
    const batch = catalog.buckets(after, 1000)
    for (const bucket of batch) {
      if (bucket.owner !== account || !bucket.name.startsWith(prefix)) continue
      // One more than the page tells that there is a next one.
      if (buckets.length === limit) return { buckets, next: buckets.at(-1)?.name }
      buckets.push(bucket)
    }
    const last = batch.at(-1)
    if (last === undefined || batch.length < 1000) return { buckets, next: undefined }
    after = last.name
  }
}

function renderBucket(bucket: BucketRecord, region: string): string {
  return (
    `<Bucket>${element('Name', bucket.name)}${element('CreationDate', new Date(bucket.createdMs).toISOString())}` +
    `${element('BucketRegion', region)}</Bucket>`
  )
}

export const bucketRoutes: readonly Route[] = [
  { level: 'service', method: 'GET', operation: listBuckets },
  { level: 'bucket', method: 'PUT', operation: createBucket },
  { level: 'bucket', method: 'DELETE', operation: deleteBucket },
  { level: 'bucket', method: 'HEAD', operation: headBucket },
  { level: 'bucket', method: 'GET', operation: listObjects },
  { level: 'bucket', method: 'GET', subresource: 'list-type', operation: listObjectsV2 },
  { level: 'bucket', method: 'GET', subresource: 'versions', operation: listObjectVersions },
  { level: 'bucket', method: 'GET', subresource: 'location', operation: getBucketLocation },
]
