import type { PolicyHook } from '../contract/policy.ts'
import type {
  GradualActivation,
  PolicyDeployment,
  PolicyInspection,
  PolicyPackage,
} from '../contract/policy-deployment.ts'
import type {
  ExplainedDecisionMessage,
  ExplainedRequestMessage,
  PolicyPackageMessage,
  PolicyStatusMessage,
} from './policy-messages.ts'

/** What the service of policies needs of a node. Refusals are StorageErrors: POLICY_REFUSED names stage and reason. */
export interface PolicyBackend {
  push(content: PolicyPackage, config: string): Promise<PolicyInspection>
  activate(request: Activation): Promise<PolicyDeployment>
  /** `digest` as in `Activation`; empty: the version before. */
  rollback(name: string, digest: string): Promise<PolicyDeployment>
  deactivate(name: string): Promise<PolicyDeployment>
  /** What it leaves out is the default of the message. */
  status(): Omit<PolicyStatusMessage, 'policies'> & { readonly policies: readonly object[] }
  list(): { readonly deployment: PolicyDeployment; readonly packages: readonly PolicyPackageMessage[] }
  /** undefined: not among the last requests. */
  explainRequest(requestId: string): ExplainedRequestMessage | undefined
  /** Newest first. */
  recentRequests(count: number): readonly ExplainedRequestMessage[]
  explainHook(hook: PolicyHook): readonly ExplainedDecisionMessage[]
  /** JSON lines. */
  trace(): string
}

export interface Activation {
  readonly name: string
  /** Whole, or the first digits of it; empty: the package of this name that was pushed last. */
  readonly digest: string
  readonly config: string
  readonly position?: number
  readonly gradual?: GradualActivation
}
