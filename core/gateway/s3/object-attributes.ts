import { StorageError } from '../../contract/errors.ts'
import type { ObjectRecord } from '../../contract/object-model.ts'
import { invalidArgument } from './errors.ts'
import { httpDate } from './object-headers.ts'
import type { Operation, S3Request } from './operation.ts'
import { bucketOf, objectOf, shownVersion } from './resources.ts'
import type { Route } from './route.ts'
import { document, element } from './xml.ts'

/** GetObjectAttributes: what is known about an object without its bytes. */

const known = new Set(['ETag', 'Checksum', 'ObjectParts', 'StorageClass', 'ObjectSize'])
const maxPartsPage = 1000

const getObjectAttributes: Operation = {
  name: 'GetObjectAttributes',
  action: 's3:GetObjectAttributes',
  async handle(context) {
    const { request } = context
    const record = objectOf(context)
    const wanted = new Set(
      (request.header('x-amz-object-attributes') ?? '')
        .split(',')
        .map((name) => name.trim())
        .filter((name) => name !== ''),
    )
    if (wanted.size === 0) {
      throw new StorageError(
        'INVALID_REQUEST',
        'The x-amz-object-attributes header specifying the attributes to be retrieved is either missing or empty',
      )
    }
    for (const name of wanted) {
      if (!known.has(name))
        throw invalidArgument('Invalid attribute name specified.', 'x-amz-object-attributes', name)
    }
    const { checksum } = record
    const version = shownVersion(bucketOf(context), record)
    return {
      status: 200,
      headers: {
        'last-modified': httpDate(record.modifiedMs),
        ...(version === undefined ? {} : { 'x-amz-version-id': version }),
      },
      body: document(
        'GetObjectAttributesResponse',
        (wanted.has('ETag') ? element('ETag', record.etag) : '') +
          (wanted.has('Checksum') && checksum !== undefined
            ? `<Checksum>${element(`Checksum${checksum.algorithm}`, checksum.value)}${element('ChecksumType', checksum.type)}</Checksum>`
            : '') +
          (wanted.has('ObjectParts') ? renderParts(request, record) : '') +
          (wanted.has('StorageClass') ? element('StorageClass', record.attributes.storageClass) : '') +
          (wanted.has('ObjectSize') ? element('ObjectSize', record.byteLength) : ''),
      ),
    }
  },
}

function renderParts(request: S3Request, record: ObjectRecord): string {
  const { parts, checksum } = record
  if (parts === undefined) return ''
  const limit = Math.min(numberOf(request, 'x-amz-max-parts', maxPartsPage), maxPartsPage)
  const marker = numberOf(request, 'x-amz-part-number-marker', 0)
  const rest = parts.filter((part) => part.number > marker)
  const page = rest.slice(0, limit)
  const rows = page
    .map(
      (part) =>
        `<Part>${element('PartNumber', part.number)}${element('Size', part.byteLength)}${
          checksum === undefined ? '' : element(`Checksum${checksum.algorithm}`, part.checksum)
        }</Part>`,
    )
    .join('')
  return `<ObjectParts>${element('PartsCount', parts.length)}${element('PartNumberMarker', marker)}${element(
    'NextPartNumberMarker',
    page.at(-1)?.number ?? marker,
  )}${element('MaxParts', limit)}${element('IsTruncated', rest.length > page.length)}${rows}</ObjectParts>`
}

function numberOf(request: S3Request, name: string, otherwise: number): number {
  const text = request.header(name)
  if (text === undefined) return otherwise
  if (!/^\d{1,9}$/.test(text)) throw invalidArgument(`Invalid ${name}`, name, text)
  return Number(text)
}

export const objectAttributesRoutes: readonly Route[] = [
  { level: 'object', method: 'GET', subresource: 'attributes', operation: getObjectAttributes },
]
