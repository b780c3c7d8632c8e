import type { Clock } from '../../core/contract/clock.ts'
import type { Logger } from '../../core/contract/logger.ts'
import type {
  PolicyInspection,
  PolicyManifest,
  PolicyPackage,
  TrustedPolicyKey,
  VectorResult,
} from '../../core/contract/policy-deployment.ts'
import { abiBounds } from '../abi/idl.ts'
import type { PolicyTables } from '../abi/json-values.ts'
import { initConfiguration } from '../abi/vectors.ts'
import { type ExaminedModule, examineModule } from './examine-module.ts'
import { type CompiledPolicy, createGuest, gatesOf } from './guest-instance.ts'
import { InstanceBudget } from './instance-budget.ts'
import { PolicyLoadFailure } from './load-failure.ts'
import { vectorsSection } from './module-sections.ts'
import { readPackageVectors, runVectors } from './package-vectors.ts'
import type { LoadedVersion, VersionIdentity } from './policy-version.ts'
import { runWithin } from './run-within.ts'
import { probePolicy, SelfTestFailed } from './self-test.ts'
import { checkKeyAllows, digestOf, type PolicyTrust, verifySignature } from './trust.ts'
import { meterModule } from './wasm/meter-module.ts'

/** Wall-clock bound of the first initialisation, over the fuel. */
const initialiseTimeoutMs = 1_000
/** Modules kept compiled: the ten versions of a few policies. */
const compiledMost = 32

export interface LoaderOptions {
  readonly clock: Clock
  readonly logger: Logger
  readonly trust: PolicyTrust
}

/** What is the same for every configuration of a module. */
interface PreparedModule {
  readonly examined: ExaminedModule
  readonly compiled: CompiledPolicy
  readonly fuelSites: number
  /** Results of the package's vectors, from when they began to run: two loads of a module wait for one run. */
  vectors: Promise<readonly VectorResult[]> | undefined
  /** It has been initialised here before: from then on the fuel alone bounds it. */
  wasInitialised: boolean
}

/** Lets the requests that have arrived go first: the stages of a load are ends of promises, which would go before them. */
const letRequestsPass = () => new Promise<void>((resolve) => setImmediate(resolve))

/** Takes packages through the stages of a load, one after the other, and remembers compiled modules by digest. */
export class PolicyLoader {
  readonly budget: InstanceBudget
  readonly #options: LoaderOptions
  readonly #prepared = new Map<string, PreparedModule>()

  constructor(options: LoaderOptions) {
    this.#options = options
    this.budget = new InstanceBudget(options.clock)
  }

  /**
   * From a package to a version that could serve.
   * @throws PolicyLoadFailure with the stage that was not reached and why
   */
  async load(
    content: PolicyPackage | undefined,
    identity: VersionIdentity,
    tables: PolicyTables,
  ): Promise<LoadedVersion> {
    if (content === undefined) {
      throw new PolicyLoadFailure('fetched', `the package ${identity.digest.slice(0, 12)} is not here`)
    }
    const key = await this.#verify(content, identity.digest)
    const prepared = await this.#prepare(content, identity.digest, key)
    const { instances, configuration } = await this.#initialise(prepared, identity.config, tables)
    const { examined, compiled } = prepared
    return { parts: { ...identity, manifest: examined.manifest, compiled, tables, configuration }, instances }
  }

