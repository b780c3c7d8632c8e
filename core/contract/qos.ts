import type { PlannedClass } from './policy.ts'

/** How requests share the machine: what an operator writes, what schedulers are told, what can be asked afterwards. */

/** Classes that always exist, in this order; those of the configuration follow. */
export const builtinClasses = ['interactive', 'bulk', 'replication', 'repair', 'background'] as const

/** Position of the class of collection, scrub and what else nobody waits for. */
export const backgroundClass = builtinClasses.indexOf('background')

/** The `qos` section of the configuration, validated. Rates are per second, sizes bytes, times milliseconds. */
export interface QosConfig {
  readonly enabled: boolean
  /** Of requests that no rule and no policy has an opinion about. */
  readonly defaultClass: string
  readonly classes: Readonly<Record<string, QosClassConfig>>
  /** First match wins. */
  readonly rules: readonly QosRule[]
  /** For each name the best match counts: the exact name, else the first pattern. */
  readonly budgets: readonly QosBudget[]
  readonly tenantWeights: Readonly<Record<string, number>>
  /** Up to 8 of `tenant`, `access-key`, `bucket` or a header name: hashed for policies. */
  readonly attributes: readonly string[]
  readonly concurrency: QosConcurrency
  /** Between two plans. */
  readonly planInterval: number
  /** Requests that `explain` remembers. */
  readonly explainRequests: number
  /** Tenants, keys and buckets that state is kept for, each. */
  readonly trackedNames: number
}

export interface QosClassConfig {
  /** Share of what reservations leave. Weights and rates keep to `planBounds`. */
  readonly weight: number
  /** Cost units a second (`costUnits`) that the class gets in any case; 0 = none. */
  readonly reservation: number
  /** Cost units a second that it never exceeds; 0 = no limit. */
  readonly limit: number
  /** Cost units that may be taken at once after idleness; 0 = what the limit or reservation gives in 100 ms. */
  readonly burst: number
  /** Latency that policies aim at (p99); 0 = none. */
  readonly slo: number
  /** Requests that may wait; more are shed. */
  readonly queueLimit: number
  /** A request that has waited for so long is shed. */
  readonly queueTimeout: number
}

/** Conditions that are absent hold always. Names may have `*` anywhere. */
export interface QosRule {
  readonly class: string
  readonly priority: number
  readonly tenant?: string | undefined
  readonly accessKey?: string | undefined
  readonly bucket?: string | undefined
  readonly key?: string | undefined
  readonly operations?: readonly string[] | undefined
  readonly minBytes?: number | undefined
  readonly maxBytes?: number | undefined
}

/** Exactly one of the four names says whose budget it is. Each name that a pattern matches has a budget of its own. */
export interface QosBudget {
  readonly tenant?: string | undefined
  readonly accessKey?: string | undefined
  readonly bucket?: string | undefined
  readonly class?: string | undefined
  /** 0 = no limit, of each. */
  readonly requests: number
  readonly bytesIn: number
  readonly bytesOut: number
  /** Time whose allowance may be used at once after idleness. */
  readonly burst: number
}

export interface QosConcurrency {
  /** Requests that work at the same time; `auto`: from measured latency. Binds only while tenants or classes compete. */
  readonly limit: 'auto' | number
  /** Bounds of `auto`. */
  readonly minimum: number
  readonly maximum: number
}

/**
 * What a request costs in the units of reservations and limits: 1 for at most 4 KiB, and 1 for every further 64 KiB begun
 * (on flash the fixed part of a request weighs as much as moving some tens of KiB). Unknown sizes count as small.
 */
export function costUnits(byteLength: number): number {
  return byteLength <= 4096 ? 1 : 1 + Math.ceil((byteLength - 4096) / 65_536)
}

/**
 * Between which a plan's numbers lie when schedulers get them; a reservation, limit or burst may also be 0. A policy may say less or
 * more: the nearest bound counts then. By a weight or a rate of next to nothing one request would be charged more time than there is,
 * and what was charged is still there when the plan is not.
 */
export const planBounds = { leastWeight: 0.001, mostWeight: 1e6, leastRate: 0.001, mostRate: 1e12 } as const

/** Names behind the dense indexes that policies see. Index 0 of tenants and buckets means `any other`. */
export interface PolicyTables {
  readonly classes: readonly string[]
  readonly tenants: readonly string[]
  readonly buckets: readonly string[]
}

/** The numbers of one moment for every class, in the order of `PolicyTables.classes`. */
export interface QosPlan {
  /** Grows with every plan of this process. */
  readonly epoch: number
  /** Name and version of the policy that planned, `fallback` when none did. */
  readonly policy: string
  readonly classes: readonly QosPlanEntry[]
}

export interface QosPlanEntry extends PlannedClass {
  readonly name: string
}

/** A scheduler that enforces plans: the gateway's, and that of the data plane. */
export interface PlanSink {
  /** Called with the first plan before any work, then whenever numbers change. Idempotent; at once; never throws. */
  applyPlan(plan: QosPlan): void
}

/** Why one request was treated as it was. */
export interface QosExplanation {
  readonly requestId: string
  /** ms since the epoch. */
  readonly atMs: number
  readonly operation: string
  readonly tenant: string
  readonly bucket: string | undefined
  readonly byteLength: number
  readonly class: string
  readonly priority: number
  /** The policies that classified and admitted, with versions, and their reasons (codes of their manifests). */
  readonly classifiedBy: string
  readonly classifyReason: number
  readonly admittedBy: string
  readonly admitReason: number
  /** What the policy was shown of the tightest budget; 1e9 tokens = none applied. */
  readonly tokens: number
  readonly tokenWaitMs: number
  readonly queueDepth: number
  readonly inFlight: number
  readonly concurrencyLimit: number
  readonly outcome: 'waiting' | 'running' | 'ended' | 'shed' | 'gone'
  /** In words: why it waited or was shed; empty when it started at once. */
  readonly reason: string
  readonly queuedMs: number
  /** Waits for budgets of bytes, together. */
  readonly pacedMs: number
}

export interface QosClassStatus {
  readonly name: string
  readonly planned: PlannedClass
  readonly admitted: number
  readonly delayed: number
  readonly shed: number
  readonly queued: number
  readonly inFlight: number
  readonly p50Ms: number
  readonly p99Ms: number
}

export interface QosStatus {
  readonly concurrencyLimit: number
  /** Several tenants or classes were seen lately, so the limit binds. */
  readonly competing: boolean
  readonly inFlight: number
  readonly planEpoch: number
  readonly planPolicy: string
  readonly classes: readonly QosClassStatus[]
}

/** For the admin service: questions about what happened. */
export interface QosInspection {
  /** Undefined when the request is not among the last ones. */
  explain(requestId: string): QosExplanation | undefined
  /** Newest first. */
  recent(count: number): readonly QosExplanation[]
  status(): QosStatus
}
