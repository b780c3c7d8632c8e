import { createCipheriv, createDecipheriv, createSecretKey, type KeyObject } from 'node:crypto'
import type { Catalog } from '../contract/catalog.ts'
import type { Randomness } from '../contract/clock.ts'
import { StorageError } from '../contract/errors.ts'
import type { AccessKeyRecord } from '../contract/object-model.ts'
import type { CredentialSource, Credentials } from '../gateway/s3/operation.ts'
import type { RootKeys } from './config/load.ts'

/** Layout of a sealed secret: version (1 B, = 1) | nonce (12 B) | tag (16 B) | ciphertext. */
const sealVersion = 1
const nonceBytes = 12
const tagBytes = 16

export interface SecretSealer {
  /** AES-256-GCM; the access key id is authenticated with it, so that records cannot be swapped. */
  seal(accessKeyId: string, secretKey: string): Uint8Array
  /** CATALOG_CORRUPT when it was changed, or sealed for another key id or with another sealing key. */
  unseal(accessKeyId: string, sealed: Uint8Array): string
}

export function createSecretSealer(sealingKey: Uint8Array, randomness: Randomness): SecretSealer {
  const key: KeyObject = createSecretKey(sealingKey)
  return {
    seal(accessKeyId, secretKey) {
      const nonce = randomness.fill(new Uint8Array(nonceBytes))
      const cipher = createCipheriv('aes-256-gcm', key, nonce)
      cipher.setAAD(Buffer.from(accessKeyId))
      const text = Buffer.concat([cipher.update(secretKey, 'utf8'), cipher.final()])
      return new Uint8Array(Buffer.concat([Buffer.of(sealVersion), nonce, cipher.getAuthTag(), text]))
    },
    unseal(accessKeyId, sealed) {
      try {
        if (sealed[0] !== sealVersion) throw new RangeError('unknown version of the seal')
        const nonce = sealed.subarray(1, 1 + nonceBytes)
        const decipher = createDecipheriv('aes-256-gcm', key, nonce, { authTagLength: tagBytes })
        decipher.setAAD(Buffer.from(accessKeyId))
        decipher.setAuthTag(sealed.subarray(1 + nonceBytes, 1 + nonceBytes + tagBytes))
        const text = decipher.update(sealed.subarray(1 + nonceBytes + tagBytes))
        return Buffer.concat([text, decipher.final()]).toString('utf8')
      } catch (error) {
        throw new StorageError(
          'CATALOG_CORRUPT',
          `the secret of access key ${accessKeyId} cannot be unsealed`,
          {
            cause: error,
          },
        )
      }
    },
  }
}

/** Unsealed secrets kept in memory; each is some hundred bytes. */
const maxCached = 10_000

/**
 * Keys of the root account and of the catalog. The catalog is asked every time (one read of a memory-mapped page), so a
 * disabled or replaced key counts from the next request on; only the unsealing is remembered, under the sealed bytes it
 * came from. Secrets are never compared here: that is the signature's work. Key ids are public, so finding them needs
 * no constant time; unknown ones cost the same look-up as known ones.
 */
export function createCredentialSource(
  root: RootKeys,
  catalog: Pick<Catalog, 'accessKey'>,
  sealer: SecretSealer,
  onDamage: (accessKeyId: string, error: StorageError) => void,
): CredentialSource {
  const rootCredentials: Credentials = { account: 'root', secretKey: root.secretKey, root: true }
  const unsealed = new Map<string, { readonly sealed: Uint8Array; readonly credentials: Credentials }>()

  return {
    lookup(accessKeyId) {
      if (accessKeyId === root.accessKeyId) return rootCredentials
      const record = catalog.accessKey(accessKeyId)
      if (record === undefined) {
        unsealed.delete(accessKeyId)
        return undefined
      }
      if (!record.enabled) {
        unsealed.delete(accessKeyId)
        return 'disabled'
      }
      const known = unsealed.get(accessKeyId)
      if (
        known !== undefined &&
        known.credentials.account === record.account &&
        equal(known.sealed, record.sealedSecret)
      ) {
        return known.credentials
      }
      return remember(record)
    },
  }

  function remember(record: AccessKeyRecord): Credentials | 'disabled' {
    let secretKey: string
    try {
      secretKey = sealer.unseal(record.accessKeyId, record.sealedSecret)
    } catch (error) {
      // One damaged record closes one key, not the endpoint.
      onDamage(record.accessKeyId, StorageError.from(error))
      return 'disabled'
    }
    const credentials: Credentials = { account: record.account, secretKey, root: false }
    if (unsealed.size >= maxCached) {
      const [oldest] = unsealed.keys()
      if (oldest !== undefined) unsealed.delete(oldest)
    }
    unsealed.set(record.accessKeyId, { sealed: Uint8Array.from(record.sealedSecret), credentials })
    return credentials
  }
}

function equal(left: Uint8Array, right: Uint8Array): boolean {
  return Buffer.compare(left, right) === 0
}
