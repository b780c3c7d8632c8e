import type { ApiRequest } from './api-request.ts'
import type { Credentials } from './credentials.ts'
import { hex } from './encoding.ts'
import { digestBody } from './sha256.ts'
import { unsignedPayload } from './signature.ts'
import type { Way } from './transport.ts'

/** SHA-256 of nothing. */
const emptyPayload = 'e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855'

/** What the signature says of a body. What is not signed, or is protected on its way, needs no hash. */
export function payloadOf(
  { body, headers }: Pick<ApiRequest, 'body' | 'headers'>,
  credentials: Credentials | undefined,
  way: Way | undefined,
): string | Promise<string> {
  if (body === undefined) return emptyPayload
  if (credentials === undefined || way?.protects(headers)) return unsignedPayload
  const digest = digestBody(body)
  return digest instanceof Promise ? digest.then(hex) : hex(digest)
}
