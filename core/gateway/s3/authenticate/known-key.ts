import type { Catalog } from '../../../contract/catalog.ts'
import { StorageError } from '../../../contract/errors.ts'
import type { Credentials, Gateway } from '../operation.ts'

type KnownKeys = Pick<Gateway, 'credentials'>

/** INVALID_ACCESS_KEY_ID, of one that is disabled as well. */
export function credentialsOf(gateway: KnownKeys, accessKeyId: string): Credentials {
  const credentials = gateway.credentials.lookup(accessKeyId)
  if (credentials === undefined || credentials === 'disabled') throw unknownKey(accessKeyId)
  return credentials
}

/** Whoever was let in by rows that were older than what others had acknowledged. INVALID_ACCESS_KEY_ID unless the key is the same still. */
export function checkSameKey(gateway: KnownKeys, accessKeyId: string, before: Credentials): void {
  const now = credentialsOf(gateway, accessKeyId)
  if (now === before) return
  const isSame =
    now.account === before.account && now.secretKey === before.secretKey && now.root === before.root
  if (!isSame) throw unknownKey(accessKeyId)
}

/**
 * What `look` says, which has failed before with `reason`, of a key that was made or enabled at another gateway before the request came: one that
 * is not known here is looked up again behind a read point. INVALID_ACCESS_KEY_ID; UNAVAILABLE when nobody can tell; every other reason.
 */
export async function withNewestKeys<T>(
  catalog: Pick<Catalog, 'barrier' | 'rulesSeen'>,
  reason: unknown,
  look: () => T,
): Promise<T> {
  if (!(reason instanceof StorageError) || reason.code !== 'INVALID_ACCESS_KEY_ID') throw reason
  const seen = catalog.rulesSeen()
  await catalog.barrier('rules')
  if (catalog.rulesSeen() === seen) throw reason
  return look()
}

const unknownKey = (accessKeyId: string): StorageError =>
  new StorageError(
    'INVALID_ACCESS_KEY_ID',
    'The AWS Access Key Id you provided does not exist in our records.',
    { details: { AWSAccessKeyId: accessKeyId } },
  )
