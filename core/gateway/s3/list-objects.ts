import type { ListQuery, ObjectListing } from '../../contract/catalog.ts'
import { StorageError } from '../../contract/errors.ts'
import type { AccountId, BucketRecord, ObjectSummary } from '../../contract/object-model.ts'
import { renderOwner } from './acl-document.ts'
import { encodeRfc3986 } from './authenticate/canonical.ts'
import { edgeHeaders } from './edge-reads.ts'
import { invalidArgument } from './errors.ts'
import type { Operation, OperationContext, S3Request } from './operation.ts'
import { bucketOf } from './resources.ts'
import { formatVersionId, parseVersionId } from './version-id.ts'
import { document, element, escapeXml } from './xml.ts'

/** ListObjects, ListObjectsV2 and ListObjectVersions. */

const defaultMaxKeys = 1000

interface ListParameters {
  readonly prefix: string
  readonly delimiter: string
  readonly maxKeys: number
  /** For names in the answer. */
  readonly encode: (name: string) => string
  readonly encodingType: string | undefined
}

/** INVALID_ARGUMENT. */
function listParameters(request: S3Request): ListParameters {
  const { query } = request
  const encodingType = query.get('encoding-type')
  if (encodingType !== undefined && encodingType !== 'url') {
    throw invalidArgument('Invalid Encoding Method specified in Request', 'encoding-type', encodingType)
  }
  return {
    prefix: query.get('prefix') ?? '',
    delimiter: query.get('delimiter') ?? '',
    maxKeys: parseMaxKeys(query.get('max-keys'), 'max-keys', 0),
    encode: encodingType === undefined ? escapeXml : urlEncodeName,
    encodingType,
  }
}

/** Absent or empty: a thousand. More than a thousand is a thousand. */
export function parseMaxKeys(text: string | undefined, name: string, least: number): number {
  if (text === undefined || text === '') return defaultMaxKeys
  if (!/^[+-]?\d{1,10}$/.test(text))
    throw invalidArgument(`Provided ${name} not an integer or within integer range`, name, text)
  const value = Number(text)
  if (value < least || value > 0x7fff_ffff) {
    throw invalidArgument(`Argument ${name} must be an integer between ${least} and 2147483647`, name, text)
  }
  return Math.min(value, defaultMaxKeys)
}

/** `encoding-type=url`: every byte but the unreserved ones and the slash. */
export const urlEncodeName = (name: string): string => encodeRfc3986(name).replaceAll('%2F', '/')

/** At an edge: what its hub has, with what it has not got yet. */
async function pageOf(
  { gateway, request }: OperationContext,
  bucket: BucketRecord,
  query: ListQuery,
): Promise<{ readonly page: ObjectListing; readonly headers: Readonly<Record<string, string>> }> {
  const edge = bucket.replicated === true ? gateway.replication?.edge : undefined
  const merged = await edge?.list(bucket.id, query, request.signal)
  if (merged === undefined) return { page: gateway.catalog.listObjects(bucket.id, query), headers: {} }
  const fields = edgeHeaders(merged)
  const headers: Record<string, string> = {}
  for (let at = 0; at + 1 < fields.length; at += 2) headers[fields[at] ?? ''] = fields[at + 1] ?? ''
  return { page: merged.page, headers }
}

export const listObjects: Operation = {
  name: 'ListObjects',
  action: 's3:ListBucket',
  async handle(context) {
    const bucket = bucketOf(context)
    const list = listParameters(context.request)
    const marker = context.request.query.get('marker') ?? ''
    const { page, headers } = await pageOf(context, bucket, {
      prefix: list.prefix,
      delimiter: list.delimiter,
      after: marker,
      limit: list.maxKeys,
    })
    const body =
      element('Name', bucket.name) +
      // Version 1 does not encode its prefix, and clients know: they decode everything else.
      `${element('Prefix', list.prefix)}<Marker>${list.encode(marker)}</Marker>` +
      // Without a delimiter the last key is the next marker, and S3 does not repeat it.
      (page.truncated && page.next !== undefined && list.delimiter !== ''
        ? `<NextMarker>${list.encode(page.next)}</NextMarker>`
        : '') +
      renderCommon(list, page.truncated) +
      renderContents(page.objects, list.encode, true) +
      renderPrefixes(page.commonPrefixes, list.encode)
    return { status: 200, headers, body: document('ListBucketResult', body) }
  },
}

