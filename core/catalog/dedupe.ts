import { StorageError } from '../contract/errors.ts'
import { successor, table, tableKey } from './keys.ts'
import type { CatalogMeta } from './meta.ts'
import { rowKey, rowValue, type TableWriter } from './tables.ts'

/**
 * The answers to the last `dedupeWindow` entries of every session, so that an entry that was ordered twice (a retry, also
 * after a failover) has one effect and one answer. A ring: an entry writes over the one a window before it.
 */
export const dedupeWindow = 4096
/**
 * More sessions than so many are forgotten, those unused for longest first, but none that was used within the last entries: each gateway has one,
 * and each start makes one. What is ordered a second time comes long before that, and would be done a second time: a delete would take what was
 * written since.
 */
const fewSessions = 64
const rememberedEntries = 65_536
/** When a session was used last is known within so many entries. */
const usedWithin = 1024

function slotKey(session: Uint8Array, sequence: number): Uint8Array {
  const slot = sequence % dedupeWindow
  return tableKey(table.dedupe, session, Uint8Array.of(slot >>> 8, slot & 0xff))
}

/** The answer given before, or undefined for a new entry. CONFLICT for a retry from before the window. */
export function findAnswer(
  writer: TableWriter,
  session: Uint8Array,
  sequence: number,
): Uint8Array | StorageError | undefined {
  const bytes = writer.get(slotKey(session, sequence))
  if (bytes === undefined) return undefined
  const row = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.length)
  const known = row.readUIntBE(0, 6)
  if (known < sequence) return undefined
  if (known === sequence) return bytes.subarray(6)
  return new StorageError('CONFLICT', 'the entry was repeated too late to tell what became of it')
}

export function rememberAnswer(
  writer: TableWriter,
  meta: CatalogMeta,
  session: Uint8Array,
  sequence: number,
  answer: Uint8Array,
): void {
  const row = Buffer.allocUnsafe(6 + answer.length)
  row.writeUIntBE(sequence, 0, 6)
  row.set(answer, 6)
  writer.put(slotKey(session, sequence), row)
  const sessionKey = tableKey(table.session, session)
  const known = writer.get(sessionKey)
  if (known !== undefined && meta.position - usedAt(known) < usedWithin) return
  const used = Buffer.allocUnsafe(6)
  used.writeUIntBE(meta.position, 0, 6)
  writer.put(sessionKey, used)
  if (known !== undefined) return
  meta.sessions++
  if (meta.sessions > fewSessions) forgetOldest(writer, meta)
}

const usedAt = (row: Uint8Array): number =>
  Buffer.from(row.buffer, row.byteOffset, row.length).readUIntBE(0, 6)

function forgetOldest(writer: TableWriter, meta: CatalogMeta): void {
  const prefix = Uint8Array.of(table.session)
  const cursor = writer.rows(prefix, successor(prefix))
  let oldest: { key: Uint8Array; used: number } | undefined
  while (cursor.next()) {
    const used = usedAt(rowValue(cursor))
    if (oldest === undefined || used < oldest.used) oldest = { key: rowKey(cursor), used }
  }
  if (oldest === undefined || meta.position - oldest.used < rememberedEntries) return
  const slots = tableKey(table.dedupe, oldest.key.subarray(1))
  const keys: Uint8Array[] = []
  const rows = writer.rows(slots, successor(slots))
  while (rows.next()) keys.push(rowKey(rows))
  for (const key of keys) writer.remove(key)
  writer.remove(oldest.key)
  meta.sessions--
}
