import { StorageError } from '../../contract/errors.ts'
import type { BucketConfigKind, BucketRecord } from '../../contract/object-model.ts'
import { bucketRules } from './bucket-rules.ts'
import {
  type CorsRule,
  corsAnswer,
  corsMethods,
  findCorsRule,
  maxCorsRules,
  serializeCors,
} from './cors-rules.ts'
import { noSuchBucket } from './errors.ts'
import type { Gateway, Operation, OperationContext, S3Request } from './operation.ts'
import { bucketOf } from './resources.ts'
import type { Route } from './route.ts'
import { isBucketName } from './target.ts'
import { document, element, parseXml, type XmlElement } from './xml.ts'

/** S3's own limit of the document. */
const maxCorsBytes = 64 * 1024
/** More names than any browser asks for; a longer list is refused rather than multiplied with the rules. */
const maxRequestedHeaders = 64

/**
 * Headers that a cross-origin request's answer gets by the bucket's CORS rules (also error answers); undefined: none.
 * Called only when the request has an Origin header.
 */
export function corsHeaders(
  gateway: Gateway,
  request: S3Request,
  bucket: BucketRecord,
): Readonly<Record<string, string>> | undefined {
  const origin = request.header('origin')
  // A preflight's answer has its own.
  if (origin === undefined || request.method === 'OPTIONS') return undefined
  const rules = bucketRules(gateway.catalog).cors(bucket)
  if (rules === undefined) return undefined
  const method = request.header('access-control-request-method') ?? request.method
  const rule = findCorsRule(rules, origin, method, [])
  return rule === undefined ? undefined : corsAnswer(rule, origin, [])
}

/**
 * The same of a request that was refused before its bucket was looked at, as by authentication: a page is to see why. Never throws: the refusal
 * is answered also when the catalog cannot be read.
 */
export function refusalCorsHeaders(
  gateway: Gateway,
  request: S3Request,
): Readonly<Record<string, string>> | undefined {
  const { bucketName } = request
  if (bucketName === undefined || !isBucketName(bucketName)) return undefined
  try {
    const bucket = gateway.catalog.bucket(bucketName)
    return bucket === undefined ? undefined : corsHeaders(gateway, request, bucket)
  } catch (error) {
    gateway.log.warn({ err: error, bucket: bucketName }, 'a refusal goes without its CORS headers')
    return undefined
  }
}

/** The preflight. It needs no signature and tells nothing but what the rules say. */
const preflight: Operation = {
  name: 'OptionsObject',
  action: null,
  selfAuthorized: true,
  bucketOptional: true,
  async handle({ request, gateway, bucket }) {
    const origin = request.header('origin')
    const method = request.header('access-control-request-method')
    if (origin === undefined || origin === '') {
      throw new StorageError('BAD_REQUEST', 'Insufficient information. Origin request header needed.')
    }
    if (method === undefined || !corsMethods.includes(method)) {
      throw new StorageError('BAD_REQUEST', `Invalid Access-Control-Request-Method: ${method ?? 'null'}`)
    }
    if (bucket === undefined) throw noSuchBucket(request.bucketName ?? '')
    const requested = (request.header('access-control-request-headers') ?? '')
      .split(',')
      .map((name) => name.trim())
      .filter((name) => name !== '')
    const rules = bucketRules(gateway.catalog).cors(bucket)
    const rule =
      rules === undefined || requested.length > maxRequestedHeaders
        ? undefined
        : findCorsRule(rules, origin, method, requested)
    if (rule === undefined) {
      throw new StorageError(
        'ACCESS_FORBIDDEN',
        rules === undefined
          ? 'CORSResponse: CORS is not enabled for this bucket.'
          : "CORSResponse: This CORS request is not allowed. This is usually because the evalution of Origin, request method / Access-Control-Request-Method or Access-Control-Request-Headers are not whitelisted by the resource's CORS spec.",
        { details: { Method: method, ResourceType: request.key === undefined ? 'BUCKET' : 'OBJECT' } },
      )
    }
    return { status: 200, headers: corsAnswer(rule, origin, requested) }
  },
}

const getBucketCors: Operation = {
  name: 'GetBucketCors',
  action: 's3:GetBucketCORS',
  async handle(context) {
    const bucket = bucketOf(context)
    const rules = bucketRules(context.gateway.catalog).cors(bucket)
    if (rules === undefined) {
      throw new StorageError('NO_SUCH_CORS_CONFIGURATION', 'The CORS configuration does not exist', {
        details: { BucketName: bucket.name },
      })
    }
    return { status: 200, body: document('CORSConfiguration', rules.map(renderRule).join('')) }
  },
}

