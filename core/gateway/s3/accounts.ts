import type { AccountId } from '../../contract/object-model.ts'
import type { Gateway } from './operation.ts'

/** The account that administers the region; it exists without a key record. */
export const rootAccount: AccountId = 'root'

/** An account is known once a key was made for it: grants to strangers are typing errors. */
export function accountExists(gateway: Gateway, account: AccountId): boolean {
  return account === rootAccount || gateway.catalog.accessKeys().some((record) => record.account === account)
}

/** What `DisplayName` shows. Accounts have one name, their id. */
export function displayName(account: AccountId): string {
  return account
}
