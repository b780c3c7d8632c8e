import { spawnSync } from 'node:child_process'
import { constants, type FileHandle, mkdir, open, readdir, readFile, statfs, unlink } from 'node:fs/promises'
import { join } from 'node:path'
import { StorageError } from '../../core/contract/errors.ts'

/**
 * The little of a file system that the reference store needs, so that tests can put one underneath that loses
 * un-synced writes, tears them, or fails. Offsets and lengths are bytes. Failures reject with the system's error.
 */
export interface FileSystem {
  /** Creates the directory (and its parents) if need be and takes sole ownership; ALREADY_OPEN if somebody has it. */
  openDirectory(path: string): Promise<Directory>
}

export interface Directory {
  list(): Promise<readonly string[]>
  /** Fails if the name exists. The name is durable only after `sync`. */
  create(name: string): Promise<LogFile>
  open(name: string): Promise<LogFile>
  remove(name: string): Promise<void>
  /** Makes creations and removals durable. */
  sync(): Promise<void>
  /** Bytes that could still be written. */
  freeBytes(): Promise<number>
  /** Gives up ownership. */
  close(): Promise<void>
}

export interface LogFile {
  size(): Promise<number>
  /** Fills as much of the target as the file has from `position` and returns how much that was. */
  read(target: Uint8Array, position: number): Promise<number>
  /** Writes all pieces one behind the other or rejects; a rejected write may have left any part behind. */
  write(pieces: readonly Uint8Array[], position: number): Promise<void>
  /** Resolves once everything written survives power loss (fdatasync). */
  sync(): Promise<void>
  truncate(length: number): Promise<void>
  close(): Promise<void>
}

const lockName = 'LOCK'

export const nodeFileSystem: FileSystem = {
  async openDirectory(path) {
    await mkdir(path, { recursive: true, mode: 0o700 })
    const lock = await lockDirectory(path)
    return {
      list: async () => (await readdir(path)).filter((name) => name !== lockName),
      create: async (name) => new NodeFile(await open(join(path, name), 'wx+', 0o600)),
      open: async (name) => new NodeFile(await open(join(path, name), 'r+')),
      remove: (name) => unlink(join(path, name)),
      sync: () => syncDirectory(path),
      freeBytes: async () => {
        const { bavail, bsize } = await statfs(path)
        return bavail * bsize
      },
      close: () => lock.release(),
    }
  },
}

async function syncDirectory(path: string): Promise<void> {
  const handle = await open(path, constants.O_RDONLY | constants.O_DIRECTORY)
  try {
    await handle.sync()
  } finally {
    await handle.close()
  }
}

class NodeFile implements LogFile {
  readonly #handle: FileHandle

  constructor(handle: FileHandle) {
    this.#handle = handle
  }

  async size(): Promise<number> {
    return (await this.#handle.stat()).size
  }

  async read(target: Uint8Array, position: number): Promise<number> {
    let done = 0
    while (done < target.length) {
      const { bytesRead } = await this.#handle.read(target, done, target.length - done, position + done)
      if (bytesRead === 0) break
      done += bytesRead
    }
    return done
  }

  async write(pieces: readonly Uint8Array[], position: number): Promise<void> {
    const { bytesWritten } = await this.#handle.writev([...pieces], position)
    let skip = bytesWritten
    let at = position + bytesWritten
    // A short vectored write (a signal, a nearly full disk) goes on piece by piece and meets its error there.
    for (const piece of pieces) {
      if (skip >= piece.length) {
        skip -= piece.length
        continue
      }
      let from = skip
      skip = 0
      while (from < piece.length) {
        const step = await this.#handle.write(piece, from, piece.length - from, at)
        from += step.bytesWritten
        at += step.bytesWritten
      }
    }
  }

  sync(): Promise<void> {
    return this.#handle.datasync()
  }

  truncate(length: number): Promise<void> {
    return this.#handle.truncate(length)
  }

  close(): Promise<void> {
    return this.#handle.close()
  }
}

interface DirectoryLock {
  release(): Promise<void>
}

/**
 * Node has no flock(2), but the lock belongs to the open file description, which a child can be handed: util-linux's
 * `flock` locks our descriptor and exits, and the kernel frees the lock when this process ends, however it ends.
 * Where the command is missing, a lock file with the owner's pid must do.
 */
async function lockDirectory(path: string): Promise<DirectoryLock> {
  const name = join(path, lockName)
  const handle = await open(name, constants.O_RDWR | constants.O_CREAT, 0o600)
  const result = spawnSync('flock', ['--exclusive', '--nonblock', '3'], {
    stdio: ['ignore', 'ignore', 'ignore', handle.fd],
  })
  if (result.error) {
    await handle.close()
    return lockByPid(path)
  }
  if (result.status !== 0) {
    await handle.close()
    throw alreadyOpen(path)
  }
  return { release: () => handle.close() }
}

async function lockByPid(path: string): Promise<DirectoryLock> {
  const name = join(path, `${lockName}.pid`)
  // Twice: a stale file is removed once; if another process then wins the race for the name, it has the directory.
  for (let attempt = 0; attempt < 2; attempt++) {
    try {
      const handle = await open(name, 'wx', 0o600)
      await handle.writeFile(String(process.pid))
      await handle.close()
      return { release: () => unlink(name) }
    } catch (reason) {
      if (!(reason instanceof Error && 'code' in reason && reason.code === 'EEXIST')) throw reason
      const owner = Number(await readFile(name, 'utf8').catch(() => ''))
      if (owner > 0 && isAlive(owner)) break
      await unlink(name).catch(() => undefined)
    }
  }
  throw alreadyOpen(path)
}

function isAlive(pid: number): boolean {
  try {
    process.kill(pid, 0)
    return true
  } catch (reason) {
    return reason instanceof Error && 'code' in reason && reason.code === 'EPERM'
  }
}

function alreadyOpen(path: string): StorageError {
  return new StorageError('ALREADY_OPEN', `another process uses the chunk store in ${path}`)
}
