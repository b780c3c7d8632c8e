/**
 * What administration answers with: the messages of core/control/*.proto as JSON. Times are milliseconds, `…Ms` since the
 * Unix epoch where a moment is meant. `test/unit/sdk/admin-types.test.ts` holds these in step with the server's own.
 */
import type { NodeLinksReport } from '../../core/contract/link.ts'

export type { ClusterReport, NodeChange } from '../../core/contract/cluster-report.ts'
export type { LostChange } from '../../core/contract/failover.ts'
export type {
  FailoverPlan,
  FailoverResult,
  GroupStatus,
  MemberStatus,
  RunFailoverRequest,
  SetGroupRequest,
} from '../../core/contract/failover-admin.ts'
export type {
  FederationStatus,
  InviteReply,
  InviteRequest,
  PeerStatus,
} from '../../core/contract/federation.ts'
export type { CandidateReport, LinkReport, NodeLinksReport } from '../../core/contract/link.ts'
export type { LockRecord } from '../../core/contract/locks.ts'
export type { PolicyCounters } from '../../core/contract/policy-deployment.ts'
export type { NodeConfigState, RegionConfigState } from '../../core/contract/region-config.ts'
export type {
  BucketReplicationStatus,
  ReplicateRequest,
  ReplicationReport,
} from '../../core/contract/replication-admin.ts'
export type {
  Acceptance,
  PublicationStatus,
  PublishRequest,
  SharedRegion,
  SharingStatus,
} from '../../core/contract/sharing.ts'

export type LinkSwitch = NodeLinksReport['links'][number]['switches'][number]

/** Who is logged in, and where. */
export interface AdminSession {
  readonly node: string
  readonly region: string
  readonly version: string
  readonly accessKeyId: string
  readonly account: string
  /** False: the methods of administration reject with ACCESS_DENIED; a page of the console may use objects as S3 lets the key. */
  readonly isAdmin: boolean
  /** Until the session ends whatever is done in it. */
  readonly endsInMs: number
  /** False at a witness. */
  readonly hasObjects: boolean
  /** The connection has no TLS and comes from another machine: others can read along. */
  readonly isExposed: boolean
}

export interface NodeStatus {
  readonly version: string
  readonly node: string
  readonly region: string
  readonly pid: number
  readonly startedMs: number
  readonly state: 'starting' | 'ready' | 'degraded' | 'stopping'
  /** What is wrong, in sentences. */
  readonly problems: readonly string[]
  readonly s3Endpoint: string
  readonly adminEndpoint: string
  readonly consoleEndpoint: string
  readonly dataDirectory: string
  readonly storeKind: string
  readonly storeBackend: string
  readonly requestsInFlight: number
  readonly store: StoreStats
  readonly catalog: CatalogStats
}

export interface StoreStats {
  readonly chunkCount: number
  readonly liveBytes: number
  readonly staleBytes: number
  readonly capacityBytes: number
  readonly freeBytes: number
  readonly indexBytes: number
  readonly cacheBytes: number
  readonly cacheHits: number
  readonly cacheMisses: number
  readonly poolUsedBytes: number
  readonly poolBytes: number
  readonly corruptChunks: number
  readonly online: boolean
}

export interface CatalogStats {
  readonly buckets: number
  readonly objects: number
  readonly versions: number
  readonly uploads: number
  readonly liveBytes: number
  readonly garbageWrites: number
  readonly position: number
  readonly bytesOnDisk: number
}

export interface NodeStats {
  readonly store: StoreStats
  readonly catalog: CatalogStats
  readonly process: {
    readonly residentBytes: number
    readonly heapUsedBytes: number
    readonly externalBytes: number
    readonly cpuSeconds: number
    readonly uptimeSeconds: number
  }
}

export interface Bucket {
  readonly name: string
  readonly owner: string
  readonly createdMs: number
  /** off, enabled or suspended */
  readonly versioning: string
}

export interface AccessKey {
  readonly accessKeyId: string
  readonly account: string
  readonly name: string
  readonly enabled: boolean
  readonly createdMs: number
  /** The region that made it; -1: the one that was asked. */
  readonly homeRegion: number
  /** Other regions that know it; only where it was made. */
  readonly regions: readonly number[]
}

