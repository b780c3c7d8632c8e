import { existsSync } from 'node:fs'
import { mkdir } from 'node:fs/promises'
import { join } from 'node:path'
import { z } from 'zod'
import type { ChunkStoreOptions } from '../../native/addon.ts'
import type { ChunkStore } from '../contract/chunk-store.ts'
import type { Randomness } from '../contract/clock.ts'
import { StorageError } from '../contract/errors.ts'
import type { Logger } from '../contract/logger.ts'
import type { NodeConfig } from './config/schema.ts'
import { readIfThere } from './data-directory.ts'
import { writeDurably } from './durable-file.ts'

/** In the chunk store's directory: 32 hex digits, made when the store is first opened. */
const identityName = 'store-id'
/** In the catalog's directory: which chunk store the catalog belongs to. Moved away together with the catalog. */
const recordName = 'chunk-store.json'

const identityText = /^[0-9a-f]{32}$/

const recordSchema = z.object({
  format: z.literal(1),
  id: z.string().regex(identityText),
  kind: z.enum(['native', 'reference']),
})

type StoreRecord = z.output<typeof recordSchema>

export interface OwnChunkStoreOptions {
  readonly config: Pick<NodeConfig, 'store'>
  readonly data: { readonly catalogPath: string; readonly chunksPath: string }
  /** A region of several nodes, where the others have what this one has lost. */
  readonly isCluster: boolean
  readonly randomness: Randomness
  readonly addon: {
    openChunkStore(options: ChunkStoreOptions): Promise<ChunkStore>
    whatWrote(directory: string): 'native' | 'reference' | 'spdk' | 'nothing'
  }
  readonly log: Logger
}

/**
 * Opens the chunk store that belongs to the node's catalog, and no other one: where the disk of the chunks is not mounted, not restored
 * yet or another one's, an empty store would be made silently, new chunks would go to the wrong disk, and the node would seem well with all
 * its data gone. INVALID_CONFIG says what to do. A store that nobody knows yet becomes the catalog's.
 */
export async function openOwnChunkStore(options: OwnChunkStoreOptions): Promise<ChunkStore> {
  const { config, data, addon, log } = options
  const isVolatile = keepsNothing(config.store)
  const record = await readRecord(join(data.catalogPath, recordName))
  await refuseLostStore(options, record, isVolatile)
  const { store } = config
  const opened = await addon.openChunkStore({
    directory: data.chunksPath,
    ...(store.capacity === 'auto' ? {} : { capacityBytes: store.capacity }),
    poolBytes: store.pool,
    cacheBytes: store.cache,
    backend: store.backend,
    bdevs: store.bdevs,
    spdkMemoryBytes: store.spdkMemory,
    ...(store.reactors === 'auto' ? {} : { reactors: store.reactors }),
    log,
  })
  try {
    if (!isVolatile) await makeKnown(options, record, opened.kind)
    return opened
  } catch (error) {
    await opened.close()
    throw error
  }
}

/** Nothing of it is there after a stop, so nothing can be missing. */
const keepsNothing = ({ backend, bdevs }: NodeConfig['store']): boolean =>
  backend === 'memory' || (backend === 'spdk' && bdevs.every(({ kind }) => kind === 'malloc'))

/** Looks only: what is mounted in the wrong place must not be written to. */
async function refuseLostStore(
  { data, isCluster, addon }: OwnChunkStoreOptions,
  record: StoreRecord | undefined,
  isVolatile: boolean,
): Promise<void> {
  const { catalogPath, chunksPath } = data
  const found = isVolatile ? 'nothing' : addon.whatWrote(chunksPath)
  const refuse = (problem: string): never => {
    throw new StorageError(
      'INVALID_CONFIG',
      `${problem}. Mount the disk that ${chunksPath} was on, or restore it from a backup` +
        (isCluster
          ? `. When it is lost for good: move ${catalogPath} away and start the node again; it joins as a new one, with the chunks that are ` +
            'there, and gets the others from the region'
          : '; to begin anew, use an empty data directory'),
    )
  }
  if (record === undefined) {
    // Since there are records each catalog has had one from before its first entry.
    const hasCatalog = ['data.mdb', 'current'].some((name) => existsSync(join(catalogPath, name)))
    if (hasCatalog && !isVolatile && found === 'nothing') {
      refuse(`there is a catalog in ${catalogPath}, and no chunk store in ${chunksPath}`)
    }
    return
  }
  const id = isVolatile ? undefined : await readIdentity(join(chunksPath, identityName))
  if (id === undefined || (record.kind === 'native' && found === 'nothing')) {
    refuse(`the chunk store ${record.id} of the catalog in ${catalogPath} is not in ${chunksPath}`)
  }
  if (id !== record.id) {
    refuse(
      `the chunk store in ${chunksPath} is ${id}, and the catalog in ${catalogPath} belongs to ${record.id}`,
    )
  }
}

/** The store first: a catalog never names one that has no name yet. Both before the catalog is made. */
async function makeKnown(
  { data, randomness }: OwnChunkStoreOptions,
  record: StoreRecord | undefined,
  kind: StoreRecord['kind'],
): Promise<void> {
  if (record !== undefined) return
  const identityPath = join(data.chunksPath, identityName)
  let id = await readIdentity(identityPath)
  if (id === undefined) {
    id = Buffer.from(randomness.fill(new Uint8Array(16))).toString('hex')
    await writeDurably(identityPath, `${id}\n`)
  }
  await mkdir(data.catalogPath, { recursive: true, mode: 0o700 })
  const made: StoreRecord = { format: 1, id, kind }
  await writeDurably(join(data.catalogPath, recordName), `${JSON.stringify(made)}\n`)
}

/** Undefined where there is none, or one that was cut short. */
async function readIdentity(path: string): Promise<string | undefined> {
  const text = (await readIfThere(path))?.trim()
  return text !== undefined && identityText.test(text) ? text : undefined
}

async function readRecord(path: string): Promise<StoreRecord | undefined> {
  const text = await readIfThere(path)
  if (text === undefined) return undefined
  try {
    return recordSchema.parse(JSON.parse(text))
  } catch (error) {
    throw new StorageError('UNSUPPORTED_FORMAT', `${path} is damaged; restore it from a backup`, {
      cause: error,
    })
  }
}
