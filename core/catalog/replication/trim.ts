import { StorageError } from '../../contract/errors.ts'
import type { OutboxEntry } from '../../contract/replication.ts'
import type { ApplyContext } from '../apply-context.ts'
import { freeWrite } from '../bodies.ts'
import { decodeOutboxEntry } from './entry-codec.ts'
import { outboxKey } from './keys.ts'
import { writeOutboxState } from './outbox.ts'
import { unpin } from './pins.ts'
import { readOutboxRow, readOutboxState } from './rows.ts'
import { bodyBytesOf, shipped } from './waiting.ts'

/** Entries and bodies after which an entry of the log leaves the rest to the next: the writer's thread serves others meanwhile. */
const rowsAtOnce = 1000

/** Forgets entries and lets their bodies go. False when there are more than one step takes. */
export function trimThrough(context: ApplyContext, bucketId: number, through: number): boolean {
  const state = readOutboxState(context, bucketId)
  if (state === undefined || state.trimmed.lsn >= through) return true
  let { trimmed, rowBytes, bodyBytes } = state
  let left = rowsAtOnce
  const gone: Pick<OutboxEntry, 'lsn' | 'change'>[] = []
  while (trimmed.lsn < through && left > 0) {
    const lsn = trimmed.lsn + 1
    const row = readOutboxRow(context, bucketId, lsn)
    if (row === undefined) throw new StorageError('CATALOG_CORRUPT', `entry ${lsn} of an outbox is missing`)
    const { change } = decodeOutboxEntry(row.bytes)
    const bodies = change.type === 'put' ? change.version.bodies : []
    for (const { writeId } of bodies) if (unpin(context, writeId)) freeWrite(context, writeId)
    context.remove(outboxKey(bucketId, lsn))
    trimmed = { lsn, chain: row.chain }
    rowBytes -= row.chain.length + row.bytes.length
    bodyBytes -= bodyBytesOf(change)
    gone.push({ lsn, change })
    left -= 1 + bodies.length
  }
  writeOutboxState(context, bucketId, { ...state, trimmed, rowBytes, bodyBytes })
  shipped(context, bucketId, gone)
  return trimmed.lsn >= through
}
