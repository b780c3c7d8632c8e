import type { QuarantinedPolicy } from '../../core/contract/policy-deployment.ts'

const firstWaitMs = 60_000
const longestWaitMs = 24 * 3_600_000
/** After a day without a strike the next wait is a first one again. */
const forgetMs = 24 * 3_600_000
const rememberedMost = 256

/**
 * Modules that failed while they served, by digest: a request that brings a policy down must not bring it down again and again.
 * Every strike doubles the wait.
 */
export class Quarantine {
  readonly #entries = new Map<string, QuarantinedPolicy>()

  add(digest: string, reason: string, nowMs: number): QuarantinedPolicy {
    const before = this.#entries.get(digest)
    const strikes = before !== undefined && nowMs - before.untilMs < forgetMs ? before.strikes + 1 : 1
    const waitMs = Math.min(firstWaitMs * 2 ** (strikes - 1), longestWaitMs)
    const entry = { digest, reason, strikes, untilMs: nowMs + waitMs }
    this.#entries.delete(digest)
    this.#entries.set(digest, entry)
    for (const oldest of this.#entries.keys()) {
      if (this.#entries.size <= rememberedMost) break
      this.#entries.delete(oldest)
    }
    return entry
  }

  /** While it lasts. */
  find(digest: string, nowMs: number): QuarantinedPolicy | undefined {
    const entry = this.#entries.get(digest)
    return entry !== undefined && nowMs < entry.untilMs ? entry : undefined
  }

  list(nowMs: number): readonly QuarantinedPolicy[] {
    return [...this.#entries.values()].filter(({ untilMs }) => nowMs < untilMs)
  }

  /** When the next one ends: ms since the epoch. */
  nextEndMs(nowMs: number): number | undefined {
    const ends = this.list(nowMs).map(({ untilMs }) => untilMs)
    return ends.length === 0 ? undefined : Math.min(...ends)
  }
}
