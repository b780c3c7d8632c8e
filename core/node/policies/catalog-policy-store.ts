import type { EmbeddedCatalog } from '../../catalog/catalog.ts'
import { checkCommand } from '../../catalog/entry-schema.ts'
import type { Command } from '../../contract/catalog.ts'
import type {
  DeployedPolicy,
  PolicyDeployment,
  PolicyPackage,
  PolicyStore,
} from '../../contract/policy-deployment.ts'

/** A policy that comes with this version of Pando. */
export interface BuiltinModule {
  readonly name: string
  readonly digest: string
  readonly wasm: Uint8Array
}

export interface CatalogPolicyStoreOptions {
  readonly catalog: Pick<
    EmbeddedCatalog,
    'submit' | 'policyDeployment' | 'policyPackage' | 'onPolicyDeployment'
  >
  /** In the order in which they are asked. */
  readonly builtin: readonly BuiltinModule[]
  readonly startedMs: number
}

/**
 * The region's policies in the catalog's log, with the built-in ones behind them. A built-in policy is in the record only once
 * somebody has changed something about it: until then it comes from the program, so that an upgrade brings the new one.
 */
export class CatalogPolicyStore implements PolicyStore {
  readonly #options: CatalogPolicyStoreOptions
  readonly #defaults: readonly DeployedPolicy[]

  constructor(options: CatalogPolicyStoreOptions) {
    this.#options = options
    this.#defaults = options.builtin.map(({ name, digest }) => ({
      name,
      versions: [{ digest, percent: 100, config: '{}', sinceMs: options.startedMs }],
      history: [],
    }))
  }

  async putPackage(digest: string, content: PolicyPackage): Promise<void> {
    await this.#submit({ type: 'put-policy-package', digest, content })
  }

  async getPackage(digest: string): Promise<PolicyPackage | undefined> {
    const { catalog, builtin } = this.#options
    return catalog.policyPackage(digest) ?? builtin.find((module) => module.digest === digest)
  }

  deployment(): PolicyDeployment {
    return this.#withDefaults(this.#options.catalog.policyDeployment())
  }

  async deploy(next: PolicyDeployment): Promise<void> {
    const deployment = { ...next, policies: next.policies.filter((policy) => !this.#isDefault(policy)) }
    // What the record names must be in the region, also after an upgrade that brings another module of this name.
    for (const { versions, history } of deployment.policies) {
      for (const { digest } of [...versions, ...history]) {
        const builtin = this.#options.builtin.find((module) => module.digest === digest)
        if (builtin === undefined || this.#options.catalog.policyPackage(digest) !== undefined) continue
        await this.putPackage(digest, { wasm: builtin.wasm })
      }
    }
    await this.#submit({ type: 'deploy-policies', deployment })
  }

  subscribe(listener: (deployment: PolicyDeployment) => void): () => void {
    return this.#options.catalog.onPolicyDeployment((deployment) => listener(this.#withDefaults(deployment)))
  }

  #withDefaults(deployment: PolicyDeployment): PolicyDeployment {
    const named = new Set(deployment.policies.map(({ name }) => name))
    return {
      ...deployment,
      policies: [...deployment.policies, ...this.#defaults.filter(({ name }) => !named.has(name))],
    }
  }

  #isDefault({ name, versions, history }: DeployedPolicy): boolean {
    const [version, ...others] = versions
    const isUntouched = history.length === 0 && others.length === 0 && version?.config === '{}'
    return (
      isUntouched &&
      version.percent === 100 &&
      this.#options.builtin.some((module) => module.name === name && module.digest === version.digest)
    )
  }

  async #submit(command: Command): Promise<void> {
    checkCommand(command)
    await this.#options.catalog.submit(command)
  }
}
