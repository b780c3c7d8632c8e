import type { ApplyContext } from '../apply-context.ts'
import { successor } from '../keys.ts'
import { rowKey } from '../tables.ts'
import { cursorKey, entryPartKey, retryKey, retryOfKey } from './keys.ts'

/** What waits in the retry table of one source is forgotten. */
export function dropRetries(context: ApplyContext, bucketId: number, source: number): void {
  dropRows(context, retryKey(bucketId, source))
  dropRows(context, retryOfKey(bucketId, source, new Uint8Array(0)).subarray(0, 7))
  dropEntryParts(context, bucketId, source)
}

/** What has come of an entry that is longer than a record of the log. */
export const dropEntryParts = (context: ApplyContext, bucketId: number, source: number): void =>
  dropRows(context, entryPartKey(bucketId, source))

function dropRows(context: ApplyContext, prefix: Uint8Array): void {
  const keys: Uint8Array[] = []
  const rows = context.rows(prefix, successor(prefix))
  while (rows.next()) keys.push(rowKey(rows))
  for (const key of keys) context.remove(key)
}

/** This region follows a source no more; what waited of it is forgotten. */
export function dropCursor(context: ApplyContext, bucketId: number, source: number): void {
  dropRetries(context, bucketId, source)
  context.remove(cursorKey(bucketId, source))
}
