import { StorageError } from '../contract/errors.ts'
import { bytesOf, pack, unpack } from './encoding.ts'
import type { HybridTime } from './hybrid-time.ts'
import { table, tableKey } from './keys.ts'
import type { TableReader, TableWriter } from './tables.ts'

/** What the catalog knows of itself; one row, written with every batch. */
export interface CatalogMeta {
  position: number
  /** Hash over all entries so far, see `state-machine.ts`. */
  chain: Uint8Array
  time: HybridTime
  lastBucketId: number
  sessions: number
  /** Bodies that entries of outboxes name; absent: none ever. */
  pins?: number
  counts: CatalogCounts
}

export interface CatalogCounts {
  buckets: number
  /** Keys whose newest version is an object. */
  objects: number
  /** All versions and delete markers, the newest included. */
  versions: number
  uploads: number
  /** Bytes of all object versions. */
  liveBytes: number
  garbageWrites: number
}

const schemaVersion = 1
const metaKey = tableKey(table.meta)

export function emptyMeta(): CatalogMeta {
  return {
    position: 0,
    chain: new Uint8Array(32),
    time: { ms: 0, counter: 0 },
    lastBucketId: 0,
    sessions: 0,
    counts: { buckets: 0, objects: 0, versions: 0, uploads: 0, liveBytes: 0, garbageWrites: 0 },
  }
}

export function readMeta(reader: TableReader): CatalogMeta {
  const row = reader.get(metaKey)
  if (row === undefined) return emptyMeta()
  const { version, ...meta } = unpack(row) as CatalogMeta & { version: number }
  if (version !== schemaVersion) {
    throw new StorageError(
      'UNSUPPORTED_FORMAT',
      `the catalog has schema ${version}; this version reads ${schemaVersion}`,
    )
  }
  return { ...meta, chain: bytesOf(meta.chain) }
}

export function writeMeta(writer: TableWriter, meta: CatalogMeta): void {
  writer.put(metaKey, pack({ version: schemaVersion, ...meta }))
}
