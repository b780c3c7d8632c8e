import type { GradualActivation, PolicyPackage } from '../contract/policy-deployment.ts'
import type {
  ExplainPolicyReply,
  ListPoliciesReply,
  PolicyDeploymentMessage,
  PolicyInspectionMessage,
  PolicyStatusMessage,
} from './policy-messages.ts'

/** Rejections are as those of AdminClient. */
export interface PolicyClient {
  push(content: PolicyPackage, config: string): Promise<PolicyInspectionMessage>
  activate(request: PolicyActivation): Promise<PolicyDeploymentMessage>
  rollback(name: string, digest: string): Promise<PolicyDeploymentMessage>
  deactivate(name: string): Promise<PolicyDeploymentMessage>
  status(): Promise<PolicyStatusMessage>
  list(): Promise<ListPoliciesReply>
  explain(
    subject: { readonly requestId: string } | { readonly recent: number } | { readonly hook: string },
  ): Promise<ExplainPolicyReply>
  /** JSON lines, in pieces of whole lines. */
  record(signal?: AbortSignal): AsyncIterable<{ readonly lines: string }>
}

export interface PolicyActivation {
  readonly name: string
  readonly digest: string
  readonly config: string
  readonly position?: number
  readonly gradual?: GradualActivation
}

type CallUnary = <T>(method: string, message: object) => Promise<T>
type CallStream = <T>(method: string, message: object, signal?: AbortSignal) => AsyncIterable<T>

export function createPolicyClient(call: CallUnary, stream: CallStream): PolicyClient {
  return {
    push: ({ wasm, signature }, config) => call('PushPolicy', { wasm, signature, config }),
    activate: (request) => call('ActivatePolicy', request),
    rollback: (name, digest) => call('RollbackPolicy', { name, digest }),
    deactivate: (name) => call('DeactivatePolicy', { name }),
    status: () => call('GetPolicyStatus', {}),
    list: () => call('ListPolicies', {}),
    explain: (subject) => call('ExplainPolicy', subject),
    record: (signal) => stream('RecordPolicies', {}, signal),
  }
}
