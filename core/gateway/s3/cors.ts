import type { BucketRecord } from '../../contract/object-model.ts'
import type { Gateway, S3Request } from './operation.ts'

/**
 * Headers that a cross-origin request's answer gets by the bucket's CORS rules (also error answers); undefined: none.
 * Called only when the request has an Origin header.
 */
export function corsHeaders(
  _gateway: Gateway,
  _request: S3Request,
  _bucket: BucketRecord,
): Readonly<Record<string, string>> | undefined {
  return undefined
}
