import type { Command, CommandResult } from '../contract/catalog.ts'
import { StorageError } from '../contract/errors.ts'
import type { ApplyContext } from './apply-context.ts'
import { encodeText, table, tableKey } from './keys.ts'
import { checkLock } from './lock-rows.ts'
import { decodeAccessKeyRow, encodeAccessKeyRow } from './rows.ts'

type Of<T extends Command['type']> = Extract<Command, { type: T }>

export const accessKeyKey = (accessKeyId: string): Uint8Array =>
  tableKey(table.accessKey, encodeText(accessKeyId))

export function collected(context: ApplyContext, command: Of<'collected'>): CommandResult<Of<'collected'>> {
  if (command.fence !== undefined) checkLock(context, command.fence)
  for (const writeId of command.writeIds) {
    const key = tableKey(table.garbage, writeId)
    if (context.get(key) === undefined) continue
    context.remove(key)
    context.meta.counts.garbageWrites--
  }
  return {}
}

export function putAccessKey(
  context: ApplyContext,
  command: Of<'put-access-key'>,
): CommandResult<Of<'put-access-key'>> {
  context.put(accessKeyKey(command.record.accessKeyId), encodeAccessKeyRow(command.record))
  return {}
}

export function setAccessKeyEnabled(
  context: ApplyContext,
  command: Of<'set-access-key-enabled'>,
): CommandResult<Of<'set-access-key-enabled'>> {
  const key = accessKeyKey(command.accessKeyId)
  const row = context.get(key)
  if (row === undefined) throw new StorageError('NO_SUCH_ACCESS_KEY', 'there is no such access key')
  context.put(key, encodeAccessKeyRow({ ...decodeAccessKeyRow(row), enabled: command.enabled }))
  return {}
}
