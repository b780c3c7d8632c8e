import { StorageError } from '../../core/contract/errors.ts'
import type { FederationAdministration } from '../../core/contract/federation.ts'

const refuse = async (): Promise<never> => {
  throw new StorageError('NOT_IMPLEMENTED', 'this test has no federation')
}

/** For tests of other services that need one to start. */
export const noFederation: FederationAdministration = {
  status: () => {
    throw new StorageError('NOT_IMPLEMENTED', 'this test has no federation')
  },
  invite: refuse,
  join: refuse,
  revoke: refuse,
  rotate: refuse,
}
