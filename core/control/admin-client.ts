import type { Environment } from '../contract/clock.ts'
import type { NodeLinksReport } from '../contract/link.ts'
import type { RegionConfigAdministration } from '../contract/region-config.ts'
import { type AdminTarget, type NewKeyRequest, openAdminChannel } from './admin-channel.ts'
import { type ClusterClient, createClusterClient } from './cluster-service.ts'
import { createConfigClient } from './config-service.ts'
import { createFailoverClient, type FailoverClient } from './failover-service.ts'
import { createFederationClient, type FederationClient } from './federation-service.ts'
import type {
  AccessKeyMessage,
  BucketMessage,
  JobUpdate,
  ListBucketsReply,
  ReloadConfigReply,
  StatsReply,
  StatusReply,
} from './messages.ts'
import { createPolicyClient, type PolicyClient } from './policy-client.ts'
import { createReplicationClient, type ReplicationClient } from './replication-service.ts'
import { createSharingClient, type SharingClient } from './sharing-service.ts'

export type { AdminTarget, NewKeyRequest } from './admin-channel.ts'

export interface AdminClientOptions {
  readonly target: AdminTarget
  readonly environment: Environment
  /** For calls that answer at once; long ones end with their signal. */
  readonly timeoutMs?: number
}

/** Rejections are StorageErrors with the node's code; `isUnreachable` tells those where no node answered. */
export interface AdminClient extends Disposable {
  status(): Promise<StatusReply>
  stats(): Promise<StatsReply>
  /** Prometheus's text format. */
  metrics(): Promise<string>
  links(): Promise<NodeLinksReport>
  listBuckets(after: string): Promise<ListBucketsReply>
  createBucket(name: string, owner: string): Promise<BucketMessage>
  deleteBucket(name: string): Promise<void>
  statBucket(name: string, signal?: AbortSignal): AsyncIterable<JobUpdate>
  createKey(request: NewKeyRequest): Promise<{ readonly key: AccessKeyMessage; readonly secretKey: string }>
  listKeys(): Promise<readonly AccessKeyMessage[]>
  setKeyEnabled(accessKeyId: string, enabled: boolean): Promise<AccessKeyMessage>
  scan(repair: boolean, signal?: AbortSignal): AsyncIterable<JobUpdate>
  scrub(signal?: AbortSignal): AsyncIterable<JobUpdate>
  collect(signal?: AbortSignal): AsyncIterable<JobUpdate>
  reloadConfig(): Promise<ReloadConfigReply>
  stop(): Promise<void>
  readonly policies: PolicyClient
  readonly cluster: ClusterClient
  readonly federation: FederationClient
  readonly sharing: SharingClient
  readonly replication: ReplicationClient
  readonly failover: FailoverClient
  readonly config: RegionConfigAdministration
  close(): void
}

/** A policy is checked, compiled, started and tested before the node answers, and activations wait for their turn. */
const policyTimeoutMs = 60_000
const federationTimeoutMs = 60_000

export function connectAdmin({ target, environment, timeoutMs = 10_000 }: AdminClientOptions): AdminClient {
  const channel = openAdminChannel(target, environment)
  const call = <T>(name: string, message: object, withinMs = timeoutMs): Promise<T> =>
    channel.call(name, message, withinMs)
  const stream = <T = JobUpdate>(name: string, message: object, signal?: AbortSignal): AsyncIterable<T> =>
    channel.stream(name, message, signal)

  return {
    status: () => call('GetStatus', {}),
    stats: () => call('GetStats', {}),
    metrics: async () => (await call<{ text: string }>('GetMetrics', {})).text,
    links: () => call('GetLinks', {}),
    listBuckets: (after) => call('ListBuckets', { after }),
    createBucket: (name, owner) => call('CreateBucket', { name, owner }),
    async deleteBucket(name) {
      await call('DeleteBucket', { name })
    },
    statBucket: (name, signal) => stream('StatBucket', { name }, signal),
    createKey: (request) => channel.createKey(request, timeoutMs),
    async listKeys() {
      return (await call<{ keys: readonly AccessKeyMessage[] }>('ListKeys', {})).keys
    },
    setKeyEnabled: (accessKeyId, enabled) => call('SetKeyEnabled', { accessKeyId, enabled }),
    scan: (repair, signal) => stream('Scan', { repair }, signal),
    scrub: (signal) => stream('Scrub', {}, signal),
    collect: (signal) => stream('Collect', {}, signal),
    reloadConfig: () => call('ReloadConfig', {}),
    async stop() {
      await call('Stop', {})
    },
    policies: createPolicyClient(
      (name, message) => call(name, message, Math.max(timeoutMs, policyTimeoutMs)),
      stream,
    ),
    cluster: createClusterClient((name, message) => call(name, message)),
    // Joining dials another region, at several addresses if need be.
    federation: createFederationClient((name, message) =>
      call(name, message, Math.max(timeoutMs, federationTimeoutMs)),
    ),
    sharing: createSharingClient((name, message) => call(name, message)),
    replication: createReplicationClient((name, message) => call(name, message)),
    // An election waits for the lease of the old primary to end.
    config: createConfigClient((name, message) => call(name, message)),
    failover: createFailoverClient((name, message) =>
      call(name, message, Math.max(timeoutMs, federationTimeoutMs)),
    ),
    close: () => channel.close(),
    [Symbol.dispose]: () => channel.close(),
  }
}
