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
  readonly adoptTables?: (tables: PolicyTables) => void
  readonly loader: PolicyLoader
  /** Why this machine cannot run policies at all. */
  readonly unavailable: string | undefined
  readonly signal: AbortSignal
  readonly events: Pick<VersionOptions, 'onTripped' | 'onFault' | 'onSample' | 'onTrace'>
}

/** Between two attempts to load what has nobody to stand in for it, twice as long each time. */
const firstRetryMs = 60_000
const longestRetryMs = 3_600_000

const keyOf = ({ digest, config }: VersionIdentity) => `${digest}\n${config}`

/**
 * Makes this node serve what the deployment says: loads what it names, beside what serves, and swaps. What does not load leaves
 * the old version serving, and says why. Deployments are applied one after the other, the newest last.
 *
 * Everything that serves was initialised with the same names, whose indexes it is shown: with others it would take one tenant for
 * another. So new names wait until everything has been loaded with them, also what stands in for a version that does not load; what
 * cannot be loaded with them serves no more.
 */
export class DeploymentFollower {
  readonly serving: ServingPolicies
  readonly quarantine = new Quarantine()
  readonly #options: FollowerOptions
  readonly #loaded = new Map<string, PolicyVersion>()
  readonly #failures = new Map<string, PolicyFailure>()
  /** Not found by their identity any more, since another one has it. They may still serve. */
  readonly #replaced = new Set<PolicyVersion>()
  /** What served last of each policy, also while nothing of it does: with new names it is tried once more. */
  readonly #lastServed = new Map<string, VersionIdentity>()
  /** The newest ones. */
  #tables: PolicyTables
  #tablesInForce: PolicyTables
  #epoch = 0
  #queue: Promise<void> = Promise.resolve()
  #wakesAtMs = Number.POSITIVE_INFINITY
  #retries = 0

