import {
  createCipheriv,
  createDecipheriv,
  createHash,
  createHmac,
  hkdfSync,
  timingSafeEqual,
} from 'node:crypto'
import type { Clock, Randomness } from '../contract/clock.ts'
import { StorageError } from '../contract/errors.ts'

/**
 * How a caller over TCP proves that it holds the root key, without sending it. Four metadata entries; the signature is
 *   HMAC-SHA256(HMAC-SHA256(secret, "pando-admin-v1"), lines)
 *   lines = "pando-admin-v1", method path, key id, time (ms), nonce (32 hex), SHA-256 of the message (hex), joined by \n
 * The derived key keeps these signatures apart from S3's, which are made from the same secret.
 */
export interface SignedMetadata {
  readonly 'pando-key': string
  readonly 'pando-time': string
  readonly 'pando-nonce': string
  readonly 'pando-signature': string
}

export interface AdminKeys {
  readonly accessKeyId: string
  readonly secretKey: string
}

const scheme = 'pando-admin-v1'

/** Clocks of caller and node may differ by so much; also how long a nonce must be remembered, on either side. */
export const maxSkewMs = 60_000

/** Nonces remembered; beyond it calls are refused rather than forgotten. 500 signed calls a second for two minutes. */
const maxNonces = 65_536

export function signCall(
  keys: AdminKeys,
  method: string,
  body: Uint8Array,
  nowMs: number,
  nonce: string,
): SignedMetadata {
  const time = String(nowMs)
  return {
    'pando-key': keys.accessKeyId,
    'pando-time': time,
    'pando-nonce': nonce,
    'pando-signature': sign(adminKey(keys.secretKey), method, keys.accessKeyId, time, nonce, body).toString(
      'hex',
    ),
  }
}

export function makeNonce(randomness: Randomness): string {
  return Buffer.from(randomness.fill(new Uint8Array(16))).toString('hex')
}

function adminKey(secretKey: string): Buffer {
  return createHmac('sha256', secretKey).update(scheme).digest()
}

function sign(
  key: Buffer,
  method: string,
  accessKeyId: string,
  time: string,
  nonce: string,
  body: Uint8Array,
): Buffer {
  const digest = createHash('sha256').update(body).digest('hex')
  return createHmac('sha256', key)
    .update([scheme, method, accessKeyId, time, nonce, digest].join('\n'))
    .digest()
}

export interface CallVerifier {
  /**
   * Returns the nonce of an authentic call, first seen now. UNAUTHENTICATED otherwise, with the same message for an
   * unknown key and a wrong signature; REQUEST_TIME_TOO_SKEWED only after the signature held.
   */
  verify(
    method: string,
    metadata: (name: keyof SignedMetadata) => string | undefined,
    body: Uint8Array,
  ): string
}

