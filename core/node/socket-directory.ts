import { closeSync, constants, openSync } from 'node:fs'
import { join } from 'node:path'
import { StorageError } from '../contract/errors.ts'

/** Names for the unix sockets of a directory that fit into a socket's address. */
export interface SocketDirectory {
  address(name: string): string
  /** After it, addresses may no longer resolve. */
  close(): void
}

/** sun_path has 108 bytes with its end; the longest name of ours has 20. */
const addressBytes = 107
const nameBytes = 20

/**
 * A deep directory is reached through a descriptor of it: `/proc/self/fd/N/name` is short however long the path is.
 * INVALID_CONFIG where there is no /proc.
 */
export function openSocketDirectory(directory: string): SocketDirectory {
  if (Buffer.byteLength(directory) + 1 + nameBytes <= addressBytes) {
    return { address: (name) => join(directory, name), close() {} }
  }
  if (process.platform !== 'linux') {
    throw new StorageError(
      'INVALID_CONFIG',
      `the path of the data directory is too long for a unix socket (${addressBytes - nameBytes - 1} bytes): ${directory}`,
    )
  }
  const descriptor = openSync(directory, constants.O_RDONLY | constants.O_DIRECTORY)
  return {
    address: (name) => `/proc/self/fd/${descriptor}/${name}`,
    close: () => closeSync(descriptor),
  }
}
