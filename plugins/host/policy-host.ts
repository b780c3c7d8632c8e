import type { Clock } from '../../core/contract/clock.ts'
import { StorageError } from '../../core/contract/errors.ts'
import type { Logger } from '../../core/contract/logger.ts'
import type { PolicyDecisions, PolicyFallbacks, PolicyHook } from '../../core/contract/policy.ts'
import type {
  ActivatePolicy,
  ExplainedDecision,
  PolicyAdministration,
  PolicyDeployment,
  PolicyFailure,
  PolicyInspection,
  PolicyPackage,
  PolicyStatus,
  PolicyStore,
  PushOptions,
} from '../../core/contract/policy-deployment.ts'
import type { PolicyInputs, PolicyTables } from '../abi/json-values.ts'
import { whyUnavailable } from './availability.ts'
import { findPolicy, mainVersion, withoutPolicy, withoutVersion, withVersion } from './deployment.ts'
import { DeploymentFollower } from './deployment-follower.ts'
import type { CallFault } from './hook-runner.ts'
import { PolicyLoadFailure } from './load-failure.ts'
import { PolicyLoader } from './load-policy.ts'
import type { PolicyVersion } from './policy-version.ts'
import { rollOut } from './rollout.ts'
import { describeFault } from './self-test.ts'
import { TraceRecorder } from './trace-recorder.ts'
import { digestOf, type PolicyTrust } from './trust.ts'

export interface PolicyHostOptions {
  readonly store: PolicyStore
  readonly clock: Clock
  readonly logger: Logger
  readonly trust: PolicyTrust
  /** What decides where no policy does. */
  readonly fallbacks: PolicyFallbacks
  /** Names behind the indexes that requests carry. */
  readonly tables: PolicyTables
  /**
   * From this call on `decisions` take the indexes of these, and no others: what `setTables` brought, as soon as everything that
   * serves knows them. It is called between two decisions, and must not throw.
   */
  readonly adoptTables?: (tables: PolicyTables) => void
  /** Why the latency targets of a class are missed right now; asked while a new version is young. */
  readonly sloGuard?: () => string | undefined
  /** Another one in tests of a machine that cannot run WebAssembly. */
  readonly whyUnavailable?: () => string | undefined
}

const deployRetriesMost = 16
const faultLinesPerVersion = 10

/**
 * The policies of one node: follows the region's deployment, watches what serves and takes it back when it fails, and does what
 * operators ask. Requests see `decisions`, which decide at once whatever else goes on.
 */
export class PolicyHost implements PolicyAdministration {
  readonly #options: PolicyHostOptions
  readonly #loader: PolicyLoader
  readonly #follower: DeploymentFollower
  readonly #trace = new TraceRecorder()
  readonly #faultLines = new WeakMap<PolicyVersion, number>()
  readonly #closing = new AbortController()
  readonly #unavailable: string | undefined
  readonly #tasks = new Set<Promise<void>>()
  #unsubscribe: () => void = () => undefined

