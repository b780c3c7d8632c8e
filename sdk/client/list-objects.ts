import { invalidAnswer } from './errors.ts'
import { unquoted } from './object-headers.ts'
import { type CallOptions, whole } from './options.ts'
import type { Sender } from './sender.ts'
import { childrenOf, numberOf, parseXml, textOf, urlDecoded, type XmlElement } from './xml.ts'

/** Listings: pages are asked for as they are needed. */

export interface ListOptions extends CallOptions {
  readonly prefix?: string
  /** Keys with this in them behind the prefix are shown as one `prefix` entry; mostly `/`. */
  readonly delimiter?: string
  /** Only keys behind this one in the order of UTF-8 bytes. */
  readonly startAfter?: string
  /** Entries asked for at a time, 1 to 1000; default 1000. */
  readonly pageSize?: number
}

export type ListEntry =
  | {
      readonly type: 'object'
      readonly key: string
      readonly size: number
      readonly etag: string
      readonly lastModified: Date
      readonly storageClass: string
    }
  | PrefixEntry

export async function* listObjects(
  sender: Sender,
  bucket: string,
  options: ListOptions,
): AsyncGenerator<ListEntry, void, undefined> {
  const query = listQuery(options)
  if (options.startAfter !== undefined) query['start-after'] = options.startAfter
  for (let token: string | undefined; ; ) {
    const page = await listPage(sender, 'ListObjectsV2', bucket, options, {
      ...query,
      'list-type': '2',
      ...(token === undefined ? {} : { 'continuation-token': token }),
    })
    const entries: ListEntry[] = childrenOf(page, 'Contents').map((item) => ({
      type: 'object',
      ...facts(item),
    }))
    yield* inOrder(entries, page)
    if (textOf(page, 'IsTruncated') !== 'true') return
    const next = textOf(page, 'NextContinuationToken')
    // A server that repeats itself would be asked for ever.
    if (next === undefined || next === '' || next === token)
      throw invalidAnswer('a listing goes on with no new token')
    token = next
  }
}

export type VersionEntry =
  | {
      readonly type: 'version'
      readonly key: string
      readonly versionId: string
      readonly isLatest: boolean
      readonly size: number
      readonly etag: string
      readonly lastModified: Date
      readonly storageClass: string
    }
  | {
      readonly type: 'delete-marker'
      readonly key: string
      readonly versionId: string
      readonly isLatest: boolean
      readonly lastModified: Date
    }
  | PrefixEntry

export interface ListVersionsOptions extends Omit<ListOptions, 'startAfter'> {
  /** Only what comes behind it: older versions of that key, or with no version keys behind that one. */
  readonly after?: { readonly key: string; readonly versionId?: string }
}

export async function* listVersions(
  sender: Sender,
  bucket: string,
  options: ListVersionsOptions,
): AsyncGenerator<VersionEntry, void, undefined> {
  const { after } = options
  yield* markedEntries<VersionEntry>(sender, bucket, options, {
    operation: 'ListObjectVersions',
    query: { ...listQuery(options), versions: '' },
    idMarker: 'version-id-marker',
    nextIdMarker: 'NextVersionIdMarker',
    after: after && { key: after.key, id: after.versionId },
    entryOf(item) {
      if (item.name === 'Version') return { type: 'version', ...versionFacts(item), ...facts(item) }
      if (item.name !== 'DeleteMarker') return undefined
      return { type: 'delete-marker', ...versionFacts(item), lastModified: modified(item) }
    },
  })
}

/** An upload in parts that has been begun and neither completed nor taken back. */
export type UploadEntry =
  | {
      readonly type: 'upload'
      readonly key: string
      readonly uploadId: string
      readonly initiated: Date
      readonly storageClass: string
    }
  | PrefixEntry

export interface ListUploadsOptions extends Omit<ListOptions, 'startAfter'> {
  /** Only what comes behind it: later uploads of that key, or with no upload keys behind that one. */
  readonly after?: { readonly key: string; readonly uploadId?: string }
}

export async function* listUploads(
  sender: Sender,
  bucket: string,
  options: ListUploadsOptions,
): AsyncGenerator<UploadEntry, void, undefined> {
  const { 'max-keys': limit = '', ...query } = listQuery(options)
  const { after } = options
  yield* markedEntries<UploadEntry>(sender, bucket, options, {
    operation: 'ListMultipartUploads',
    query: { ...query, 'max-uploads': limit, uploads: '' },
    idMarker: 'upload-id-marker',
    nextIdMarker: 'NextUploadIdMarker',
    after: after && { key: after.key, id: after.uploadId },
    entryOf(item) {
      if (item.name !== 'Upload') return undefined
      return {
        type: 'upload',
        key: urlDecoded(textOf(item, 'Key') ?? ''),
        uploadId: textOf(item, 'UploadId') ?? '',
        initiated: new Date(textOf(item, 'Initiated') ?? ''),
        storageClass: textOf(item, 'StorageClass') ?? 'STANDARD',
      }
    },
  })
}