export const listObjectsV2: Operation = {
  name: 'ListObjectsV2',
  action: 's3:ListBucket',
  async handle(context) {
    const { query } = context.request
    const listType = query.get('list-type') ?? ''
    if (listType !== '2')
      throw invalidArgument('Invalid List Type specified in Request', 'list-type', listType)
    const bucket = bucketOf(context)
    const list = listParameters(context.request)
    const token = query.get('continuation-token')
    const startAfter = query.get('start-after')
    const after = token === undefined || token === '' ? (startAfter ?? '') : decodeToken(token)
    const { page, headers } = await pageOf(context, bucket, {
      prefix: list.prefix,
      delimiter: list.delimiter,
      after,
      limit: list.maxKeys,
    })
    const body =
      element('Name', bucket.name) +
      `<Prefix>${list.encode(list.prefix)}</Prefix>` +
      element('ContinuationToken', token) +
      (page.truncated && page.next !== undefined
        ? element('NextContinuationToken', encodeToken(page.next))
        : '') +
      (startAfter === undefined ? '' : `<StartAfter>${list.encode(startAfter)}</StartAfter>`) +
      element('KeyCount', page.objects.length + page.commonPrefixes.length) +
      renderCommon(list, page.truncated) +
      renderContents(page.objects, list.encode, query.get('fetch-owner') === 'true') +
      renderPrefixes(page.commonPrefixes, list.encode)
    return { status: 200, headers, body: document('ListBucketResult', body) }
  },
}

export const listObjectVersions: Operation = {
  name: 'ListObjectVersions',
  action: 's3:ListBucketVersions',
  async handle(context) {
    const { query } = context.request
    const bucket = bucketOf(context)
    const list = listParameters(context.request)
    const keyMarker = query.get('key-marker') ?? ''
    const versionText = query.get('version-id-marker')
    if (versionText !== undefined && versionText !== '' && keyMarker === '') {
      throw invalidArgument(
        'A version-id marker cannot be specified without a key marker.',
        'version-id-marker',
        versionText,
      )
    }
    const versionMarker =
      versionText === undefined || versionText === '' ? undefined : parseVersionId(versionText)
    if (versionMarker === undefined && versionText !== undefined && versionText !== '') {
      throw invalidArgument('Invalid version id specified', 'version-id-marker', versionText)
    }
    const page = context.gateway.catalog.listVersions(bucket.id, {
      prefix: list.prefix,
      delimiter: list.delimiter,
      limit: list.maxKeys,
      keyMarker,
      ...(versionMarker === undefined ? {} : { versionMarker }),
    })
    const body =
      element('Name', bucket.name) +
      `<Prefix>${list.encode(list.prefix)}</Prefix><KeyMarker>${list.encode(keyMarker)}</KeyMarker>` +
      element('VersionIdMarker', versionText ?? '') +
      (page.nextKeyMarker === undefined
        ? ''
        : `<NextKeyMarker>${list.encode(page.nextKeyMarker)}</NextKeyMarker>`) +
      (page.nextVersionMarker === undefined
        ? ''
        : element('NextVersionIdMarker', formatVersionId(page.nextVersionMarker))) +
      renderCommon(list, page.truncated) +
      page.versions.map((summary) => renderVersion(summary, list.encode)).join('') +
      renderPrefixes(page.commonPrefixes, list.encode)
    return { status: 200, body: document('ListVersionsResult', body) }
  },
}

