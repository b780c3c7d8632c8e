import type { ApiAnswer, ApiRequest } from './api-request.ts'
import { utf8 } from './encoding.ts'
import { PandoError } from './errors.ts'
import type { CallOptions } from './options.ts'
import type { Sender } from './sender.ts'
import { childrenOf, parseXml, textOf, type XmlElement, xmlElement } from './xml.ts'

export interface CreateBucketOptions extends CallOptions {
  /** A bucket of that name that is the caller's own already is no error. */
  readonly ifMissing?: boolean
}

export async function createBucket(
  sender: Sender,
  bucket: string,
  options: CreateBucketOptions,
): Promise<void> {
  try {
    await sender.send({ operation: 'CreateBucket', method: 'PUT', bucket, answer: 'text', options })
  } catch (error) {
    const isOwn = error instanceof PandoError && error.code === 'BucketAlreadyOwnedByYou'
    // Of an attempt whose answer was lost the next one finds the bucket.
    if (!isOwn || !(options.ifMissing === true || error.ambiguous)) throw error
  }
}

export async function deleteBucket(sender: Sender, bucket: string, options: CallOptions): Promise<void> {
  try {
    await sender.send({ operation: 'DeleteBucket', method: 'DELETE', bucket, answer: 'text', options })
  } catch (error) {
    if (!(error instanceof PandoError && error.code === 'NoSuchBucket' && error.ambiguous)) throw error
  }
}

export interface BucketEntry {
  readonly name: string
  readonly createdAt: Date
}

export async function listBuckets(sender: Sender, options: CallOptions): Promise<readonly BucketEntry[]> {
  const buckets: BucketEntry[] = []
  for (let token: string | undefined; ; ) {
    const { text } = await sender.send({
      operation: 'ListBuckets',
      method: 'GET',
      ...(token === undefined ? {} : { query: { 'continuation-token': token } }),
      answer: 'text',
      hedge: true,
      options,
    })
    const page = parseXml(text)
    const found = childrenOf(page, 'Buckets').flatMap((all) => childrenOf(all, 'Bucket'))
    buckets.push(...found.map(bucketEntry))
    const next = textOf(page, 'ContinuationToken')
    if (next === undefined || next === '' || next === token || found.length === 0) return buckets
    token = next
  }
}

const bucketEntry = (item: XmlElement): BucketEntry => ({
  name: textOf(item, 'Name') ?? '',
  createdAt: new Date(textOf(item, 'CreationDate') ?? ''),
})

export type Versioning = 'off' | 'enabled' | 'suspended'

export async function getVersioning(
  sender: Sender,
  bucket: string,
  options: CallOptions,
): Promise<Versioning> {
  const { text } = await getConfiguration(sender, 'GetBucketVersioning', bucket, 'versioning', options)
  const status = textOf(parseXml(text), 'Status')
  return status === 'Enabled' ? 'enabled' : status === 'Suspended' ? 'suspended' : 'off'
}

export async function setVersioning(
  sender: Sender,
  bucket: string,
  versioning: Exclude<Versioning, 'off'>,
  options: CallOptions,
): Promise<void> {
  const status = xmlElement('Status', versioning === 'enabled' ? 'Enabled' : 'Suspended')
  const document = `<VersioningConfiguration>${status}</VersioningConfiguration>`
  await putConfiguration(sender, 'PutBucketVersioning', bucket, 'versioning', document, options)
}

/** Which pages of other origins may use a bucket from a browser. */
export interface CorsRule {
  readonly origins: readonly string[]
  readonly methods: readonly ('GET' | 'HEAD' | 'PUT' | 'POST' | 'DELETE')[]
  /** Request headers; default all. */
  readonly headers?: readonly string[]
  /** Headers of answers that the page may see; default all that this client reads. */
  readonly exposeHeaders?: readonly string[]
  readonly maxAgeSeconds?: number
}

/** What this client reads of answers. Names of metadata (`x-amz-meta-...`) have to be added one by one. */
export const readHeaders: readonly string[] = [
  ...['ETag', 'Content-Length', 'Content-Range', 'Last-Modified', 'Retry-After', 'Date'],
  ...['Cache-Control', 'Content-Disposition', 'Content-Encoding', 'Content-Language'],
  ...[
    'x-amz-version-id',
    'x-amz-delete-marker',
    'x-amz-request-id',
    'x-amz-storage-class',
    'x-amz-tagging-count',
  ],
  ...['x-pando-token', 'x-pando-region', 'x-pando-primary', 'x-pando-epoch'],
  ...['x-amz-checksum-type', 'x-amz-checksum-crc32', 'x-amz-checksum-crc32c', 'x-amz-checksum-crc64nvme'],
]

/** Replaces the rules of a bucket; none are left when `rules` is empty. */
export async function setCors(
  sender: Sender,
  bucket: string,
  rules: readonly CorsRule[],
  options: CallOptions,
): Promise<void> {
  if (rules.length === 0) {
    const query = { cors: '' }
    await sender.send({
      operation: 'DeleteBucketCors',
      method: 'DELETE',
      bucket,
      query,
      answer: 'text',
      options,
    })
    return
  }
  const all = (name: string, values: readonly string[]): string =>
    values.map((value) => xmlElement(name, value)).join('')
  const document = rules.map(
    (rule) =>
      `<CORSRule>${all('AllowedOrigin', rule.origins)}${all('AllowedMethod', rule.methods)}${all(
        'AllowedHeader',
        rule.headers ?? ['*'],
      )}${all('ExposeHeader', rule.exposeHeaders ?? readHeaders)}${
        rule.maxAgeSeconds === undefined ? '' : xmlElement('MaxAgeSeconds', rule.maxAgeSeconds)
      }</CORSRule>`,
  )
  const whole = `<CORSConfiguration>${document.join('')}</CORSConfiguration>`
  await putConfiguration(sender, 'PutBucketCors', bucket, 'cors', whole, options)
}

const getConfiguration = (
  sender: Sender,
  operation: string,
  bucket: string,
  name: string,
  options: CallOptions,
): Promise<ApiAnswer> =>
  sender.send({
    operation,
    method: 'GET',
    bucket,
    query: { [name]: '' },
    answer: 'text',
    hedge: true,
    options,
  })

async function putConfiguration(
  sender: Sender,
  operation: string,
  bucket: string,
  name: string,
  document: string,
  options: CallOptions,
): Promise<void> {
  const request: ApiRequest = {
    ...{ operation, method: 'PUT', bucket, query: { [name]: '' } },
    headers: { 'content-type': 'application/xml' },
    body: utf8(document),
    ...{ answer: 'text', options },
  }
  await sender.send(request)
}
