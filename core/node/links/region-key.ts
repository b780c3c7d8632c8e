import { readFile, stat } from 'node:fs/promises'
import { join } from 'node:path'
import type { Randomness } from '../../contract/clock.ts'
import { StorageError } from '../../contract/errors.ts'
import { parseRegionKey } from '../config/load.ts'
import { writeDurably } from '../durable-file.ts'

export const regionKeyName = 'region-key'

export interface RegionKey {
  /** 32 bytes. Never logged, never sent. */
  readonly key: Uint8Array
  /** `generated` only in the run that made it. */
  readonly from: 'environment' | 'file' | 'generated'
  /** Where it lies; empty when it is from the environment. */
  readonly path: string
}

export interface RegionKeyPlaces {
  /** From PANDO_REGION_KEY; wins. */
  readonly given: Uint8Array | undefined
  /** `rpc.regionKeyFile`; empty: the data directory's own. */
  readonly file: string
  /** The data directory; its lock is held. */
  readonly dataPath: string
  readonly randomness: Randomness
}

/** The secret of the region. One that was configured must be there; that of the data directory is made when it is not. INVALID_CONFIG. */
export async function openRegionKey(places: RegionKeyPlaces): Promise<RegionKey> {
  const { given, file, dataPath, randomness } = places
  if (given !== undefined) return { key: given, from: 'environment', path: '' }
  const path = file === '' ? join(dataPath, regionKeyName) : file
  try {
    const [text, { mode }] = await Promise.all([readFile(path, 'utf8'), stat(path)])
    if ((mode & 0o007) !== 0) {
      throw new StorageError(
        'INVALID_CONFIG',
        `everybody on this machine may read the region key in ${path}: chmod 600 ${path}`,
      )
    }
    return { key: parseRegionKey(text, path), from: 'file', path }
  } catch (error) {
    if (error instanceof StorageError) throw error
    const isMissing = error instanceof Error && 'code' in error && error.code === 'ENOENT'
    if (!isMissing || file !== '') {
      const reason = error instanceof Error ? error.message : String(error)
      throw new StorageError('INVALID_CONFIG', `rpc.regionKeyFile: cannot read ${path}: ${reason}`, {
        cause: error,
      })
    }
  }
  const key = randomness.fill(new Uint8Array(32))
  await writeDurably(path, `${Buffer.from(key).toString('hex')}\n`)
  return { key, from: 'generated', path }
}
