import type { ChunkBuffer, ChunkInfo, ChunkStore, ChunkStoreGauges } from './chunk-store.ts'
import type { ErrorCode, StorageError } from './errors.ts'
import type { ChunkId } from './ids.ts'
import type { TransportName } from './policy.ts'

/**
 * How the nodes of a region reach each other's chunk stores. A transport is an adapter that opens authenticated sessions;
 * native (C++) and TypeScript adapters obey the same laws (`test/kit/transport.ts`) and stand in one registry
 * (`core/protocol`). Bytes on the wire: `native/RPC.md`. Times are milliseconds, sizes bytes, errors StorageErrors.
 *
 * Every request ends exactly once: with its answer, with an error of the peer's store (the codes of ChunkStore), or with
 * PEER_UNREACHABLE (the session ended under it; whether the peer did the work is not known), PROTOCOL_ERROR (a side broke
 * the protocol), IO_ERROR (also: a payload was damaged on its way), DEADLINE_EXCEEDED, CANCELLED (by the signal), CLOSED (by
 * our own `close`), STALE_MAP (`RequestOptions.mapEpoch`).
 * Chunks are immutable, so each request may be repeated on another session whatever became of it on the first.
 */
export interface TransportAdapter {
  /** Unique in a registry, for people and configuration: `tcp`, `rdma`, `tcp-node`. */
  readonly id: string
  /** What policies know it as. Several adapters may be of one kind. */
  readonly kind: TransportName
  /** Greater is tried first where nothing has been measured yet. */
  readonly priority: number
  readonly capabilities: TransportCapabilities
  /** The longest payload of one frame; at least maxChunkBytes. */
  readonly maxFrameBytes: number
  /** Looks at this machine now; remembers nothing. Never rejects: what could not be found out is said in `found`. */
  detect(): Promise<TransportAvailability>
  /** Serves a store until the listener is closed. INVALID_ARGUMENT (address), UNAVAILABLE (address in use, no device). */
  listen(options: ListenOptions): Promise<TransportListener>
  /**
   * Opens a session and authenticates both sides. PEER_UNREACHABLE (nobody there, or too slow), PEER_REFUSED (wrong key,
   * region, node or version; a peer that just hangs up during the handshake), INVALID_ARGUMENT (address), CANCELLED.
   */
  connect(options: ConnectOptions): Promise<ChunkSession>
}

/** Drives the conformance kit and the report of `pando doctor`. */
export interface TransportCapabilities {
  /** Body bytes pass through this process's JavaScript thread. */
  readonly throughJavaScript: boolean
  /** Reaches only processes of the same machine. */
  readonly sameHostOnly: boolean
  /** Encrypts what it carries to peers that do, too; others are for networks that the operator trusts. */
  readonly encrypted: boolean
  /** Bulk data is placed by the target's network device, without a copy by either processor. */
  readonly remotePlacement: boolean
}

export interface TransportAvailability {
  readonly available: boolean
  /** What is there or what is missing, in a few words. */
  readonly found: string
  /** What to do about it; absent when all is well, or when nothing can be done. */
  readonly advice?: string
  /** Local addresses to listen at, in the adapter's own syntax; empty where any or none will do. */
  readonly addresses: readonly string[]
}

/** Who a node is, and the secret that proves it. */
export interface NodeIdentity {
  /** 16 bytes. */
  readonly nodeId: Uint8Array
  /** 16 bytes. */
  readonly regionId: Uint8Array
  /** Of the cluster map that the node works by, read for each session; 0 = none yet. At most 2^53 - 1. */
  readonly mapEpoch: number
  /** 32 secret bytes that all nodes of the region share. Never logged, never sent. */
  readonly regionKey: Uint8Array
}

/** What the handshake has proved about the other side. */
export interface PeerIdentity {
  readonly nodeId: Uint8Array
  readonly regionId: Uint8Array
  readonly mapEpoch: number
  /** Of the wire protocol, as both sides agreed. */
  readonly protocolVersion: number
  /** Of native/RPC.md: the bit of the cipher that seals the frames; 0: they are not sealed. */
  readonly capabilities: number
}

