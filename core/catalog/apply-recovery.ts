import { createHash } from 'node:crypto'
import type { CommandResult } from '../contract/catalog.ts'
import type { ApplyContext } from './apply-context.ts'
import { readGroups, writeGroup } from './group/rows.ts'
import { successor, table } from './keys.ts'
import { forgetWord } from './replication/forgotten-rule.ts'
import { writeOutboxState } from './replication/outbox.ts'
import { readOutboxState } from './replication/rows.ts'
import { rowKey, type TableReader } from './tables.ts'

/**
 * The region goes on from rows that may lack the last entries that it had confirmed. Other regions may know more of it than it does itself:
 *
 * - Places in an outbox are given a second time, to other changes. Under another id of the outbox nobody goes on behind a place of the old one,
 *   and nothing that was said of such a place (by cursors, tombstones, causal tokens) holds for the new one: whoever follows synchronizes in full.
 * - Where several regions write, it told the others of deletes that it has applied, and they have forgotten them on its word. It may hold what they
 *   removed: it takes no part any more until it has left the rule and come back with nothing.
 * - Votes and grants of a failover group are given a second time, to somebody else. So the region gives none any more.
 */
export function recoverRegion(context: ApplyContext): CommandResult<{ readonly type: 'recover-region' }> {
  for (const bucketId of bucketsWithOutbox(context)) {
    const state = readOutboxState(context, bucketId)
    if (state !== undefined) writeOutboxState(context, bucketId, { ...state, id: newId(context, bucketId) })
    forgetWord(context, bucketId)
  }
  for (const state of readGroups(context)) writeGroup(context, { ...state, isRecovered: true })
  return {}
}

export function bucketsWithOutbox(reader: Pick<TableReader, 'rows'>): number[] {
  const prefix = Uint8Array.of(table.outboxState)
  const rows = reader.rows(prefix, successor(prefix))
  const found: number[] = []
  while (rows.next()) found.push(Buffer.from(rowKey(rows)).readUInt32BE(1))
  return found
}

/** One entry has randomness for one id: from it each bucket gets its own. */
function newId({ entry }: ApplyContext, bucketId: number): string {
  const number = Buffer.alloc(4)
  number.writeUInt32BE(bucketId)
  const digest = createHash('sha256').update(entry.random).update(number).digest()
  return digest.toString('hex', 0, entry.random.length)
}
