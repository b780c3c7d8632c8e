import type { GroupState, LostChange } from '../../contract/failover.ts'
import type { EntryTime } from '../../contract/replication.ts'
import { bytesOf, pack, unpack } from '../encoding.ts'
import { readHybridTime } from '../hybrid-time.ts'
import { bucketKey, encodeText, successor, table, tableKey } from '../keys.ts'
import { compareTimes } from '../replication/rows.ts'
import { rowValue, type TableReader, type TableWriter } from '../tables.ts'

/** The rows of failover groups, see core/catalog/README.md. */
const groupKey = (name: string): Uint8Array => tableKey(table.group, encodeText(name))

export function readGroup(reader: Pick<TableReader, 'get'>, name: string): GroupState | undefined {
  const row = reader.get(groupKey(name))
  return row === undefined ? undefined : (unpack(row) as GroupState)
}

export const writeGroup = (writer: Pick<TableWriter, 'put'>, state: GroupState): void =>
  writer.put(groupKey(state.record.name), pack(state))

export const removeGroupRow = (writer: Pick<TableWriter, 'remove'>, name: string): void =>
  writer.remove(groupKey(name))

export function readGroups(reader: Pick<TableReader, 'rows'>): GroupState[] {
  const found: GroupState[] = []
  const prefix = Uint8Array.of(table.group)
  const cursor = reader.rows(prefix, successor(prefix))
  while (cursor.next()) found.push(unpack(rowValue(cursor)) as GroupState)
  return found
}

/** [lost | bucket | epoch u48 | lsn u48] */
export function lossKey(bucketId: number, epoch: number, lsn: number): Uint8Array {
  const key = bucketKey(table.lost, bucketId, undefined, 12)
  key.writeUIntBE(epoch, 5, 6)
  key.writeUIntBE(lsn, 11, 6)
  return key
}

export const encodeLoss = (loss: LostChange): Uint8Array => pack(loss)

export function readLosses(reader: Pick<TableReader, 'rows'>, bucketId: number, limit: number): LostChange[] {
  const prefix = bucketKey(table.lost, bucketId)
  const found: LostChange[] = []
  const cursor = reader.rows(prefix, successor(prefix))
  while (found.length < limit && cursor.next()) found.push(unpack(rowValue(cursor)) as LostChange)
  cursor.close()
  return found
}

/**
 * Whether a version was made by a former primary, behind what its successor had received: such a version is in nobody's history, and
 * is set aside rather than removed when the history comes.
 */
export function isDivergent(
  { record, estimates }: Pick<GroupState, 'record' | 'estimates'>,
  bucket: string,
  versionId: Uint8Array,
): boolean {
  const id = Buffer.from(bytesOf(versionId))
  const origin = id.readUInt16BE(8)
  const time: EntryTime = readHybridTime(id, 0)
  return [...record.reigns, ...estimates].some(({ epoch, taken }) =>
    taken.some(
      (one) =>
        one.bucket === bucket &&
        one.from === origin &&
        compareTimes(time, one.time) > 0 &&
        // What it has made as the primary of a later time is everybody's.
        !record.reigns.some(
          (later) => later.primary === origin && later.epoch >= epoch && compareTimes(time, later.start) > 0,
        ),
    ),
  )
}
