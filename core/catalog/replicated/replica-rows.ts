import { StorageError } from '../../contract/errors.ts'
import type { Position } from '../../contract/ordered-log.ts'
import { readClusterMap } from '../cluster-map-row.ts'
import { bytesOf, pack, unpack } from '../encoding.ts'
import { numberKey, table, tableKey } from '../keys.ts'
import { readMeta } from '../meta.ts'
import { type Applied, applyEntries } from '../state-machine.ts'
import { rowKey, type TableReader, type TableWriter } from '../tables.ts'
import { latestVoters, type ReplicaRow, settleVoterSets, type VoterSet, voterId } from './generation.ts'
import { ballotFields, foundingFields, voterSetFields } from './peer-messages.ts'
import type { ReplicaChange } from './replica-store.ts'

const rowVersion = 1
const key = tableKey(table.replica)

export function readReplicaRow(reader: Pick<TableReader, 'get'>): ReplicaRow | undefined {
  const bytes = reader.get(key)
  if (bytes === undefined) return undefined
  const [version, incarnation, promised, founding, sequence, confirmed, voterSets] = unpack(bytes) as [
    number,
    string,
    ReturnType<typeof ballotFields.pack>,
    ReturnType<typeof foundingFields.pack> | null,
    number,
    number,
    ReturnType<typeof voterSetFields.pack>,
  ]
  if (version !== rowVersion) {
    throw new StorageError(
      'UNSUPPORTED_FORMAT',
      `the replica's row has version ${version}, not ${rowVersion}`,
    )
  }
  return {
    incarnation,
    promised: ballotFields.unpack(promised),
    founding: founding === null ? undefined : foundingFields.unpack(founding),
    sequence,
    confirmed,
    voterSets: voterSetFields.unpack(voterSets),
  }
}

export function writeReplicaRow(writer: TableWriter, row: ReplicaRow): void {
  const { founding } = row
  writer.put(
    key,
    pack([
      rowVersion,
      row.incarnation,
      ballotFields.pack(row.promised),
      founding === undefined ? null : foundingFields.pack(founding),
      row.sequence,
      row.confirmed,
      voterSetFields.pack(row.voterSets),
    ]),
  )
}

const chainBytes = 32

/** Applies the change in the caller's transaction. */
export function applyChange(
  writer: TableWriter,
  row: ReplicaRow,
  change: ReplicaChange,
  retainEntries: number,
): { readonly row: ReplicaRow; readonly applied: readonly Applied[] } {
  const changes: VoterSet[] = []
  let voters = latestVoters(row.voterSets).join()
  const applied: Applied[] = []
  for (const { sequence, entries } of change.records ?? []) {
    const results = applyEntries(writer, entries, {
      retainEntries,
      onClusterMap(position) {
        const now = votersOf(writer)
        if (now.join() === voters) return
        voters = now.join()
        changes.push({ position, voters: now })
      },
    })
    for (const { position, chain } of results) {
      const value = Buffer.allocUnsafe(chainBytes + 6)
      value.set(chain)
      value.writeUIntBE(sequence, chainBytes, 6)
      writer.put(numberKey(table.chain, position), value)
    }
    applied.push(...results)
  }
  const last = applied.at(-1)
  const confirmed = change.row?.confirmed ?? row.confirmed
  // Reports need the chains behind what is confirmed, whatever is kept for peers.
  if (last !== undefined) forgetChains(writer, Math.min(last.position - retainEntries, confirmed) - 1)
  const next: ReplicaRow = {
    ...row,
    ...change.row,
    voterSets: settleVoterSets(change.row?.voterSets ?? withChanges(row.voterSets, changes), confirmed),
  }
  writeReplicaRow(writer, next)
  return { row: next, applied }
}

const withChanges = (sets: readonly VoterSet[], changes: readonly VoterSet[]): readonly VoterSet[] =>
  changes.length === 0 ? sets : [...sets, ...changes]

function votersOf(reader: Pick<TableReader, 'get'>): readonly string[] {
  return readClusterMap(reader)
    .nodes.filter(({ voter }) => voter)
    .map(({ name, incarnation }) => voterId(name, incarnation))
    .sort()
}

function forgetChains(writer: TableWriter, through: Position): void {
  if (through < 1) return
  const cursor = writer.rows(Uint8Array.of(table.chain), numberKey(table.chain, through + 1))
  const keys: Uint8Array[] = []
  while (cursor.next()) keys.push(rowKey(cursor))
  for (const old of keys) writer.remove(old)
}

/** The chain at a position, and the stream's record that it was in. */
export function readChain(
  reader: TableReader,
  position: Position,
): { readonly chain: Uint8Array; readonly sequence: number } | undefined {
  if (position === 0) return { chain: new Uint8Array(chainBytes), sequence: 0 }
  const row = reader.get(numberKey(table.chain, position))
  if (row !== undefined) {
    const bytes = Buffer.from(row.buffer, row.byteOffset, row.length)
    return { chain: bytesOf(bytes.subarray(0, chainBytes)), sequence: bytes.readUIntBE(chainBytes, 6) }
  }
  // The state of a region of one node that becomes a cluster has no chains; the tip's is known.
  const meta = readMeta(reader)
  return meta.position === position ? { chain: meta.chain, sequence: 0 } : undefined
}
