import type { PolicyHook } from '../../core/contract/policy.ts'
import type { PolicyCounters, PolicyManifest, PolicyStage } from '../../core/contract/policy-deployment.ts'
import type { PolicyTables } from '../abi/json-values.ts'
import { acquireSeat, releaseSeat, sharedSeat, vacate } from './guest-door.ts'
import { type CompiledPolicy, createGuest, type GuestInstance, type GuestLog } from './guest-instance.ts'
import { type CallFault, createRunner, type HookRunner } from './hook-runner.ts'
import type { InstanceBudget } from './instance-budget.ts'
import { PolicyHealth } from './policy-health.ts'

/** How long after it came a version is taken back when latency targets are missed. */
const youngMs = 60_000

const noInstance: GuestInstance = { ports: {}, idle: [] }

/** What names a version: the module, and what it was configured with. */
export interface VersionIdentity {
  readonly digest: string
  /** JSON object, the author's settings. */
  readonly config: string
}

export interface VersionParts extends VersionIdentity {
  readonly manifest: PolicyManifest
  readonly compiled: CompiledPolicy
  readonly tables: PolicyTables
  /** What `pando_init` gets: settings and tables. */
  readonly configuration: string
}

/** What a load ends with: instances that are initialised and tested, the one to serve and its spare. */
export interface LoadedVersion {
  readonly parts: VersionParts
  readonly instances: readonly [GuestInstance, GuestInstance]
}

export interface VersionOptions {
  readonly monotonic: () => number
  readonly budget: InstanceBudget
  readonly log: GuestLog
  /** Called once, when the version must not serve any more. */
  readonly onTripped: (version: PolicyVersion, reason: string) => void
  readonly onFault: (version: PolicyVersion, hook: PolicyHook, fault: CallFault) => void
  /** Now and then: why it must not serve any more, as far as the host knows. */
  readonly onSample: (version: PolicyVersion) => string | undefined
  readonly onTrace: (version: PolicyVersion, hook: PolicyHook, input: unknown, decision: unknown) => void
}

/**
 * One version of a policy on this thread: an instance that is asked, a spare one that takes over in the same call that sees a
 * trap, and the counters. A version that has tripped is never asked again.
 */
export class PolicyVersion {
  readonly parts: VersionParts
  readonly runners: { readonly [H in PolicyHook]?: HookRunner<H> }
  readonly health: PolicyHealth
  /** Hooks that need not be asked: its configuration leaves it nothing to decide there. */
  readonly idle: readonly PolicyHook[]
  /** Where it stands in the deployment; the host moves it. */
  stage: PolicyStage = 'self-tested'
  #spare: GuestInstance | undefined
  #isRefilling = false
  #tripped: string | undefined
  #isRetired = false
  #youngUntilMs = Number.NEGATIVE_INFINITY
  readonly #options: VersionOptions

  constructor({ parts, instances }: LoadedVersion, options: VersionOptions) {
    this.parts = parts
    this.#options = options
    const origin = `${parts.manifest.name}@${parts.manifest.version}`
    const events = {
      monotonic: options.monotonic,
      onFault: (hook: PolicyHook, fault: CallFault) => this.#onFault(hook, fault),
      onSample: () => {
        this.trip(this.health.check() ?? options.onSample(this))
      },
      onTrace: (hook: PolicyHook, input: unknown, decision: unknown) => {
        options.onTrace(this, hook, input, decision)
      },
    }
    this.runners = Object.fromEntries(
      parts.compiled.hooks.map((hook) => [
        hook,
        createRunner(hook, origin, parts.tables.classes.length, events, acquireSeat()),
      ]),
    )
    this.health = new PolicyHealth(Object.values(this.runners).map((runner) => runner.counters))
    const [first, spare] = instances
    this.idle = first.idle
    this.#adopt(first)
    this.#spare = spare
  }

  get origin(): string {
    return `${this.parts.manifest.name}@${this.parts.manifest.version}`
  }

  /** Why it must not serve; undefined = it may. */
  get tripped(): string | undefined {
    return this.#tripped
  }

  isOf(identity: VersionIdentity): boolean {
    return this.parts.digest === identity.digest && this.parts.config === identity.config
  }

  counters(): Readonly<Partial<Record<PolicyHook, PolicyCounters>>> {
    return Object.fromEntries(
      Object.values(this.runners).map((runner) => [runner.hook, runner.counters.snapshot()]),
    )
  }

  /** It takes over from `before`, or shares the requests with it: is compared with it, and young. */
  follow(before: PolicyVersion, nowMs: number, isLive: boolean): void {
    const { hooks } = this.parts.compiled
    this.health.compareWith((at) => {
      const hook = hooks[at]
      const counters = hook === undefined ? undefined : before.runners[hook]?.counters
      return counters === undefined ? undefined : { counters, isLive }
    })
    this.#youngUntilMs = nowMs + youngMs
  }

  /** Came a moment ago, and has somewhere to go back to. Monotonic ms. */
  isYoung(nowMs: number): boolean {
    return nowMs < this.#youngUntilMs && (this.stage === 'active' || this.stage === 'canary')
  }

  /** Makes the spare instance, if there is none: not on the way to the first call, and never inside a call. */
  warm(): void {
    if (this.#spare !== undefined || this.#isRetired || this.#tripped !== undefined) return
    try {
      const instance = this.#options.budget.count(
        createGuest(this.parts.compiled, this.parts.configuration, this.#options.log),
      )
      if (this.#hasInstance()) this.#spare = instance
      else this.#adopt(instance)
    } catch (reason) {
      const text = reason instanceof Error ? reason.message : String(reason)
      if (!this.#hasInstance()) this.trip(`its instance could not be replaced: ${text}`)
    }
  }

  /** Lets go of the instances, so that the collector can give their address space back. */
  retire(): void {
    this.#isRetired = true
    this.stage = 'retired'
    this.#spare = undefined
    this.#adopt(noInstance)
    for (const runner of Object.values(this.runners)) {
      releaseSeat(runner.seat)
      runner.seat = sharedSeat
    }
    // Otherwise each version would hold the one before it, and that one the one before.
    this.health.compareWith(undefined)
  }

  #onFault(hook: PolicyHook, fault: CallFault): void {
    this.#options.onFault(this, hook, fault)
    if (fault.kind === 'trap') {
      this.#adopt(this.#spare ?? noInstance)
      this.#spare = undefined
      this.#refillLater()
    }
    this.trip(this.health.noteFault(hook, fault))
  }

  /** Ends its service, at once and for good; the first reason counts. */
  trip(reason: string | undefined): void {
    if (reason === undefined || this.#tripped !== undefined || this.#isRetired) return
    this.#tripped = reason
    this.#spare = undefined
    this.#adopt(noInstance)
    this.#options.onTripped(this, reason)
  }

  #adopt(instance: GuestInstance): void {
    for (const runner of Object.values(this.runners)) {
      runner.port = instance.ports[runner.hook]
      // The table would keep the instance that was there alive.
      vacate(runner.seat)
    }
  }

  #hasInstance(): boolean {
    return Object.values(this.runners).some(({ port }) => port !== undefined)
  }

  /** Behind the requests that are under way: an initialisation may take as long as its fuel. */
  #refillLater(): void {
    if (this.#isRefilling) return
    this.#isRefilling = true
    setImmediate(() => {
      this.#isRefilling = false
      this.warm()
    })
  }
}
