import { encodeKey, keyPath } from './encoding.ts'
import { invalidArgument } from './errors.ts'
import { attributeHeaders, type ObjectAttributes } from './object-headers.ts'
import { whole } from './options.ts'
import type { Sender } from './sender.ts'
import { postPolicyFields, presignedQuery } from './signature.ts'

export interface PresignOptions {
  /** What the bearer may do with the URL; default GET. */
  readonly method?: 'GET' | 'HEAD' | 'PUT' | 'DELETE'
  /** 1 s to 7 days; default 15 minutes. Temporary credentials may end sooner. */
  readonly expiresSeconds?: number
  readonly versionId?: string
  /** Of a PUT: the bearer must send exactly this header. */
  readonly contentType?: string
  /** Of a GET: a browser saves the answer under this name. */
  readonly downloadAs?: string
}

const longestSeconds = 7 * 24 * 3600

export async function presign(
  sender: Sender,
  bucket: string,
  key: string,
  options: PresignOptions,
): Promise<string> {
  const endpoint = sender.pool.pick(new Set())
  const credentials = await sender.credentials?.get()
  if (credentials === undefined) throw invalidArgument('presigning needs credentials')
  const query: Record<string, string> = {}
  if (options.versionId !== undefined) query['versionId'] = options.versionId
  if (options.downloadAs !== undefined) {
    // RFC 6266 and 8187: the plain name for old clients, the exact one for all others.
    const plain = options.downloadAs.replace(/[^ -~]|["\\%]/g, '_')
    const exact = encodeURIComponent(options.downloadAs).replace(
      /['()*]/g,
      (c) => `%${c.charCodeAt(0).toString(16)}`,
    )
    query['response-content-disposition'] = `attachment; filename="${plain}"; filename*=UTF-8''${exact}`
  }
  const signed = presignedQuery({
    method: options.method ?? 'GET',
    host: endpoint.host,
    path: `/${bucket}/${encodeKey(key)}`,
    query,
    headers: options.contentType === undefined ? {} : { 'content-type': options.contentType },
    expiresSeconds: whole('expiresSeconds', options.expiresSeconds ?? 900, 1, longestSeconds),
    credentials,
    region: endpoint.region,
    timeMs: sender.signingTimeMs(),
  })
  return `${endpoint.origin}/${bucket}/${keyPath(key)}?${signed}`
}

export interface PostOptions extends Pick<ObjectAttributes, 'contentType' | 'metadata' | 'storageClass'> {
  /** The one key that may be written; or `keyPrefix`, behind which the form puts the name of the file. */
  readonly key?: string
  readonly keyPrefix?: string
  /** 1 s to 7 days; default 15 minutes. */
  readonly expiresSeconds?: number
  readonly minBytes?: number
  /** Default 1 GiB. */
  readonly maxBytes?: number
}

export interface PostForm {
  readonly url: string
  /** Fields of a `multipart/form-data` form; the field `file` comes last. */
  readonly fields: Readonly<Record<string, string>>
}

export async function presignPost(sender: Sender, bucket: string, options: PostOptions): Promise<PostForm> {
  if ((options.key === undefined) === (options.keyPrefix === undefined))
    throw invalidArgument('give either key or keyPrefix')
  const endpoint = sender.pool.pick(new Set())
  const credentials = await sender.credentials?.get()
  if (credentials === undefined) throw invalidArgument('presigning needs credentials')
  const { contentType, metadata, storageClass } = options
  const attributes = attributeHeaders({
    ...(contentType === undefined ? {} : { contentType }),
    ...(metadata === undefined ? {} : { metadata }),
    ...(storageClass === undefined ? {} : { storageClass }),
  })
  const fields: Record<string, string> = { bucket, ...attributes }
  const conditions: unknown[] = Object.entries(fields).map(([name, value]) => ({ [name]: value }))
  if (options.key !== undefined) conditions.push({ key: options.key })
  else conditions.push(['starts-with', '$key', options.keyPrefix])
  const least = whole('minBytes', options.minBytes ?? 0, 0, Number.MAX_SAFE_INTEGER)
  const most = whole('maxBytes', options.maxBytes ?? 1024 ** 3, least, Number.MAX_SAFE_INTEGER)
  conditions.push(['content-length-range', least, most])
  const timeMs = sender.signingTimeMs()
  const seconds = whole('expiresSeconds', options.expiresSeconds ?? 900, 1, longestSeconds)
  const signed = postPolicyFields({
    credentials,
    region: endpoint.region,
    timeMs,
    expiresMs: timeMs + seconds * 1000,
    conditions,
  })
  const key = options.key ?? `${options.keyPrefix}\${filename}`
  return { url: `${endpoint.origin}/${bucket}`, fields: { key, ...fields, ...signed } }
}
