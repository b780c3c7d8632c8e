import { StorageError } from '../../core/contract/errors.ts'
import type { ReplicationAdministration } from '../../core/contract/replication-admin.ts'

const refuse = async (): Promise<never> => {
  throw new StorageError('NOT_IMPLEMENTED', 'this test has no replication')
}

/** For tests of other services that need one to start. */
export const noReplication: ReplicationAdministration = {
  report: refuse,
  replicate: refuse,
  stop: refuse,
  compare: refuse,
  retry: refuse,
}