export interface ListenOptions {
  readonly identity: NodeIdentity
  /** `host:port` (port 0: any free one) or, for shm, a path. */
  readonly address: string
  /** Native adapters serve a native store without passing JavaScript, and refuse any other: INVALID_ARGUMENT. */
  readonly store: ChunkStore
  /** 1024 unless told. One more is closed at once. */
  readonly maxSessions?: number
  /** How long a stranger may take to authenticate; 5000 unless told. */
  readonly handshakeTimeoutMs?: number
  /** Requests that one session may have here at a time; 64 unless told. */
  readonly requestCredits?: number
  /** Payload bytes that one session may have here at a time; 16 MiB unless told, at least maxChunkBytes. */
  readonly byteCredits?: number
}

export interface TransportListener {
  /** As bound: with the port that was found, in the syntax that `connect` takes. */
  readonly address: string
  /** Authenticated sessions open now. */
  readonly sessionCount: number
  /** Peers that did not become sessions because they were refused: strangers, another region or version, one too many. */
  readonly refusals: RefusedPeers
  /**
   * The cluster map has changed: sessions that begin from now on are told `epoch`. `moved` has for each placement group the epoch
   * since which its chunks are where they are now, and is copied: from now on puts and deletes by an older map than that are
   * STALE_MAP, in all sessions; reads go on.
   */
  setMapEpoch(epoch: number, moved: Uint32Array): void
  /**
   * From now on `notice` of every session here answers these bytes, without this node's owner being asked. INVALID_ARGUMENT unless
   * they are `noticeBytes`.
   */
  post(notice: Uint8Array): void
  /**
   * Traced requests that were answered here since the last call; `lost`: so many more that were not asked for in time. Absent: this
   * transport does not tell.
   */
  served?(): { readonly requests: readonly ServedRequest[]; readonly lost: number }
  /** Takes no more sessions, lets requests under way finish for at most `graceMs` (default 5000), then closes them. */
  close(graceMs?: number): Promise<void>
}

/** A request with a trace id, as its server saw it. */
export interface ServedRequest {
  readonly traceId: Uint8Array
  readonly requestId: number
  readonly chunk: ChunkId
  readonly op: 'put' | 'get' | 'has' | 'delete' | 'other'
  /** Undefined: OK. */
  readonly error: ErrorCode | undefined
  /** Of the machine's monotonic clock (`process.hrtime`), when its head had come. */
  readonly startUs: number
  readonly durationUs: number
  readonly byteLength: number
}

export interface RefusedPeers {
  readonly count: number
  /** Who the last one was and why, for people, as far as is known; empty: none yet. Nothing that a stranger sent is in it. */
  readonly last: string
}

export interface ConnectOptions {
  readonly identity: NodeIdentity
  readonly address: string
  /** Whom to expect there. Another node, though it proves the region's key, is PEER_REFUSED. */
  readonly peerNodeId?: Uint8Array
  /** Where the answers to `get` are put: the node's own store. Native adapters need a native one: INVALID_ARGUMENT. */
  readonly buffers: Pick<ChunkStore, 'acquire'>
  /** For connection and handshake together; 5000 unless told. */
  readonly timeoutMs?: number
  /** Silence after which the peer is asked for a sign of life; three times that without one ends the session. 10 000 unless told. */
  readonly keepAliveMs?: number
  readonly signal?: AbortSignal
}

export interface RequestOptions {
  /** From now. 30 000 unless told. The peer is told and does not begin what is too late. */
  readonly deadlineMs?: number
  /** Index into the region's QoS classes; 0 unless told. */
  readonly classIndex?: number
  /** 16 bytes: the request is a part of this trace, and its server tells so (`TransportListener.served`). */
  readonly traceId?: Uint8Array
  /**
   * With a traceId, of put, get, has and delete: told the request's id on its session once there was an answer, so that both sides
   * call its span the same.
   */
  readonly onRequestId?: (requestId: number) => void
  /**
   * Of put and delete: the epoch of the cluster map by which this peer was chosen. When the chunk's placement group has moved since,
   * as far as the peer knows, nothing is done: STALE_MAP. 0 (unless told): by none. At most 2^32 - 1.
   */
  readonly mapEpoch?: number
  readonly signal?: AbortSignal
}

/**
 * One authenticated session with one peer over one transport. Requests are pipelined, wait for the peer's credits in the
 * order they were made, and are answered in any order. A buffer handed to `put` belongs to the session until the promise
 * settles: then, whatever the outcome, nobody (not a late write of a device either) touches it any more.
 */
