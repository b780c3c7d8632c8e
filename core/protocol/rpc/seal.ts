import {
  type CipherGCM,
  createCipheriv,
  createDecipheriv,
  createHmac,
  createPrivateKey,
  createPublicKey,
  type DecipherGCM,
  diffieHellman,
  type KeyObject,
} from 'node:crypto'
import type { Randomness } from '../../contract/clock.ts'
import { ProtocolViolation, reasons } from './frame.ts'

/** Sealed frames of native/RPC.md: the keys of a session, and the records of each direction. */

/** Whether frames are sealed. auto: with every peer that can; required: or there is no session; off: never. */
export type EncryptMode = 'auto' | 'required' | 'off'

export const ciphers = { aes256Gcm: 1, chaCha20Poly1305: 2 } as const
/** For people; empty: none. */
export const cipherName = (cipher: number): string =>
  cipher === ciphers.aes256Gcm
    ? 'aes-256-gcm'
    : cipher === ciphers.chaCha20Poly1305
      ? 'chacha20-poly1305'
      : ''

/** Node's library has both; which is the faster one it does not tell, and where AES is slow the native side does not offer it. */
export const ownCiphers = ciphers.aes256Gcm | ciphers.chaCha20Poly1305

/** The bit of the one that both can, AES first; 0: none. */
export function chooseCipher(ours: number, theirs: number): number {
  const common = ours & theirs
  return (common & ciphers.aes256Gcm) !== 0 ? ciphers.aes256Gcm : common & ciphers.chaCha20Poly1305
}

export const exchangeBytes = 32
export const sealTagBytes = 16
/** Bytes under one key, each record counted for 32 more. */
export const rekeyBytes = 2 ** 36

// RFC 8410: what stands before the 32 bytes of a key in its DER form.
const privateKeyHead = Buffer.from('302e020100300506032b656e04220420', 'hex')
const publicKeyHead = Buffer.from('302a300506032b656e032100', 'hex')

/** One side of an X25519 exchange, for one session. */
export interface KeyExchange {
  /** 32 bytes. */
  readonly publicKey: Uint8Array
  /** Undefined when the other key is one of those that make every exchange come out the same. */
  agree(theirs: Uint8Array): Uint8Array | undefined
}

export function beginExchange(randomness: Randomness): KeyExchange {
  const secret = randomness.fill(new Uint8Array(exchangeBytes))
  const privateKey = createPrivateKey({
    key: Buffer.concat([privateKeyHead, secret]),
    format: 'der',
    type: 'pkcs8',
  })
  const der = createPublicKey(privateKey).export({ format: 'der', type: 'spki' })
  return {
    publicKey: Uint8Array.from(der.subarray(publicKeyHead.length)),
    agree(theirs) {
      try {
        return diffieHellman({ privateKey, publicKey: publicKeyOf(theirs) })
      } catch {
        return undefined
      }
    },
  }
}

const publicKeyOf = (bytes: Uint8Array): KeyObject =>
  createPublicKey({ key: Buffer.concat([publicKeyHead, bytes]), format: 'der', type: 'spki' })

export interface SealSecrets {
  readonly cipher: number
  /** Of what the client sends. */
  readonly client: Uint8Array
  readonly server: Uint8Array
}

/** Bound to the whole greeting: the payloads of its four steps. */
export function deriveSealSecrets(
  cipher: number,
  shared: Uint8Array,
  steps: readonly Uint8Array[],
  regionKey: Uint8Array,
): SealSecrets {
  const root = createHmac('sha256', regionKey).update(shared).digest()
  const greeting = steps.flatMap((step) => {
    const length = Buffer.alloc(4)
    length.writeUInt32LE(step.length)
    return [length, step]
  })
  const of = (role: string): Uint8Array =>
    expand(root, Buffer.from(`pando-rpc/1 seal ${role}\0`), ...greeting)
  return { cipher, client: of('client'), server: of('server') }
}

