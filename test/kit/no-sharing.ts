import { StorageError } from '../../core/contract/errors.ts'
import type { SharingAdministration } from '../../core/contract/sharing.ts'

const refuse = async (): Promise<never> => {
  throw new StorageError('NOT_IMPLEMENTED', 'this test shares nothing with other regions')
}

/** For tests of other services that need one to start. */
export const noSharing: SharingAdministration = {
  status: () => ({ regions: [], publications: [] }),
  accept: refuse,
  shareKey: refuse,
  publish: refuse,
  withdraw: refuse,
}
