import { StorageError } from '../../contract/errors.ts'
import { element, parseXml, type XmlElement } from './xml.ts'

/**
 * Tag sets and their rules. https://docs.aws.amazon.com/AmazonS3/latest/userguide/tagging-managing.html
 * Order is kept here; answers about objects sort by key.
 */
export type TagSet = ReadonlyMap<string, string>

export interface TagLimits {
  readonly maxTags: number
  readonly noun: 'Object' | 'Bucket'
}

export const objectTagLimits: TagLimits = { maxTags: 10, noun: 'Object' }
export const bucketTagLimits: TagLimits = { maxTags: 50, noun: 'Bucket' }

const maxKeyLength = 128
const maxValueLength = 256
// Letters, spaces and digits of any script and + - = . _ : / @ (the rule that S3 documents).
const allowed = /^[\p{L}\p{Z}\p{N}_.:/=+\-@]*$/u

const invalidTag = (reason: string, details: Record<string, string> = {}): StorageError =>
  new StorageError('INVALID_TAG', reason, { details })

/** INVALID_TAG for too many, too long, doubled or otherwise forbidden tags. */
export function checkTags(pairs: readonly (readonly [string, string])[], limits: TagLimits): TagSet {
  if (pairs.length > limits.maxTags) {
    throw invalidTag(`${limits.noun} tags cannot be greater than ${limits.maxTags}`)
  }
  const tags = new Map<string, string>()
  for (const [key, value] of pairs) {
    if (key.length === 0 || [...key].length > maxKeyLength || !allowed.test(key)) {
      throw invalidTag('The TagKey you have provided is invalid', { TagKey: key })
    }
    if ([...value].length > maxValueLength || !allowed.test(value)) {
      throw invalidTag('The TagValue you have provided is invalid', { TagKey: key, TagValue: value })
    }
    if (key.toLowerCase().startsWith('aws:')) {
      throw invalidTag('System tags cannot be added/updated by requester', { TagKey: key })
    }
    if (tags.has(key)) throw invalidTag('Cannot provide multiple Tags with the same key', { TagKey: key })
    tags.set(key, value)
  }
  return tags
}

/** The `Tagging` document. MALFORMED_XML, INVALID_TAG. */
export function parseTagging(text: string, limits: TagLimits): TagSet {
  const set = parseXml(text, 'Tagging').child('TagSet')
  if (set === undefined) {
    throw new StorageError(
      'MALFORMED_XML',
      'The XML you provided was not well-formed or did not validate against our published schema',
    )
  }
  return parseTags(set, limits)
}

/** An element of `Tag` elements. MALFORMED_XML, INVALID_TAG. */
export function parseTags(set: XmlElement, limits: TagLimits): TagSet {
  const pairs = set.all('Tag').map((tag) => {
    const key = tag.textOf('Key')
    const value = tag.textOf('Value')
    if (key === undefined || value === undefined) {
      throw new StorageError(
        'MALFORMED_XML',
        'The XML you provided was not well-formed or did not validate against our published schema',
      )
    }
    return [key, value] as const
  })
  return checkTags(pairs, limits)
}

/** The `x-amz-tagging` header: a query string. INVALID_ARGUMENT when it is malformed, INVALID_TAG. */
export function parseTaggingHeader(value: string): TagSet {
  const pairs: [string, string][] = []
  for (const part of value.split('&')) {
    if (part === '') continue
    const equals = part.indexOf('=')
    const key = equals < 0 ? part : part.slice(0, equals)
    pairs.push([decode(key), equals < 0 ? '' : decode(part.slice(equals + 1))])
  }
  return checkTags(pairs, objectTagLimits)
}

function decode(text: string): string {
  try {
    return decodeURIComponent(text.replaceAll('+', ' '))
  } catch (cause) {
    throw new StorageError(
      'INVALID_ARGUMENT',
      "The header 'x-amz-tagging' shall be encoded as UTF-8 then URLEncoded URL query parameters without tag name duplicates.",
      { cause, details: { ArgumentName: 'x-amz-tagging' } },
    )
  }
}

export function renderTagSet(tags: Iterable<readonly [string, string]>): string {
  let out = ''
  for (const [key, value] of tags) out += `<Tag>${element('Key', key)}${element('Value', value)}</Tag>`
  return `<TagSet>${out}</TagSet>`
}

/** The form that object attributes keep. Own properties only, so a tag named `__proto__` is a tag. */
export function tagRecord(tags: TagSet): Readonly<Record<string, string>> {
  return Object.fromEntries(tags)
}
