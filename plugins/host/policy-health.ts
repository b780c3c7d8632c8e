import type { PolicyHook } from '../../core/contract/policy.ts'
import type { CallFault } from './hook-runner.ts'
import type { HookCounters } from './policy-counters.ts'

/** Calls before a rate says anything, and calls after which it starts anew. */
const rateCallsLeast = 1_000
const rateCallsMost = 10_000
const trapRateMost = 0.001
/** A policy that does nothing but trap need not do so a thousand times. */
const trapsInARowMost = 5
/** Samples that a comparison of times needs: 256 kept ones, so each verdict is over fresh ones. */
const comparedSamples = 256
const slowerMost = 2
/** Below this a difference is the clock's and the collector's, not the policy's. */
const slowerByNsLeast = 5_000
/** What a version must burn more than the one before it, to be to blame for time that passed after that one had stopped. */
const moreFuelLeast = 1.2
/** Verdicts in a row: one pause of the machine is no reason to roll back. */
const slowVerdicts = 2

/** The same hook of the version that it follows. */
export interface HealthBaseline {
  readonly counters: HookCounters
  /** Both are asked at the same time, so that a slow machine slows both. */
  readonly isLive: boolean
}

/**
 * Whether a version may go on serving: any invalid output, more than 0.1 % of at least 1000 calls trapped, five traps in a row,
 * or twice the time of the version before it (99th percentile, twice in a row, and not by the machine alone).
 */
export class PolicyHealth {
  readonly #counters: readonly HookCounters[]
  #baselineOf: ((at: number) => HealthBaseline | undefined) | undefined
  #windowCalls = 0
  #windowTraps = 0
  #trapsInARow = 0
  #decisionsAtLastTrap = -1
  readonly #judged: number[]
  readonly #slow: number[]

  constructor(counters: readonly HookCounters[]) {
    this.#counters = counters
    this.#judged = counters.map(() => 0)
    this.#slow = counters.map(() => 0)
  }

  /** What each of its hooks is compared with from now on. */
  compareWith(baselineOf: ((at: number) => HealthBaseline | undefined) | undefined): void {
    this.#baselineOf = baselineOf
  }

  /** After a fault: why the version must not serve any more. */
  noteFault(hook: PolicyHook, fault: CallFault): string | undefined {
    if (fault.kind === 'invalid-output') return `invalid output of ${hook}: ${fault.message}`
    if (fault.kind === 'error') return undefined
    const decisions = this.#sum(({ decisions }) => decisions) + this.#sum((of) => of.get('abstentions'))
    this.#trapsInARow = decisions === this.#decisionsAtLastTrap ? this.#trapsInARow + 1 : 1
    this.#decisionsAtLastTrap = decisions
    if (this.#trapsInARow >= trapsInARowMost) {
      return `${hook} trapped ${trapsInARowMost} times in a row: ${fault.message}`
    }
    return this.check(fault.message)
  }

  /** At a sample, and after a trap. */
  check(lastTrap = ''): string | undefined {
    const calls = this.#sum(({ calls: all }) => all) - this.#windowCalls
    const traps = this.#sum((of) => of.get('traps')) - this.#windowTraps
    if (calls >= rateCallsLeast && traps > calls * trapRateMost) {
      return `${traps} of ${calls} calls trapped, more than ${trapRateMost * 100} %${lastTrap === '' ? '' : `: ${lastTrap}`}`
    }
    if (calls >= rateCallsMost) {
      this.#windowCalls += calls
      this.#windowTraps += traps
    }
    return this.#checkTimes()
  }

  #checkTimes(): string | undefined {
    for (let at = 0; at < this.#counters.length; at++) {
      const counters = this.#counters[at] as HookCounters
      const samples = counters.get('samples')
      if (samples - (this.#judged[at] ?? 0) < comparedSamples) continue
      this.#judged[at] = samples
      const baseline = this.#baselineOf?.(at)
      const before = baseline?.counters.p99Ns() ?? 0
      const now = counters.p99Ns()
      const isSlow =
        before > 0 &&
        now > before * slowerMost &&
        now - before > slowerByNsLeast &&
        (baseline?.isLive === true || burnsMore(counters, baseline?.counters))
      const times = isSlow ? (this.#slow[at] ?? 0) + 1 : 0
      this.#slow[at] = times
      if (times >= slowVerdicts) {
        return `decisions take ${Math.round(now)} ns (p99), more than twice the ${Math.round(before)} ns of the version before`
      }
    }
    return undefined
  }

  #sum(of: (counters: HookCounters) => number): number {
    let total = 0
    for (const counters of this.#counters) total += of(counters)
    return total
  }
}

/** Fuel is the same on every machine at every load: a version that burns no more than the one before is not what became slow. */
function burnsMore(counters: HookCounters, before: HookCounters | undefined): boolean {
  const fuel = (of: HookCounters | undefined) =>
    of === undefined ? 0 : of.get('sampledFuel') / of.get('samples')
  return fuel(counters) > fuel(before) * moreFuelLeast
}
