/**
 * How policies come into a region: packages are pushed, a deployment says which of them serve, and every node follows it. The
 * host (`plugins/host`) loads, measures and rolls back; what must survive a restart is behind `PolicyStore`, which the node keeps
 * in its catalog's log. Times are milliseconds, `digest` is the SHA-256 of the module in lower-case hex.
 */
import type { PolicyHook } from './policy.ts'

/** From the module's custom section `pando.manifest`. */
export interface PolicyManifest {
  /** Lower-case letters, digits and dashes, at most 63. */
  readonly name: string
  readonly version: string
  /** What it exports, without `pando_`. A hook that this host does not know is not an error: it is not called. */
  readonly hooks: readonly string[]
  readonly description?: string
  /** `major.minor` of the ABI that it needs. */
  readonly minHost?: string
  /** Whether it may have a start function. */
  readonly start: boolean
  /** Hooks that are content with brief questions, which leave fields out; see plugins/abi/STRUCTS.md. */
  readonly brief?: readonly string[]
  /** What a call of a hook is expected to burn at most; a golden vector that burns more fails. */
  readonly fuel: Readonly<Record<string, number>>
  /** Words for the reason codes of its decisions. */
  readonly reasons: Readonly<Record<string, string>>
}

/**
 * Bytes of a module at most: it travels with its digest and its signature in one entry of the region's log, and a record of that has 1 MiB
 * in a cluster. The same for one node, so that it can become a cluster.
 */
export const policyModuleBytesMost = (1 << 20) - 4096

/** What is pushed, and what a region keeps for each digest. */
export interface PolicyPackage {
  /** The module with its custom sections: at most `policyModuleBytesMost`. */
  readonly wasm: Uint8Array
  /** Ed25519, over `policySignedMessage(digest)`. */
  readonly signature?: PolicySignature
}

export interface PolicySignature {
  /** Raw Ed25519 public key, 32 bytes, in hex: how the signer is known. */
  readonly publicKey: string
  /** 64 bytes in hex. */
  readonly signature: string
}

/** A key of the region's trust list: which policies it may sign, and for which hooks. */
export interface TrustedPolicyKey {
  readonly publicKey: string
  /** Exact names, or a prefix that ends in `*`. */
  readonly names: readonly string[]
  readonly hooks: readonly PolicyHook[]
}

/** The bytes that are signed: the purpose in front, so that a signature for something else is none for a policy. */
export function policySignedMessage(digest: string): Uint8Array {
  return new TextEncoder().encode(`pando-policy/1 ${digest}\n`)
}

/**
 * The stages of a load, in their order. Up to `self-tested` a failure leaves the old version serving; where that one was not
 * initialised with the names of now, or there is none, the built-in rules decide.
 */
export const policyStages = [
  'fetched',
  'verified',
  'validated',
  'metered',
  'compiled',
  'initialised',
  'self-tested',
  'shadow',
  'canary',
  'active',
  'draining',
  'retired',
] as const

export type PolicyStage = (typeof policyStages)[number]

/** Why a package or a version does not serve: the stage that it did not reach, and a sentence for a person. */
export interface PolicyFailure {
  readonly stage: PolicyStage
  readonly reason: string
}

/**
 * The one record that says what serves in a region. Every change makes a new one with the next epoch, so all nodes switch at
 * the same entry of the log.
 */
export interface PolicyDeployment {
  /** 0 = nothing was ever deployed; grows by exactly 1. */
  readonly epoch: number
  /** In the order in which they are asked: the first that decides, decides. At most 16. */
  readonly policies: readonly DeployedPolicy[]
}

export interface DeployedPolicy {
  readonly name: string
  /** One version, or two, the newer one last, whose shares add up to 100; one with share 0 runs in the shadow. */
  readonly versions: readonly DeployedVersion[]
  /** What served before, newest first, at most 10: where a rollback goes. */
  readonly history: readonly DeployedVersion[]
}

export interface DeployedVersion {
  readonly digest: string
  /** 0 to 100, of the request hashes. 0 = shadow: asked and compared, its decisions not used. */
  readonly percent: number
  /** JSON object for `pando_init`. The same module with another configuration is another version. */
  readonly config: string
  /** When it was deployed: ms since the epoch. */
  readonly sinceMs: number
}

/** What the node keeps for the host. Implemented over the catalog by the node, in memory for tests. */
export interface PolicyStore {
  /** Idempotent: the digest names the content. */
  putPackage(digest: string, content: PolicyPackage): Promise<void>
  /** undefined = not here. */
  getPackage(digest: string): Promise<PolicyPackage | undefined>
  /** What this node has applied of the log. */
  deployment(): PolicyDeployment
  /**
   * Makes `next` the region's deployment. `next.epoch` must be the epoch it was made from plus 1. Resolves when this node has
   * applied it and the listeners have been called.
   * @throws StorageError CONFLICT when another change came first: read, decide and try again
   */
  deploy(next: PolicyDeployment): Promise<void>
  /** Called with every deployment that the log brings, also those of other nodes, in order. Returns how to stop. */
  subscribe(listener: (deployment: PolicyDeployment) => void): () => void
}

