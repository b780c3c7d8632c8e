import { closeSync, fsyncSync, mkdirSync, openSync, statfsSync, statSync, writeSync } from 'node:fs'
import { join } from 'node:path'

/** errno of LMDB's errors, which hands them over as numbers. */
const enospc = 28
const edquot = 122
const eio = 5
/** With less than this free, a write that was cut short was cut short for want of room. */
const scarceBytes = 64 * 1024 * 1024

export function isRoomScarce(directory: string): boolean {
  const { bavail, bsize } = statfsSync(directory)
  return bavail * bsize < scarceBytes
}

/**
 * Whether a failed commit failed because the device is full. LMDB says so only of a write that could not begin: of one of which a part
 * still fitted it says that the device is broken (mdb_page_flush: a short write is EIO).
 */
export function isDeviceFull(error: unknown, directory: string): boolean {
  if (!(error instanceof Error) || !('code' in error)) return false
  if (error.code === enospc || error.code === edquot) return true
  return error.code === eio && isRoomScarce(directory)
}

/** More than its 126 readers of 64 bytes need: it makes no longer a table that is long enough. */
const lockBytes = 16 * 1024

/**
 * Gives LMDB's table of readers its place on the device before it is mapped. LMDB only sets its length: the first reader on a full device
 * would then end the process (SIGBUS). Only while no environment is open there.
 */
export function reserveLockFile(directory: string): void {
  mkdirSync(directory, { recursive: true })
  const path = join(directory, 'lock.mdb')
  const found = statSync(path, { throwIfNoEntry: false })
  if (found !== undefined && found.blocks * 512 >= Math.max(found.size, lockBytes)) return
  const file = openSync(path, 'w', 0o600)
  try {
    writeSync(file, Buffer.alloc(lockBytes))
    fsyncSync(file)
  } finally {
    closeSync(file)
  }
}
