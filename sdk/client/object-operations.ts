import { untilAborted } from './aborts.ts'
import { checksumHeader, checksumOf } from './crc.ts'
import { encodeKey, encodeUri, utf8 } from './encoding.ts'
import { invalidAnswer } from './errors.ts'
import {
  attributeHeaders,
  conditionHeaders,
  type ObjectAttributes,
  quoted,
  unquoted,
  type WriteConditions,
} from './object-headers.ts'
import type { CallOptions, RepeatableOptions } from './options.ts'
import { explained } from './put-options.ts'
import type { Sender } from './sender.ts'
import { childrenOf, parseXml, textOf, xmlElement } from './xml.ts'

/** What is done to objects beside reading and writing their bytes. */

export interface ObjectName {
  readonly bucket: string
  readonly key: string
}

export interface CopyOptions extends RepeatableOptions, ObjectAttributes, WriteConditions {
  /** Only if the source still has this etag. */
  readonly sourceIfMatch?: string
}

export interface CopyResult {
  readonly etag: string
  readonly versionId: string | undefined
  readonly lastModified: Date
}

export async function copyObject(
  sender: Sender,
  from: ObjectName & { readonly versionId?: string },
  to: ObjectName,
  options: CopyOptions,
): Promise<CopyResult> {
  const { tags, storageClass, ...described } = options
  const replaces = Object.keys(attributeHeaders(described)).length > 0
  const version = from.versionId === undefined ? '' : `?versionId=${encodeUri(from.versionId)}`
  const answer = await sender
    .send({
      operation: 'CopyObject',
      method: 'PUT',
      bucket: to.bucket,
      key: to.key,
      headers: {
        ...attributeHeaders(options),
        ...conditionHeaders(options),
        ...(replaces ? { 'x-amz-metadata-directive': 'REPLACE' } : {}),
        ...(tags === undefined ? {} : { 'x-amz-tagging-directive': 'REPLACE' }),
        ...(options.sourceIfMatch === undefined
          ? {}
          : { 'x-amz-copy-source-if-match': quoted(options.sourceIfMatch) }),
        'x-amz-copy-source': `/${from.bucket}/${encodeKey(from.key)}${version}`,
      },
      answer: 'text',
      once: options.idempotencyKey ?? true,
      options,
    })
    .catch((error: unknown) => {
      throw explained(error, options)
    })
  const result = parseXml(answer.text)
  const etag = textOf(result, 'ETag')
  if (etag === undefined) throw invalidAnswer('a copy has no ETag', answer.endpoint.origin)
  return {
    etag: unquoted(etag),
    versionId: answer.headers.get('x-amz-version-id') ?? undefined,
    lastModified: new Date(textOf(result, 'LastModified') ?? ''),
  }
}

export interface DeleteOptions extends RepeatableOptions {
  /** This version for good; without it a bucket with versions gets a delete marker. */
  readonly versionId?: string
  /** Only the object that has this etag. */
  readonly ifMatch?: string
}

export interface DeleteResult {
  /** Of what was deleted, or of the new delete marker. */
  readonly versionId: string | undefined
  readonly deleteMarker: boolean
}

export async function deleteObject(
  sender: Sender,
  { bucket, key }: ObjectName,
  options: DeleteOptions,
): Promise<DeleteResult> {
  const { headers } = await sender.send({
    operation: 'DeleteObject',
    method: 'DELETE',
    bucket,
    key,
    ...(options.versionId === undefined ? {} : { query: { versionId: options.versionId } }),
    headers: options.ifMatch === undefined ? {} : { 'if-match': quoted(options.ifMatch) },
    answer: 'text',
    once: options.idempotencyKey ?? true,
    options,
  })
  return {
    versionId: headers.get('x-amz-version-id') ?? undefined,
    deleteMarker: headers.get('x-amz-delete-marker') === 'true',
  }
}

export type DeleteItem = string | { readonly key: string; readonly versionId?: string }

