import type { UploadRecord } from '../../contract/object-model.ts'
import { renderOwner } from './acl-document.ts'
import { invalidArgument } from './errors.ts'
import { urlEncodeName } from './list-objects.ts'
import { uploadOf } from './multipart-upload.ts'
import type { Operation, OperationContext, S3Request } from './operation.ts'
import { bucketOf, keyOf } from './resources.ts'
import type { Route } from './route.ts'
import { document, element } from './xml.ts'

/** ListMultipartUploads and ListParts. */

const maxPage = 1000

const listParts: Operation = {
  name: 'ListParts',
  action: 's3:ListMultipartUploadParts',
  async handle(context) {
    const { gateway, request } = context
    const upload = uploadOf(context)
    const limit = countOf(request, 'max-parts', maxPage)
    const after = countOf(request, 'part-number-marker', Number.MAX_SAFE_INTEGER, 0)
    const page = gateway.catalog.parts(upload.uploadId, after, limit)
    const algorithm = upload.checksum?.algorithm
    const last = page.parts.at(-1)?.number ?? 0
    let parts = ''
    for (const part of page.parts) {
      parts += `<Part>${element('PartNumber', part.number)}${element(
        'LastModified',
        new Date(part.modifiedMs).toISOString(),
      )}${element('ETag', `"${part.etag}"`)}${element('Size', part.byteLength)}${
        algorithm === undefined ? '' : element(`Checksum${algorithm}`, part.checksum)
      }</Part>`
    }
    return {
      status: 200,
      body: document(
        'ListPartsResult',
        element('Bucket', bucketOf(context).name) +
          element('Key', keyOf(context)) +
          element('UploadId', upload.uploadId) +
          renderOwner('Initiator', upload.initiator) +
          renderOwner('Owner', upload.owner) +
          element('StorageClass', upload.attributes.storageClass) +
          element('PartNumberMarker', after) +
          element('NextPartNumberMarker', last) +
          element('MaxParts', limit) +
          element('IsTruncated', page.truncated) +
          element('ChecksumAlgorithm', algorithm) +
          element('ChecksumType', upload.checksum?.type) +
          parts,
      ),
    }
  },
}

const listMultipartUploads: Operation = {
  name: 'ListMultipartUploads',
  action: 's3:ListBucketMultipartUploads',
  async handle(context) {
    const { gateway, request } = context
    const bucket = bucketOf(context)
    const query = (name: string) => request.query.get(name) ?? ''
    const limit = countOf(request, 'max-uploads', maxPage)
    const keyMarker = query('key-marker')
    // Without a key the id says nothing, and S3 ignores it.
    const uploadIdMarker = keyMarker === '' ? undefined : request.query.get('upload-id-marker')
    const page = gateway.catalog.listUploads(bucket.id, {
      prefix: query('prefix'),
      delimiter: query('delimiter'),
      keyMarker,
      ...(uploadIdMarker === undefined || uploadIdMarker === '' ? {} : { uploadIdMarker }),
      limit,
    })
    const encode = encoderOf(context)
    return {
      status: 200,
      body: document(
        'ListMultipartUploadsResult',
        element('Bucket', bucket.name) +
          element('KeyMarker', encode(keyMarker)) +
          element('UploadIdMarker', uploadIdMarker ?? '') +
          element(
            'NextKeyMarker',
            page.nextKeyMarker === undefined ? undefined : encode(page.nextKeyMarker),
          ) +
          element('NextUploadIdMarker', page.nextUploadIdMarker) +
          (request.query.has('delimiter') ? element('Delimiter', encode(query('delimiter'))) : '') +
          element('Prefix', encode(query('prefix'))) +
          element('MaxUploads', limit) +
          element('IsTruncated', page.truncated) +
          element('EncodingType', request.query.get('encoding-type')) +
          page.uploads.map((upload) => renderUpload(upload, encode)).join('') +
          page.commonPrefixes
            .map((prefix) => `<CommonPrefixes>${element('Prefix', encode(prefix))}</CommonPrefixes>`)
            .join(''),
      ),
    }
  },
}

function renderUpload(upload: UploadRecord, encode: (text: string) => string): string {
  return `<Upload>${element('Key', encode(upload.key))}${element('UploadId', upload.uploadId)}${renderOwner(
    'Initiator',
    upload.initiator,
  )}${renderOwner('Owner', upload.owner)}${element('StorageClass', upload.attributes.storageClass)}${element(
    'Initiated',
    new Date(upload.createdMs).toISOString(),
  )}${element('ChecksumAlgorithm', upload.checksum?.algorithm)}${element('ChecksumType', upload.checksum?.type)}</Upload>`
}

function encoderOf({ request }: OperationContext): (text: string) => string {
  const type = request.query.get('encoding-type')
  if (type === undefined || type === '') return (text) => text
  if (type !== 'url')
    throw invalidArgument('Invalid Encoding Method specified in Request', 'encoding-type', type)
  return urlEncodeName
}

/** A count from the query, at most `most`. INVALID_ARGUMENT for what is not a number. */
function countOf(request: S3Request, name: string, most: number, otherwise = most): number {
  const text = request.query.get(name)
  if (text === undefined || text === '') return otherwise
  if (!/^\d{1,10}$/.test(text))
    throw invalidArgument(`Provided ${name} not an integer or within integer range`, name, text)
  return Math.min(Number(text), most)
}

export const multipartListingRoutes: readonly Route[] = [
  { level: 'object', method: 'GET', subresource: 'uploadId', operation: listParts },
  { level: 'bucket', method: 'GET', subresource: 'uploads', operation: listMultipartUploads },
]