/** HKDF-Expand of RFC 5869, section 2.3, for one block. */
function expand(secret: Uint8Array, ...info: readonly Uint8Array[]): Uint8Array {
  const hmac = createHmac('sha256', secret)
  for (const part of info) hmac.update(part)
  return hmac.update(lastByte).digest()
}

const lastByte = Uint8Array.of(1)

/** The keys and nonces of one direction, record after record. */
class Records {
  readonly #cipher: number
  readonly #rekeyBytes: number
  #secret: Uint8Array
  #key: Uint8Array
  #iv: Uint8Array
  #records = 0
  #bytes = 0

  constructor(cipher: number, secret: Uint8Array, rekeyAfter: number) {
    this.#cipher = cipher
    this.#rekeyBytes = rekeyAfter
    this.#secret = secret
    this.#key = expand(secret, Buffer.from('key\0'))
    this.#iv = expand(secret, Buffer.from('iv\0')).subarray(0, 12)
  }

  /** For the next record, of so many bytes. */
  next(byteLength: number): {
    readonly name: 'aes-256-gcm'
    readonly key: Uint8Array
    readonly nonce: Uint8Array
  } {
    if (this.#bytes >= this.#rekeyBytes) {
      this.#secret = expand(this.#secret, Buffer.from('next\0'))
      this.#key = expand(this.#secret, Buffer.from('key\0'))
      this.#iv = expand(this.#secret, Buffer.from('iv\0')).subarray(0, 12)
      this.#records = 0
      this.#bytes = 0
    }
    const nonce = Buffer.from(this.#iv)
    const counter = Buffer.alloc(8)
    counter.writeBigUInt64LE(BigInt(this.#records))
    for (const [index, byte] of counter.entries()) nonce[4 + index] = (nonce[4 + index] ?? 0) ^ byte
    this.#records++
    this.#bytes += byteLength + 2 * sealTagBytes
    // The types know this one name only; both ciphers are used alike.
    const name = this.#cipher === ciphers.aes256Gcm ? 'aes-256-gcm' : ('chacha20-poly1305' as 'aes-256-gcm')
    return { name, key: this.#key, nonce }
  }
}

const tagLength = { authTagLength: sealTagBytes }

/** Seals the records of one direction. */
export class Sealer {
  readonly #records: Records

  constructor(cipher: number, secret: Uint8Array, rekeyAfter = rekeyBytes) {
    this.#records = new Records(cipher, secret, rekeyAfter)
  }

  /** The record of these bytes, its tag behind it. */
  seal(bytes: Uint8Array): readonly Uint8Array[] {
    const { name, key, nonce } = this.#records.next(bytes.length)
    const cipher: CipherGCM = createCipheriv(name, key, nonce, tagLength)
    const sealed = cipher.update(bytes)
    cipher.final()
    return [sealed, cipher.getAuthTag()]
  }
}

/** Opens those of the other direction. */
export class Opener {
  readonly #records: Records

  constructor(cipher: number, secret: Uint8Array, rekeyAfter = rekeyBytes) {
    this.#records = new Records(cipher, secret, rekeyAfter)
  }

  /** The next record, of so many bytes: feed `update`, then call `check` with its tag, and believe nothing before. */
  begin(byteLength: number): OpenRecord {
    const { name, key, nonce } = this.#records.next(byteLength)
    const decipher: DecipherGCM = createDecipheriv(name, key, nonce, tagLength)
    return {
      update: (bytes) => decipher.update(bytes),
      check(tag) {
        decipher.setAuthTag(tag)
        try {
          decipher.final()
        } catch {
          throw new ProtocolViolation(
            reasons.badSeal,
            'a sealed frame was changed, cut, repeated or put out of order',
          )
        }
      },
    }
  }
}

export interface OpenRecord {
  update(bytes: Uint8Array): Uint8Array
  /** ProtocolViolation: it is not what the peer sealed here. */
  check(tag: Uint8Array): void
}
