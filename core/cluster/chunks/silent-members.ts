import type { Clock } from '../../contract/clock.ts'
import { StorageError } from '../../contract/errors.ts'

/** A member that has not answered for so long holds nothing up any more: it is dead, or cut off from what it could still serve. */
const givenUpAfterMs = 3_600_000
/**
 * Nobody knows what it did between two questions that are further apart: its silence begins anew with the later one. Work that fails is done
 * again after twice as long each time, up to an hour: before that, questions are close enough for long enough.
 */
const mostApartMs = 2_400_000

/** Asks all other members the same; one that does not answer holds the question up, but not for ever. */
export class SilentMembers {
  readonly #clock: Clock
  /** Since when each has not answered, and when it was asked last; monotonic. */
  readonly #since = new Map<string, { readonly sinceMs: number; readonly askedMs: number }>()

  constructor(clock: Clock) {
    this.#clock = clock
  }

  /** Who did not answer the last question. */
  get silent(): readonly string[] {
    return [...this.#since.keys()]
  }

  /**
   * The answers of all who count. UNAVAILABLE names those who did not answer; those who have been silent for an hour are left out.
   * The signal's reason when it aborts: a question that was not waited for makes nobody silent.
   */
  async ask<T>(
    members: readonly string[],
    question: (member: string) => Promise<T>,
    signal?: AbortSignal,
  ): Promise<readonly T[]> {
    const { answers, missing, cause } = await this.askAnybody(members, question, signal)
    if (missing.length > 0) {
      throw new StorageError('UNAVAILABLE', `no answer from ${missing.toSorted().join(', ')}`, { cause })
    }
    return answers
  }

  /** The same for who can do without some of the answers: those of `missing` have not been silent for an hour yet. */
  async askAnybody<T>(
    members: readonly string[],
    question: (member: string) => Promise<T>,
    signal?: AbortSignal,
  ): Promise<{
    readonly answers: readonly T[]
    readonly missing: readonly string[]
    readonly cause?: unknown
  }> {
    for (const member of this.#since.keys()) if (!members.includes(member)) this.#since.delete(member)
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
          const nowMs = this.#clock.monotonic()
          const before = this.#since.get(member)
          const isOneSilence = before !== undefined && nowMs - before.askedMs <= mostApartMs
          const sinceMs = isOneSilence ? before.sinceMs : nowMs
          this.#since.set(member, { sinceMs, askedMs: nowMs })
          if (nowMs - sinceMs < givenUpAfterMs) {
            missing.push(member)
            cause = error
          }
          return []
        }
      }),
    )
    return { answers: answers.flat(), missing, cause }
  }
}
