import type { PolicyCounters } from '../../core/contract/policy-deployment.ts'

/** Calls of a version that are all shown by `explain` and never measured: they run code that is not yet compiled. */
export const firstCalls = 16
/** Calls between two whose time and fuel are taken, while a version is new and once it has been judged. */
const sampleEvery = 64
/** A sample costs as much as ten calls. */
export const sampleSeldom = 1_024
const keptSamples = 256
/** Calls after which all kept samples were replaced three times, so that a slow version has been found out: a multiple of `sampleSeldom`. */
const newCalls = 4 * keptSamples * sampleEvery
/** Reason codes below this are counted one by one, the rest together. */
const reasonCodes = 63

/** Places in `HookCounters.values`: one typed array, so that counting allocates nothing. */
export const count = {
  abstentions: 0,
  errors: 1,
  traps: 2,
  outOfFuel: 3,
  invalidOutputs: 4,
  samples: 5,
  sampledNs: 6,
  sampledFuel: 7,
  compared: 8,
  differed: 9,
} as const

/** What one hook of one version did on this node. Grows only. */
export class HookCounters {
  readonly values = new Float64Array(Object.keys(count).length)
  readonly reasons = new Float64Array(reasonCodes + 1)
  /** ns of the last samples. */
  readonly #recentNs = new Float64Array(keptSamples)
  readonly #callsLeft: () => number
  #interval = 1
  #callsBefore = 0

  /** `callsLeft`: until the next call that is sampled, of those that `nextInterval` has said, 1 at first. */
  constructor(callsLeft: () => number) {
    this.#callsLeft = callsLeft
  }

  get calls(): number {
    return this.#callsBefore + this.#interval - this.#callsLeft()
  }

  /** Each of them has a reason. */
  get decisions(): number {
    let sum = 0
    for (const times of this.reasons) sum += times
    return sum
  }

  nextInterval(): number {
    this.#callsBefore += this.#interval
    const every = this.#callsBefore < newCalls ? sampleEvery : sampleSeldom
    this.#interval = this.#callsBefore < firstCalls ? 1 : every - (this.#callsBefore % every)
    return this.#interval
  }

  countReason(reason: number): void {
    const at = Math.min(reason, reasonCodes)
    this.reasons[at] = (this.reasons[at] as number) + 1
  }

  /** A reason below 64: the last of them is not told from those above. */
  countReasonBelow(reason: number): void {
    this.reasons[reason] = (this.reasons[reason] as number) + 1
  }

  sample(ns: number, fuel: number): void {
    const { values } = this
    const samples = values[count.samples] as number
    this.#recentNs[samples % keptSamples] = ns
    values[count.samples] = samples + 1
    values[count.sampledNs] = (values[count.sampledNs] as number) + ns
    values[count.sampledFuel] = (values[count.sampledFuel] as number) + fuel
  }

  get(name: keyof typeof count): number {
    return this.values[count[name]] as number
  }

  /** Of the last 256 samples; 0 before there is one. */
  p99Ns(): number {
    const samples = Math.min(this.get('samples'), keptSamples)
    if (samples === 0) return 0
    const sorted = this.#recentNs.slice(0, samples).sort()
    return sorted[Math.ceil(samples * 0.99) - 1] ?? 0
  }

  snapshot(): PolicyCounters {
    const reasons: Record<string, number> = {}
    for (const [reason, times] of this.reasons.entries()) {
      if (times > 0) reasons[reason < reasonCodes ? String(reason) : 'other'] = times
    }
    return {
      calls: this.calls,
      decisions: this.decisions,
      abstentions: this.get('abstentions'),
      errors: this.get('errors'),
      traps: this.get('traps'),
      outOfFuel: this.get('outOfFuel'),
      invalidOutputs: this.get('invalidOutputs'),
      samples: this.get('samples'),
      sampledNs: this.get('sampledNs'),
      sampledFuel: this.get('sampledFuel'),
      p99Ns: this.p99Ns(),
      compared: this.get('compared'),
      differed: this.get('differed'),
      reasons,
    }
  }
}
