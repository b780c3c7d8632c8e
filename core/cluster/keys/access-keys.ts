import type { Randomness } from '../../contract/clock.ts'

export interface AccessKeyPair {
  readonly accessKeyId: string
  readonly secretKey: string
}

const base32 = 'ABCDEFGHIJKLMNOPQRSTUVWXYZ234567'

/** 240 bits of base64url, without a dash in front: programs that take it as an argument would see an option. */
export function makeSecret(randomness: Randomness): string {
  return Buffer.from(randomness.fill(new Uint8Array(30)))
    .toString('base64url')
    .replace(/^-/, '_')
}

/** A fresh pair: 20 characters of base32, of which the first four say where it is from, and a secret. */
export function makeAccessKeys(randomness: Randomness): AccessKeyPair {
  const suffix = Array.from(randomness.fill(new Uint8Array(16)), (byte) => base32.charAt(byte % 32)).join('')
  return { accessKeyId: `PNDO${suffix}`, secretKey: makeSecret(randomness) }
}
