import type { FragmentCode, Stripe } from './erasure.ts'
import type { ChunkId } from './ids.ts'
import type { PlanSink } from './qos.ts'
import type { Span } from './trace.ts'
import type { ReplicaAcks } from './transport.ts'

/**
 * The chunk store of one node: immutable runs of bytes under 16-byte ids. Native (C++) and reference (TypeScript)
 * implementations obey the same laws (`test/kit/chunk-store.ts`). Errors are StorageErrors with the codes named.
 *
 * `qosClass` is the position of a class of service in the plan (core/contract/qos.ts), the first one if absent. A store that
 * schedules by classes has `planSink`; the others take no notice of them.
 *
 * `stripe` is for the store of a region of several nodes, which keeps such a chunk as fragments; the store of one node takes no
 * notice of it. A chunk is read and deleted with the stripe that it was written with.
 *
 * `acks` is how many copies of the chunk have to be durable, for the store of a region, instead of what its configuration says.
 *
 * `span` is of the caller's trace, where there is one: the store of a region makes spans of what it asks of each node.
 */
export interface ChunkStore {
  readonly kind: 'native' | 'reference'

  /** Where the store learns what each class gets. Until the first plan no class is held back. */
  readonly planSink?: PlanSink

  /**
   * Takes `byteLength` bytes (at most maxChunkBytes) from the bounded buffer pool; waits while the pool is empty, which
   * is the back-pressure of every body. Order of waiting is first come, first served. CANCELLED when the signal aborts.
   */
  acquire(byteLength: number, signal?: AbortSignal): Promise<ChunkBuffer>

  /**
   * Stores the first `byteLength` bytes (1 to maxChunkBytes) of the buffer durably. Resolves only once they survive
   * power loss. The buffer stays the caller's and must not be changed until the promise settles; what lies behind
   * `byteLength` in it may be overwritten. An id that exists with equal content is a success without a write; with
   * other content CONFLICT; one that was found damaged is replaced. INVALID_ARGUMENT, INSUFFICIENT_STORAGE, DEVICE_OFFLINE, IO_ERROR, CLOSED; OVERLOADED when too
   * many requests of the class wait, as for `get` and `delete`.
   *
   * With a stripe the buffer has stripeBufferBytes: what lies behind the data is where its parity is computed.
   */
  put(
    id: ChunkId,
    buffer: ChunkBuffer,
    byteLength: number,
    qosClass?: number,
    stripe?: Stripe,
    span?: Span,
    acks?: ReplicaAcks,
  ): Promise<void>

  /**
   * Reads `length` bytes from `offset`, verified by checksum, into a buffer from the pool that the caller releases; the
   * buffer's `bytes` is exactly the bytes read (shorter only where the chunk ends). CHUNK_NOT_FOUND, CORRUPT_CHUNK;
   * INVALID_ARGUMENT when `offset` is greater than the chunk's length.
   */
  get(
    id: ChunkId,
    offset: number,
    length: number,
    signal?: AbortSignal,
    qosClass?: number,
    stripe?: Stripe,
    span?: Span,
  ): Promise<ChunkBuffer>

  /**
   * A chunk that a read or a scrub has found damaged is not there, though it is listed: whoever relies on the answer may give up another
   * copy. With a stripe: whether enough of its fragments are there.
   */
  has(id: ChunkId, stripe?: Stripe): Promise<boolean>

  /** Durable when it resolves. Resolves false when there was no such chunk. */
  delete(id: ChunkId, qosClass?: number, stripe?: Stripe): Promise<boolean>

  /** Up to `limit` chunks with ids greater than `after` (null: from the beginning), ascending by id. */
  list(after: ChunkId | null, limit: number): Promise<readonly ChunkInfo[]>

  /** Reads and verifies everything once; findings as they are met. Long work: abort with the signal. */
  scrub(signal?: AbortSignal): AsyncIterable<ScrubFinding>

  /**
   * Computes fragments of others, off the JavaScript thread where the implementation can. All bytes are in buffers of this store, those
   * of targets begin at pages, and nobody touches them until it settles. INVALID_ARGUMENT. Optional: a store without it is no part
   * of a region that codes.
   */
  recompute?(code: FragmentCode): Promise<void>

  /** Digests of a body, computed off the JavaScript thread where the implementation can. */
  digest(algorithms: readonly DigestAlgorithm[]): BodyDigest

  /** The same digests of a small body (at most 64 KiB), at once on the calling thread. */
  digestNow(
    algorithms: readonly DigestAlgorithm[],
    bytes: Uint8Array,
  ): ReadonlyMap<DigestAlgorithm, Uint8Array>

  /**
   * Gives memory back at once that nobody will look at again, as the pieces of a body that were copied. All views of its
   * ArrayBuffer may be empty afterwards. Optional: without it the garbage collector does so, later and at a higher price.
   */
  discard?(bytes: Uint8Array): void

  stats(): Promise<ChunkStoreStats>

  /** Waits for requests in flight, then frees everything. Later calls reject with CLOSED. */
  close(): Promise<void>
}

/** A slice of the pool. `release` gives it back and may be called once; the bytes are not touched after it. */
export interface ChunkBuffer {
  readonly bytes: Uint8Array
  release(): void
}

export interface ChunkInfo {
  readonly id: ChunkId
  readonly byteLength: number
  readonly crc32c: number
}

export interface ScrubFinding {
  /** Absent when the damage is in the store's own structures and names no chunk. */
  readonly id?: ChunkId
  readonly problem: 'corrupt-payload' | 'corrupt-header' | 'unreadable' | 'lost-write'
  readonly detail: string
}

export type DigestAlgorithm = 'md5' | 'sha1' | 'sha256' | 'crc32' | 'crc32c' | 'crc64nvme'

/**
 * Digests over the bytes of a body in order. `update` retains nothing that the caller must keep beyond the returned
 * promise: the bytes may be changed or released once it settles. Callers need not wait between updates: order is kept.
 */
export interface BodyDigest {
  update(buffer: ChunkBuffer, offset: number, length: number): Promise<void>
  /** Raw digest bytes by algorithm (CRCs big-endian, as S3 encodes them). Ends the digest. */
  finish(): Promise<ReadonlyMap<DigestAlgorithm, Uint8Array>>
  /** Ends the digest without a result. Safe to call at any time, also after finish. */
  abort(): void
}

/** What is shown of a store: by metrics, by the admin service, by the command. One list for all of them. */
export interface ChunkStoreGauges {
  readonly chunkCount: number
  /** Bytes of live chunk payload. */
  readonly liveBytes: number
  /** Bytes on the device that collection could give back. */
  readonly staleBytes: number
  readonly capacityBytes: number
  readonly freeBytes: number
  readonly indexBytes: number
  readonly cacheBytes: number
  readonly cacheHits: number
  readonly cacheMisses: number
  /** Bytes of the buffer pool in use, and its size. */
  readonly poolUsedBytes: number
  readonly poolBytes: number
  readonly corruptChunks: number
  /** False once a write or flush has failed: reads go on, writes are refused until the node is restarted. */
  readonly online: boolean
}

export interface ChunkStoreStats extends ChunkStoreGauges {
  readonly backend: string
}
