import { type ClusterMap, nodeSlotCount } from '../contract/cluster-map.ts'
import { StorageError } from '../contract/errors.ts'
import { type WriteId, writeIdSlot } from '../contract/ids.ts'
import type { Layout } from '../contract/object-model.ts'
import { table, tableKey } from './keys.ts'
import type { TableReader, TableWriter } from './tables.ts'

/** Beside the map, whose row is far longer than what every write has to know of it. One bit for each slot. */
const key = tableKey(table.clusterMap, Uint8Array.of(1))

/** Keeps which slots the nodes of the map have: nothing, where one has none (maps made by hand). */
export function writeSlots(writer: TableWriter, { nodes }: ClusterMap): void {
  const bits = new Uint8Array(nodeSlotCount / 8)
  for (const { slot } of nodes) {
    if (slot === undefined) {
      writer.remove(key)
      return
    }
    bits[slot >>> 3] = (bits[slot >>> 3] ?? 0) | (1 << (slot & 7))
  }
  writer.put(key, bits)
}

/**
 * UNAVAILABLE for a body that was begun by a node which is not of the region any more. Whoever frees what nothing owns asks the nodes of the
 * region alone what they have under way: chunks of such a body may be gone, whatever its node still believes of itself.
 */
export function checkWriters(reader: Pick<TableReader, 'get'>, layout: Layout): void {
  if (layout.kind !== 'chunks') return
  const bits = reader.get(key)
  if (bits === undefined) return
  const isOfRegion = (writeId: WriteId): boolean => {
    const slot = writeIdSlot(writeId)
    return ((bits[slot >>> 3] ?? 0) & (1 << (slot & 7))) !== 0
  }
  if (layout.extents.every(({ writeId }) => isOfRegion(writeId))) return
  throw new StorageError('UNAVAILABLE', 'the node that stored the body was taken out of the region meanwhile')
}
