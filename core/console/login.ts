import { createHash, createHmac, timingSafeEqual } from 'node:crypto'
import type { Clock, Randomness } from '../contract/clock.ts'
import { StorageError } from '../contract/errors.ts'
import { FailureBudget } from './failure-budget.ts'

/** A key as the console knows it. */
export interface ConsoleKey {
  readonly account: string
  readonly secretKey: string
  /** The root key: everything in S3 is open to it. */
  readonly root: boolean
  /** May administer. */
  readonly admin: boolean
}

/** undefined: no such key, or it is disabled. Asked with every request: a key that is revoked ends its sessions. */
export type FindConsoleKey = (accessKeyId: string) => ConsoleKey | undefined

export interface LoginRequest {
  readonly accessKeyId: string
  readonly challenge: string
  /** Hex. */
  readonly proof: string
}

const scheme = 'pando-console-v1'
/** From the challenge to the proof: as long as a slow machine needs, not a person. */
const challengeMs = 60_000
/** Log-ins within `challengeMs`; more are refused. Whoever has a key without rights cannot keep out who administers. */
export const loginLimits = { perAdmin: 4_096, perKey: 32, allKeys: 8_192 } as const

/**
 * Logging in without sending the secret: the caller proves with a challenge, which serves once, that it has it.
 *   proof = HMAC-SHA256(HMAC-SHA256(secret, "pando-console-v1"), "pando-console-v1" \n challenge \n key id)
 * Whoever listens on a way without TLS gets the session, but never the key. The derived key keeps these proofs apart from
 * S3's signatures and those of gRPC, which are made from the same secret.
 */
export class LoginDesk {
  readonly #clock: Clock
  readonly #randomness: Randomness
  readonly #findKey: FindConsoleKey
  readonly #failures: FailureBudget
  /** Challenges are not kept but signed: asking for many costs the asker, not us. */
  readonly #challengeKey: Buffer
  /** Challenges that were answered well, in the order in which they were. */
  readonly #answered = new Map<string, { readonly accessKeyId: string; readonly endsMs: number }>()
  readonly #answeredBy = new Map<string, number>()

  constructor(clock: Clock, randomness: Randomness, findKey: FindConsoleKey) {
    this.#clock = clock
    this.#randomness = randomness
    this.#findKey = findKey
    this.#failures = new FailureBudget(clock)
    this.#challengeKey = Buffer.from(randomness.fill(new Uint8Array(32)))
  }

  challenge(): string {
    const bytes = Buffer.alloc(24)
    this.#randomness.fill(bytes.subarray(0, 16))
    bytes.writeDoubleBE(this.#clock.monotonic() + challengeMs, 16)
    return Buffer.concat([bytes, this.#sealOf(bytes)]).toString('base64url')
  }

  /**
   * Answers the key that was proven. OVERLOADED after too many failures from there, or log-ins with the key; UNAUTHENTICATED, the
   * same for an unknown key and a wrong secret.
   */
  prove({ accessKeyId, challenge, proof }: LoginRequest, from: string): ConsoleKey {
    this.#failures.check(from)
    const key = this.#findKey(accessKeyId)
    // Computed whatever there is: the time taken tells nothing.
    const expected = proofOf(
      key?.secretKey ?? 'the secret of a key that does not exist',
      challenge,
      accessKeyId,
    )
    const given = /^[0-9a-f]{64}$/.test(proof) ? Buffer.from(proof, 'hex') : Buffer.alloc(32)
    const isProven = timingSafeEqual(expected, given)
    const isFresh = this.#isFresh(challenge)
    if (!isProven || !isFresh || key === undefined) {
      this.#failures.failed(from)
      throw new StorageError('UNAUTHENTICATED', 'the access key or its secret is not right')
    }
    this.#spend(challenge, accessKeyId, key.admin)
    return key
  }

  #sealOf(bytes: Buffer): Buffer {
    return createHmac('sha256', this.#challengeKey).update(bytes).digest().subarray(0, 16)
  }

  #isFresh(challenge: string): boolean {
    if (!/^[A-Za-z0-9_-]{54}$/.test(challenge)) return false
    const bytes = Buffer.from(challenge, 'base64url')
    if (bytes.length !== 40) return false
    const body = bytes.subarray(0, 24)
    if (!timingSafeEqual(this.#sealOf(body), bytes.subarray(24))) return false
    // The last digit of base64url carries bits that are not read: one challenge must not have several spellings.
    if (bytes.toString('base64url') !== challenge) return false
    return this.#clock.monotonic() < body.readDoubleBE(16) && !this.#answered.has(challenge)
  }

  #spend(challenge: string, accessKeyId: string, admin: boolean): void {
    const now = this.#clock.monotonic()
    for (const [spent, { accessKeyId: by, endsMs }] of this.#answered) {
      if (endsMs > now) break
      this.#answered.delete(spent)
      const left = (this.#answeredBy.get(by) ?? 1) - 1
      if (left === 0) this.#answeredBy.delete(by)
      else this.#answeredBy.set(by, left)
    }
    const own = this.#answeredBy.get(accessKeyId) ?? 0
    const isTooMany = admin
      ? own >= loginLimits.perAdmin
      : own >= loginLimits.perKey || this.#answered.size >= loginLimits.allKeys
    if (isTooMany) {
      throw new StorageError('OVERLOADED', 'too many log-ins in a minute', { retryAfterMs: challengeMs })
    }
    this.#answered.set(challenge, { accessKeyId, endsMs: now + challengeMs })
    this.#answeredBy.set(accessKeyId, own + 1)
  }
}

function proofOf(secretKey: string, challenge: string, accessKeyId: string): Buffer {
  const key = createHmac('sha256', secretKey).update(scheme).digest()
  return createHmac('sha256', key).update([scheme, challenge, accessKeyId].join('\n')).digest()
}

/** Changes with the secret and tells nothing of it. */
export const keyPrintOf = (key: ConsoleKey): string =>
  createHash('sha256').update(`pando-console-print\n${key.account}\n${key.secretKey}`).digest('base64')
