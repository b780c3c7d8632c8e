import type { Clock } from '../../contract/clock.ts'
import { StorageError } from '../../contract/errors.ts'

/** A member that has not answered for so long holds nothing up any more: it is dead, or cut off from what it could still serve. */
const givenUpAfterMs = 3_600_000

/** Asks all other members the same; one that does not answer holds the question up, but not for ever. */
export class SilentMembers {
  readonly #clock: Clock
  /** Since when each has not answered, monotonic. */
  readonly #since = new Map<string, number>()

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
    for (const member of this.#since.keys()) if (!members.includes(member)) this.#since.delete(member)
    const silent: string[] = []
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
          const sinceMs = this.#since.get(member) ?? nowMs
          this.#since.set(member, sinceMs)
          if (nowMs - sinceMs < givenUpAfterMs) {
            silent.push(member)
            cause = error
          }
          return []
        }
      }),
    )
    if (silent.length > 0) {
      throw new StorageError('UNAVAILABLE', `no answer from ${silent.toSorted().join(', ')}`, { cause })
    }
    return answers.flat()
  }
}
