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

const unknownKey = (accessKeyId: string): StorageError =>
  new StorageError(
    'INVALID_ACCESS_KEY_ID',
    'The AWS Access Key Id you provided does not exist in our records.',
    { details: { AWSAccessKeyId: accessKeyId } },
  )
