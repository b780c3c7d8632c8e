import { closeSync, ftruncateSync, openSync, writeSync } from 'node:fs'

/** Writes a file until no byte more fits on its device, and gives `leftBytes` of that back. */
export function fillDevice(path: string, leftBytes = 0): void {
  const file = openSync(path, 'w')
  let written = 0
  try {
    for (const piece of [Buffer.alloc(1 << 20), Buffer.alloc(4096)]) {
      try {
        for (;;) written += writeSync(file, piece)
      } catch (error) {
        if ((error as NodeJS.ErrnoException).code !== 'ENOSPC') throw error
      }
    }
    ftruncateSync(file, Math.max(0, written - leftBytes))
  } finally {
    closeSync(file)
  }
}
