import type { ChunkStore } from '../core/contract/chunk-store.ts'
import type { Logger } from '../core/contract/logger.ts'
import { openReferenceStore } from './reference/reference-store.ts'

export interface ChunkStoreOptions {
  readonly directory: string
  /** What the store may take on the device; all that is free there when absent. */
  readonly capacityBytes?: number
  /** Buffer pool of this JavaScript thread; 128 MiB unless told. */
  readonly poolBytes?: number
  /** Read cache; 256 MiB unless told. The reference store has none. */
  readonly cacheBytes?: number
  /** `auto` takes the best that this machine and the directory's content allow. */
  readonly backend?: 'auto' | 'uring' | 'posix' | 'memory' | 'reference'
  /** Reactor threads of the native store; half the cores unless told. */
  readonly reactors?: number
  readonly log: Logger
}

/** Opens the chunk store of a node: the only door to the data plane. */
export async function openChunkStore(options: ChunkStoreOptions): Promise<ChunkStore> {
  options.log.warn({ directory: options.directory }, 'the chunk store runs on its TypeScript reference')
  return openReferenceStore(options)
}