  /** Everything that can be said of a package; what stops it is in `failure`. */
  async inspect(content: PolicyPackage, config: string, tables: PolicyTables): Promise<PolicyInspection> {
    const digest = digestOf(content.wasm)
    let found: PolicyInspection = {
      digest,
      byteLength: content.wasm.length,
      hooks: [],
      imports: [],
      fuelSites: 0,
      vectors: [],
      warnings: [],
    }
    let key: TrustedPolicyKey | undefined
    try {
      // What the module is, is worth telling also of a package whose signature is no good.
      const examined = await PolicyLoadFailure.during('validated', () => examineModule(content.wasm))
      const { manifest, abi, hooks, imports, warnings } = examined
      found = { ...found, manifest, abi, hooks, imports, warnings }
      key = await this.#verify(content, digest)
      const prepared = await this.#prepare(content, digest, key)
      found = {
        ...found,
        fuelSites: prepared.fuelSites,
        ...(key === undefined ? {} : { signedBy: key.publicKey }),
      }
      const vectors = await PolicyLoadFailure.during('self-tested', () => this.#runVectors(prepared))
      found = { ...found, vectors }
      await this.#initialise(prepared, config, tables)
      return found
    } catch (reason) {
      return { ...found, failure: PolicyLoadFailure.from(reason, 'fetched').failure }
    }
  }

  /** The stage `verified`. */
  #verify(content: PolicyPackage, digest: string): Promise<TrustedPolicyKey | undefined> {
    return PolicyLoadFailure.during('verified', async () => {
      const found = digestOf(content.wasm)
      if (found !== digest)
        throw new Error(`the module has the digest ${found}, not ${digest}: it was changed on its way`)
      return verifySignature(digest, content.signature, this.#options.trust)
    })
  }

  /** The stages `validated`, `metered`, `compiled`, and what the key allows; once for each digest. */
  async #prepare(
    content: PolicyPackage,
    digest: string,
    key: TrustedPolicyKey | undefined,
  ): Promise<PreparedModule> {
    const known = this.#prepared.get(digest)
    if (known !== undefined) {
      await PolicyLoadFailure.during('verified', () => checkKey(key, known.examined))
      return known
    }
    // A copy: what was checked is what is run, whatever the caller does with its bytes.
    const wasm = content.wasm.slice()
    const examined = await PolicyLoadFailure.during('validated', () => examineModule(wasm))
    await PolicyLoadFailure.during('verified', () => checkKey(key, examined))
    await letRequestsPass()
    const metered = await PolicyLoadFailure.during('metered', () =>
      meterModule(examined.parsed, {
        startFuel: examined.manifest.start ? abiBounds.initialiseFuel : 0,
        gates: gatesOf(examined),
      }),
    )
    const module = await PolicyLoadFailure.during('compiled', () => WebAssembly.compile(metered.bytes))
    const { hooks, brief, byValue, hasWants } = examined
    const compiled = { module, hooks, brief, byValue, hasWants }
    const { sites: fuelSites } = metered
    const prepared = { examined, compiled, fuelSites, vectors: undefined, wasInitialised: false }
    this.#prepared.set(digest, prepared)
    for (const oldest of this.#prepared.keys()) {
      if (this.#prepared.size <= compiledMost) break
      this.#prepared.delete(oldest)
    }
    return prepared
  }

  /** The stages `initialised` and `self-tested`: two instances, which answer the same questions, the one to serve and its spare. */
  async #initialise(
    prepared: PreparedModule,
    config: string,
    tables: PolicyTables,
  ): Promise<Pick<LoadedVersion, 'instances'> & { readonly configuration: string }> {
    const { compiled, examined } = prepared
    const configuration = await PolicyLoadFailure.during('initialised', async () => {
      await this.budget.reserve()
      await letRequestsPass()
      return initConfiguration(readSettings(config), tables)
    })
    const make = () =>
      this.budget.count(
        createGuest(compiled, configuration, (level, text) => this.log(examined.manifest, level, text)),
      )
    const instance = await PolicyLoadFailure.during('initialised', () =>
      prepared.wasInitialised ? make() : runWithin(initialiseTimeoutMs, make),
    )
    prepared.wasInitialised = true
    await letRequestsPass()
    return PolicyLoadFailure.during('self-tested', async () => {
      const results = await this.#runVectors(prepared)
      const failed = results.find(({ difference }) => difference !== undefined)
      if (failed !== undefined) {
        throw new SelfTestFailed(`vector '${failed.name}' of ${failed.hook}: ${failed.difference}`)
      }
      const spare = make()
      probePolicy(compiled, instance, spare, tables)
      return { instances: [instance, spare], configuration }
    })
  }

  /** Once for each module; again after a run that could not be finished. */
  #runVectors(prepared: PreparedModule): Promise<readonly VectorResult[]> {
    const { examined, compiled } = prepared
    const run = async () => {
      const file = readPackageVectors(examined.parsed.customSections.get(vectorsSection))
      if (file === undefined) return []
      const { clock } = this.#options
      return runVectors(compiled, examined.manifest, file, { clock, budget: this.budget })
    }
    prepared.vectors ??= run().catch((reason: unknown) => {
      prepared.vectors = undefined
      throw reason
    })
    return prepared.vectors
  }

  /** A policy's own line. */
  log({ name, version }: PolicyManifest, level: number, text: string): void {
    const fields = { policy: `${name}@${version}` }
    const { logger } = this.#options
    if (level <= 0) logger.debug(fields, text)
    else if (level === 1) logger.info(fields, text)
    else if (level === 2) logger.warn(fields, text)
    else logger.error(fields, text)
  }
}

function checkKey(key: TrustedPolicyKey | undefined, { manifest, hooks }: ExaminedModule): void {
  if (key !== undefined) checkKeyAllows(key, manifest.name, hooks)
}

function readSettings(config: string): Readonly<Record<string, unknown>> {
  let value: unknown
  try {
    value = JSON.parse(config)
  } catch (reason) {
    throw new Error(`the configuration is not JSON: ${reason instanceof Error ? reason.message : reason}`)
  }
  if (typeof value !== 'object' || value === null || Array.isArray(value)) {
    throw new Error('the configuration is not a JSON object')
  }
  return value as Readonly<Record<string, unknown>>
}
