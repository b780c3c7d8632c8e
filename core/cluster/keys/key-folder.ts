import { mkdir, open, readFile, rename, rm, stat } from 'node:fs/promises'
import { dirname, join } from 'node:path'
import type { Randomness } from '../../contract/clock.ts'
import { StorageError } from '../../contract/errors.ts'

/** Names of the files, the same in every folder of keys. */
export const keyFiles = {
  /** What the folder is; not secret. */
  about: 'cluster.json',
  authority: 'ca.pem',
  /** Only in the authority's own folder: whoever has it can make nodes. */
  authorityKey: 'ca.key',
  certificate: 'node.pem',
  key: 'node.key',
  regionKey: 'region-key',
  sealingKey: 'sealing-key',
  rootKeys: 'root-key.json',
  nats: 'nats.json',
} as const

/** Files by name. */
export type KeyFiles = Readonly<Record<string, string>>

/**
 * A folder (0700) with these files (0600), all of them or none, never over something that is there: CONFLICT. The folder above
 * is made when it is missing.
 */
export async function writeKeyFolder(path: string, files: KeyFiles, randomness: Randomness): Promise<void> {
  const parent = dirname(path)
  await mkdir(parent, { recursive: true, mode: 0o700 })
  const token = Buffer.from(randomness.fill(new Uint8Array(8))).toString('hex')
  const aside = join(parent, `.new-${token}`)
  await mkdir(aside, { mode: 0o700 })
  try {
    for (const [name, text] of Object.entries(files)) {
      const file = await open(join(aside, name), 'wx', 0o600)
      try {
        await file.writeFile(text)
        await file.sync()
      } finally {
        await file.close()
      }
    }
    await syncFolder(aside)
    // Renaming onto a folder that holds something fails: what is there stays.
    await rename(aside, path)
    await syncFolder(parent)
  } catch (error) {
    await rm(aside, { recursive: true, force: true })
    const code = error instanceof Error && 'code' in error ? error.code : undefined
    if (code === 'ENOTEMPTY' || code === 'EEXIST' || code === 'ENOTDIR') {
      throw new StorageError('CONFLICT', `${path} is there already; keys are never overwritten`, {
        cause: error,
      })
    }
    throw StorageError.from(error, 'IO_ERROR')
  }
}

/** Text of a file of keys. INVALID_CONFIG when it is missing, or when everybody on the machine may read a secret. */
export async function readKeyFile(folder: string, name: string): Promise<string> {
  const path = join(folder, name)
  try {
    const [text, { mode }] = await Promise.all([readFile(path, 'utf8'), stat(path)])
    if ((mode & 0o007) !== 0 && !name.endsWith('.pem') && name !== keyFiles.about) {
      throw new StorageError(
        'INVALID_CONFIG',
        `everybody on this machine may read ${path}: chmod 600 ${path}`,
      )
    }
    return text
  } catch (error) {
    if (error instanceof StorageError) throw error
    const isMissing = error instanceof Error && 'code' in error && error.code === 'ENOENT'
    const reason = isMissing ? 'is missing' : `cannot be read: ${String(error)}`
    throw new StorageError(
      'INVALID_CONFIG',
      `${path} ${reason}; the folder must be one that 'pando cluster init' or 'pando cluster add-node' made`,
      { cause: error },
    )
  }
}

async function syncFolder(path: string): Promise<void> {
  const folder = await open(path, 'r')
  try {
    await folder.sync()
  } finally {
    await folder.close()
  }
}
