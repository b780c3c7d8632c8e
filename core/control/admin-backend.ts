import type { NodeLinksReport } from '../contract/link.ts'
import type {
  AccessKeyMessage,
  BucketMessage,
  JobUpdate,
  ListBucketsReply,
  ReloadConfigReply,
  StatsReply,
  StatusReply,
} from './messages.ts'

/** What the admin service needs of a node. Refusals are StorageErrors. */
export interface AdminBackend {
  status(): Promise<StatusReply>
  stats(): Promise<StatsReply>
  /** Prometheus's text format. */
  metrics(): Promise<{ readonly text: string }>
  links(): Promise<NodeLinksReport>

  listBuckets(after: string): ListBucketsReply
  /** INVALID_BUCKET_NAME, BUCKET_ALREADY_EXISTS. */
  createBucket(name: string, owner: string): Promise<BucketMessage>
  /** NO_SUCH_BUCKET, BUCKET_NOT_EMPTY. */
  deleteBucket(name: string): Promise<void>
  statBucket(name: string, signal: AbortSignal): AsyncIterable<JobUpdate>

  createKey(request: NewKey): Promise<{ readonly key: AccessKeyMessage; readonly secretKey: string }>
  listKeys(): readonly AccessKeyMessage[]
  /** NO_SUCH_ACCESS_KEY. */
  setKeyEnabled(accessKeyId: string, enabled: boolean): Promise<AccessKeyMessage>

  scan(repair: boolean, signal: AbortSignal): AsyncIterable<JobUpdate>
  scrub(signal: AbortSignal): AsyncIterable<JobUpdate>
  collect(signal: AbortSignal): AsyncIterable<JobUpdate>

  /** INVALID_CONFIG: what was in force stays in force. */
  reloadConfig(): Promise<ReloadConfigReply>

  /** Begins to stop the node; returns before it has stopped. */
  stop(): void
}

export interface NewKey {
  readonly name: string
  readonly account: string
  /** A pair made elsewhere; both or neither. */
  readonly imported: { readonly accessKeyId: string; readonly secretKey: string } | undefined
}
