import type { PolicyCounters } from '../contract/policy-deployment.ts'

/** The messages of policy.proto as TypeScript sees them: see messages.ts. An absent message is null. */

export interface PolicySignatureMessage {
  readonly publicKey: string
  readonly signature: string
}

export interface PolicyFailureMessage {
  readonly stage: string
  readonly reason: string
}

export interface PolicyManifestMessage {
  readonly name: string
  readonly version: string
  readonly hooks: readonly string[]
  readonly description: string
  readonly minHost: string
  readonly start: boolean
  readonly fuel: Readonly<Record<string, number>>
  readonly reasons: Readonly<Record<string, string>>
}

export interface PolicyInspectionMessage {
  readonly digest: string
  readonly byteLength: number
  readonly manifest: PolicyManifestMessage | null
  readonly abi: { readonly major: number; readonly minor: number } | null
  readonly hooks: readonly string[]
  readonly imports: readonly string[]
  readonly fuelSites: number
  readonly signedBy: string
  readonly vectors: readonly {
    readonly name: string
    readonly hook: string
    readonly fuel: number
    readonly difference: string
  }[]
  readonly warnings: readonly string[]
  readonly failure: PolicyFailureMessage | null
}

export interface DeployedVersionMessage {
  readonly digest: string
  readonly percent: number
  readonly config: string
  readonly sinceMs: number
}

export interface PolicyDeploymentMessage {
  readonly epoch: number
  readonly policies: readonly {
    readonly name: string
    readonly versions: readonly DeployedVersionMessage[]
    readonly history: readonly DeployedVersionMessage[]
  }[]
}

export interface PolicyVersionStatusMessage {
  readonly name: string
  readonly version: string
  readonly digest: string
  readonly percent: number
  readonly stage: string
  readonly sinceMs: number
  readonly hooks: readonly string[]
  readonly counters: Readonly<Record<string, PolicyCounters>>
  readonly failure: PolicyFailureMessage | null
}

export interface PolicyStatusMessage {
  readonly node: string
  readonly epoch: number
  readonly deployedEpoch: number
  readonly policies: readonly PolicyVersionStatusMessage[]
  readonly quarantine: readonly {
    readonly digest: string
    readonly reason: string
    readonly strikes: number
    readonly untilMs: number
  }[]
  readonly unavailable: string
  readonly signatureRequired: boolean
}

export interface PolicyPackageMessage {
  readonly digest: string
  readonly byteLength: number
  readonly pushedMs: number
  readonly signedBy: string
  readonly name: string
  readonly version: string
  readonly builtin: boolean
}

export interface ListPoliciesReply {
  readonly deployment: PolicyDeploymentMessage | null
  readonly packages: readonly PolicyPackageMessage[]
}

export interface ExplainedRequestMessage {
  readonly requestId: string
  readonly atMs: number
  readonly operation: string
  readonly tenant: string
  readonly bucket: string
  readonly byteLength: number
  readonly class: string
  readonly priority: number
  readonly classifiedBy: string
  readonly classifyReason: number
  readonly classifyReasonText: string
  readonly admittedBy: string
  readonly admitReason: number
  readonly admitReasonText: string
  readonly tokens: number
  readonly tokenWaitMs: number
  readonly queueDepth: number
  readonly inFlight: number
  readonly concurrencyLimit: number
  readonly outcome: string
  readonly reason: string
  readonly queuedMs: number
  readonly pacedMs: number
}

export interface ExplainedDecisionMessage {
  readonly atMs: number
  readonly hook: string
  readonly policy: string
  readonly digest: string
  readonly epoch: number
  readonly reason: number
  readonly reasonText: string
  /** JSON. */
  readonly input: string
  readonly decision: string
}

export interface ExplainPolicyReply {
  readonly requests: readonly ExplainedRequestMessage[]
  readonly decisions: readonly ExplainedDecisionMessage[]
}
