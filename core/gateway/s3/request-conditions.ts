import { keyName } from '../../contract/accounts.ts'
import type { ObjectRecord } from '../../contract/object-model.ts'
import type { Gateway, Identity, S3Request } from './operation.ts'
import type { ConditionContext } from './policy-conditions.ts'
import { noTags, type TagsAsked } from './request-tags.ts'
import type { TagSet } from './tag-set.ts'

/** What the condition keys of a policy stand for in one request. Values are found when a condition asks for them. */
export interface ConditionSources {
  readonly gateway: Gateway
  readonly request: S3Request
  readonly identity: Identity
  /** `prefix` of the listing that the request amounts to; a read of a missing key asks to know that the key is missing. */
  readonly prefix?: string | undefined
  readonly versionId: string | undefined
  /** What the request would store. */
  readonly tags: TagsAsked
  /** What a POST form says in place of headers, by header name. */
  readonly formFields?: ReadonlyMap<string, string> | undefined
  /** The object that the question is about, if it exists. */
  existing(): ObjectRecord | undefined
}

/**
 * https://docs.aws.amazon.com/service-authorization/latest/reference/list_amazons3.html (S3 keys) and
 * https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_policies_condition-keys.html (global keys).
 */
export function conditionContext(sources: ConditionSources): ConditionContext {
  return {
    values(key) {
      const value = find(sources, key)
      if (value === undefined) return undefined
      return typeof value === 'string' ? [value] : value
    },
    isOpen: (key) => aboutTags.test(key) && sources.tags() === 'later',
  }
}

function find(sources: ConditionSources, key: string): string | readonly string[] | undefined {
  const slash = key.indexOf('/')
  if (slash > 0) return findTag(sources, key.slice(0, slash), key.slice(slash + 1))
  if (key.startsWith('aws:')) return findGlobal(sources, key.slice('aws:'.length))
  if (key.startsWith('s3:')) return findS3(sources, key.slice('s3:'.length))
  return undefined
}

function findTag(sources: ConditionSources, family: string, tag: string): string | undefined {
  if (family === 's3:existingobjecttag') {
    const tags = sources.existing()?.attributes.tags
    return tags !== undefined && Object.hasOwn(tags, tag) ? tags[tag] : undefined
  }
  if (family === 's3:requestobjecttag' || family === 'aws:requesttag') return requestTags(sources).get(tag)
  return undefined
}

const aboutTags = /^(?:s3:requestobjecttagkeys$|s3:requestobjecttag\/|aws:requesttag\/)/

function requestTags({ tags }: ConditionSources): TagSet {
  const asked = tags()
  return asked === 'later' ? noTags : asked
}

function findGlobal({ gateway, request, identity }: ConditionSources, key: string): string | undefined {
  switch (key) {
    case 'sourceip':
      return request.remoteAddress
    case 'securetransport':
      return String(request.secure)
    case 'referer':
      return request.header('referer')
    case 'useragent':
      return request.header('user-agent')
    case 'currenttime':
      return new Date(gateway.environment.clock.now()).toISOString()
    case 'epochtime':
      return String(Math.floor(gateway.environment.clock.now() / 1000))
    case 'principaltype':
      return identity.kind === 'anonymous' ? 'Anonymous' : identity.root ? 'Account' : 'User'
    case 'username':
    case 'userid':
      if (identity.kind === 'key') return keyName(identity.accessKeyId, identity.account)
      return key === 'userid' ? 'anonymous' : undefined
    case 'principalaccount':
      return identity.kind === 'key' ? identity.account : undefined
    case 'principalarn':
      if (identity.kind === 'anonymous') return undefined
      return identity.root
        ? `arn:aws:iam::${identity.account}:root`
        : `arn:aws:iam::${identity.account}:user/${identity.accessKeyId}`
    default:
      return undefined
  }
}

function findS3(sources: ConditionSources, key: string): string | readonly string[] | undefined {
  const { request } = sources
  // x-amz-acl, x-amz-copy-source, x-amz-metadata-directive, x-amz-server-side-encryption, x-amz-storage-class, ...
  if (key.startsWith('x-amz-')) return headerValue(sources, key)
  switch (key) {
    case 'prefix':
      return sources.prefix ?? request.query.get('prefix')
    case 'delimiter':
    case 'max-keys':
      return request.query.get(key)
    case 'versionid':
      return sources.versionId
    case 'if-match':
    case 'if-none-match':
      return request.header(key)
    case 'authtype':
      if (sources.identity.kind === 'anonymous') return undefined
      return request.presigned
        ? 'REST-QUERY-STRING'
        : request.header('authorization') === undefined
          ? 'POST'
          : 'REST-HEADER'
    case 'signatureversion':
      if (sources.identity.kind === 'anonymous') return undefined
      // A policy may refuse URLs of the older version.
      return isVersion2(request) ? 'AWS' : 'AWS4-HMAC-SHA256'
    case 'requestobjecttagkeys': {
      const keys = [...requestTags(sources).keys()]
      return keys.length === 0 ? undefined : keys
    }
    default:
      return undefined
  }
}

const isVersion2 = (request: ConditionSources['request']): boolean =>
  request.presigned && !request.query.has('X-Amz-Signature')

function headerOf(sources: ConditionSources, name: string): string | undefined {
  return sources.formFields === undefined ? sources.request.header(name) : sources.formFields.get(name)
}

function headerValue(sources: ConditionSources, name: string): string | undefined {
  const value = headerOf(sources, name)
  if (value === undefined) return undefined
  // Written with and without a leading slash and percent-encoded; policies compare the plain `bucket/key`.
  if (name !== 'x-amz-copy-source') return value
  try {
    return decodeURIComponent(value).replace(/^\//, '')
  } catch {
    return value
  }
}
