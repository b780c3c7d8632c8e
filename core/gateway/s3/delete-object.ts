import type { DeleteItem, DeleteOutcome, OutboxPlace } from '../../contract/catalog.ts'
import { errorCodes, StorageError } from '../../contract/errors.ts'
import type { BucketRecord } from '../../contract/object-model.ts'
import { initiatorOf, mayStrangersDelete } from './authorize.ts'
import { accessDenied } from './errors.ts'
import { idempotencyOf } from './idempotency-key.ts'
import type { Operation, OperationContext, S3Request } from './operation.ts'
import { deletePreconditions, parseEntityTags, parseSize, parseTime } from './preconditions.ts'
import { bucketOf, keyOf, versionOf } from './resources.ts'
import { formatVersionId, parseVersionId } from './version-id.ts'
import { document, element, parseXml, type XmlElement } from './xml.ts'

export const deleteObject: Operation = {
  name: 'DeleteObject',
  action: deleteAction,
  async handle(context) {
    const { request, gateway } = context
    const bucket = bucketOf(context)
    const version = versionOf(context)
    const preconditions = deletePreconditions(request)
    const item: DeleteItem = {
      key: keyOf(context),
      ...(version === undefined ? {} : { version }),
      ...(preconditions === undefined ? {} : { preconditions }),
    }
    const idempotency = idempotencyOf(context)?.('')
    const { outcomes, place } = await gateway.catalog.submit({
      type: 'delete-objects',
      bucketId: bucket.id,
      items: [item],
      owner: initiatorOf(context.identity),
      ...(idempotency === undefined ? {} : { idempotency }),
    })
    const outcome = outcomes[0]
    if (outcome === undefined) throw new StorageError('INTERNAL', 'a delete had no outcome')
    if (outcome.error !== undefined) throw outcome.error
    const headers: Record<string, string> = {}
    if (outcome.deleteMarker) headers['x-amz-delete-marker'] = 'true'
    if (outcome.versionId !== undefined && bucket.versioning !== 'off') {
      headers['x-amz-version-id'] = formatVersionId(outcome.versionId)
    }
    return { status: 204, headers, place }
  },
}

function deleteAction(request: S3Request): string {
  return request.query.has('versionId') ? 's3:DeleteObjectVersion' : 's3:DeleteObject'
}

/** Of one request, as in S3. */
const maxDeleteItems = 1000
/** A thousand keys of 1024 bytes with room for their elements. */
const maxDeleteDocumentBytes = 2 * 1024 * 1024

export const deleteObjects: Operation = {
  name: 'DeleteObjects',
  // Each key is judged by itself: a policy may allow some of them.
  action: null,
  anonymousAllowed: true,
  async handle(context) {
    const { request, gateway } = context
    const bucket = bucketOf(context)
    refuseStranger(context, bucket)
    requireIntegrity(request)
    const text = await request.body.text(maxDeleteDocumentBytes)
    const root = parseXml(text, 'Delete', maxDeleteDocumentBytes)
    const objects = root.all('Object')
    if (objects.length === 0 || objects.length > maxDeleteItems) throw malformed()
    const quiet = root.textOf('Quiet')?.trim() === 'true'

    const results: string[] = new Array<string>(objects.length).fill('')
    const items: DeleteItem[] = []
    const places: number[] = []
    let written: OutboxPlace | undefined
    for (const [index, object] of objects.entries()) {
      const key = object.textOf('Key')
      if (key === undefined || key === '') throw malformed()
      const version = object.textOf('VersionId')
      try {
        items.push(checkedItem(context, bucket, object, key, version))
        places.push(index)
      } catch (reason) {
        results[index] = renderError(key, version, StorageError.from(reason))
      }
    }
    if (items.length > 0) {
      // With what may be deleted: an answer to some of them is none to others.
      const idempotency = idempotencyOf(context)?.(`${places.join()} ${text}`)
      const { outcomes, place: at } = await gateway.catalog.submit({
        type: 'delete-objects',
        bucketId: bucket.id,
        items,
        owner: initiatorOf(context.identity),
        ...(idempotency === undefined ? {} : { idempotency }),
      })
      written = at
      for (const [index, outcome] of outcomes.entries()) {
        const place = places[index] ?? 0
        const version = objects[place]?.textOf('VersionId')
        results[place] =
          outcome.error === undefined
            ? quiet
              ? ''
              : renderDeleted(outcome, version, bucket)
            : renderError(outcome.key, version, outcome.error)
      }
    }
    return { status: 200, place: written, body: document('DeleteResult', results.join('')) }
  },
}