export interface ChunkSession extends ChunkPeer {
  readonly adapterId: string
  readonly kind: TransportName
  readonly peer: PeerIdentity
  stats(): SessionStats
  /**
   * Takes no more requests (CLOSED), lets those under way finish for at most `graceMs` (default 5000), then ends them with
   * CLOSED. Harmless when repeated. Resolves when everything is given back. Due also when the session has ended by itself: until
   * then it keeps what it holds.
   */
  close(graceMs?: number): Promise<void>
  /** Resolves (never rejects) when the session is over, whoever ended it, after the last request was settled. */
  readonly ended: Promise<SessionEnd>
}

/** What can be asked of another node's chunk store: over one session, or over a link that chooses among several. */
export interface ChunkPeer {
  /** Requests made and not yet settled, those that wait for credits included. */
  readonly inFlight: number
  /** As ChunkStore.put: durable at the peer when it resolves. */
  put(id: ChunkId, buffer: ChunkBuffer, byteLength: number, options?: RequestOptions): Promise<void>
  /** As ChunkStore.get; the bytes were verified at the peer and again here. The caller releases the buffer. */
  get(id: ChunkId, offset: number, length: number, options?: RequestOptions): Promise<ChunkBuffer>
  has(id: ChunkId, options?: RequestOptions): Promise<boolean>
  /** As ChunkStore.delete. Repeated after a lost answer it may say false for a chunk that the first one deleted. */
  delete(id: ChunkId, options?: RequestOptions): Promise<boolean>
  /** As ChunkStore.list, with at most 4096 chunks a call: INVALID_ARGUMENT above. */
  list(after: ChunkId | null, limit: number, options?: RequestOptions): Promise<readonly ChunkInfo[]>
  /** Of the peer's store. */
  stat(options?: RequestOptions): Promise<ChunkStoreGauges>
  /** A round trip that touches no store; resolves with its time. */
  ping(options?: RequestOptions): Promise<number>
  /**
   * What the owner of that node has posted last at its listener: whatever was posted before this was called, or something newer.
   * Undefined: nothing yet, or a node that knows no notices.
   */
  notice(options?: RequestOptions): Promise<Uint8Array | undefined>
}

/** Of what a node posts for the others to read. */
export const noticeBytes = 24

export interface SessionEnd {
  readonly by: 'us' | 'peer' | 'failure'
  /** What went wrong; absent after `close`. */
  readonly error?: StorageError
}

/** Measured on this session's own traffic since it began; rtt over the last 256 answers, without the time for credits. */
export interface SessionStats {
  /** 0 before the first answer. */
  readonly rttP50Ms: number
  readonly rttP99Ms: number
  /** Mean difference of consecutive round trips (RFC 3550, 6.4.1). */
  readonly jitterMs: number
  readonly requests: number
  /** Requests that ended with PEER_UNREACHABLE, PROTOCOL_ERROR or DEADLINE_EXCEEDED: what the path is to blame for. */
  readonly pathErrors: number
  readonly bytesSent: number
  readonly bytesReceived: number
  /** Of the transport below, where it tells; -1 = not known. */
  readonly retransmits: number
}

export type ReplicaAcks = 'one' | 'quorum' | 'all'

export interface ReplicatedPutOptions extends RequestOptions {
  readonly acks: ReplicaAcks
}

export interface ReplicatedGetOptions extends RequestOptions {
  /** How long the first peer may take before the next one is asked too; absent: only after an error. */
  readonly hedgeAfterMs?: number
}

/** The same chunk at several peers, over one session or link to each. */
export interface ReplicaSet {
  readonly sessions: readonly ChunkPeer[]
  /**
   * To all in parallel; resolves as soon as enough are durable (quorum: more than half). Rejects with the first error when
   * enough cannot be reached any more. The buffer is free only when `settled` resolves, in both cases.
   */
  put(id: ChunkId, buffer: ChunkBuffer, byteLength: number, options: ReplicatedPutOptions): ReplicatedPut
  /** From the sessions in their order; the first sound answer wins, the others are cancelled and their buffers released. */
  get(id: ChunkId, offset: number, length: number, options?: ReplicatedGetOptions): Promise<ChunkBuffer>
}

export interface ReplicatedPut {
  readonly acknowledged: Promise<void>
  /** Never rejects: one result for each session, in their order; absent error = durable there. */
  readonly settled: Promise<readonly { readonly error?: StorageError }[]>
}
