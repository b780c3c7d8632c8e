import type { Preconditions } from '../../contract/catalog.ts'
import { StorageError } from '../../contract/errors.ts'
import type { ObjectRecord } from '../../contract/object-model.ts'
import { invalidArgument } from './errors.ts'
import type { S3Request } from './operation.ts'

/** Conditional requests (RFC 9110 section 13) as S3 applies them to reads, copies and writes. */

export type EntityTags = '*' | readonly string[]

/** `"a", W/"b"`, `*`, or a bare tag as many clients send it. Without quotes. */
export function parseEntityTags(header: string): EntityTags {
  const text = header.trim()
  if (text === '*') return '*'
  return text.split(',').map(unquoteEntityTag)
}

export function unquoteEntityTag(text: string): string {
  return text.trim().replace(/^(?:W\/)?"(.*)"$/, '$1')
}

/** HTTP dates (and ISO 8601, which some SDKs send). Undefined for what is no date: such a condition is ignored. */
export function parseHttpDate(text: string | undefined): number | undefined {
  if (text === undefined) return undefined
  const ms = Date.parse(text)
  return Number.isNaN(ms) ? undefined : ms
}

export interface ReadConditions {
  readonly ifMatch: string | undefined
  readonly ifNoneMatch: string | undefined
  readonly ifModifiedSince: string | undefined
  readonly ifUnmodifiedSince: string | undefined
}

export function readConditions(request: S3Request): ReadConditions | undefined {
  const { headers } = request
  const conditions: ReadConditions = {
    ifMatch: headers['if-match'] as string | undefined,
    ifNoneMatch: headers['if-none-match'] as string | undefined,
    ifModifiedSince: headers['if-modified-since'] as string | undefined,
    ifUnmodifiedSince: headers['if-unmodified-since'] as string | undefined,
  }
  return anyOf(conditions) ? conditions : undefined
}

export function copySourceConditions(request: S3Request): ReadConditions | undefined {
  const conditions: ReadConditions = {
    ifMatch: request.header('x-amz-copy-source-if-match'),
    ifNoneMatch: request.header('x-amz-copy-source-if-none-match'),
    ifModifiedSince: request.header('x-amz-copy-source-if-modified-since'),
    ifUnmodifiedSince: request.header('x-amz-copy-source-if-unmodified-since'),
  }
  return anyOf(conditions) ? conditions : undefined
}

const anyOf = (conditions: ReadConditions): boolean =>
  conditions.ifMatch !== undefined ||
  conditions.ifNoneMatch !== undefined ||
  conditions.ifModifiedSince !== undefined ||
  conditions.ifUnmodifiedSince !== undefined

/**
 * In the order of RFC 9110 13.2.2: a matching If-Match overrules If-Unmodified-Since, a failing If-None-Match overrules
 * If-Modified-Since.
 */
export function evaluate(
  conditions: ReadConditions,
  record: ObjectRecord,
): 'met' | { readonly failed: string; readonly notModified: boolean } {
  // HTTP dates have whole seconds.
  const modifiedMs = Math.floor(record.modifiedMs / 1000) * 1000
  const { ifMatch, ifNoneMatch } = conditions
  if (ifMatch !== undefined) {
    if (!matches(parseEntityTags(ifMatch), record.etag)) return { failed: 'If-Match', notModified: false }
  } else {
    const limit = parseHttpDate(conditions.ifUnmodifiedSince)
    if (limit !== undefined && modifiedMs > limit)
      return { failed: 'If-Unmodified-Since', notModified: false }
  }
  if (ifNoneMatch !== undefined) {
    if (matches(parseEntityTags(ifNoneMatch), record.etag))
      return { failed: 'If-None-Match', notModified: true }
  } else {
    const since = parseHttpDate(conditions.ifModifiedSince)
    if (since !== undefined && modifiedMs <= since) return { failed: 'If-Modified-Since', notModified: true }
  }
  return 'met'
}

const matches = (tags: EntityTags, etag: string): boolean => tags === '*' || tags.includes(etag)

export const preconditionFailed = (condition: string): StorageError =>
  new StorageError('PRECONDITION_FAILED', 'At least one of the pre-conditions you specified did not hold', {
    details: { Condition: condition },
  })

/** If-Match and If-None-Match of a write; evaluated where the write is ordered. */
export function writePreconditions(request: S3Request): Preconditions | undefined {
  const { headers } = request
  const ifMatch = headers['if-match']
  const ifNoneMatch = headers['if-none-match']
  if (ifMatch === undefined && ifNoneMatch === undefined) return undefined
  return {
    ...(ifMatch === undefined ? {} : { ifMatch: parseEntityTags(ifMatch as string) }),
    ...(ifNoneMatch === undefined ? {} : { ifNoneMatch: parseEntityTags(ifNoneMatch as string) }),
  }
}

/** The conditions of DeleteObject. INVALID_ARGUMENT. */
export function deletePreconditions(request: S3Request): Preconditions | undefined {
  const ifMatch = request.header('if-match')
  const size = request.header('x-amz-if-match-size')
  const modified = request.header('x-amz-if-match-last-modified-time')
  if (ifMatch === undefined && size === undefined && modified === undefined) return undefined
  return {
    ...(ifMatch === undefined ? {} : { ifMatch: parseEntityTags(ifMatch) }),
    ...(size === undefined ? {} : { ifMatchSize: parseSize(size, 'x-amz-if-match-size') }),
    ...(modified === undefined
      ? {}
      : { ifMatchModifiedMs: parseTime(modified, 'x-amz-if-match-last-modified-time') }),
  }
}

export function parseSize(text: string, name: string): number {
  if (!/^\d{1,15}$/.test(text)) throw invalidArgument('Invalid size', name, text)
  return Number(text)
}

export function parseTime(text: string, name: string): number {
  const ms = parseHttpDate(text)
  if (ms === undefined) throw invalidArgument('Invalid date', name, text)
  return ms
}
