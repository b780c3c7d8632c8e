import type { WriteId } from '../contract/ids.ts'
import type { Layout } from '../contract/object-model.ts'
import type { ApplyContext } from './apply-context.ts'
import { table, tableKey } from './keys.ts'
import { holdFreed } from './replication/pins.ts'
import { decodeWriteRow, encodeGarbageRow } from './rows.ts'

/** Gives back what a layout holds: inline bodies at once, chunks by way of the collector. */
export function freeLayout(context: ApplyContext, layout: Layout): void {
  if (layout.kind === 'inline') {
    context.remove(tableKey(table.body, layout.writeId))
  } else if (layout.kind === 'chunks') {
    for (const { writeId } of layout.extents) freeWrite(context, writeId)
  }
}

export function freeWrite(context: ApplyContext, writeId: WriteId): void {
  const key = tableKey(table.write, writeId)
  const row = context.get(key)
  // It cannot be missing. If it is, the object must still be deletable: its chunks are orphans then, and collected as such.
  if (row === undefined) return
  // An entry of an outbox names it: other regions are still to fetch it. It stays owned, and goes with the last such entry.
  if (holdFreed(context, writeId)) return
  context.remove(key)
  context.put(tableKey(table.garbage, writeId), encodeGarbageRow(decodeWriteRow(writeId, row)))
  context.meta.counts.garbageWrites++
}
