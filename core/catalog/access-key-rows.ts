import type { AccessKeyRecord } from '../contract/object-model.ts'
import { encodeText, successor, table, tableKey } from './keys.ts'
import { decodeAccessKeyRow, encodeAccessKeyRow } from './rows.ts'
import { rowValue, type TableReader, type TableWriter } from './tables.ts'

export const accessKeyKey = (accessKeyId: string): Uint8Array =>
  tableKey(table.accessKey, encodeText(accessKeyId))

export function readAccessKey(reader: Pick<TableReader, 'get'>, id: string): AccessKeyRecord | undefined {
  const row = reader.get(accessKeyKey(id))
  return row === undefined ? undefined : decodeAccessKeyRow(row)
}

export function writeAccessKey(writer: Pick<TableWriter, 'put'>, record: AccessKeyRecord): void {
  writer.put(accessKeyKey(record.accessKeyId), encodeAccessKeyRow(record))
}

export function readAccessKeys(reader: Pick<TableReader, 'rows'>): AccessKeyRecord[] {
  const keys: AccessKeyRecord[] = []
  const prefix = Uint8Array.of(table.accessKey)
  const rows = reader.rows(prefix, successor(prefix))
  while (rows.next()) keys.push(decodeAccessKeyRow(rowValue(rows)))
  return keys
}
