import { StorageError } from '../../contract/errors.ts'

/**
 * The policy document of a browser upload: what a form may contain, signed by whoever handed the form out.
 * https://docs.aws.amazon.com/AmazonS3/latest/API/sigv4-HTTPPOSTConstructPolicy.html
 */
export interface PostPolicy {
  readonly expiresMs: number
  readonly conditions: readonly PostCondition[]
  /** Bytes that the file may have. */
  readonly contentLength: { readonly min: number; readonly max: number } | undefined
}

interface PostCondition {
  readonly kind: 'eq' | 'starts-with'
  /** Lower case. */
  readonly field: string
  readonly value: string
}

const maxPolicyBytes = 20 * 1024

const invalid = (reason: string, cause?: unknown): StorageError =>
  new StorageError('INVALID_POLICY_DOCUMENT', `Invalid Policy: ${reason}`, { cause })

const violated = (reason: string): StorageError =>
  new StorageError('ACCESS_DENIED', `Invalid according to Policy: ${reason}`)

/** `encoded` is the form field, base64. INVALID_POLICY_DOCUMENT. */
export function parsePostPolicy(encoded: string): PostPolicy {
  if (encoded.length > (maxPolicyBytes / 3) * 4) throw invalid('The policy document is too long.')
  let document: unknown
  try {
    document = JSON.parse(Buffer.from(encoded, 'base64').toString('utf8'))
  } catch (cause) {
    throw invalid('Invalid JSON.', cause)
  }
  if (!isRecord(document)) throw invalid('Invalid JSON.')
  const expiration = own(document, 'expiration')
  if (typeof expiration !== 'string') throw invalid('Policy missing expiration.')
  if (!/^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{1,9})?Z$/.test(expiration)) {
    throw invalid("Invalid 'expiration' value.")
  }
  const expiresMs = Date.parse(expiration)
  if (Number.isNaN(expiresMs)) throw invalid("Invalid 'expiration' value.")
  const raw = own(document, 'conditions')
  if (!Array.isArray(raw)) throw invalid('Policy missing conditions.')
  const conditions: PostCondition[] = []
  let contentLength: PostPolicy['contentLength']
  for (const item of raw as unknown[]) {
    if (Array.isArray(item)) {
      const [operator, first, second] = item as unknown[]
      const kind = typeof operator === 'string' ? operator.toLowerCase() : ''
      if (item.length !== 3) throw invalid('Invalid Condition: wrong number of arguments.')
      if (kind === 'content-length-range') contentLength = parseRange(first, second)
      else if (kind === 'eq' || kind === 'starts-with') {
        if (typeof first !== 'string' || !first.startsWith('$') || typeof second !== 'string') {
          throw invalid('Invalid Condition: wrong type of arguments.')
        }
        conditions.push({ kind, field: first.slice(1).toLowerCase(), value: second })
      } else throw invalid('Invalid Condition: unknown operation.')
    } else if (isRecord(item)) {
      const pairs = Object.entries(item)
      if (pairs.length !== 1)
        throw invalid('Invalid Simple-Condition: Simple-Conditions must have exactly one property specified.')
      for (const [field, value] of pairs) {
        if (typeof value !== 'string') throw invalid('Invalid Simple-Condition: value must be a string.')
        conditions.push({ kind: 'eq', field: field.toLowerCase(), value })
      }
    } else throw invalid('Invalid Condition.')
  }
  return { expiresMs, conditions, contentLength }
}

function parseRange(first: unknown, second: unknown): { min: number; max: number } {
  const min = toLength(first)
  const max = toLength(second)
  if (min === undefined || max === undefined || min > max) {
    throw invalid('Invalid content-length-range.')
  }
  return { min, max }
}

function toLength(value: unknown): number | undefined {
  const number = typeof value === 'string' && /^\d{1,15}$/.test(value) ? Number(value) : value
  return typeof number === 'number' && Number.isSafeInteger(number) && number >= 0 ? number : undefined
}

/**
 * Fields that need no condition: what carries the signature itself, the file, and what the client marks as not for us.
 * Checksums are let through, too: they can only make an upload fail.
 */
function needsNoCondition(field: string): boolean {
  return (
    field === 'x-amz-signature' ||
    field === 'signature' ||
    field === 'awsaccesskeyid' ||
    field === 'policy' ||
    field === 'file' ||
    field.startsWith('x-ignore-') ||
    field.startsWith('x-amz-checksum-')
  )
}

/**
 * Throws ACCESS_DENIED unless the form does what the policy says. `fields` has lower-case names and the bucket of the
 * request's address as `bucket`, whatever the form says.
 */
export function checkPostPolicy(
  policy: PostPolicy,
  fields: ReadonlyMap<string, string>,
  nowMs: number,
): void {
  if (policy.expiresMs <= nowMs) throw violated('Policy expired.')
  const covered = new Set<string>()
  for (const { kind, field, value } of policy.conditions) {
    covered.add(field)
    const actual = fields.get(field)
    // A field that the policy asks for must be there, even when any value would do.
    if (actual === undefined || !(kind === 'eq' ? actual === value : actual.startsWith(value))) {
      const text = JSON.stringify([kind, `$${field}`, value])
      throw violated(`Policy Condition failed: ${text}`)
    }
  }
  const extra = [...fields.keys()].filter((field) => !covered.has(field) && !needsNoCondition(field))
  if (extra.length > 0) throw violated(`Extra input fields: ${extra.join(', ').slice(0, 200)}`)
}

function isRecord(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null && !Array.isArray(value)
}

function own(record: Record<string, unknown>, key: string): unknown {
  return Object.hasOwn(record, key) ? record[key] : undefined
}
