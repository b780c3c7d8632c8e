import { StorageError } from '../../core/contract/errors.ts'
import type { PolicyDeployment, PolicyPackage, PolicyStore } from '../../core/contract/policy-deployment.ts'
import { emptyDeployment } from './deployment.ts'

/** A region's policies in memory: what a node keeps in its catalog, for tests and for tools that need no node. */
export class MemoryPolicyStore implements PolicyStore {
  readonly #packages = new Map<string, PolicyPackage>()
  readonly #listeners = new Set<(deployment: PolicyDeployment) => void>()
  #deployment: PolicyDeployment = emptyDeployment

  async putPackage(digest: string, content: PolicyPackage): Promise<void> {
    this.#packages.set(digest, { ...content, wasm: content.wasm.slice() })
  }

  async getPackage(digest: string): Promise<PolicyPackage | undefined> {
    return this.#packages.get(digest)
  }

  deployment(): PolicyDeployment {
    return this.#deployment
  }

  async deploy(next: PolicyDeployment): Promise<void> {
    if (next.epoch !== this.#deployment.epoch + 1) {
      throw new StorageError(
        'CONFLICT',
        `the deployment has epoch ${this.#deployment.epoch} and cannot be followed by ${next.epoch}`,
      )
    }
    this.#deployment = next
    for (const listener of this.#listeners) listener(next)
  }

  subscribe(listener: (deployment: PolicyDeployment) => void): () => void {
    this.#listeners.add(listener)
    return () => this.#listeners.delete(listener)
  }
}