/** `nonceLimit`: nonces remembered in two minutes; calls beyond are refused. */
export function createCallVerifier(keys: AdminKeys, clock: Clock, nonceLimit = maxNonces): CallVerifier {
  const key = adminKey(keys.secretKey)
  const keyIdDigest = digestOf(keys.accessKeyId)
  // Calls signed before this process began may have been answered by the one before, whose nonces are gone.
  const startedMs = clock.now()
  // Two generations: the older one is dropped once everything in it is too old to be accepted again.
  let current = new Set<string>()
  let previous = new Set<string>()
  let turnedMs = clock.monotonic()

  return {
    verify(method, metadata, body) {
      const accessKeyId = metadata('pando-key') ?? ''
      const time = metadata('pando-time') ?? ''
      const nonce = metadata('pando-nonce') ?? ''
      const signature = metadata('pando-signature') ?? ''
      if (accessKeyId === '' && signature === '') {
        throw new StorageError('UNAUTHENTICATED', 'the admin service wants calls signed with the root key')
      }
      if (accessKeyId.length > 128 || !/^\d{1,16}$/.test(time) || !/^[0-9a-f]{32}$/.test(nonce)) {
        throw new StorageError('UNAUTHENTICATED', 'the signature metadata is malformed')
      }
      const expected = sign(key, method, accessKeyId, time, nonce, body)
      const given = /^[0-9a-f]{64}$/.test(signature) ? Buffer.from(signature, 'hex') : Buffer.alloc(32)
      // Both are computed whatever the other says: the time taken tells nothing.
      const isSigned = timingSafeEqual(expected, given)
      const isRoot = timingSafeEqual(digestOf(accessKeyId), keyIdDigest)
      if (!isSigned || !isRoot) {
        throw new StorageError('UNAUTHENTICATED', 'the call is not signed with the root key of this node')
      }
      refuseOutOfTime(Number(time))
      refuseReplay(nonce)
      return nonce
    },
  }

  function refuseOutOfTime(signedMs: number): void {
    const skewMs = signedMs - clock.now()
    if (Math.abs(skewMs) > maxSkewMs) {
      const seconds = Math.round(Math.abs(skewMs) / 1000)
      throw new StorageError(
        'REQUEST_TIME_TOO_SKEWED',
        `the caller's clock is ${seconds} s ${skewMs > 0 ? 'ahead of' : 'behind'} the node's (60 s are allowed)`,
      )
    }
    if (signedMs < startedMs) {
      throw new StorageError(
        'REQUEST_TIME_TOO_SKEWED',
        "the call was signed before the node started, by the node's clock: try again",
      )
    }
  }

  function refuseReplay(nonce: string): void {
    const now = clock.monotonic()
    // A nonce is acceptable for at most 2 x maxSkewMs: from maxSkewMs ahead to maxSkewMs behind.
    if (now - turnedMs > 2 * maxSkewMs) {
      previous = now - turnedMs > 4 * maxSkewMs ? new Set() : current
      current = new Set()
      turnedMs = now
    }
    if (current.has(nonce) || previous.has(nonce)) {
      throw new StorageError('UNAUTHENTICATED', 'the call was sent before: a replay')
    }
    if (current.size >= nonceLimit) {
      throw new StorageError('OVERLOADED', 'too many admin calls in two minutes')
    }
    current.add(nonce)
  }
}

/** Who may read a secret in a call or its answer: holders of the root key, and only for this call. */
export function sealForCall(
  keys: AdminKeys,
  nonce: string,
  direction: 'request' | 'reply',
  text: string,
): Uint8Array {
  // The key is used once (the nonce of the call is in it), so a constant IV is safe.
  const cipher = createCipheriv('aes-256-gcm', callKey(keys, nonce, direction), Buffer.alloc(12))
  const sealed = Buffer.concat([cipher.update(text, 'utf8'), cipher.final()])
  return new Uint8Array(Buffer.concat([cipher.getAuthTag(), sealed]))
}

/** UNAUTHENTICATED when it was changed or sealed for another call. */
export function unsealForCall(
  keys: AdminKeys,
  nonce: string,
  direction: 'request' | 'reply',
  sealed: Uint8Array,
): string {
  try {
    const decipher = createDecipheriv('aes-256-gcm', callKey(keys, nonce, direction), Buffer.alloc(12), {
      authTagLength: 16,
    })
    decipher.setAuthTag(sealed.subarray(0, 16))
    return Buffer.concat([decipher.update(sealed.subarray(16)), decipher.final()]).toString('utf8')
  } catch (error) {
    throw new StorageError('UNAUTHENTICATED', 'a secret in the call is not sealed with the root key', {
      cause: error,
    })
  }
}

function callKey(keys: AdminKeys, nonce: string, direction: string): Buffer {
  return Buffer.from(hkdfSync('sha256', adminKey(keys.secretKey), nonce, `${scheme} ${direction}`, 32))
}

function digestOf(text: string): Buffer {
  return createHash('sha256').update(text).digest()
}
