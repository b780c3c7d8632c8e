import { mkdirSync, readdirSync, statfsSync, statSync } from 'node:fs'
import { availableParallelism } from 'node:os'
import { join } from 'node:path'
import { StorageError } from '../core/contract/errors.ts'

const mebibyte = 1024 * 1024

/** What a partition of the native store has at least: eight segments of 64 MiB (native/src/reactor/data_plane.cc). */
export const leastPartitionBytes = 512 * mebibyte
/**
 * What chunks leave to the catalog, the order of the log and the machine: a twentieth within these bounds. Without room the catalog
 * could not even take the deletes that make some.
 */
const leastKeptBytes = 256 * mebibyte
const mostKeptBytes = 8 * 1024 * mebibyte
/** With less than this beside the chunks the catalog would refuse writes from the first one on. */
const scarceKeptBytes = 64 * mebibyte

export interface DeviceRoom {
  readonly freeBytes: number
  /** What the store has on it already. */
  readonly ownBytes: number
  /** Partitions of a store that is there; 0: it is about to be made. */
  readonly partitions: number
}

export interface StoreSize {
  readonly capacityBytes: number
  /** Partitions of a store that is made now. */
  readonly reactors: number
}

/**
 * How large a store is that nobody has given a size. A store that is there always opens, however full its device has become: that it
 * takes no more is for its writes to find out. A new one makes do with fewer partitions and a smaller reserve before it is refused.
 * INVALID_CONFIG: a new one has no room; the message says what to do.
 */
export function sizeStore(
  { freeBytes, ownBytes, partitions }: DeviceRoom,
  reactors: number,
  directory: string,
): StoreSize {
  const takeable = freeBytes + ownBytes
  const kept = Math.min(takeable / 4, Math.max(leastKeptBytes, Math.min(takeable / 20, mostKeptBytes)))
  const usual = takeable - Math.ceil(kept)
  if (partitions > 0) {
    return { capacityBytes: Math.max(usual, partitions * leastPartitionBytes), reactors: partitions }
  }
  const needed = leastPartitionBytes + scarceKeptBytes
  if (takeable < needed) {
    const free = Math.floor(takeable / mebibyte)
    throw new StorageError(
      'INVALID_CONFIG',
      `${directory}: only ${free} MiB are free on this device, and a new store needs ${needed / mebibyte} MiB: ` +
        'make room there, or put the data on another device (PANDO_DATA, or the key data)',
    )
  }
  const capacityBytes = Math.max(usual, leastPartitionBytes)
  return { capacityBytes, reactors: Math.min(reactors, Math.floor(capacityBytes / leastPartitionBytes)) }
}

/** Of the device under `directory`, which is made when it is missing. */
export function deviceRoom(directory: string): DeviceRoom {
  mkdirSync(directory, { recursive: true, mode: 0o700 })
  const { bavail, bsize } = statfsSync(directory)
  const names = readdirSync(directory)
  const own = names.map((name) => statSync(join(directory, name)).blocks * 512)
  return {
    freeBytes: bavail * bsize,
    ownBytes: own.reduce((sum, bytes) => sum + bytes, 0),
    partitions: names.filter((name) => /^store-\d+\.pando$/.test(name)).length,
  }
}

/** As the data plane chooses them: half the cores. */
export const usualReactors = (): number => Math.min(64, Math.max(1, Math.floor(availableParallelism() / 2)))
