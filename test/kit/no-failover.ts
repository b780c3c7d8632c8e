import { StorageError } from '../../core/contract/errors.ts'
import type { FailoverAdministration } from '../../core/contract/failover-admin.ts'

const refuse = async (): Promise<never> => {
  throw new StorageError('NOT_IMPLEMENTED', 'this test has no failover')
}

/** For tests of other services that need one to start. */
export const noFailover: FailoverAdministration = {
  report: refuse,
  set: refuse,
  remove: refuse,
  plan: refuse,
  run: refuse,
  losses: refuse,
}
