import { type FederationRecord, noFederation } from '../contract/federation.ts'
import { pack, unpack } from './encoding.ts'
import { table, tableKey } from './keys.ts'
import type { TableReader, TableWriter } from './tables.ts'

const key = tableKey(table.federation)

export function readFederation(reader: Pick<TableReader, 'get'>): FederationRecord {
  const row = reader.get(key)
  if (row === undefined) return noFederation
  const record = unpack(row) as FederationRecord
  // Bytes of a row are valid only until the next read.
  return {
    ...record,
    keys: record.keys.map((own) => ({ ...own, sealedSeed: Uint8Array.from(own.sealedSeed) })),
  }
}

export function writeFederation(writer: TableWriter, record: FederationRecord): void {
  writer.put(key, pack(record))
}
