import { createHash } from 'node:crypto'
import type { Clock, Randomness } from '../contract/clock.ts'

/** Whose the browser is. */
export interface Session {
  readonly accessKeyId: string
  /** Changes with the secret of the key: a session does not outlive what it was opened with. */
  readonly keyPrint: string
  /** Its key administers: it is not pushed out by those that do not. */
  readonly admin: boolean
  /** When it ends whatever its owner does, monotonic ms. */
  readonly endsMs: number
  /** When it ends unless it is used. */
  idleEndsMs: number
}

export const sessionLimits = {
  /** Without a request; a page that is open asks all the time. */
  idleMs: 30 * 60_000,
  lifeMs: 12 * 3_600_000,
  all: 1024,
  perKey: 32,
} as const

/**
 * Sessions of the console, in memory: a restart ends them all. Of the token only a digest is kept, and it is what is looked
 * up, so neither a look into memory nor the time of a look-up tells one.
 */
export class SessionStore {
  readonly #clock: Clock
  readonly #randomness: Randomness
  /** In the order in which they were last used. */
  readonly #sessions = new Map<string, Session>()

  constructor(clock: Clock, randomness: Randomness) {
    this.#clock = clock
    this.#randomness = randomness
  }

  /** Answers the token: 32 random bytes that nobody has seen before, whatever the caller showed. */
  open({ accessKeyId, keyPrint, admin }: Pick<Session, 'accessKeyId' | 'keyPrint' | 'admin'>): string {
    const now = this.#clock.monotonic()
    this.#dropEnded(now)
    const own = [...this.#sessions].filter(([, session]) => session.accessKeyId === accessKeyId)
    if (own.length >= sessionLimits.perKey) this.#sessions.delete(own[0]?.[0] ?? '')
    if (this.#sessions.size >= sessionLimits.all) {
      const all = [...this.#sessions]
      const [oldest] = all.find(([, session]) => !session.admin) ?? all[0] ?? []
      if (oldest !== undefined) this.#sessions.delete(oldest)
    }
    const token = Buffer.from(this.#randomness.fill(new Uint8Array(32))).toString('base64url')
    this.#sessions.set(digestOf(token), {
      accessKeyId,
      keyPrint,
      admin,
      endsMs: now + sessionLimits.lifeMs,
      idleEndsMs: now + sessionLimits.idleMs,
    })
    return token
  }

  find(token: string): Session | undefined {
    const digest = digestOf(token)
    const session = this.#sessions.get(digest)
    if (session === undefined) return undefined
    const now = this.#clock.monotonic()
    this.#sessions.delete(digest)
    if (now >= session.endsMs || now >= session.idleEndsMs) return undefined
    session.idleEndsMs = now + sessionLimits.idleMs
    this.#sessions.set(digest, session)
    return session
  }

  close(token: string): void {
    this.#sessions.delete(digestOf(token))
  }

  /** Ends those that are not to be any more: a key that is revoked and given back must not bring its sessions back. */
  keep(isGood: (session: Session) => boolean): void {
    for (const [digest, session] of this.#sessions) if (!isGood(session)) this.#sessions.delete(digest)
  }

  get size(): number {
    return this.#sessions.size
  }

  #dropEnded(now: number): void {
    for (const [digest, { endsMs, idleEndsMs }] of this.#sessions)
      if (now >= endsMs || now >= idleEndsMs) this.#sessions.delete(digest)
  }
}

const digestOf = (token: string): string => createHash('sha256').update(token).digest('base64')