/** ACCESS_DENIED: of what strangers may in no case, not even the list is read. */
function refuseStranger({ request, identity, gateway }: OperationContext, bucket: BucketRecord): void {
  if (identity.kind !== 'anonymous') return
  const question = { request, identity, action: 's3:DeleteObject', bucket, versionId: undefined }
  if (!mayStrangersDelete(gateway, question)) throw accessDenied()
}

function checkedItem(
  context: OperationContext,
  bucket: BucketRecord,
  object: XmlElement,
  key: string,
  versionText: string | undefined,
): DeleteItem {
  if (Buffer.byteLength(key) > 1024) throw new StorageError('KEY_TOO_LONG', 'Your key is too long')
  const version = versionText === undefined ? undefined : parseVersionId(versionText)
  if (versionText !== undefined && version === undefined) {
    throw new StorageError('NO_SUCH_VERSION', 'The specified version does not exist.')
  }
  context.authorize(
    version === undefined ? 's3:DeleteObject' : 's3:DeleteObjectVersion',
    bucket,
    key,
    versionText,
  )
  const etag = object.textOf('ETag')
  const size = object.textOf('Size')
  const modified = object.textOf('LastModifiedTime')
  const item: DeleteItem = version === undefined ? { key } : { key, version }
  if (etag === undefined && size === undefined && modified === undefined) return item
  return {
    ...item,
    preconditions: {
      ...(etag === undefined ? {} : { ifMatch: parseEntityTags(etag) }),
      ...(size === undefined ? {} : { ifMatchSize: parseSize(size, 'Size') }),
      ...(modified === undefined ? {} : { ifMatchModifiedMs: parseTime(modified, 'LastModifiedTime') }),
    },
  }
}

/** A flipped bit in this document deletes the wrong key, so something must vouch for it. */
function requireIntegrity(request: S3Request): void {
  if (request.headers['content-md5'] !== undefined || request.body.payloadSha256 !== undefined) return
  if (request.headers['x-amz-trailer'] !== undefined) return
  for (const name in request.headers) if (name.startsWith('x-amz-checksum-')) return
  throw new StorageError('INVALID_REQUEST', 'Missing required header for this request: Content-MD5')
}

function renderDeleted(outcome: DeleteOutcome, version: string | undefined, bucket: BucketRecord): string {
  let text = element('Key', outcome.key)
  if (version !== undefined) text += element('VersionId', version)
  if (outcome.deleteMarker) {
    text += '<DeleteMarker>true</DeleteMarker>'
    if (outcome.versionId !== undefined && bucket.versioning !== 'off') {
      text += element('DeleteMarkerVersionId', formatVersionId(outcome.versionId))
    }
  }
  return `<Deleted>${text}</Deleted>`
}

function renderError(key: string, version: string | undefined, error: StorageError): string {
  const { s3, http } = errorCodes[error.code]
  const message = http === 500 ? 'We encountered an internal error. Please try again.' : error.reason
  return `<Error>${element('Key', key)}${element('VersionId', version)}${element('Code', s3)}${element('Message', message)}</Error>`
}

const malformed = (): StorageError =>
  new StorageError(
    'MALFORMED_XML',
    'The XML you provided was not well-formed or did not validate against our published schema',
  )