interface MarkedListing<Entry> {
  readonly operation: string
  readonly query: Readonly<Record<string, string>>
  /** What the query calls the id where a page begins, and what the page before calls it. */
  readonly idMarker: string
  readonly nextIdMarker: string
  readonly after: { readonly key: string; readonly id: string | undefined } | undefined
  /** Undefined: the element is none. */
  entryOf(item: XmlElement): Entry | undefined
}

/** A listing that goes on behind a key and an id of it. */
async function* markedEntries<Entry extends Named>(
  sender: Sender,
  bucket: string,
  options: CallOptions,
  { operation, query, idMarker, nextIdMarker, after, entryOf }: MarkedListing<Entry>,
): AsyncGenerator<Entry | PrefixEntry, void, undefined> {
  for (let at = after; ; ) {
    const page = await listPage(sender, operation, bucket, options, {
      ...query,
      ...(at === undefined ? {} : { 'key-marker': at.key }),
      ...(at?.id === undefined ? {} : { [idMarker]: at.id }),
    })
    const entries = page.children.map(entryOf).filter((entry) => entry !== undefined)
    yield* inOrder(entries, page)
    if (textOf(page, 'IsTruncated') !== 'true') return
    const key = urlDecoded(textOf(page, 'NextKeyMarker') ?? '')
    const id = textOf(page, nextIdMarker)
    // A server that repeats itself would be asked for ever.
    if (key === '' || (key === at?.key && id === at.id))
      throw invalidAnswer('a listing goes on with no new marker')
    at = { key, id }
  }
}

function listQuery(options: ListOptions): Record<string, string> {
  return {
    'encoding-type': 'url',
    'max-keys': `${whole('pageSize', options.pageSize ?? 1000, 1, 1000)}`,
    ...(options.prefix === undefined ? {} : { prefix: options.prefix }),
    ...(options.delimiter === undefined ? {} : { delimiter: options.delimiter }),
  }
}

async function listPage(
  sender: Sender,
  operation: string,
  bucket: string,
  options: CallOptions,
  query: Record<string, string>,
): Promise<XmlElement> {
  const { text } = await sender.send({
    operation,
    method: 'GET',
    bucket,
    query,
    answer: 'text',
    hedge: true,
    options,
  })
  return parseXml(text)
}

interface PrefixEntry {
  readonly type: 'prefix'
  readonly prefix: string
}

interface Named {
  readonly key?: string
  readonly prefix?: string
}

/** A page has its keys before its prefixes; the entries of a listing come in one order. */
function inOrder<Entry extends Named>(
  entries: readonly Entry[],
  page: XmlElement,
): readonly (Entry | PrefixEntry)[] {
  const prefixes = childrenOf(page, 'CommonPrefixes').map((item) => ({
    type: 'prefix' as const,
    prefix: urlDecoded(textOf(item, 'Prefix') ?? ''),
  }))
  if (prefixes.length === 0) return entries
  const all = [...entries, ...prefixes]
  const nameOf = (entry: Named): string => entry.key ?? entry.prefix ?? ''
  return all.sort((a, b) => compareUtf8(nameOf(a), nameOf(b)))
}

/** UTF-16 and UTF-8 order differ only above the surrogates; this is the order of code points, which is that of UTF-8. */
function compareUtf8(a: string, b: string): number {
  const length = Math.min(a.length, b.length)
  for (let index = 0; index < length; index++) {
    const x = a.charCodeAt(index)
    const y = b.charCodeAt(index)
    if (x === y) continue
    const isSurrogate = (unit: number): boolean => unit >= 0xd800 && unit <= 0xdfff
    if (isSurrogate(x) !== isSurrogate(y)) return isSurrogate(x) ? 1 : -1
    return x - y
  }
  return a.length - b.length
}

const modified = (item: XmlElement): Date => new Date(textOf(item, 'LastModified') ?? '')

const facts = (item: XmlElement) => ({
  key: urlDecoded(textOf(item, 'Key') ?? ''),
  size: numberOf(item, 'Size'),
  etag: unquoted(textOf(item, 'ETag') ?? ''),
  lastModified: modified(item),
  storageClass: textOf(item, 'StorageClass') ?? 'STANDARD',
})

const versionFacts = (item: XmlElement) => ({
  key: urlDecoded(textOf(item, 'Key') ?? ''),
  versionId: textOf(item, 'VersionId') ?? 'null',
  isLatest: textOf(item, 'IsLatest') === 'true',
})
