import type { AccountId } from '../../contract/object-model.ts'
import type { Gateway } from './operation.ts'

/** The account that administers the region; it exists without a key record. */
export const rootAccount: AccountId = 'root'

/**
 * Whether an account exists: one is known once a key was made for it, and grants to strangers are typing errors. The keys
 * are read once per call, when first asked, however many grants a request has.
 */
export function knownAccounts(gateway: Gateway): (account: AccountId) => boolean {
  let accounts: ReadonlySet<AccountId> | undefined
  return (account) => {
    accounts ??= new Set([rootAccount, ...gateway.catalog.accessKeys().map((record) => record.account)])
    return accounts.has(account)
  }
}

/** What `DisplayName` shows. Accounts have one name, their id. */
export function displayName(account: AccountId): string {
  return account
}
