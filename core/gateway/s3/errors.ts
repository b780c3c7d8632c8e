import { errorCodes, StorageError } from '../../contract/errors.ts'
import type { S3Response } from './operation.ts'
import { element, xmlDeclaration } from './xml.ts'

/**
 * The answer to an error: status and code from the closed table, the reason that the thrower gave, and for faults of ours
 * a sentence that tells a stranger nothing about the machine.
 */
export function errorResponse(
  reason: unknown,
  request: { readonly id: string; readonly rawTarget: string },
  headers?: Readonly<Record<string, string | number>>,
): S3Response {
  const error = StorageError.from(reason)
  const traits = errorCodes[error.code]
  // Not modified has no body by RFC 9110 15.4.5.
  if (traits.http === 304) return headers === undefined ? { status: 304 } : { status: 304, headers }
  const message = traits.http === 500 ? 'We encountered an internal error. Please try again.' : error.reason
  let details = ''
  for (const [name, value] of Object.entries(error.details)) details += element(name, value)
  const body =
    `${xmlDeclaration}<Error>${element('Code', traits.s3)}${element('Message', message)}${details}` +
    `${element('Resource', resourceOf(request.rawTarget))}${element('RequestId', request.id)}<HostId>pando</HostId></Error>`
  const extra: Record<string, string | number> = { 'content-type': 'application/xml' }
  if (traits.http === 503) extra['retry-after'] = Math.max(1, Math.ceil((error.retryAfterMs ?? 1000) / 1000))
  // RFC 9110 15.5.17: how long the object is.
  const size = error.details['ActualObjectSize']
  if (error.code === 'INVALID_RANGE' && size !== undefined) extra['content-range'] = `bytes */${size}`
  // As S3 says it also to those who ask for no document (HEAD).
  const region = error.details['Region']
  if (error.code === 'AUTHORIZATION_HEADER_MALFORMED' && region !== undefined)
    extra['x-amz-bucket-region'] = region
  return {
    status: traits.http,
    headers: headers === undefined ? extra : { ...headers, ...extra },
    body,
    error: error.code,
  }
}

function resourceOf(rawTarget: string): string {
  const mark = rawTarget.indexOf('?')
  return mark < 0 ? rawTarget : rawTarget.slice(0, mark)
}

export const noSuchKey = (key: string): StorageError =>
  new StorageError('NO_SUCH_KEY', 'The specified key does not exist.', { details: { Key: key } })

export const noSuchBucket = (name: string): StorageError =>
  new StorageError('NO_SUCH_BUCKET', 'The specified bucket does not exist', { details: { BucketName: name } })

export const invalidArgument = (message: string, name: string, value: string): StorageError =>
  new StorageError('INVALID_ARGUMENT', message, { details: { ArgumentName: name, ArgumentValue: value } })

export const notImplemented = (what: string): StorageError =>
  new StorageError(
    'NOT_IMPLEMENTED',
    `A header or query you provided implies functionality that is not implemented: ${what}`,
  )

export const accessDenied = (): StorageError => new StorageError('ACCESS_DENIED', 'Access Denied')
