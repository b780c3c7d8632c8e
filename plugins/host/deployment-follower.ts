import type { Clock } from '../../core/contract/clock.ts'
import { StorageError } from '../../core/contract/errors.ts'
import type { Logger } from '../../core/contract/logger.ts'
import type { PolicyFallbacks } from '../../core/contract/policy.ts'
import type {
  DeployedPolicy,
  PolicyDeployment,
  PolicyFailure,
  PolicyStore,
  PolicyVersionStatus,
} from '../../core/contract/policy-deployment.ts'
import type { PolicyTables } from '../abi/json-values.ts'
import { mainVersion } from './deployment.ts'
import { PolicyLoadFailure } from './load-failure.ts'
import type { PolicyLoader } from './load-policy.ts'
import { PolicyVersion, type VersionIdentity, type VersionOptions } from './policy-version.ts'
import { Quarantine } from './quarantine.ts'
import { ServingPolicies, type ServingPolicy } from './serving.ts'

export interface FollowerOptions {
  readonly store: PolicyStore
  readonly clock: Clock
  readonly logger: Logger
  readonly fallbacks: PolicyFallbacks
  readonly tables: PolicyTables
  readonly loader: PolicyLoader
  /** Why this machine cannot run policies at all. */
  readonly unavailable: string | undefined
  readonly signal: AbortSignal
  readonly events: Pick<VersionOptions, 'onTripped' | 'onFault' | 'onSample' | 'onTrace'>
}

const keyOf = ({ digest, config }: VersionIdentity) => `${digest}\n${config}`

/**
 * Makes this node serve what the deployment says: loads what it names, beside what serves, and swaps. What does not load leaves
 * the old version serving, and says why. Deployments are applied one after the other, the newest last.
 */
export class DeploymentFollower {
  readonly serving: ServingPolicies
  readonly quarantine = new Quarantine()
  readonly #options: FollowerOptions
  readonly #loaded = new Map<string, PolicyVersion>()
  readonly #failures = new Map<string, PolicyFailure>()
  #tables: PolicyTables
  #epoch = 0
  #queue: Promise<void> = Promise.resolve()
  #wakesAtMs = Number.POSITIVE_INFINITY

  constructor(options: FollowerOptions) {
    this.#options = options
    this.#tables = options.tables
    this.serving = new ServingPolicies(options.fallbacks)
  }

  get epoch(): number {
    return this.#epoch
  }

  get tables(): PolicyTables {
    return this.#tables
  }

  set tables(tables: PolicyTables) {
    this.#tables = tables
    this.follow()
  }