  private constructor(options: PolicyHostOptions) {
    this.#options = options
    this.#loader = new PolicyLoader(options)
    this.#unavailable = (options.whyUnavailable ?? whyUnavailable)()
    this.#follower = new DeploymentFollower({
      ...options,
      loader: this.#loader,
      unavailable: this.#unavailable,
      signal: this.#closing.signal,
      events: {
        onTripped: (version, reason) => this.#onTripped(version, reason),
        onFault: (version, hook, fault) => this.#onFault(version, hook, fault),
        onSample: (version) => this.#missedTargets(version),
        onTrace: (version, hook, input, decision) => this.#onTrace(version, hook, input, decision),
      },
    })
  }

  /** Resolves when what the store says is deployed serves, or has failed to load. */
  static async open(options: PolicyHostOptions): Promise<PolicyHost> {
    const host = new PolicyHost(options)
    if (host.#unavailable !== undefined) options.logger.error({}, host.#unavailable)
    host.#unsubscribe = options.store.subscribe(() => host.#follower.follow())
    host.#follower.follow()
    await host.settled()
    return host
  }

  get decisions(): PolicyDecisions {
    return this.#follower.serving
  }

  /** Decisions that no policy made, by hook; grow only. */
  fallbackCalls(): Readonly<Record<PolicyHook, number>> {
    return { ...this.#follower.serving.fallbackCalls }
  }

  /** Resolves when everything that the log has brought so far is applied. */
  settled(): Promise<void> {
    return this.#follower.settled()
  }

  /** Resolves when no rollout and no rollback is under way. */
  async idle(): Promise<void> {
    while (this.#tasks.size > 0) await Promise.all(this.#tasks)
    await this.settled()
  }

  /**
   * New names behind the indexes: every version is initialised anew with them, beside the one that serves, which goes on with the
   * names from before until `adoptTables` is called.
   */
  setTables(tables: PolicyTables): Promise<void> {
    this.#follower.tables = tables
    return this.settled()
  }

  /** The fallbacks decide from here on. */
  async close(): Promise<void> {
    this.#closing.abort()
    this.#unsubscribe()
    await this.idle()
    this.#follower.close()
  }

  async inspect(content: PolicyPackage, options: PushOptions = {}): Promise<PolicyInspection> {
    if (this.#unavailable !== undefined) {
      const { wasm } = content
      const failure = { stage: 'initialised', reason: this.#unavailable } as const
      const nothing = { hooks: [], imports: [], fuelSites: 0, vectors: [], warnings: [] }
      return { digest: digestOf(wasm), byteLength: wasm.length, ...nothing, failure }
    }
    return this.#loader.inspect(content, options.config ?? '{}', this.#follower.tables)
  }

  async push(content: PolicyPackage, options: PushOptions = {}): Promise<PolicyInspection> {
    const inspection = await this.inspect(content, options)
    if (inspection.failure !== undefined) throw refusedBy(inspection.failure)
    await this.#options.store.putPackage(inspection.digest, content)
    return inspection
  }

  async activate(request: ActivatePolicy): Promise<PolicyDeployment> {
    const { name, digest, config = '{}', position, gradual } = request
    const { clock, logger, store } = this.#options
    if ((await store.getPackage(digest)) === undefined) {
      throw new StorageError('POLICY_NOT_FOUND', `the package ${digest.slice(0, 12)} was never pushed`)
    }
    this.#follower.checkQuarantine(digest)
    const { manifest } = await this.#loadForActivation(digest, config)
    if (manifest.name !== name) {
      throw new StorageError(
        'INVALID_ARGUMENT',
        `the package ${digest.slice(0, 12)} is the policy ${manifest.name}, not ${name}`,
      )
    }
    const step = (percent: number) =>
      this.#change((deployment) =>
        withVersion(deployment, name, { digest, config, percent, sinceMs: clock.now() }, position),
      )
    const share = () =>
      findPolicy(store.deployment(), name)?.versions.find(
        (version) => version.digest === digest && version.config === config,
      )?.percent
    // A canary needs a version that serves the rest.
    const hasMain = mainVersion(findPolicy(store.deployment(), name)) !== undefined
    const careful = gradual && { ...gradual, canaryPercent: hasMain ? gradual.canaryPercent : 0 }
    if (careful === undefined || (careful.shadowCalls === 0 && careful.canaryPercent === 0)) return step(100)
    const deployment = await step(careful.shadowCalls > 0 ? 0 : careful.canaryPercent)
    this.#inBackground(() =>
      rollOut(careful, {
        clock,
        signal: this.#closing.signal,
        version: () => this.#follower.find({ digest, config }),
        percent: share,
        step,
        giveUp: (reason) => {
          logger.warn({ policy: name, digest, reason }, 'a rollout took too long: the version is taken out')
          return this.#change((current) => withoutVersion(current, name, { digest, config }, clock.now()))
        },
      }),
    )
    return deployment
  }

  rollback(name: string, digest?: string): Promise<PolicyDeployment> {
    return this.#change((deployment) => {
      const policy = findPolicy(deployment, name)
      const newest = policy?.versions.at(-1)
      if (policy === undefined || newest === undefined) {
        throw new StorageError('POLICY_NOT_FOUND', `no version of a policy called ${name} serves`)
      }
      return withoutVersion(deployment, name, newest, this.#options.clock.now(), digest)
    })
  }

  deactivate(name: string): Promise<PolicyDeployment> {
    return this.#change((deployment) => withoutPolicy(deployment, name))
  }

  explain(hook: PolicyHook): readonly ExplainedDecision[] {
    return this.#trace.explain(hook)
  }

  /** What a policy (name@version, as its decisions tell it) calls a reason; undefined when it has no words for it, or is gone. */
  reasonText(policy: string, reason: number): string | undefined {
    return this.#follower.reasonText(policy, reason)
  }

  /** The sampled calls as JSON lines: see plugins/abi/trace.ts. */
  traceLines(): string {
    return this.#trace.lines(this.#follower.tablesInForce)
  }

  status(): PolicyStatus {
    return {
      epoch: this.#follower.epoch,
      policies: this.#follower.statuses(),
      quarantine: this.#follower.quarantine.list(this.#options.clock.now()),
      ...(this.#unavailable === undefined ? {} : { unavailable: this.#unavailable }),
    }
  }

  async #loadForActivation(digest: string, config: string): Promise<PolicyVersion['parts']> {
    try {
      return (await this.#follower.load({ digest, config })).parts
    } catch (reason) {
      throw refusedBy(PolicyLoadFailure.from(reason, 'fetched').failure, reason)
    }
  }

  #onTripped(version: PolicyVersion, reason: string): void {
    const { digest, config, manifest } = version.parts
    const nowMs = this.#options.clock.now()
    const { strikes, untilMs } = this.#follower.quarantine.add(digest, reason, nowMs)
    this.#options.logger.error(
      { policy: version.origin, digest, reason, strikes, untilMs },
      'a policy failed while it served: it is taken back',
    )
    this.#inBackground(async () => {
      await this.#change((deployment) => {
        const policy = findPolicy(deployment, manifest.name)
        const isDeployed = policy?.versions.some((other) => version.isOf(other)) === true
        const hasRetreat = policy !== undefined && policy.versions.length + policy.history.length > 1
        // The only one that there ever was stays in the record, and is tried again when its time is over.
        if (!isDeployed || !hasRetreat) return undefined
        return withoutVersion(deployment, manifest.name, { digest, config }, nowMs)
      })
      this.#follower.follow()
      await this.settled()
    })
  }

  #onFault(version: PolicyVersion, hook: PolicyHook, fault: CallFault): void {
    const lines = (this.#faultLines.get(version) ?? 0) + 1
    this.#faultLines.set(version, lines)
    if (lines > faultLinesPerVersion) return
    const last = lines === faultLinesPerVersion ? '; further faults are only counted' : ''
    this.#options.logger.warn(
      { policy: version.origin, hook, digest: version.parts.digest },
      `a policy gave no decision: ${describeFault(fault)}${last}`,
    )
  }

  #onTrace(version: PolicyVersion, hook: PolicyHook, input: unknown, decision: unknown): void {
    const decided = decision as { readonly policy: string; readonly reason: number } | undefined
    this.#trace.record({
      hook,
      input: input as PolicyInputs[PolicyHook],
      decision: decided,
      policy: version.origin,
      digest: version.parts.digest,
      epoch: this.#follower.epoch,
      reasonText: decided === undefined ? undefined : version.parts.manifest.reasons[decided.reason],
    })
  }

  #missedTargets(version: PolicyVersion): string | undefined {
    const { sloGuard, clock } = this.#options
    if (sloGuard === undefined || !version.isYoung(clock.monotonic())) return undefined
    const missed = sloGuard()
    return missed === undefined ? undefined : `latency targets are missed since it serves: ${missed}`
  }

  /** Makes the change on what is deployed now, again when somebody was faster. `undefined` = there is nothing to change. */
  async #change(
    make: (deployment: PolicyDeployment) => PolicyDeployment | undefined,
  ): Promise<PolicyDeployment> {
    const { store, clock } = this.#options
    for (let attempt = 0; ; attempt++) {
      const current = store.deployment()
      const next = make(current)
      if (next === undefined) return current
      try {
        await store.deploy(next)
        await this.settled()
        return next
      } catch (reason) {
        const isConflict = reason instanceof StorageError && reason.code === 'CONFLICT'
        if (!isConflict || attempt >= deployRetriesMost) throw reason
        await clock.sleep(attempt * 5, this.#closing.signal)
      }
    }
  }

  /** Its end is waited for by `close`; what it throws is logged. */
  #inBackground(run: () => Promise<void>): void {
    const task: Promise<void> = run()
      .catch((reason: unknown) => {
        if (this.#closing.signal.aborted) return
        this.#options.logger.error({ error: reason }, 'a change of the policies could not be made')
      })
      .finally(() => this.#tasks.delete(task))
    this.#tasks.add(task)
  }
}

function refusedBy(failure: PolicyFailure, cause?: unknown): StorageError {
  return new StorageError('POLICY_REFUSED', `not ${failure.stage}: ${failure.reason}`, {
    ...(cause === undefined ? {} : { cause }),
    details: { Stage: failure.stage },
  })
}
