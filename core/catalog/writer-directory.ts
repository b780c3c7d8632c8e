import { closeSync, fsyncSync, openSync, statfsSync } from 'node:fs'
import { dirname, resolve } from 'node:path'

const spaceCheckMs = 100

/** Whether less than `minFreeBytes` is left, as asked of the system 10 times a second at most. For threads that do nothing else meanwhile. */
export function spaceCheck({
  directory,
  minFreeBytes,
}: {
  readonly directory: string
  readonly minFreeBytes: number
}): () => boolean {
  let checkedMs = Number.NEGATIVE_INFINITY
  let isSpaceLow = false
  return () => {
    const nowMs = performance.now()
    if (nowMs - checkedMs >= spaceCheckMs) {
      const { bavail, bsize } = statfsSync(directory)
      isSpaceLow = bavail * bsize < minFreeBytes
      checkedMs = nowMs
    }
    return isSpaceLow
  }
}

/** Makes the names in a directory, and its own, as durable as the files. */
export function syncNames(directory: string): void {
  syncDirectory(directory)
  syncDirectory(dirname(resolve(directory)))
}

function syncDirectory(path: string): void {
  const descriptor = openSync(path, 'r')
  try {
    fsyncSync(descriptor)
  } finally {
    closeSync(descriptor)
  }
}
