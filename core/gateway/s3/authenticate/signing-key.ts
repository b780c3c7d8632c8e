import { createHash, createHmac } from 'node:crypto'

/** SHA-256 of text, lower-case hex. */
export function sha256Hex(text: string | Uint8Array): string {
  return createHash('sha256').update(text).digest('hex')
}

export function hmacSha256(key: string | Uint8Array, text: string): Buffer {
  return createHmac('sha256', key).update(text).digest()
}

/** The key derivation of Signature V4: four HMACs over date, region, service and terminator. */
export function deriveSigningKey(secretKey: string, date: string, region: string): Buffer {
  const dateKey = hmacSha256(`AWS4${secretKey}`, date)
  return hmacSha256(hmacSha256(hmacSha256(dateKey, region), 's3'), 'aws4_request')
}

/** Derived keys live for a day of use; the cache is bounded and drops the least recently used. */
const maxEntries = 1000

export type SigningKeyCache = (accessKeyId: string, secretKey: string, date: string, region: string) => Buffer

export function createSigningKeyCache(): SigningKeyCache {
  const entries = new Map<string, { readonly secretKey: string; readonly key: Buffer }>()
  return (accessKeyId, secretKey, date, region) => {
    const name = `${accessKeyId}/${date}/${region}`
    const entry = entries.get(name)
    // A key that was made again under its old name has another secret.
    if (entry !== undefined && entry.secretKey === secretKey) {
      if (entries.size > maxEntries / 2) {
        entries.delete(name)
        entries.set(name, entry)
      }
      return entry.key
    }
    const key = deriveSigningKey(secretKey, date, region)
    if (entries.size >= maxEntries) {
      const oldest = entries.keys().next().value
      if (oldest !== undefined) entries.delete(oldest)
    }
    entries.set(name, { secretKey, key })
    return key
  }
}
