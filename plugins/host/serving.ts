import type { PolicyDecisions, PolicyFallbacks, PolicyHook } from '../../core/contract/policy.ts'
import type { PolicyInputs } from '../abi/json-values.ts'
import {
  decideAdmit,
  decideClassify,
  decidePlan,
  decideResolve,
  decideSelect,
} from './generated/hook-calls.ts'
import { forEachHook } from './hook-names.ts'
import type { HookRunner } from './hook-runner.ts'
import type { PolicyVersion } from './policy-version.ts'
import type { Chains, Link, Serving } from './serving-chain.ts'

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

/**
 * `PolicyDecisions` over the policies that serve, with the fallbacks behind them. Swapping what serves is one assignment; hooks are
 * synchronous, so no call sees half of it.
 */
export class ServingPolicies implements PolicyDecisions, Serving {
  readonly fallbacks: PolicyFallbacks
  readonly fallbackCalls = forEachHook(() => 0)
  chains: Chains = forEachHook(() => [])
  soles: Serving['soles'] = {
    select: undefined,
    classify: undefined,
    admit: undefined,
    plan: undefined,
    resolve: undefined,
  }
  #policies: readonly ServingPolicy[] = []

  constructor(fallbacks: PolicyFallbacks) {
    this.fallbacks = fallbacks
  }

  get policies(): readonly ServingPolicy[] {
    return this.#policies
  }

  replace(policies: readonly ServingPolicy[]): void {
    this.#policies = policies
    this.chains = {
      select: linksOf(policies, 'select'),
      classify: linksOf(policies, 'classify'),
      admit: linksOf(policies, 'admit'),
      plan: linksOf(policies, 'plan'),
      resolve: linksOf(policies, 'resolve'),
    }
    const { select, classify, admit, plan, resolve } = this.chains
    this.soles = {
      select: soleOf(select),
      classify: soleOf(classify),
      admit: soleOf(admit),
      plan: soleOf(plan),
      resolve: soleOf(resolve),
    }
  }

  // Fields, not methods: callers may take one hook away from the object.
  readonly select = (input: PolicyInputs['select']) => decideSelect(this, input)
  readonly classify = (input: PolicyInputs['classify']) => decideClassify(this, input)
  readonly admit = (input: PolicyInputs['admit']) => decideAdmit(this, input)
  readonly plan = (input: PolicyInputs['plan']) => decidePlan(this, input)
  readonly resolve = (input: PolicyInputs['resolve']) => decideResolve(this, input)
}

function soleOf<H extends PolicyHook>(chain: readonly Link<H>[]): HookRunner<H> | undefined {
  const [link] = chain
  return chain.length === 1 && link?.canary === undefined && link?.shadow === undefined
    ? link?.stable
    : undefined
}

/**
 * Its configuration leaves it nothing to decide there: it need not be asked to abstain, and nothing before it stands in for it. While
 * another version is tried beside it, both are asked as ever.
 */
function isIdle({ stable, canary, shadow }: ServingPolicy, hook: PolicyHook): boolean {
  return canary === undefined && shadow === undefined && stable?.idle.includes(hook) === true
}

function linksOf<H extends PolicyHook>(policies: readonly ServingPolicy[], hook: H): readonly Link<H>[] {
  const runnerOf = (version: PolicyVersion | undefined) => version?.runners[hook] as HookRunner<H> | undefined
  return policies
    .filter((policy) => !isIdle(policy, hook))
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
