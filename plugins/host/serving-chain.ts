import type { PolicyFallbacks, PolicyHook } from '../../core/contract/policy.ts'
import { type PolicyInputs, toJsonValue } from '../abi/json-values.ts'
import type { Ask, HookRunner, PolicyDecisionOf } from './hook-runner.ts'
import { count } from './policy-counters.ts'

/** One policy of one hook, flat for the hot path. */
export interface Link<H extends PolicyHook> {
  /** Serves what the canary does not; without an instance it abstains at once. */
  readonly stable: HookRunner<H> | undefined
  readonly canary: HookRunner<H> | undefined
  readonly canaryPercent: number
  readonly shadow: HookRunner<H> | undefined
  readonly previous: HookRunner<H> | undefined
}

export type Chains = { readonly [H in PolicyHook]: readonly Link<H>[] }

/** What a decision goes through: the chain of its hook, and the fallback behind it. */
export interface Serving {
  readonly chains: Chains
  /** Of a chain that is one policy without a trial: no more has to be looked at for most calls. */
  readonly soles: { readonly [H in PolicyHook]: HookRunner<H> | undefined }
  readonly fallbacks: PolicyFallbacks
  readonly fallbackCalls: Record<PolicyHook, number>
}

/**
 * The share of request hashes that a canary gets: the same hash falls on the same side on every node and at every retry, and a
 * growing share only adds. 0 to 99.
 */
export function canaryBucket(requestHash: bigint): number {
  const low = Number(BigInt.asUintN(32, requestHash))
  const high = Number(BigInt.asUintN(32, requestHash >> 32n))
  // Neighbouring hashes are spread (Knuth's multiplicative hashing, murmur3's finalizer).
  let mixed = Math.imul(low ^ Math.imul(high, 0x9e3779b1), 0x85ebca6b)
  mixed = Math.imul(mixed ^ (mixed >>> 13), 0xc2b2ae35)
  return ((mixed ^ (mixed >>> 16)) >>> 0) % 100
}

/** Asks the version in the shadow too, and counts whether it would have decided alike. */
export function compareShadow<H extends PolicyHook>(
  shadow: HookRunner<H>,
  ask: Ask<H>,
  served: PolicyDecisionOf<H>,
  input: PolicyInputs[H],
): void {
  const decision = ask(shadow, input)
  if (decision === undefined) return
  const { values } = shadow.counters
  values[count.compared] = (values[count.compared] as number) + 1
  if (!decideAlike(decision, served)) values[count.differed] = (values[count.differed] as number) + 1
}

/** But for who decided, and why. */
function decideAlike(one: object, other: object): boolean {
  return essence(one) === essence(other)
}

function essence(decision: object): string {
  const { policy, reason, ...rest } = { policy: '', reason: 0, ...decision }
  return JSON.stringify(toJsonValue(rest), sortKeys)
}

function sortKeys(_: string, value: unknown): unknown {
  if (typeof value !== 'object' || value === null || Array.isArray(value)) return value
  return Object.fromEntries(Object.entries(value).toSorted(([a], [b]) => (a < b ? -1 : 1)))
}
