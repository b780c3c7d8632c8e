import type { PolicyHook } from '../../core/contract/policy.ts'

export type { PolicyHook } from '../../core/contract/policy.ts'

/** What a policy said when it was asked. */
export interface PolicyAnswer {
  readonly status: 'decided' | 'abstain' | 'failed'
  /** JSON form, as in golden vectors; only when decided. */
  readonly decision?: Readonly<Record<string, unknown>>
  /** Why it failed: its own error, a trap, or a decision that a node would not take. */
  readonly problem?: string
  /** Instructions, as a node counts them: the same number on every machine. */
  readonly fuel: number
}

/** The names behind the numbers of inputs and decisions: of classes, accounts and buckets. */
export interface PolicyTables {
  readonly classes: readonly string[]
  readonly tenants: readonly string[]
  readonly buckets: readonly string[]
}

export interface OpenPolicyOptions {
  /** For `pando_init`. */
  readonly settings?: Readonly<Record<string, unknown>>
  /** Default: those that golden vectors have; of a recorded trace its own. */
  readonly tables?: Partial<PolicyTables>
  /** What the policy logs. */
  onLog?(level: number, text: string): void
}

/** One golden vector as it was answered. */
export interface VectorOutcome {
  readonly name: string
  readonly hook: PolicyHook
  readonly fuel: number
  /** Absent: as expected. */
  readonly difference?: string
}

export interface ChangedDecision {
  /** Of the decision in the trace, from 1. */
  readonly record: number
  readonly hook: PolicyHook
  readonly before: string
  readonly after: string
}

export interface PolicyComparison {
  readonly asked: number
  readonly same: number
  readonly changed: number
  /** Left to the next policy, on both sides; in a replay: by the policy. */
  readonly notDecided: number
  readonly failed: number
  /** How often a decision became which other one, most frequent first. */
  readonly transitions: readonly {
    readonly hook: PolicyHook
    readonly from: string
    readonly to: string
    readonly count: number
  }[]
  /** The first ones, as many as were asked for. */
  readonly examples: readonly ChangedDecision[]
}

export interface CompareOptions {
  readonly settings?: Readonly<Record<string, unknown>>
  /** How many changed decisions are told one by one. Default 10. */
  readonly examples?: number
}
