import type { ListQuery, ObjectListing } from './catalog.ts'
import type { ObjectRecord, VersionId } from './object-model.ts'

/**
 * How an edge answers reads. `hit`: it holds what the hub has, or what the hub has not got yet; `miss`: the hub was asked for it;
 * `stale`: the hub cannot be reached, and this is what the edge holds.
 */
export type CacheState = 'hit' | 'miss' | 'stale'

export interface EdgeAnswer {
  readonly state: CacheState
  /** With `stale`: for how long the hub may have had something newer, milliseconds, at most; absent: it cannot be told. */
  readonly staleMs?: number
}

export interface EdgeLook extends EdgeAnswer {
  /** Of an object that the edge does not hold and was not asked to fetch: whoever answers with it judges by it who may see it. */
  readonly record?: ObjectRecord
}

/** Reads of buckets that this region is an edge of. Each answers undefined for every other bucket. */
export interface EdgeReads {
  /**
   * Asks the hub for the current version of a key, or the one named. `withBody`: the catalog holds it then, if there is one. UNAVAILABLE when
   * the edge does not hold it and cannot ask.
   */
  look(
    bucketId: number,
    key: string,
    version: VersionId | 'null' | undefined,
    withBody: boolean,
    signal: AbortSignal,
  ): Promise<EdgeLook | undefined>
  /** What the hub has, and what it has not got yet. */
  list(
    bucketId: number,
    query: ListQuery,
    signal: AbortSignal,
  ): Promise<(EdgeAnswer & { readonly page: ObjectListing }) | undefined>
}

/** What an edge has done with reads since the process began. */
export interface EdgeTraffic {
  readonly bucket: string
  readonly reads: Readonly<Record<CacheState, number>>
  /** Bytes of bodies fetched for them. */
  readonly fetchedBytes: number
  readonly evictedVersions: number
}