/** What an operator asks of the host: gRPC and the command line call this and nothing else. */
export interface PolicyAdministration {
  /** Verifies, loads and tests the package on this node as if it were to serve, and keeps it. Nothing serves it yet. */
  push(content: PolicyPackage, options?: PushOptions): Promise<PolicyInspection>
  /** All that can be told of a package without keeping it. Refusals are part of the answer. */
  inspect(content: PolicyPackage, options?: PushOptions): Promise<PolicyInspection>
  /**
   * Puts a pushed package to work. With `gradual` it goes through shadow and canary, watched by this node, and the promise
   * resolves at the first step; `status` tells the rest. Without, it serves all requests at once.
   */
  activate(request: ActivatePolicy): Promise<PolicyDeployment>
  /** Back to the version before; `undefined` of the policy's history, if it never had one, takes it out. */
  rollback(name: string, digest?: string): Promise<PolicyDeployment>
  /** No more asked; its history stays. */
  deactivate(name: string): Promise<PolicyDeployment>
  status(): PolicyStatus
  /** The last decisions of a hook, newest first, with who decided and what it was asked. */
  explain(hook: PolicyHook): readonly ExplainedDecision[]
}

export interface PushOptions {
  /** Configuration to test with; the default is `{}`. */
  readonly config?: string
}

export interface ActivatePolicy {
  readonly name: string
  readonly digest: string
  /** Default `{}`. */
  readonly config?: string
  /** Place in the chain, 0 = asked first. Default: where it was; a new one comes last. */
  readonly position?: number
  readonly gradual?: GradualActivation
}

export interface GradualActivation {
  /** Calls in the shadow before the canary; 0 = no shadow. */
  readonly shadowCalls: number
  /** Share of request hashes that the canary gets, 1 to 99; 0 = no canary. */
  readonly canaryPercent: number
  /** Calls of the canary before it gets all. */
  readonly canaryCalls: number
  /** Gives up, and takes the version out, when a step lasts longer. */
  readonly stepTimeoutMs: number
}

/** What a package is, and how far it came. */
export interface PolicyInspection {
  readonly digest: string
  readonly byteLength: number
  readonly manifest?: PolicyManifest
  readonly abi?: { readonly major: number; readonly minor: number }
  readonly hooks: readonly PolicyHook[]
  readonly imports: readonly string[]
  /** Places where fuel is charged. */
  readonly fuelSites: number
  /** Public key, when the signature is good and allowed. */
  readonly signedBy?: string
  readonly vectors: readonly VectorResult[]
  /** Things that work and that an author would want to know. */
  readonly warnings: readonly string[]
  /** Absent = it could serve. */
  readonly failure?: PolicyFailure
}

export interface VectorResult {
  readonly name: string
  readonly hook: PolicyHook
  readonly fuel: number
  /** Absent = as expected. */
  readonly difference?: string
}

export interface PolicyStatus {
  /** Of the deployment that this node follows. */
  readonly epoch: number
  readonly policies: readonly PolicyVersionStatus[]
  readonly quarantine: readonly QuarantinedPolicy[]
  /** Set when this machine cannot run policies at all: the fallbacks decide. */
  readonly unavailable?: string
}

export interface PolicyVersionStatus {
  readonly name: string
  readonly version: string
  readonly digest: string
  readonly percent: number
  readonly stage: PolicyStage
  readonly sinceMs: number
  readonly hooks: readonly PolicyHook[]
  readonly counters: Readonly<Partial<Record<PolicyHook, PolicyCounters>>>
  /** Why it does not serve as the deployment wants. */
  readonly failure?: PolicyFailure
}

/** Grow only; of one version on this node. */
export interface PolicyCounters {
  readonly calls: number
  readonly decisions: number
  readonly abstentions: number
  /** Status below 0. */
  readonly errors: number
  readonly traps: number
  /** Of the traps: those for want of fuel. */
  readonly outOfFuel: number
  readonly invalidOutputs: number
  /** Calls whose time and fuel were taken: one in 64. */
  readonly samples: number
  readonly sampledNs: number
  readonly sampledFuel: number
  /** Over the last samples: ns. */
  readonly p99Ns: number
  /** In the shadow or the canary: decisions compared with what served, and those that were not the same. */
  readonly compared: number
  readonly differed: number
  /** Decisions by reason code; at most 64 codes, the rest under `other`. */
  readonly reasons: Readonly<Record<string, number>>
}

export interface QuarantinedPolicy {
  readonly digest: string
  readonly reason: string
  /** Times it was put here: each doubles the wait. */
  readonly strikes: number
  /** ms since the epoch. */
  readonly untilMs: number
}

export interface ExplainedDecision {
  readonly atMs: number
  readonly hook: PolicyHook
  /** `name@version`, or `fallback`. */
  readonly policy: string
  readonly digest?: string
  readonly epoch: number
  readonly reason: number
  /** The manifest's words for it. */
  readonly reasonText?: string
  /** Input and decision as they crossed, 64-bit numbers as text. */
  readonly input: unknown
  readonly decision: unknown
}
