import type { PolicyDecisions, PolicyFallbacks, PolicyHook } from '../../core/contract/policy.ts'
import type { PolicyInputs } from '../abi/json-values.ts'
import { toJsonValue } from '../abi/json-values.ts'
import { forEachHook } from './hook-names.ts'
import {
  askAdmit,
  askClassify,
  askPlan,
  askResolve,
  askSelect,
  type HookRunner,
  type PolicyDecisionOf,
} from './hook-runner.ts'
import { count } from './policy-counters.ts'
import type { PolicyVersion } from './policy-version.ts'

/** One policy in the chain. What has tripped abstains by itself: its runners have no instance. */
export interface ServingPolicy {
  readonly name: string
  readonly stable: PolicyVersion | undefined
  /** Serves the request hashes below its share. */
  readonly canary?: { readonly version: PolicyVersion; readonly percent: number }
  /** Asked too, never heard. */
  readonly shadow?: PolicyVersion
  /** Warm, from before: takes over in the same call when the others have no instance left. */
  readonly previous?: PolicyVersion
}

/** One policy of one hook, flat for the hot path. */
interface Link<H extends PolicyHook> {
  /** Serves what the canary does not; without an instance it abstains at once. */
  readonly stable: HookRunner<H> | undefined
  readonly canary: HookRunner<H> | undefined
  readonly canaryPercent: number
  readonly shadow: HookRunner<H> | undefined
  readonly previous: HookRunner<H> | undefined
}

type Chains = { readonly [H in PolicyHook]: readonly Link<H>[] }

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

/**
 * `PolicyDecisions` over the policies that serve, with the fallbacks behind them. Swapping what serves is one assignment; hooks are
 * synchronous, so no call sees half of it.
 */
export class ServingPolicies implements PolicyDecisions {
  readonly #fallbacks: PolicyFallbacks
  #policies: readonly ServingPolicy[] = []
  #chains: Chains = forEachHook(() => [])
  readonly fallbackCalls = forEachHook(() => 0)

  constructor(fallbacks: PolicyFallbacks) {
    this.#fallbacks = fallbacks
  }

  get policies(): readonly ServingPolicy[] {
    return this.#policies
  }

  replace(policies: readonly ServingPolicy[]): void {
    this.#policies = policies
    this.#chains = {
      select: linksOf(policies, 'select'),
      classify: linksOf(policies, 'classify'),
      admit: linksOf(policies, 'admit'),
      plan: linksOf(policies, 'plan'),
      resolve: linksOf(policies, 'resolve'),
    }
  }

  readonly select = makeDecide<'select'>(
    () => this.#chains.select,
    askSelect,
    (input) => this.#fall('select', input),
  )
  readonly classify = makeDecide<'classify'>(
    () => this.#chains.classify,
    askClassify,
    (input) => this.#fall('classify', input),
  )
  readonly admit = makeDecide<'admit'>(
    () => this.#chains.admit,
    askAdmit,
    (input) => this.#fall('admit', input),
  )
  readonly plan = makeDecide<'plan'>(
    () => this.#chains.plan,
    askPlan,
    (input) => this.#fall('plan', input),
  )
  readonly resolve = makeDecide<'resolve'>(
    () => this.#chains.resolve,
    askResolve,
    (input) => this.#fall('resolve', input),
  )

  #fall<H extends PolicyHook>(hook: H, input: PolicyInputs[H]): PolicyDecisionOf<H> {
    this.fallbackCalls[hook]++
    const decide = this.#fallbacks[hook] as (input: PolicyInputs[H]) => PolicyDecisionOf<H>
    return decide.call(this.#fallbacks, input)
  }
}

function linksOf<H extends PolicyHook>(policies: readonly ServingPolicy[], hook: H): readonly Link<H>[] {
  const runnerOf = (version: PolicyVersion | undefined) => version?.runners[hook] as HookRunner<H> | undefined
  return policies
    .map(
      (policy): Link<H> => ({
        stable: runnerOf(policy.stable),
        canary: runnerOf(policy.canary?.version),
        canaryPercent: policy.canary?.percent ?? 0,
        shadow: runnerOf(policy.shadow),
        previous: runnerOf(policy.previous),
      }),
    )
    .filter(({ stable, canary, shadow, previous }) => stable ?? canary ?? shadow ?? previous)
}

type Decide<H extends PolicyHook> = (input: PolicyInputs[H]) => PolicyDecisionOf<H>
type Ask<H extends PolicyHook> = (
  runner: HookRunner<H>,
  input: PolicyInputs[H],
) => PolicyDecisionOf<H> | undefined

function makeDecide<H extends PolicyHook>(
  chainOf: () => readonly Link<H>[],
  ask: Ask<H>,
  fall: Decide<H>,
): Decide<H> {
  return (input) => {
    const chain = chainOf()
    let decision: PolicyDecisionOf<H> | undefined
    let shadow: HookRunner<H> | undefined
    for (let at = 0; at < chain.length && decision === undefined; at++) {
      const link = chain[at] as Link<H>
      if (link.canary !== undefined && canaryBucket(input.requestHash) < link.canaryPercent) {
        decision = ask(link.canary, input)
        // A canary that abstains has answered; one that trapped or tripped is stood in for.
        if (decision !== undefined || link.canary.port !== undefined) continue
      }
      if (link.stable !== undefined) decision = ask(link.stable, input)
      if (decision === undefined && link.previous !== undefined && link.stable?.port === undefined) {
        decision = ask(link.previous, input)
      }
      shadow ??= link.shadow
    }
    decision ??= fall(input)
    if (shadow !== undefined) compareShadow(shadow, ask, decision, input)
    return decision
  }
}

function compareShadow<H extends PolicyHook>(
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
