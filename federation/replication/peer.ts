import type { AccessSetting } from '../../core/contract/bucket-access.ts'
import type { WriteId } from '../../core/contract/ids.ts'
import type { VersioningState } from '../../core/contract/object-model.ts'
import type { EntryTime, KeyRange, LogPoint, ReplicationRule } from '../../core/contract/replication.ts'
import type { LinkClass } from '../../core/contract/tunnel.ts'

/**
 * What a region asks another one for. The receiver asks, always: the other side keeps no more of it than how far it has come.
 * Errors: PEER_UNREACHABLE, PROTOCOL_ERROR, CANCELLED and DEADLINE_EXCEEDED tell of the way there; every other code is the other
 * region's own answer.
 */
export interface PeerRegion {
  readonly regionId: number
  /** Buckets that the two regions share, ascending by name, behind `after`; at once unless nothing differs from `seen`. */
  offers(request: OffersRequest, signal: AbortSignal): Promise<OffersReply>
  pull(request: PullRequest, signal: AbortSignal): Promise<PullReply>
  repair(request: RepairRequest, signal: AbortSignal): Promise<void>
  /** The bytes of a stored body from `offset` to its end, in pieces of at most 256 KiB. */
  body(request: BodyRequest, signal: AbortSignal): AsyncIterable<Uint8Array>
}

export interface OffersRequest {
  readonly after: string
  /** `tag` of an earlier reply: the answer may wait as long as nothing has changed. */
  readonly seen: string
  readonly waitMs: number
}

export interface OffersReply {
  readonly offers: readonly Offer[]
  readonly truncated: boolean
  readonly tag: string
  /** The clock of the region that answers. */
  readonly nowMs: number
}

export interface Offer {
  readonly bucket: string
  readonly rule: ReplicationRule
  /** Of the bucket, as the region that answers calls it; absent: not told. */
  readonly owner?: string
  /** To an edge, which the outbox does not tell it. */
  readonly versioning?: VersioningState
  readonly access?: readonly AccessSetting[]
  /** Of the outbox in the region that answers; absent where no client writes. */
  readonly log?: { readonly id: string; readonly head: number; readonly headTime: EntryTime }
}

export interface PullRequest {
  readonly bucket: string
  /** Empty: this region follows no outbox of the bucket there yet. */
  readonly logId: string
  readonly after: LogPoint
  /** Everything up to here is applied and durable here. */
  readonly watermark: number
  /** What this region has given up of it, ascending; not more than `replicationLimits.deadTold`. */
  readonly dead: readonly number[]
  readonly limit: number
}

export type PullReply =
  | {
      readonly kind: 'entries'
      readonly entries: readonly Uint8Array[]
      readonly head: number
      /** Behind the last of the entries. */
      readonly chain: Uint8Array
      /** Of entries that traced requests have written: their index, and a `traceparent`. */
      readonly traces?: readonly (readonly [index: number, traceParent: string])[]
    }
  /** What is asked for is not there: a full synchronization begins at this place. */
  | { readonly kind: 'start'; readonly logId: string; readonly at: LogPoint; readonly reason: string }

/** Ranges of keys that were found to differ: the other region writes them into its outbox again. */
export interface RepairRequest {
  readonly bucket: string
  readonly ranges: readonly KeyRange[]
}

export interface BodyRequest {
  readonly bucket: string
  readonly writeId: WriteId
  readonly offset: number
  /** Who asks has a digest of the whole body, and compares it: the bytes need none on the way. */
  readonly isProved: boolean
  /** How urgent it is on the way; `bulk` when absent. */
  readonly linkClass?: BodyClass
  /** A `traceparent`: the request is a part of this trace. */
  readonly traceParent?: string
}

/** Of the classes that share a link, those that bodies may have. */
export const bodyClasses = ['read', 'bulk', 'full-sync'] as const satisfies readonly LinkClass[]
export type BodyClass = (typeof bodyClasses)[number]

export const pullLimits = {
  entries: 256,
  /** Bytes of the entries of one answer, unless its first one alone has more. */
  bytes: 1024 * 1024,
  /** Of one entry: a body of 10,000 parts takes more than one MiB, and 700,000 versions of one key no more than this. */
  entryBytes: 16 * 1024 * 1024,
  /** What a body is sent and resumed in. */
  granuleBytes: 256 * 1024,
  offers: 500,
  /** Of the documents that one page of offers brings to an edge; one bucket's go in any case. */
  offeredBytes: 256 * 1024,
  waitMs: 5_000,
} as const