/** What a long call says while it works. */
export interface JobProgress {
  readonly stage: string
  readonly done: number
  /** 0: not known. */
  readonly total: number
}

export interface JobFinding {
  readonly problem: string
  readonly detail: string
  readonly chunkId: string
  readonly bucket: string
  readonly key: string
}

export interface JobResult {
  /** Nothing wrong was found. */
  readonly clean: boolean
  readonly counts: Readonly<Record<string, number>>
  /** At most 1000 are kept here; `onFinding` is told of all. */
  readonly findings: readonly JobFinding[]
}

export interface PolicyFailure {
  readonly stage: string
  readonly reason: string
}

export interface DeployedVersion {
  readonly digest: string
  readonly percent: number
  readonly config: string
  readonly sinceMs: number
}

export interface DeployedPolicy {
  readonly name: string
  /** One, or two with the newer last: a canary, or with 0 percent a shadow. */
  readonly versions: readonly DeployedVersion[]
  /** What served before, the newest first. */
  readonly history: readonly DeployedVersion[]
}

export interface PolicyDeployment {
  readonly epoch: number
  readonly policies: readonly DeployedPolicy[]
}

export interface PolicyPackage {
  readonly digest: string
  readonly byteLength: number
  readonly pushedMs: number
  /** Public key; empty: not signed. */
  readonly signedBy: string
  readonly name: string
  readonly version: string
  readonly builtin: boolean
}

export interface PolicyList {
  readonly deployment: PolicyDeployment | null
  readonly packages: readonly PolicyPackage[]
}

export interface PolicyVersion {
  readonly name: string
  readonly version: string
  readonly digest: string
  readonly percent: number
  readonly stage: string
  readonly sinceMs: number
  readonly hooks: readonly string[]
  readonly counters: Readonly<
    Record<string, import('../../core/contract/policy-deployment.ts').PolicyCounters>
  >
  /** Why it does not serve as it is deployed; null: it does. */
  readonly failure: PolicyFailure | null
}

export interface PolicyStatus {
  readonly node: string
  /** That this node follows, and the newest that it knows of. */
  readonly epoch: number
  readonly deployedEpoch: number
  readonly policies: readonly PolicyVersion[]
  readonly quarantine: readonly {
    readonly digest: string
    readonly reason: string
    readonly strikes: number
    readonly untilMs: number
  }[]
  readonly unavailable: string
  readonly signatureRequired: boolean
}

export interface PolicyInspection {
  readonly digest: string
  readonly byteLength: number
  readonly hooks: readonly string[]
  readonly imports: readonly string[]
  readonly fuelSites: number
  readonly signedBy: string
  readonly warnings: readonly string[]
  readonly failure: PolicyFailure | null
}

/** Why one request was treated as it was. */
export interface ExplainedRequest {
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

export interface ExplainedDecision {
  readonly atMs: number
  readonly hook: string
  /** `name@version`, or `fallback`. */
  readonly policy: string
  readonly digest: string
  readonly epoch: number
  readonly reason: number
  readonly reasonText: string
  /** JSON. */
  readonly input: string
  readonly decision: string
}

export interface ActivatePolicy {
  readonly name: string
  /** At least its first 6 digits; absent: the package that was pushed last. */
  readonly digest?: string
  /** JSON object; default `{}`. */
  readonly config?: string
  /** Place in the chain, 0 is asked first. */
  readonly position?: number
  /** Shadow, then canary, then all; absent: all at once. */
  readonly gradual?: {
    readonly shadowCalls: number
    readonly canaryPercent: number
    readonly canaryCalls: number
    readonly stepTimeoutMs: number
  }
}

export interface NodeEvent {
  readonly number: number
  readonly atMs: number
  readonly kind: 'problem' | 'cleared' | 'login' | 'change'
  readonly text: string
  readonly by: string
}

export interface ReloadReport {
  readonly applied: readonly string[]
  readonly afterRestart: readonly string[]
}
