import { existsSync } from 'node:fs'
import { join } from 'node:path'
import type { Command } from '../../contract/catalog.ts'
import type { Environment } from '../../contract/clock.ts'
import type { ClusterMap } from '../../contract/cluster-map.ts'
import { StorageError } from '../../contract/errors.ts'
import type { Position } from '../../contract/ordered-log.ts'
import { bucketsWithOutbox } from '../apply-recovery.ts'
import { readClusterMap } from '../cluster-map-row.ts'
import { encodeEntry, entryRandomBytes, sessionBytes } from '../entry.ts'
import { checkCommand } from '../entry-schema.ts'
import { readGroups } from '../group/rows.ts'
import { LmdbTables } from '../lmdb-tables.ts'
import { readMeta } from '../meta.ts'
import { decodeResult } from '../result.ts'
import { extendChain } from '../state-machine.ts'
import { type Founding, latestVoters, type ReplicaRow, voterId } from './generation.ts'
import { LmdbReplicaStore } from './lmdb-replica-store.ts'
import { mostReplaced } from './peer-messages.ts'
import { readReplicaRow } from './replica-rows.ts'
import { currentState } from './state-directory.ts'

/** What the directory of a replica that does not run holds. */
export interface StoppedReplica {
  readonly incarnation: string
  readonly founding: Founding
  /** The greatest round that it has promised or is in. */
  readonly round: number
  /** Applied. */
  readonly position: Position
  /** Of these the node knew that a majority had them. */
  readonly confirmed: Position
  /** When the last entry was proposed, milliseconds since the Unix epoch. */
  readonly lastTimeMs: number
  /** `name incarnation` */
  readonly voters: readonly string[]
  readonly map: ClusterMap
  readonly counts: { readonly buckets: number; readonly versions: number; readonly liveBytes: number }
  /** Failover groups in which the region votes. */
  readonly groups: readonly string[]
  /** Buckets of which other regions take over what is written here. */
  readonly sharedBuckets: number
}

/** Reads and changes nothing. INVALID_REQUEST when there is no replica of a founded region in `directory`. */
export async function readStoppedReplica(directory: string): Promise<StoppedReplica> {
  const state = existsSync(directory) ? join(directory, await currentState(directory)) : directory
  if (!existsSync(join(state, 'data.mdb'))) throw noReplica(directory)
  const tables = new LmdbTables({ directory: state })
  try {
    const row = readReplicaRow(tables)
    const map = readClusterMap(tables)
    if (row?.founding === undefined || map.epoch === 0) throw noReplica(directory)
    const { position, time, counts } = readMeta(tables)
    const { buckets, versions, liveBytes } = counts
    return {
      ...{ incarnation: row.incarnation, founding: row.founding, position, confirmed: row.confirmed, map },
      round: Math.max(row.promised.round, row.founding.ballot.round),
      lastTimeMs: time.ms,
      voters: latestVoters(row.voterSets),
      counts: { buckets, versions, liveBytes },
      groups: readGroups(tables).map(({ record }) => record.name),
      sharedBuckets: bucketsWithOutbox(tables).length,
    }
  } finally {
    await tables.close()
  }
}

export interface LogRecovery {
  readonly directory: string
  readonly environment: Environment
  readonly regionId: number
  /** This node. */
  readonly name: string
  /** Maps that lead, one voter at a time, to one in which this node is the only voter; each follows the one before it. */
  readonly maps: readonly ClusterMap[]
  /** The greatest round that anybody was heard to know. */
  readonly knownRound: number
}

/**
 * A log that was cut off from those who knew more may have been ahead of this one by some generations. So much further begins the new
 * one: a node that has no log joins the one with the greater ballot.
 */
const roundsAhead = 1000
const retainEntries = 200_000

/**
 * Founds the region's log anew on what one node holds, in one durable transaction; the node must not run. It becomes the only voter of another log,
 * which goes on from its last entry, confirmed or not: what was acknowledged and had reached this node is in it. The first entries say who
 * is in the region, and that other regions may know more of it than it does itself. When the node starts it founds the next generation by itself, alone, on a server that answers.
 */
export async function recoverLog(recovery: LogRecovery): Promise<{ readonly position: Position }> {
  const { directory, environment, regionId, name, maps } = recovery
  const { clock, randomness } = environment
  const before = await readStoppedReplica(directory)
  const store = await LmdbReplicaStore.open({
    ...{ directory, retainEntries, clock, incarnation: before.incarnation, minFreeBytes: 0 },
    onWait(reason) {
      // Nobody waits in front of a command until a disk has room.
      if (reason !== undefined) store.giveUp()
    },
  })
  try {
    const session = randomness.fill(new Uint8Array(sessionBytes))
    const commands: Command[] = maps.map((map) => ({ type: 'set-cluster-map', map }))
    commands.push({ type: 'recover-region' })
    const entries = commands.map((command, index) => {
      checkCommand(command)
      const random = randomness.fill(new Uint8Array(entryRandomBytes))
      const nowMs = clock.now()
      return encodeEntry({ session, sequence: index + 1, nowMs, regionId, random, command })
    })
    let { position, chain } = store
    for (const entry of entries) chain = extendChain(chain, ++position, entry)
    const round = Math.max(before.round, recovery.knownRound) + roundsAhead
    const voterSets = [{ position, voters: [voterId(name, before.incarnation)] }]
    const { founding: old } = before
    const founding: Founding = {
      log: Buffer.from(randomness.fill(new Uint8Array(16))).toString('hex'),
      ballot: { round, by: name },
      ...{ position, chain, voterSets },
      // Never made: the promise below is for the next generation, which gets one.
      stream: old.stream,
      replaced: [...(old.replaced ?? []), old.log].slice(-mostReplaced),
    }
    const row: Partial<ReplicaRow> = {
      founding,
      promised: { round: round + 1, by: '' },
      ...{ sequence: 0, confirmed: position, voterSets },
    }
    const applied = await store.change({ records: [{ sequence: 0, entries }], row })
    for (const [index, command] of commands.entries()) {
      const answer = applied[index]?.answer
      const result = answer === undefined ? undefined : decodeResult(command, answer)
      if (result === undefined || result instanceof StorageError) {
        throw new StorageError('INTERNAL', 'an entry of the recovered region was not taken', {
          cause: result,
        })
      }
    }
    return { position }
  } finally {
    await store.close()
  }
}

const noReplica = (directory: string): StorageError =>
  new StorageError('INVALID_REQUEST', `${directory} holds no catalog of a region of several nodes`)
