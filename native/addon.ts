import { existsSync, mkdirSync, readdirSync } from 'node:fs'
import { createRequire } from 'node:module'
import { availableParallelism } from 'node:os'
import { fileURLToPath } from 'node:url'
import type { ChunkStore } from '../core/contract/chunk-store.ts'
import { StorageError } from '../core/contract/errors.ts'
import type { Logger } from '../core/contract/logger.ts'
import { type BdevOptions, nativeBdev } from './bdevs.ts'
import type { NativeAddon } from './data-plane-port.ts'
import { openNativeStore } from './native-store.ts'
import { openReferenceStore } from './reference/reference-store.ts'
import { deviceRoom, sizeStore, usualReactors } from './store-size.ts'

export interface ChunkStoreOptions {
  readonly directory: string
  /** What the store may take on the device; all that is free there, unless told. */
  readonly capacityBytes?: number
  /** Buffer pool of this JavaScript thread; 128 MiB unless told. */
  readonly poolBytes?: number
  /** Read cache; 256 MiB unless told. The reference store has none. */
  readonly cacheBytes?: number
  /** `auto` takes the best that this machine and the directory's content allow. */
  readonly backend?: 'auto' | 'uring' | 'posix' | 'memory' | 'reference' | 'spdk'
  /** Of `spdk`: one for each partition, in an order that never changes. */
  readonly bdevs?: readonly BdevOptions[]
  /** Of `spdk`: memory for its own pools; 256 MiB unless told. */
  readonly spdkMemoryBytes?: number
  /** Reactor threads of the native store; half the cores unless told. A directory keeps the number it was made with. */
  readonly reactors?: number
  /** Warns of buffers that were dropped without a release; for development. */
  readonly watchLeaks?: boolean
  readonly log: Logger
}

const mebibyte = 1024 * 1024
const defaultPoolBytes = 128 * mebibyte
const defaultCacheBytes = 256 * mebibyte
/** What a node's heap may keep for the next bodies: a second's worth of socket reads at full load. */
const keptFreeBytes = 192 * mebibyte
/** For a store in memory: a GiB of chunks. */
const memoryFreeBytes = 1280 * mebibyte
const defaultSpdkMemoryBytes = 256 * mebibyte

/**
 * Opens the chunk store of a node: the only door to the data plane. A directory stays with the kind of store that
 * wrote it: opening it as the other kind would look like the loss of everything in it, so that is refused.
 * INVALID_CONFIG, UNSUPPORTED_FORMAT, ALREADY_OPEN, INSUFFICIENT_STORAGE, IO_ERROR.
 */
export async function openChunkStore(options: ChunkStoreOptions): Promise<ChunkStore> {
  const { directory, log, backend = 'auto' } = options
  const written = backend === 'memory' ? 'nothing' : whatWrote(directory)
  if (written === 'spdk' && backend !== 'spdk') {
    throw new StorageError(
      'INVALID_CONFIG',
      `the chunks of ${directory} are on SPDK bdevs; choose backend spdk, with the bdevs it was made with`,
    )
  }
  if (backend === 'spdk') return openSpdkStore(options, written)
  if (backend === 'reference') {
    if (written === 'native') throw wrongKind(directory, 'native')
    return openReferenceStore(options)
  }
  if (written === 'reference') {
    if (backend !== 'auto') throw wrongKind(directory, 'reference')
    log.warn(
      { directory },
      'this directory was written by the TypeScript reference store, which goes on serving it',
    )
    return openReferenceStore(options)
  }
  const addon = loadAddon()
  if (addon instanceof Error) {
    if (written === 'native' || backend !== 'auto') {
      throw new StorageError('INVALID_CONFIG', `the native data plane is not available: ${addon.message}`, {
        cause: addon,
      })
    }
    log.warn(
      { directory, reason: addon.message },
      'the native data plane is not built: the TypeScript reference store serves instead (correct, slower)',
    )
    return openReferenceStore(options)
  }
  addon.keepFreedMemory(keptFreeBytes)
  return openNativeStore(addon, {
    ...nativeOptions(options),
    backend: backend === 'auto' ? 'uring' : backend,
    ...sizeOf(options, backend === 'memory'),
    bdevs: [],
    spdkMemoryBytes: 0,
  })
}

