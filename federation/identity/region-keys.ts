import { createPrivateKey, createPublicKey, type KeyObject, sign, verify, X509Certificate } from 'node:crypto'
import type { Environment, Randomness } from '../../core/contract/clock.ts'
import { StorageError } from '../../core/contract/errors.ts'
import type { TunnelCredentials } from '../../core/contract/tunnel.ts'

/** Ed25519 keys of regions (RFC 8032), as 32 raw bytes; `node:crypto` wants them in the wrapping of RFC 8410. */
const pkcs8Prefix = Buffer.from('302e020100300506032b657004220420', 'hex')
const spkiPrefix = Buffer.from('302a300506032b6570032100', 'hex')

export const publicKeyPattern = /^[0-9a-f]{64}$/

export function makeRegionKey(randomness: Randomness): TunnelCredentials {
  return credentialsOf(randomness.fill(new Uint8Array(32)))
}

/** INVALID_ARGUMENT. */
export function credentialsOf(seed: Uint8Array): TunnelCredentials {
  const publicKey = publicKeyOf(createPublicKey(privateKeyOf(seed)))
  if (publicKey === undefined) throw new StorageError('INVALID_ARGUMENT', 'not the seed of an Ed25519 key')
  return { seed, publicKey }
}

export function privateKeyOf(seed: Uint8Array): KeyObject {
  if (seed.length !== 32) throw new StorageError('INVALID_ARGUMENT', 'the seed of a key has 32 bytes')
  return createPrivateKey({ key: Buffer.concat([pkcs8Prefix, seed]), format: 'der', type: 'pkcs8' })
}

/** In hex; undefined when it is a key of another kind. */
export function publicKeyOf(key: KeyObject): string | undefined {
  if (key.asymmetricKeyType !== 'ed25519') return undefined
  const spki = key.export({ format: 'der', type: 'spki' })
  return spki.subarray(spkiPrefix.length).toString('hex')
}

export function signBy(seed: Uint8Array, message: Uint8Array): Uint8Array {
  return Uint8Array.from(sign(null, message, privateKeyOf(seed)))
}

/** False too when the key is none. */
export function isSignedBy(publicKey: string, message: Uint8Array, signature: Uint8Array): boolean {
  if (!publicKeyPattern.test(publicKey) || signature.length !== 64) return false
  const spki = Buffer.concat([spkiPrefix, Buffer.from(publicKey, 'hex')])
  try {
    return verify(null, message, createPublicKey({ key: spki, format: 'der', type: 'spki' }), signature)
  } catch {
    return false
  }
}

/**
 * A certificate (RFC 5280) of the region's key, signed by that key: the envelope that TLS wants a key in. Nothing in it but the
 * key is looked at, and nobody looks at its dates, which are those that mean "no end" (4.1.2.5).
 */
export function selfCertificate(seed: Uint8Array, { randomness }: Pick<Environment, 'randomness'>): string {
  const serial = randomness.fill(new Uint8Array(16))
  serial[0] = ((serial[0] ?? 0) & 0x7f) | 0x40
  const ed25519 = der(0x30, Buffer.from('06032b6570', 'hex'))
  const name = der(
    0x30,
    der(0x31, der(0x30, Buffer.from('0603550403', 'hex'), der(0x0c, Buffer.from('Pando region')))),
  )
  const validity = der(
    0x30,
    der(0x17, Buffer.from('700101000000Z')),
    der(0x18, Buffer.from('99991231235959Z')),
  )
  const spki = createPublicKey(privateKeyOf(seed)).export({ format: 'der', type: 'spki' })
  const body = der(
    0x30,
    der(0xa0, der(0x02, Buffer.of(2))),
    der(0x02, serial),
    ed25519,
    name,
    validity,
    name,
    spki,
  )
  const signature = Buffer.concat([Buffer.of(0), signBy(seed, body)])
  return new X509Certificate(der(0x30, body, ed25519, der(0x03, signature))).toString()
}

/** Tag, length, contents (X.690, 8.1); at most 64 KiB. */
function der(tag: number, ...parts: readonly Uint8Array[]): Buffer {
  const contents = Buffer.concat(parts)
  const { length } = contents
  const head = length < 0x80 ? [length] : length < 0x100 ? [0x81, length] : [0x82, length >> 8, length & 0xff]
  return Buffer.concat([Buffer.of(tag, ...head), contents])
}
