import type { Catalog } from '../contract/catalog.ts'
import type { ChunkStore } from '../contract/chunk-store.ts'
import { StorageError } from '../contract/errors.ts'

/**
 * CATALOG_CORRUPT when there has never been a bucket in the catalog of a node that has chunks: it is not the catalog that they belong to (not
 * mounted, not restored yet, removed; of a region, at all nodes), and by it all chunks would be taken for what crashes leave behind, and freed:
 * within seconds where the node is the region, else within an hour or two.
 */
export async function refuseLostCatalog(
  catalog: Pick<Catalog, 'hasHadBuckets'>,
  chunks: Pick<ChunkStore, 'stats'>,
  { catalogPath, chunksPath }: { readonly catalogPath: string; readonly chunksPath: string },
): Promise<void> {
  if (catalog.hasHadBuckets()) return
  const { chunkCount } = await chunks.stats()
  if (chunkCount === 0) return
  throw new StorageError(
    'CATALOG_CORRUPT',
    `the catalog in ${catalogPath} has never had a bucket, and ${chunkCount} chunks are in ${chunksPath}: nothing owns them, and they would be ` +
      'freed. Put the catalog back, from a backup if need be; to begin anew, use an empty data directory',
  )
}