/** What is not told follows from the device; a size that is told is the data plane's to judge. */
function sizeOf(
  { directory, capacityBytes, reactors }: ChunkStoreOptions,
  isMemory: boolean,
): { readonly capacityBytes: number; readonly reactors: number } {
  if (capacityBytes !== undefined) return { capacityBytes, reactors: reactors ?? 0 }
  const room = isMemory ? { freeBytes: memoryFreeBytes, ownBytes: 0, partitions: 0 } : deviceRoom(directory)
  return sizeStore(room, reactors ?? usualReactors(), directory)
}

/** INVALID_CONFIG without SPDK: nothing else could serve what is on those devices. */
function openSpdkStore(
  options: ChunkStoreOptions,
  written: ReturnType<typeof whatWrote>,
): Promise<ChunkStore> {
  const { directory, bdevs = [] } = options
  if (written === 'native' || written === 'reference') throw wrongKind(directory, written)
  const addon = loadAddon()
  const { version, reason } = spdkState()
  if (addon instanceof Error || version === '') {
    throw new StorageError('INVALID_CONFIG', `store.backend is spdk, but ${reason}; ${howToHaveSpdk}`)
  }
  mkdirSync(directory, { recursive: true, mode: 0o700 })
  addon.keepFreedMemory(keptFreeBytes)
  return openNativeStore(addon, {
    ...nativeOptions(options),
    backend: 'spdk',
    reactors: bdevs.length,
    // As large as the bdevs are, unless told.
    capacityBytes: options.capacityBytes ?? 0,
    bdevs: bdevs.map(nativeBdev),
    spdkMemoryBytes: options.spdkMemoryBytes ?? defaultSpdkMemoryBytes,
  })
}

export const howToHaveSpdk =
  "build and install SPDK with --with-shared, put its folder of .pc files into PKG_CONFIG_PATH, then 'npm run build' " +
  '(native/README.md); or choose backend auto'

/** Of the SPDK that the addon was built with; an empty version means none, and the reason says why. Starts nothing. */
export function spdkState(): { readonly version: string; readonly reason: string } {
  const addon = loadAddon()
  if (addon instanceof Error) return { version: '', reason: addon.message }
  const [version, reason] = addon.spdk()
  return { version, reason }
}

/** What every back end is told. */
function nativeOptions(options: ChunkStoreOptions) {
  return {
    directory: options.directory,
    log: options.log,
    cacheBytes: options.cacheBytes ?? defaultCacheBytes,
    slabBytes: options.poolBytes ?? defaultPoolBytes,
    sqEntries: 1024,
    cqEntries: 2048,
    digestWorkers: Math.min(4, Math.max(1, Math.floor(availableParallelism() / 2))),
    digestEntries: 256,
    ...(options.watchLeaks === undefined ? {} : { watchLeaks: options.watchLeaks }),
  }
}

/** Which kind of store made what is in a directory; looks at names only. */
export function whatWrote(directory: string): 'native' | 'reference' | 'spdk' | 'nothing' {
  const names = existsSync(directory) ? readdirSync(directory) : []
  if (names.includes('bdevs.pando')) return 'spdk'
  if (names.some((name) => /^store-\d+\.pando$/.test(name))) return 'native'
  if (names.some((name) => /^chunks-\d+\.log$/.test(name))) return 'reference'
  return 'nothing'
}

function wrongKind(directory: string, kind: string): StorageError {
  return new StorageError(
    'INVALID_CONFIG',
    `${directory} holds chunks of the ${kind} store; choose backend auto`,
  )
}

let loaded: NativeAddon | Error | undefined

/** The addon, or why there is none. This module may run from native/ or, compiled, from dist/native/. */
export function loadAddon(): NativeAddon | Error {
  loaded ??= load()
  return loaded
}

function load(): NativeAddon | Error {
  const candidates = ['./build/release/pando.node', '../../native/build/release/pando.node']
  const path = candidates
    .map((name) => fileURLToPath(new URL(name, import.meta.url)))
    .find((name) => existsSync(name))
  if (!path) return new Error('native/build/release/pando.node does not exist; `npm run build` makes it')
  try {
    return createRequire(import.meta.url)(path)
  } catch (reason) {
    return reason instanceof Error ? reason : new Error(String(reason))
  }
}