  /** Behind what is being applied. */
  follow(): void {
    this.#queue = this.#queue.then(async () => {
      if (this.#options.signal.aborted) return
      try {
        await this.#apply(this.#options.store.deployment())
      } catch (reason) {
        this.#options.logger.error({ error: reason }, 'the deployment of policies could not be applied')
      }
    })
  }

  /** Resolves when everything that `follow` was called for is applied. */
  settled(): Promise<void> {
    return this.#queue
  }

  find(identity: VersionIdentity): PolicyVersion | undefined {
    return this.#loaded.get(keyOf(identity))
  }

  /** What the manifest of a version that is loaded calls a reason. `origin`: name@version, as decisions tell it. */
  reasonText(origin: string, reason: number): string | undefined {
    for (const version of this.#loaded.values()) {
      if (version.origin === origin) return version.parts.manifest.reasons[reason]
    }
    return undefined
  }

  /**
   * The version with the names of now: the one that is there, or a new one.
   * @throws PolicyLoadFailure
   */
  async load(identity: VersionIdentity): Promise<PolicyVersion> {
    const { clock, loader, store, unavailable, events } = this.#options
    if (unavailable !== undefined) throw new PolicyLoadFailure('initialised', unavailable)
    const tables = this.#tables
    const known = this.find(identity)
    if (known !== undefined && known.tripped === undefined && known.parts.tables === tables) return known
    const loaded = await loader.load(await store.getPackage(identity.digest), identity, tables)
    const { manifest } = loaded.parts
    const version = new PolicyVersion(loaded, {
      monotonic: () => clock.monotonic(),
      budget: loader.budget,
      log: (level, text) => loader.log(manifest, level, text),
      ...events,
    })
    this.#loaded.set(keyOf(identity), version)
    return version
  }

  /** @throws StorageError POLICY_QUARANTINED */
  checkQuarantine(digest: string): void {
    const entry = this.quarantine.find(digest, this.#options.clock.now())
    if (entry === undefined) return
    const until = new Date(entry.untilMs).toISOString()
    throw new StorageError(
      'POLICY_QUARANTINED',
      `${digest.slice(0, 12)} failed while it served (${entry.strikes} times) and waits until ${until}: ${entry.reason}`,
    )
  }

  statuses(): readonly PolicyVersionStatus[] {
    const { policies } = this.#options.store.deployment()
    const deployed = policies.flatMap(({ name, versions }) =>
      versions.map((version): PolicyVersionStatus => {
        const loaded = this.find(version)
        const failure = this.#failures.get(keyOf(version))
        const { digest, percent, sinceMs } = version
        const known = loaded === undefined ? notLoaded : describeVersion(loaded)
        return { ...known, name, digest, percent, sinceMs, ...(failure === undefined ? {} : { failure }) }
      }),
    )
    const named = new Set(policies.flatMap(({ versions }) => versions.map(keyOf)))
    const others = [...this.#loaded.values()].filter(({ parts }) => !named.has(keyOf(parts)))
    return [...deployed, ...others.map(describeVersion)]
  }

  close(): void {
    this.serving.replace([])
    for (const version of this.#loaded.values()) version.retire()
    this.#loaded.clear()
  }

  async #apply(deployment: PolicyDeployment): Promise<void> {
    const next: ServingPolicy[] = []
    for (const policy of deployment.policies) next.push(await this.#arrange(policy))
    this.serving.replace(next)
    this.#epoch = deployment.epoch
    this.#settleStages(next)
    this.#wakeForQuarantine()
  }

  /** Who does what for one policy. */
  async #arrange(policy: DeployedPolicy): Promise<ServingPolicy> {
    const { name } = policy
    const old = this.serving.policies.find((serving) => serving.name === name)
    const main = mainVersion(policy)
    const other = policy.versions.find((version) => version !== main)
    const loadedMain = main && (await this.#loadOrSayWhy(main))
    const loadedOther = other && (await this.#loadOrSayWhy(other))
    const beside =
      other === undefined || loadedOther === undefined
        ? {}
        : other.percent === 0
          ? { shadow: loadedOther }
          : { canary: { version: loadedOther, percent: other.percent } }
    // A policy that is taken out leaves nothing behind; a version that does not load leaves the old one serving.
    if (main === undefined) return { name, stable: undefined, ...beside }
    const stable = loadedMain ?? old?.stable ?? old?.previous
    const previous = [old?.stable, old?.previous].find(
      (version) =>
        version !== undefined &&
        version !== stable &&
        version !== loadedOther &&
        version.tripped === undefined &&
        version.parts.tables === this.#tables,
    )
    return { name, stable, ...beside, ...(previous === undefined ? {} : { previous }) }
  }

  async #loadOrSayWhy(identity: VersionIdentity): Promise<PolicyVersion | undefined> {
    try {
      this.checkQuarantine(identity.digest)
      const version = await this.load(identity)
      this.#failures.delete(keyOf(identity))
      return version
    } catch (reason) {
      const { failure } =
        reason instanceof StorageError
          ? new PolicyLoadFailure('fetched', reason.reason)
          : PolicyLoadFailure.from(reason, 'fetched')
      const known = this.#failures.get(keyOf(identity))
      this.#failures.set(keyOf(identity), failure)
      if (known?.reason !== failure.reason) {
        this.#options.logger.warn(
          { digest: identity.digest, ...failure },
          'a policy could not be loaded: what served before goes on serving',
        )
      }
      return undefined
    }
  }

  /** Names what each version does now, compares the new with what it follows, and lets go of the rest. */
  #settleStages(policies: readonly ServingPolicy[]): void {
    const used = new Set<PolicyVersion>()
    const place = (
      version: PolicyVersion | undefined,
      stage: PolicyVersion['stage'],
      before?: PolicyVersion,
    ): void => {
      if (version === undefined) return
      used.add(version)
      if (version.stage === stage) return
      version.stage = stage
      if (before !== undefined) version.follow(before, this.#options.clock.monotonic(), stage === 'canary')
    }
    for (const { stable, canary, shadow, previous } of policies) {
      place(stable, 'active', previous)
      place(canary?.version, 'canary', stable)
      place(shadow, 'shadow')
      place(previous, 'draining')
    }
    for (const [key, version] of this.#loaded) {
      if (used.has(version)) continue
      version.retire()
      this.#loaded.delete(key)
    }
    const named = new Set(
      this.#options.store.deployment().policies.flatMap(({ versions }) => versions.map(keyOf)),
    )
    for (const key of this.#failures.keys()) if (!named.has(key)) this.#failures.delete(key)
  }

  /** Tries what is deployed again when the first quarantine ends. */
  #wakeForQuarantine(): void {
    const { clock, signal } = this.#options
    const endMs = this.quarantine.nextEndMs(clock.now())
    if (endMs === undefined || endMs >= this.#wakesAtMs) return
    this.#wakesAtMs = endMs
    void clock.sleep(Math.max(0, endMs - clock.now()), signal).then(
      () => {
        this.#wakesAtMs = Number.POSITIVE_INFINITY
        this.follow()
      },
      () => undefined,
    )
  }
}

const notLoaded = { version: '', stage: 'fetched', hooks: [], counters: {} } as const

function describeVersion(version: PolicyVersion): PolicyVersionStatus {
  const { stage, tripped, parts } = version
  return {
    name: parts.manifest.name,
    version: parts.manifest.version,
    digest: parts.digest,
    percent: 0,
    stage,
    sinceMs: 0,
    hooks: parts.compiled.hooks,
    counters: version.counters(),
    ...(tripped === undefined ? {} : { failure: { stage, reason: tripped } }),
  }
}
