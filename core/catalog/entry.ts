import type { Command } from '../contract/catalog.ts'
import { StorageError } from '../contract/errors.ts'
import { pack, unpack } from './encoding.ts'

/**
 * One entry of the ordered log: a command, and everything from outside that applying it needs (time, randomness, who
 * proposed it), so that every replica comes to the same state. Session and sequence make a retry have one effect.
 */
export interface Entry {
  /** 8 random bytes, new for every proposer that starts. */
  readonly session: Uint8Array
  /** 1, 2, ... within the session, in the order of proposing. */
  readonly sequence: number
  /** The proposer's wall clock. */
  readonly nowMs: number
  readonly regionId: number
  /** `entryRandomBytes` bytes: version ids and upload ids are made of them. */
  readonly random: Uint8Array
  readonly command: Command
}

export const sessionBytes = 8
export const entryRandomBytes = 12
const schemaVersion = 1

export function encodeEntry(entry: Entry): Uint8Array {
  return pack([
    schemaVersion,
    entry.session,
    entry.sequence,
    entry.nowMs,
    entry.regionId,
    entry.random,
    entry.command,
  ])
}

/** Of an entry that this software encoded; entries from elsewhere go through `checkEntry` first. */
export function decodeEntry(bytes: Uint8Array): Entry {
  const fields = unpack(bytes)
  if (!Array.isArray(fields) || fields[0] !== schemaVersion || fields.length !== 7) {
    throw new StorageError('UNSUPPORTED_FORMAT', `this version reads log entries of schema ${schemaVersion}`)
  }
  const [, session, sequence, nowMs, regionId, random, command] = fields as [
    number,
    Uint8Array,
    number,
    number,
    number,
    Uint8Array,
    Command,
  ]
  return { session, sequence, nowMs, regionId, random, command }
}
