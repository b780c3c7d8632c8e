import { chmod, link, rm, stat } from 'node:fs/promises'
import { connect, createServer, type Server } from 'node:net'
import { join } from 'node:path'
import { StorageError } from '../contract/errors.ts'
import type { SocketDirectory } from './socket-directory.ts'

/**
 * One process per data directory. Node has no flock, and a pid in a file lies after a crash, a reboot or across containers;
 * so the lock is a pair of unix sockets, which the kernel drops with the process:
 * - an abstract one, named after device and inode of the directory: taken atomically, gone at once when its owner dies.
 *   It excludes every process of the same network namespace.
 * - `lock` in the directory: whoever can connect to it finds its owner alive, from any container that has the directory
 *   mounted. A socket that refuses is a leftover and is replaced.
 */
export interface DirectoryLock {
  release(): Promise<void>
}

/** ALREADY_OPEN when another process holds it. `sockets` is of the same directory and outlives the lock. */
export async function lockDirectory(directory: string, sockets: SocketDirectory): Promise<DirectoryLock> {
  const { dev, ino } = await stat(directory)
  const abstract = process.platform === 'linux' ? await take(`\0pando-${dev}-${ino}`, directory) : undefined
  const path = join(directory, 'lock')
  try {
    if (await answers(sockets.address('lock'))) throw inUse(directory)
    await rm(path, { force: true })
    // Bound under a name of its own and then linked, which fails when somebody else was quicker.
    const ownName = `lock.${process.pid}`
    const own = join(directory, ownName)
    await rm(own, { force: true })
    const server = await take(sockets.address(ownName), directory)
    try {
      await chmod(own, 0o600)
      await link(own, path)
    } catch (error) {
      await close(server)
      throw error instanceof Error && 'code' in error && error.code === 'EEXIST' ? inUse(directory) : error
    } finally {
      await rm(own, { force: true })
    }
    let released = false
    return {
      async release() {
        if (released) return
        released = true
        await rm(path, { force: true })
        await close(server)
        if (abstract !== undefined) await close(abstract)
      },
    }
  } catch (error) {
    if (abstract !== undefined) await close(abstract)
    throw error
  }
}

async function take(address: string, directory: string): Promise<Server> {
  // Connections are only ever a knock on the door.
  const server = createServer((socket) => socket.destroy())
  await new Promise<void>((resolve, reject) => {
    server.once('error', (error) => {
      reject('code' in error && error.code === 'EADDRINUSE' ? inUse(directory) : error)
    })
    server.listen(address, resolve)
  })
  server.unref()
  return server
}

async function answers(address: string): Promise<boolean> {
  return new Promise((resolve, reject) => {
    const socket = connect(address)
    socket.once('connect', () => {
      socket.destroy()
      resolve(true)
    })
    socket.once('error', (error) => {
      const code = 'code' in error ? error.code : undefined
      if (code === 'ENOENT' || code === 'ECONNREFUSED' || code === 'ENOTSOCK') resolve(false)
      // A full queue of knocks: somebody is there.
      else if (code === 'EAGAIN') resolve(true)
      else reject(error)
    })
  })
}

async function close(server: Server): Promise<void> {
  await new Promise<void>((resolve) => {
    server.close(() => resolve())
  })
}

function inUse(directory: string): StorageError {
  return new StorageError(
    'ALREADY_OPEN',
    `the data directory ${directory} is in use by another pando process; stop that one, or choose another directory ` +
      'with --data or PANDO_DATA',
  )
}
