import type { Clock } from '../../contract/clock.ts'
import { StorageError } from '../../contract/errors.ts'

/** A member that has not answered for so long holds nothing up any more: it is dead, or cut off from what it could still serve. */
const givenUpAfterMs = 3_600_000
/** Whoever is silent is asked again so often, also while nobody has a question: work that fails may wait for hours before it asks again. */
const askAgainMs = 600_000
/**
 * Nobody knows what it did between two questions that are further apart, as when this machine slept: its silence begins anew with the
 * later one.
 */
const mostApartMs = 2_400_000

export interface SilentMembersParts {
  readonly members: () => readonly string[]
  /** A question that every member can answer; nobody needs the answer. It ends by itself, however silent the member is. */
  readonly knock: (member: string, signal: AbortSignal) => Promise<unknown>
  readonly clock: Clock
}

/** Asks all other members the same; one that does not answer holds the question up, but not for ever. */
export class SilentMembers {
  readonly #parts: SilentMembersParts
  /** Since when each has not answered, and when it was asked last; monotonic. */
  readonly #since = new Map<string, { readonly sinceMs: number; readonly askedMs: number }>()
  readonly #closing = new AbortController()
  #isWatching = false

  constructor(parts: SilentMembersParts) {
    this.#parts = parts
  }

  /**
   * The answers of all who count. UNAVAILABLE names those who did not answer; those who have been silent for an hour are left out.
   * The signal's reason when it aborts: a question that was not waited for makes nobody silent.
   */
  async ask<T>(question: (member: string) => Promise<T>, signal?: AbortSignal): Promise<readonly T[]> {
    const { answers, missing, cause } = await this.askAnybody(question, signal)
    if (missing.length > 0) {
      throw new StorageError('UNAVAILABLE', `no answer from ${missing.toSorted().join(', ')}`, { cause })
    }
    return answers
  }

  /**
   * The same for who can do without some of the answers. `silent`: all who gave none; those of `missing` have not been silent for an hour
   * yet.
   */
  async askAnybody<T>(
    question: (member: string) => Promise<T>,
    signal?: AbortSignal,
  ): Promise<{
    readonly answers: readonly T[]
    readonly silent: readonly string[]
    readonly missing: readonly string[]
    readonly cause?: unknown
  }> {
    const members = this.#parts.members()
    this.#forgetOthers(members)
    const silent: string[] = []
    const missing: string[] = []
    let cause: unknown
    const answers = await Promise.all(
      members.map(async (member): Promise<readonly T[]> => {
        try {
          const answer = await question(member)
          this.#since.delete(member)
          return [answer]
        } catch (error) {
          signal?.throwIfAborted()
          silent.push(member)
          if (this.#missed(member) < givenUpAfterMs) {
            missing.push(member)
            cause = error
          }
          return []
        }
      }),
    )
    if (this.#since.size > 0) void this.#watch()
    return { answers: answers.flat(), silent, missing, cause }
  }

  /** Nobody is asked any more. */
  close(): void {
    this.#closing.abort()
  }

  #forgetOthers(members: readonly string[]): void {
    for (const member of this.#since.keys()) if (!members.includes(member)) this.#since.delete(member)
  }

  /** For how long it has been silent now, in ms. */
  #missed(member: string): number {
    const nowMs = this.#parts.clock.monotonic()
    const before = this.#since.get(member)
    const isOneSilence = before !== undefined && nowMs - before.askedMs <= mostApartMs
    const sinceMs = isOneSilence ? before.sinceMs : nowMs
    this.#since.set(member, { sinceMs, askedMs: nowMs })
    return nowMs - sinceMs
  }

  /** One timer for all who are silent, and none when nobody is. Never rejects. */
  async #watch(): Promise<void> {
    const { signal } = this.#closing
    if (this.#isWatching || signal.aborted) return
    this.#isWatching = true
    const { clock, knock, members } = this.#parts
    try {
      while (this.#since.size > 0) {
        await clock.sleep(askAgainMs, signal)
        this.#forgetOthers(members())
        await Promise.all(
          [...this.#since.keys()].map(async (member) => {
            try {
              await knock(member, signal)
              this.#since.delete(member)
            } catch {
              // It may have answered somebody else meanwhile.
              if (!signal.aborted && this.#since.has(member)) this.#missed(member)
            }
          }),
        )
        signal.throwIfAborted()
      }
    } catch {
      // Closed.
    } finally {
      this.#isWatching = false
    }
  }
}
