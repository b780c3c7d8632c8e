import type { PolicyCounters } from '../../core/contract/policy-deployment.ts'

/** Calls between two whose time and fuel are taken: a power of two. */
export const sampleEvery = 64
const keptSamples = 256
/** Reason codes below this are counted one by one, the rest together. */
const reasonCodes = 63

/** Places in `HookCounters.values`: one typed array, so that counting allocates nothing. */
export const count = {
  calls: 0,
  decisions: 1,
  abstentions: 2,
  errors: 3,
  traps: 4,
  outOfFuel: 5,
  invalidOutputs: 6,
  samples: 7,
  sampledNs: 8,
  sampledFuel: 9,
  compared: 10,
  differed: 11,
} as const

/** What one hook of one version did on this node. Grows only. */
export class HookCounters {
  readonly values = new Float64Array(Object.keys(count).length)
  readonly reasons = new Float64Array(reasonCodes + 1)
  /** ns of the last samples. */
  readonly #recentNs = new Float64Array(keptSamples)

  countReason(reason: number): void {
    const at = Math.min(reason, reasonCodes)
    this.reasons[at] = (this.reasons[at] as number) + 1
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
      calls: this.get('calls'),
      decisions: this.get('decisions'),
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
