import { StorageError } from '../../contract/errors.ts'
import type { BucketRecord } from '../../contract/object-model.ts'
import type { Gateway, Identity, S3Request } from './operation.ts'

/** One question of authorization. `bucket` is absent for actions of the service (ListBuckets, CreateBucket). */
export interface AuthorizationQuestion {
  readonly request: S3Request
  readonly identity: Identity
  readonly action: string
  readonly bucket: BucketRecord | undefined
  readonly key: string | undefined
  readonly versionId: string | undefined
}

/** Returns when the identity may do it; throws ACCESS_DENIED otherwise. Deny by default. */
export type Authorizer = (question: AuthorizationQuestion) => void

/** The owner of a bucket and the root account may do everything, nobody else anything. */
export function createAuthorizer(_gateway: Gateway): Authorizer {
  return ({ identity, bucket }) => {
    if (identity.kind === 'key') {
      if (identity.root || bucket === undefined || bucket.owner === identity.account) return
    }
    throw new StorageError('ACCESS_DENIED', 'Access Denied')
  }
}