const putBucketCors: Operation = {
  name: 'PutBucketCors',
  action: 's3:PutBucketCORS',
  async handle(context) {
    const root = parseXml(await context.request.body.text(maxCorsBytes), 'CORSConfiguration')
    const rules = root.all('CORSRule').map(parseRule)
    if (rules.length === 0 || rules.length > maxCorsRules) throw malformed()
    await setCors(context, Buffer.from(serializeCors(rules)))
    return { status: 200 }
  },
}

const deleteBucketCors: Operation = {
  name: 'DeleteBucketCors',
  action: 's3:PutBucketCORS',
  async handle(context) {
    await setCors(context, null)
    return { status: 204 }
  },
}

const kind: BucketConfigKind = 'cors'

async function setCors(context: OperationContext, value: Uint8Array | null): Promise<void> {
  await context.gateway.catalog.submit({
    type: 'set-bucket-config',
    bucketId: bucketOf(context).id,
    kind,
    value,
  })
}

const malformed = (): StorageError =>
  new StorageError(
    'MALFORMED_XML',
    'The XML you provided was not well-formed or did not validate against our published schema',
  )

function parseRule(rule: XmlElement): CorsRule {
  const texts = (name: string) => rule.all(name).map((child) => child.text.trim())
  const allowedMethods = texts('AllowedMethod')
  const allowedOrigins = texts('AllowedOrigin')
  const allowedHeaders = texts('AllowedHeader')
  if (allowedMethods.length === 0 || allowedOrigins.length === 0) throw malformed()
  for (const method of allowedMethods) {
    if (!corsMethods.includes(method)) {
      throw new StorageError(
        'INVALID_REQUEST',
        `Found unsupported HTTP method in CORS config. Unsupported method is ${method.slice(0, 32)}`,
      )
    }
  }
  for (const origin of allowedOrigins) oneWildcard(origin, 'AllowedOrigin')
  for (const header of allowedHeaders) oneWildcard(header, 'AllowedHeader')
  const exposeHeaders = texts('ExposeHeader')
  for (const header of exposeHeaders) {
    if (header.includes('*')) {
      throw new StorageError(
        'INVALID_REQUEST',
        `ExposeHeader "${header}" contains wildcard. We currently do not support wildcard for ExposeHeader.`,
      )
    }
  }
  // These become header values of answers.
  for (const value of [...allowedOrigins, ...exposeHeaders])
    if (!/^[\x21-\x7e]*$/.test(value)) throw malformed()
  const id = rule.textOf('ID')
  if (id !== undefined && id.length > 255) throw malformed()
  const maxAge = rule.textOf('MaxAgeSeconds')?.trim()
  if (maxAge !== undefined && !/^\d{1,9}$/.test(maxAge)) throw malformed()
  return {
    ...(id === undefined ? {} : { id }),
    allowedOrigins,
    allowedMethods,
    allowedHeaders,
    exposeHeaders,
    ...(maxAge === undefined ? {} : { maxAgeSeconds: Number(maxAge) }),
  }
}

function oneWildcard(value: string, name: string): void {
  if (value.indexOf('*') !== value.lastIndexOf('*')) {
    throw new StorageError('INVALID_REQUEST', `${name} "${value}" can not have more than one wildcard.`)
  }
}

function renderRule(rule: CorsRule): string {
  const all = (name: string, values: readonly string[]) =>
    values.map((value) => element(name, value)).join('')
  return `<CORSRule>${element('ID', rule.id)}${all('AllowedHeader', rule.allowedHeaders)}${all(
    'AllowedMethod',
    rule.allowedMethods,
  )}${all('AllowedOrigin', rule.allowedOrigins)}${all('ExposeHeader', rule.exposeHeaders)}${element(
    'MaxAgeSeconds',
    rule.maxAgeSeconds,
  )}</CORSRule>`
}

export const corsRoutes: readonly Route[] = [
  { level: 'bucket', method: 'OPTIONS', operation: preflight },
  { level: 'object', method: 'OPTIONS', operation: preflight },
  { level: 'bucket', method: 'GET', subresource: 'cors', operation: getBucketCors },
  { level: 'bucket', method: 'PUT', subresource: 'cors', operation: putBucketCors },
  { level: 'bucket', method: 'DELETE', subresource: 'cors', operation: deleteBucketCors },
]