export interface DeleteManyResult {
  readonly deleted: number
  /** What is still there, and why. */
  readonly errors: readonly {
    readonly key: string
    readonly versionId: string | undefined
    readonly code: string
    readonly message: string
  }[]
}

const deletePage = 1000

export async function deleteObjects(
  sender: Sender,
  bucket: string,
  items: Iterable<DeleteItem> | AsyncIterable<DeleteItem>,
  options: CallOptions,
): Promise<DeleteManyResult> {
  const errors: DeleteManyResult['errors'][number][] = []
  let deleted = 0
  let page: string[] = []
  const flush = async (): Promise<void> => {
    if (page.length === 0) return
    const body = utf8(`<Delete>${xmlElement('Quiet', 'true')}${page.join('')}</Delete>`)
    const { text } = await sender.send({
      operation: 'DeleteObjects',
      method: 'POST',
      bucket,
      query: { delete: '' },
      headers: {
        'content-type': 'application/xml',
        // Something has to vouch for the names of what goes: no signature does.
        ...(sender.credentials === undefined ? { [checksumHeader('CRC32')]: checksumOf('CRC32', body) } : {}),
      },
      body,
      answer: 'text',
      once: true,
      options,
    })
    const failed = childrenOf(parseXml(text), 'Error')
    for (const item of failed) {
      errors.push({
        key: textOf(item, 'Key') ?? '',
        versionId: textOf(item, 'VersionId'),
        code: textOf(item, 'Code') ?? '',
        message: textOf(item, 'Message') ?? '',
      })
    }
    deleted += page.length - failed.length
    page = []
  }
  for await (const item of untilAborted(items, options.signal)) {
    const { key, versionId }: { key: string; versionId?: string } =
      typeof item === 'string' ? { key: item } : item
    const version = versionId === undefined ? '' : xmlElement('VersionId', versionId)
    page.push(`<Object>${xmlElement('Key', key)}${version}</Object>`)
    if (page.length === deletePage) await flush()
  }
  await flush()
  return { deleted, errors }
}

export interface VersionOptions extends CallOptions {
  readonly versionId?: string
}

const taggingQuery = ({ versionId }: VersionOptions): Record<string, string> => ({
  tagging: '',
  ...(versionId === undefined ? {} : { versionId }),
})

export async function getTags(
  sender: Sender,
  { bucket, key }: ObjectName,
  options: VersionOptions,
): Promise<Record<string, string>> {
  const query = taggingQuery(options)
  const { text } = await sender.send({
    ...{ operation: 'GetObjectTagging', method: 'GET', bucket, key, query },
    ...{ answer: 'text', hedge: true, options },
  })
  const tags: Record<string, string> = Object.create(null)
  for (const set of childrenOf(parseXml(text), 'TagSet')) {
    for (const tag of childrenOf(set, 'Tag')) tags[textOf(tag, 'Key') ?? ''] = textOf(tag, 'Value') ?? ''
  }
  return tags
}

/** Replaces all tags; none are left when there are none in `tags`. */
export async function setTags(
  sender: Sender,
  { bucket, key }: ObjectName,
  tags: Readonly<Record<string, string>>,
  options: VersionOptions,
): Promise<void> {
  const query = taggingQuery(options)
  const pairs = Object.entries(tags)
  if (pairs.length === 0) {
    const operation = 'DeleteObjectTagging'
    await sender.send({ operation, method: 'DELETE', bucket, key, query, answer: 'text', options })
    return
  }
  const set = pairs.map(
    ([name, value]) => `<Tag>${xmlElement('Key', name)}${xmlElement('Value', value)}</Tag>`,
  )
  await sender.send({
    ...{ operation: 'PutObjectTagging', method: 'PUT', bucket, key, query },
    headers: { 'content-type': 'application/xml' },
    body: utf8(`<Tagging><TagSet>${set.join('')}</TagSet></Tagging>`),
    ...{ answer: 'text', options },
  })
}