function renderCommon(list: ListParameters, truncated: boolean): string {
  return (
    element('MaxKeys', list.maxKeys) +
    (list.delimiter === '' ? '' : `<Delimiter>${list.encode(list.delimiter)}</Delimiter>`) +
    element('EncodingType', list.encodingType) +
    element('IsTruncated', truncated)
  )
}

function renderPrefixes(prefixes: readonly string[], encode: (name: string) => string): string {
  let text = ''
  for (const prefix of prefixes) {
    text += `<CommonPrefixes><Prefix>${encode(prefix)}</Prefix></CommonPrefixes>`
  }
  return text
}

function renderContents(
  objects: readonly ObjectSummary[],
  encode: (name: string) => string,
  withOwner: boolean,
): string {
  let text = ''
  const owner = ownerRenderer()
  for (const object of objects) {
    text +=
      `<Contents><Key>${encode(object.key)}</Key>${renderFacts(object)}` +
      `${withOwner ? owner(object.owner) : ''}</Contents>`
  }
  return text
}

function renderVersion(summary: ObjectSummary, encode: (name: string) => string): string {
  const name = summary.deleteMarker ? 'DeleteMarker' : 'Version'
  const version = summary.isNull ? 'null' : formatVersionId(summary.versionId)
  const facts = summary.deleteMarker
    ? element('LastModified', isoDate(summary.modifiedMs))
    : renderFacts(summary)
  return (
    `<${name}><Key>${encode(summary.key)}</Key><VersionId>${version}</VersionId>` +
    `<IsLatest>${summary.isLatest}</IsLatest>${facts}${renderOwner('Owner', summary.owner)}</${name}>`
  )
}

function renderFacts(object: ObjectSummary): string {
  const checksum =
    object.checksum === undefined
      ? ''
      : `<ChecksumAlgorithm>${object.checksum.algorithm}</ChecksumAlgorithm><ChecksumType>${object.checksum.type}</ChecksumType>`
  return (
    `<LastModified>${isoDate(object.modifiedMs)}</LastModified><ETag>&quot;${object.etag}&quot;</ETag>${checksum}` +
    `<Size>${object.byteLength}</Size><StorageClass>${object.storageClass}</StorageClass>`
  )
}

/** Most objects of a page have one owner. */
function ownerRenderer(): (account: AccountId) => string {
  let last: AccountId | undefined
  let text = ''
  return (account) => {
    if (account !== last) {
      last = account
      text = renderOwner('Owner', account)
    }
    return text
  }
}

let dayStartMs = Number.NaN
let dayText = ''

const two = (value: number): string => (value < 10 ? `0${value}` : `${value}`)

/** ISO 8601 with milliseconds. Objects of a page are mostly of one day, and `toISOString` is half of a listing's time. */
export function isoDate(ms: number): string {
  const ofDay = ms - dayStartMs
  if (!(ofDay >= 0 && ofDay < 86_400_000)) {
    dayStartMs = Math.floor(ms / 86_400_000) * 86_400_000
    dayText = new Date(dayStartMs).toISOString().slice(0, 11)
    return isoDate(ms)
  }
  const milli = ofDay % 1000
  const second = Math.floor(ofDay / 1000)
  const minute = Math.floor(second / 60)
  return (
    `${dayText}${two(Math.floor(minute / 60))}:${two(minute % 60)}:${two(second % 60)}.` +
    `${milli < 10 ? '00' : milli < 100 ? '0' : ''}${milli}Z`
  )
}

const tokenVersion = '1'

/** Opaque to clients: a version and the last key or prefix of the page. */
export function encodeToken(after: string): string {
  return Buffer.from(tokenVersion + after).toString('base64url')
}

/** INVALID_ARGUMENT for what we never gave out. */
export function decodeToken(token: string): string {
  const text = Buffer.from(token, 'base64url').toString()
  const after = text.slice(tokenVersion.length)
  if (!text.startsWith(tokenVersion) || encodeToken(after) !== token) {
    throw new StorageError('INVALID_ARGUMENT', 'The continuation token provided is incorrect', {
      details: { ArgumentName: 'continuation-token' },
    })
  }
  return after
}
