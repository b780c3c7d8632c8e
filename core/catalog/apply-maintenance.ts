import type { Command, CommandResult } from '../contract/catalog.ts'
import type { ApplyContext } from './apply-context.ts'
import { table, tableKey } from './keys.ts'
import { checkLock } from './lock-rows.ts'

type Of<T extends Command['type']> = Extract<Command, { type: T }>

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