  constructor(options: FollowerOptions) {
    this.#options = options
    this.#tables = options.tables
    this.#tablesInForce = options.tables
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

  /** Those of what serves. */
  get tablesInForce(): PolicyTables {
    return this.#tablesInForce
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
   * The version with these names: the one that is there, or a new one.
   * @throws PolicyLoadFailure
   */
  async load(identity: VersionIdentity, tables = this.#tables): Promise<PolicyVersion> {
    const { clock, loader, store, unavailable, events } = this.#options
    if (unavailable !== undefined) throw new PolicyLoadFailure('initialised', unavailable)
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
    const replaced = this.find(identity)
    if (replaced !== undefined) this.#replaced.add(replaced)
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
    for (const version of [...this.#loaded.values(), ...this.#replaced]) version.retire()
    this.#loaded.clear()
    this.#replaced.clear()
  }

  async #apply(deployment: PolicyDeployment): Promise<void> {
    const tables = this.#tables
    const next: ServingPolicy[] = []
    for (const policy of deployment.policies) next.push(await this.#arrange(policy, tables))
    const names = new Set(next.map(({ name }) => name))
    for (const name of this.#lastServed.keys()) if (!names.has(name)) this.#lastServed.delete(name)
    this.serving.replace(next)
    if (tables !== this.#tablesInForce) {
      this.#tablesInForce = tables
      this.#options.adoptTables?.(tables)
    }
    this.#epoch = deployment.epoch
    this.#settleStages(next)
    this.#wake(deployment, next)
  }

  /** Who does what for one policy. */
  async #arrange(policy: DeployedPolicy, tables: PolicyTables): Promise<ServingPolicy> {
    const { name } = policy
    const old = this.serving.policies.find((serving) => serving.name === name)
    const before = [old?.stable, old?.previous].filter((version) => version?.parts.tables === tables)
    const main = mainVersion(policy)
    const other = policy.versions.find((version) => version !== main)
    // A policy that is taken out leaves nothing behind; a version that does not load leaves the old one serving.
    const stable = main && (await this.#loadOrStandIn(main, tables, name, before[0]))
    if (main === undefined || stable?.tripped !== undefined) this.#lastServed.delete(name)
    else if (stable !== undefined)
      this.#lastServed.set(name, { digest: stable.parts.digest, config: stable.parts.config })
    const loadedOther = other && (await this.#loadOrSayWhy(other, tables, stable))
    const beside =
      other === undefined || loadedOther === undefined
        ? {}
        : other.percent === 0
          ? { shadow: loadedOther }
          : { canary: { version: loadedOther, percent: other.percent } }
    if (main === undefined) return { name, stable, ...beside }
    const previous = before.find(
      (version) => version !== stable && version !== loadedOther && version?.tripped === undefined,
    )
    return { name, stable, ...beside, ...(previous === undefined ? {} : { previous }) }
  }

  /** What is deployed, else what served before, else what of that can be loaded with these names. */
  async #loadOrStandIn(
    main: VersionIdentity,
    tables: PolicyTables,
    name: string,
    before: PolicyVersion | undefined,
  ): Promise<PolicyVersion | undefined> {
    const loaded = await this.#tryToLoad(main, tables)
    if (loaded instanceof PolicyVersion) return loaded
    if (before !== undefined) {
      this.#sayWhy(main, loaded, before)
      return before
    }
    let reason = loaded.reason
    for (const identity of this.#standInsFor(main, name)) {
      const standIn = await this.#tryToLoad(identity, tables)
      if (standIn instanceof PolicyVersion) {
        this.#sayWhy(main, loaded, standIn)
        return standIn
      }
      reason += `; nor does ${identity.digest.slice(0, 12)} stand in: ${standIn.reason}`
    }
    this.#sayWhy(main, { ...loaded, reason }, undefined)
    return undefined
  }

  /** Of what served before, the newest first: all but what has failed there. */
  #standInsFor(main: VersionIdentity, name: string): readonly VersionIdentity[] {
    const old = this.serving.policies.find((serving) => serving.name === name)
    const found = new Map<string, VersionIdentity>()
    for (const version of [old?.stable, old?.previous]) {
      if (version !== undefined && version.tripped === undefined)
        found.set(keyOf(version.parts), version.parts)
    }
    const last = old?.stable === undefined ? this.#lastServed.get(name) : undefined
    if (last !== undefined) found.set(keyOf(last), last)
    found.delete(keyOf(main))
    return [...found.values()]
  }

  async #loadOrSayWhy(
    identity: VersionIdentity,
    tables: PolicyTables,
    standIn: PolicyVersion | undefined,
  ): Promise<PolicyVersion | undefined> {
    const loaded = await this.#tryToLoad(identity, tables)
    if (loaded instanceof PolicyVersion) return loaded
    this.#sayWhy(identity, loaded, standIn)
    return undefined
  }

  async #tryToLoad(identity: VersionIdentity, tables: PolicyTables): Promise<PolicyVersion | PolicyFailure> {
    const { logger } = this.#options
    const { digest } = identity
    try {
      this.checkQuarantine(digest)
      const version = await this.load(identity, tables)
      if (this.#failures.delete(keyOf(identity))) {
        logger.info({ digest }, 'a policy that could not be loaded is loaded')
      }
      return version
    } catch (reason) {
      const { failure } =
        reason instanceof StorageError
          ? new PolicyLoadFailure('fetched', reason.reason)
          : PolicyLoadFailure.from(reason, 'fetched')
      return failure
    }
  }

  /** In the status, and in the log unless it is known. */
  #sayWhy(identity: VersionIdentity, failure: PolicyFailure, standIn: PolicyVersion | undefined): void {
    const { logger } = this.#options
    const { digest } = identity
    const known = this.#failures.get(keyOf(identity))
    const now =
      standIn === undefined
        ? { ...failure, reason: `${failure.reason}; the built-in rules decide in its place` }
        : failure
    this.#failures.set(keyOf(identity), now)
    if (known?.reason === now.reason) return
    const said = { digest, ...failure }
    if (standIn === undefined) {
      logger.error(said, 'a policy could not be loaded: the built-in rules decide in its place')
    } else logger.warn(said, 'a policy could not be loaded: what served before goes on serving')
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
    for (const version of this.#replaced) {
      if (used.has(version)) continue
      version.retire()
      this.#replaced.delete(version)
    }
    const named = new Set(
      this.#options.store.deployment().policies.flatMap(({ versions }) => versions.map(keyOf)),
    )
    for (const key of this.#failures.keys()) if (!named.has(key)) this.#failures.delete(key)
  }

  /** Tries what is deployed again when the first quarantine ends, and sooner what has nobody to stand in for it. */
  #wake({ policies }: PolicyDeployment, next: readonly ServingPolicy[]): void {
    const { clock, signal, unavailable } = this.#options
    const nowMs = clock.now()
    const isMissing = policies.some((policy, at) => {
      const main = next[at]?.stable === undefined ? mainVersion(policy) : undefined
      return main !== undefined && this.quarantine.find(main.digest, nowMs) === undefined
    })
    const waitMs = Math.min(firstRetryMs * 2 ** this.#retries, longestRetryMs)
    const retryMs = isMissing && unavailable === undefined ? nowMs + waitMs : Number.POSITIVE_INFINITY
    if (!isMissing) this.#retries = 0
    const endMs = Math.min(this.quarantine.nextEndMs(nowMs) ?? Number.POSITIVE_INFINITY, retryMs)
    if (endMs >= this.#wakesAtMs) return
    this.#wakesAtMs = endMs
    void clock.sleep(Math.max(0, endMs - nowMs), signal).then(
      () => {
        this.#wakesAtMs = Number.POSITIVE_INFINITY
        if (isMissing) this.#retries++
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
