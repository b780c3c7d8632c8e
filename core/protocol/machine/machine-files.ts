import { open, readdir } from 'node:fs/promises'
import { join } from 'node:path'

/** What the kernel tells about a machine, below a root that tests replace by a tree of their own. */
export interface MachineFiles {
  /** Trimmed text of at most 64 KiB; undefined when there is no such file or it cannot be read. */
  read(path: string): Promise<string | undefined>
  /** Names in a folder in natural order, at most 1024; empty when there is no such folder. */
  list(path: string): Promise<readonly string[]>
}

const maxFileBytes = 64 * 1024
const maxNames = 1024

/** Reads `/sys` and `/proc` below `root`. Files there have no true length, so a bound protects from surprises. */
export function openMachineFiles(root = '/'): MachineFiles {
  return {
    async read(path) {
      try {
        const file = await open(join(root, path), 'r')
        try {
          const { buffer, bytesRead } = await file.read(Buffer.alloc(maxFileBytes), 0, maxFileBytes, null)
          return buffer.toString('utf8', 0, bytesRead).trim()
        } finally {
          await file.close()
        }
      } catch {
        return undefined
      }
    },
    async list(path) {
      try {
        const names = await readdir(join(root, path))
        return names.toSorted(naturally).slice(0, maxNames)
      } catch {
        return []
      }
    },
  }
}

const naturally = (left: string, right: string): number =>
  left.localeCompare(right, 'en', { numeric: true, sensitivity: 'base' })

/** A number in a file of its own, decimal or hexadecimal; undefined when it is none. */
export async function readNumber(files: MachineFiles, path: string): Promise<number | undefined> {
  const text = await files.read(path)
  if (text === undefined || text === '') return undefined
  const value = Number(text)
  return Number.isFinite(value) ? value : undefined
}
