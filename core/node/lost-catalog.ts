import type { Catalog } from '../contract/catalog.ts'
import type { ChunkStore } from '../contract/chunk-store.ts'
import { StorageError } from '../contract/errors.ts'

/**
 * CATALOG_CORRUPT when nothing was ever written to the catalog of a node that has chunks: it is not where it was (not mounted, not restored
 * yet, removed), and without it all chunks would be taken for what crashes leave behind, and freed within seconds. For a node that
 * is a region: one of several gets the catalog from the others.
 */
export async function refuseLostCatalog(
  catalog: Pick<Catalog, 'lastTimeMs'>,
  chunks: Pick<ChunkStore, 'stats'>,
  { catalogPath, chunksPath }: { readonly catalogPath: string; readonly chunksPath: string },
): Promise<void> {
  if (catalog.lastTimeMs() > 0) return
  const { chunkCount } = await chunks.stats()
  if (chunkCount === 0) return
  throw new StorageError(
    'CATALOG_CORRUPT',
    `the catalog in ${catalogPath} is empty, and ${chunkCount} chunks are in ${chunksPath}: nothing would own them, and they would be freed. ` +
      'Put the catalog back, from a backup if need be; to begin anew, use an empty data directory',
  )
}
