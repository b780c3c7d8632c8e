import type { WriteId } from '../../contract/ids.ts'
import type { ApplyContext } from '../apply-context.ts'
import { table, tableKey } from '../keys.ts'

/**
 * Bodies that entries of an outbox name must be there until every member has fetched them, whatever became of their objects
 * meanwhile: a member that skipped an overwritten version would, if this region were lost at that moment, hold neither the old nor
 * the new one, though the old one had been acknowledged long before. A row counts the entries and remembers that the body was freed.
 */
const isFreed = 1
const rowBytes = 5

const pinKey = (writeId: WriteId): Uint8Array => tableKey(table.pin, writeId)

export function readPin(row: Uint8Array): { count: number; freed: boolean } {
  const view = Buffer.from(row.buffer, row.byteOffset, row.length)
  return { count: view.readUInt32BE(0), freed: view[4] === isFreed }
}

function writePin(context: ApplyContext, writeId: WriteId, count: number, freed: boolean): void {
  const row = Buffer.alloc(rowBytes)
  row.writeUInt32BE(count, 0)
  row[4] = freed ? isFreed : 0
  context.put(pinKey(writeId), row)
}

export function pin(context: ApplyContext, writeId: WriteId): void {
  const row = context.get(pinKey(writeId))
  const { count, freed } = row === undefined ? { count: 0, freed: false } : readPin(row)
  if (row === undefined) context.meta.pins = (context.meta.pins ?? 0) + 1
  writePin(context, writeId, count + 1, freed)
}

/** True when the body was freed meanwhile, and nothing holds it any more: it is the caller's to free now. */
export function unpin(context: ApplyContext, writeId: WriteId): boolean {
  const row = context.get(pinKey(writeId))
  if (row === undefined) return false
  const { count, freed } = readPin(row)
  if (count > 1) {
    writePin(context, writeId, count - 1, freed)
    return false
  }
  context.remove(pinKey(writeId))
  context.meta.pins = (context.meta.pins ?? 1) - 1
  return freed
}

/** Called when a body is freed. True: it is pinned, and keeps its row. */
export function holdFreed(context: ApplyContext, writeId: WriteId): boolean {
  if ((context.meta.pins ?? 0) === 0) return false
  const row = context.get(pinKey(writeId))
  if (row === undefined) return false
  writePin(context, writeId, readPin(row).count, true)
  return true
}
