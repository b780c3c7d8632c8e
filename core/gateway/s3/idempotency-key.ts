import { createHash } from 'node:crypto'
import { type Idempotency, idempotencyLimits } from '../../contract/catalog.ts'
import { StorageError } from '../../contract/errors.ts'
import type { OperationContext, S3Request } from './operation.ts'

export const idempotencyHeader = 'x-pando-idempotency-key'

/** What two attempts of one request may differ in: time, signature, and how the body travels. */
const ofTheAttempt: ReadonlySet<string> = new Set([
  'x-amz-date',
  'x-amz-security-token',
  'x-amz-content-sha256',
  'x-amz-decoded-content-length',
  'x-amz-trailer',
  'x-amz-user-agent',
])
const described: ReadonlySet<string> = new Set([
  ...[
    'content-type',
    'cache-control',
    'content-disposition',
    'content-encoding',
    'content-language',
    'expires',
  ],
  ...['if-match', 'if-none-match', 'if-modified-since', 'if-unmodified-since'],
])

/**
 * What makes a write that is sent again one write: the client's key, and what it asks for, which takes the body to tell (itself, or its
 * digest). Undefined: the client gave no key. INVALID_ARGUMENT; INVALID_REQUEST for strangers, whose keys would be everybody's.
 */
export function idempotencyOf({
  request,
  identity,
}: OperationContext): ((body: string) => Idempotency) | undefined {
  const key = request.header(idempotencyHeader)
  if (key === undefined) return undefined
  if (key.length > idempotencyLimits.keyChars || !/^[A-Za-z0-9._~+/=:-]+$/.test(key)) {
    const why = `An idempotency key has 1 to ${idempotencyLimits.keyChars} letters, digits and . _ ~ + / = : -`
    throw new StorageError('INVALID_ARGUMENT', why, { details: { ArgumentName: idempotencyHeader } })
  }
  if (identity.kind !== 'key') {
    throw new StorageError('INVALID_REQUEST', 'An idempotency key needs a request that is signed.')
  }
  const { scopeBytes, keyBytes } = idempotencyLimits
  const scope = digest(identity.accessKeyId, scopeBytes)
  return (body) => ({
    scope,
    key: digest(key, keyBytes),
    request: digest(JSON.stringify([...fingerprint(request), body]), keyBytes),
  })
}

function fingerprint({ method, bucketName, key, query, headers }: S3Request): readonly unknown[] {
  const asked = [...query].filter(([name]) => !name.toLowerCase().startsWith('x-amz-'))
  const said = Object.entries(headers).filter(
    ([name]) => described.has(name) || (name.startsWith('x-amz-') && !ofTheAttempt.has(name)),
  )
  const inOrder = (pairs: readonly (readonly [string, unknown])[]) =>
    pairs.toSorted(([left], [right]) => (left < right ? -1 : 1))
  return [method, bucketName, key, inOrder(asked), inOrder(said)]
}

/** A copy: of the hash's own memory a few bytes would keep all. */
const digest = (text: string, length: number): Uint8Array =>
  Uint8Array.prototype.slice.call(createHash('sha256').update(text).digest(), 0, length)
