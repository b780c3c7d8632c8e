import type { Catalog, WriteOwner } from '../contract/catalog.ts'
import type { ChunkInfo, ChunkStore, ScrubFinding } from '../contract/chunk-store.ts'
import { fragmentLength, fragmentOf, stripeOf } from '../contract/erasure.ts'
import { type ChunkId, chunkId, chunkOwner, type WriteId } from '../contract/ids.ts'
import type { WriteRegistry } from '../contract/write-registry.ts'
import { chunkCount, type WritesElsewhere } from './collector.ts'

/** Where a chunk belongs, as far as the catalog knows. */
export interface ChunkPlace {
  readonly writeId: WriteId
  readonly index: number
  /** Absent: no object or part owns the write. */
  readonly owner?: {
    readonly bucket: string
    readonly key: string
    readonly uploadId?: string
    readonly partNumber?: number
    /** Of the chunk's first byte within the write. */
    readonly offset: number
  }
  /** Freed already; the collector has not come by yet. */
  readonly garbage: boolean
}

export type ScanFinding =
  | {
      /** In the store, and neither the catalog nor a writer in flight knows of it: space lost. */
      readonly problem: 'leaked-chunk'
      readonly place: ChunkPlace
      readonly detail: string
    }
  | {
      /** The catalog names it, and the store has none of it, or not the bytes that belong there: an object cannot be read. */
      readonly problem: 'missing-chunk' | 'wrong-length'
      readonly place: ChunkPlace
      readonly detail: string
    }

export interface ScanOptions {
  readonly catalog: Pick<Catalog, 'bucketById' | 'garbage' | 'writeOwner' | 'writes'>
  readonly chunks: Pick<ChunkStore, 'has' | 'list'>
  readonly writes: Pick<WriteRegistry, 'isInFlight'>
  readonly elsewhere?: Pick<WritesElsewhere, 'held'>
  readonly signal?: AbortSignal
}

const listBatch = 512
const writesBatch = 256
const lookupsAtOnce = 32

/** The write id right before this one in order. */
function predecessor(writeId: WriteId): WriteId {
  const before = new Uint8Array(writeId)
  for (let index = before.length - 1; index >= 0; index--) {
    const byte = before[index] ?? 0
    before[index] = (byte - 1) & 0xff
    if (byte > 0) break
  }
  return before
}

function isGarbage(catalog: Pick<Catalog, 'garbage'>, writeId: WriteId): boolean {
  const found = catalog.garbage(1, predecessor(writeId))[0]
  return found !== undefined && Buffer.compare(found.writeId, writeId) === 0
}

export function locateChunk(catalog: ScanOptions['catalog'], id: ChunkId): ChunkPlace {
  const { writeId, index } = chunkOwner(id)
  const owner = catalog.writeOwner(writeId)
  if (owner === undefined) return { writeId, index, garbage: isGarbage(catalog, writeId) }
  return {
    writeId,
    index,
    garbage: false,
    owner: {
      bucket: catalog.bucketById(owner.bucketId)?.name ?? `#${owner.bucketId}`,
      key: owner.key,
      offset: index * owner.chunkBytes,
      ...(owner.uploadId === undefined ? {} : { uploadId: owner.uploadId }),
      ...(owner.partNumber === undefined ? {} : { partNumber: owner.partNumber }),
    },
  }
}

/** What a scrub finding means to a user: which object is hit. */
export function scrubReport(
  catalog: ScanOptions['catalog'],
  finding: ScrubFinding,
): ScrubFinding & { readonly place?: ChunkPlace } {
  return finding.id === undefined ? finding : { ...finding, place: locateChunk(catalog, finding.id) }
}

const hex = (bytes: Uint8Array): string => Buffer.from(bytes).toString('hex')

function expectedBytes(owner: WriteOwner, index: number, id: ChunkId): number {
  const fragment = fragmentOf(id)
  if (owner.erasure !== undefined && fragment !== undefined)
    return fragmentLength(stripeOf(owner, owner.erasure, index), fragment)
  return Math.min(owner.chunkBytes, owner.byteLength - index * owner.chunkBytes)
}

/**
 * Compares store and catalog, both ways, in bounded memory. It may run while the region works: every finding has been true at
 * the moment of its check, with writes in flight and garbage left out.
 */
export async function* fullScan(options: ScanOptions): AsyncGenerator<ScanFinding> {
  yield* scanStore(options)
  yield* scanCatalog(options)
}

async function* scanStore({
  catalog,
  chunks,
  writes,
  elsewhere,
  signal,
}: ScanOptions): AsyncGenerator<ScanFinding> {
  let after: ChunkId | null = null
  for (;;) {
    signal?.throwIfAborted()
    const batch: readonly ChunkInfo[] = await chunks.list(after, listBatch)
    after = batch.at(-1)?.id ?? null
    if (after === null) return
    for (const chunk of batch) {
      const { writeId, index } = chunkOwner(chunk.id)
      if (writes.isInFlight(writeId)) continue
      const owner = catalog.writeOwner(writeId)
      if (owner === undefined) {
        if (isGarbage(catalog, writeId)) continue
        // It may have been freed and collected since the listing.
        if (!(await chunks.has(chunk.id))) continue
        const held = await elsewhere?.held([writeId])
        if (held?.[0] === true || catalog.writeOwner(writeId) !== undefined) continue
      }
      const place = locateChunk(catalog, chunk.id)
      if (owner === undefined || index >= chunkCount(owner)) {
        const detail = `chunk ${hex(chunk.id)} of ${chunk.byteLength} bytes belongs to nothing`
        yield { problem: 'leaked-chunk', place, detail }
      } else if (chunk.byteLength !== expectedBytes(owner, index, chunk.id)) {
        const detail = `chunk ${hex(chunk.id)} has ${chunk.byteLength} bytes instead of ${expectedBytes(owner, index, chunk.id)}`
        yield { problem: 'wrong-length', place, detail }
      }
    }
  }
}

async function* scanCatalog({ catalog, chunks, signal }: ScanOptions): AsyncGenerator<ScanFinding> {
  let after: WriteId | null = null
  for (;;) {
    signal?.throwIfAborted()
    const batch: readonly WriteOwner[] = catalog.writes(after, writesBatch)
    after = batch.at(-1)?.writeId ?? null
    if (after === null) return
    for (const owner of batch) {
      const count = chunkCount(owner)
      for (let start = 0; start < count; start += lookupsAtOnce) {
        const ids = Array.from({ length: Math.min(lookupsAtOnce, count - start) }, (_, index) =>
          chunkId(owner.writeId, start + index),
        )
        const present = await Promise.all(
          ids.map((id, at) =>
            chunks.has(
              id,
              owner.erasure === undefined ? undefined : stripeOf(owner, owner.erasure, start + at),
            ),
          ),
        )
        for (const [index, id] of ids.entries()) {
          // Freed and collected meanwhile is not missing.
          if (present[index] === true || catalog.writeOwner(owner.writeId) === undefined) continue
          const place = locateChunk(catalog, id)
          yield { problem: 'missing-chunk', place, detail: `chunk ${hex(id)} is not in the store` }
        }
      }
    }
  }
}
