import type { CatalogStats } from '../contract/catalog.ts'
import type { ChunkStoreGauges } from '../contract/chunk-store.ts'

/**
 * The messages of admin.proto as TypeScript sees them (proto-loader: camel case, 64-bit numbers as numbers, defaults
 * filled in). `test/unit/control/admin-service.test.ts` sends every field through the wire.
 */

export type NodeState = 'starting' | 'ready' | 'degraded' | 'stopping'

export interface StatusReply {
  readonly version: string
  readonly node: string
  readonly region: string
  readonly pid: number
  readonly startedMs: number
  readonly state: NodeState
  readonly problems: readonly string[]
  readonly s3Endpoint: string
  readonly adminEndpoint: string
  readonly consoleEndpoint: string
  readonly dataDirectory: string
  readonly storeKind: string
  readonly storeBackend: string
  readonly requestsInFlight: number
  readonly store: ChunkStoreGauges
  readonly catalog: CatalogStats
  readonly objectives: readonly ObjectiveMessage[]
}

export interface ObjectiveMessage {
  readonly class: string
  readonly kind: string
  readonly target: number
  readonly requests: number
  readonly budgetLeft: number
  readonly burnRate_1h: number
}

export interface StatsReply {
  readonly store: ChunkStoreGauges
  readonly catalog: CatalogStats
  readonly process: {
    readonly residentBytes: number
    readonly heapUsedBytes: number
    readonly externalBytes: number
    readonly cpuSeconds: number
    readonly uptimeSeconds: number
  }
}

export interface ReloadConfigReply {
  readonly applied: readonly string[]
  readonly afterRestart: readonly string[]
}

export interface BucketMessage {
  readonly name: string
  readonly owner: string
  readonly createdMs: number
  readonly versioning: string
}

export interface ListBucketsReply {
  readonly buckets: readonly BucketMessage[]
  readonly truncated: boolean
}

export interface AccessKeyMessage {
  readonly accessKeyId: string
  readonly account: string
  readonly name: string
  readonly enabled: boolean
  readonly createdMs: number
  /** The region that made it and vouches for it; -1: this one. */
  readonly homeRegion: number
  /** Other regions that know it; only where it was made. */
  readonly regions: readonly number[]
}

export interface CreateKeyRequest {
  readonly name: string
  readonly account: string
  readonly accessKeyId: string
  readonly secretKey: string
  readonly sealedSecretKey: Uint8Array
}

export interface CreateKeyReply {
  readonly key: AccessKeyMessage
  readonly secretKey: string
  readonly sealedSecretKey: Uint8Array
}

export interface JobProgress {
  readonly stage: string
  readonly done: number
  readonly total: number
}

export interface JobFinding {
  readonly problem: string
  readonly detail: string
  readonly chunkId: string
  readonly bucket: string
  readonly key: string
}

export interface JobReport {
  readonly clean: boolean
  readonly counts: readonly { readonly name: string; readonly value: number }[]
}

export type JobUpdate =
  | { readonly progress: JobProgress }
  | { readonly finding: JobFinding }
  | { readonly report: JobReport }
