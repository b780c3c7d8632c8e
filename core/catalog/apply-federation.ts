import type { Command, CommandResult } from '../contract/catalog.ts'
import { StorageError } from '../contract/errors.ts'
import { endSharing } from './apply-access-keys.ts'
import type { ApplyContext } from './apply-context.ts'
import { readFederation, writeFederation } from './federation-row.ts'

type SetFederation = Extract<Command, { type: 'set-federation' }>

/** One change at a time, each made from the one before: that is what makes an invitation good for one region only. */
export function setFederation(
  context: ApplyContext,
  { record }: SetFederation,
): CommandResult<SetFederation> {
  const before = readFederation(context)
  const { epoch } = before
  if (record.epoch !== epoch + 1) {
    throw new StorageError(
      'CONFLICT',
      `what is known of the federation has epoch ${epoch}, and ${record.epoch} does not follow it: another change came first`,
    )
  }
  writeFederation(context, record)
  endSharing(context, before, record)
  return {}
}
